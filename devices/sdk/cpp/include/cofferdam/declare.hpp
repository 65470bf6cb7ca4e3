// What a device declares of itself, and what it implements. Names are those of schema/manifest.capnp.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace cofferdam {

class Powers;

/// Shadow values of a device.
inline constexpr std::size_t SHADOWS = 8;

/// What kind of work a device does. Values are those of the schema.
enum class Class : uint16_t { Block = 1, Net, Char, Timer, Display, Entropy, System };
/// What a device may be given.
enum class Power : uint16_t { Stream = 1, Memory, LowMemory, FileRead, FileWrite, Switch, Direct, Entropy, Scanout };
/// What a switch does.
enum class Switch : uint16_t { None = 0, Reset, PowerOff, Panicked, Exit };
/// Where a range lies.
enum class Space { Port, Memory, Bar, PortBar };
/// What an option's value is.
enum class OptionKind : uint16_t { Number = 1, Text, Flag };

/// Addresses that a device answers.
struct Range {
  std::string name;
  Space space;
  uint64_t first;
  uint64_t length;
};

/// A register whose writes may be posted, or whose reads may be served from a shadow value.
struct Register {
  uint8_t range;
  uint64_t offset;
  uint8_t width;
  /// Bit in the outputs' `postable` mask.
  std::optional<uint8_t> posted = {};
  /// Index of the outputs' shadow value.
  std::optional<uint8_t> shadow = {};
};

/// A pin interrupt; line n is bit n of the outputs' levels.
struct Line {
  /// An ISA interrupt number, or a PCI pin where `is_pin`.
  uint8_t number;
  bool is_pin = false;
};

/// A write that means only "look at memory"; width 0 is any.
struct Doorbell {
  uint8_t range;
  uint64_t offset;
  uint8_t width = 0;
};

/// A power that a device needs, with the reason.
struct Wish {
  Power power;
  std::string name;
  std::string because;
  Switch what = Switch::None;
};

/// An option that a person may set.
struct Option {
  std::string name;
  OptionKind kind;
  std::string fallback;
  std::string summary;
};

/// A PCI identity.
struct Pci {
  uint16_t vendor, device, subsystem_vendor = 0, subsystem = 0;
  uint32_t class_code = 0;
  uint8_t revision = 0;
  std::vector<std::vector<uint8_t>> capabilities = {};
  uint8_t vector_bar = 0;
};

/// What a device declares.
struct Manifest {
  std::string name;
  std::string summary;
  Class kind = Class::System;
  std::vector<Range> ranges = {};
  std::vector<Register> registers = {};
  std::vector<Line> lines = {};
  uint16_t vectors = 0;
  std::vector<Doorbell> doorbells = {};
  std::vector<Wish> wishes = {};
  std::vector<Option> options = {};
  std::optional<Pci> pci = {};
};

/// What is wrong with a person's options, as a sentence.
struct OptionError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// Options as a person set them.
class Options {
 public:
  Options() = default;
  explicit Options(std::vector<std::pair<std::string, std::string>> set) : set_(std::move(set)) {}

  /// The text of an option, or `fallback`.
  std::string text(const std::string& name, const std::string& fallback) const {
    const std::string* value = find(name);
    return value ? *value : fallback;
  }

  /// The number of an option, decimal or 0x hexadecimal.
  uint64_t number(const std::string& name, uint64_t fallback) const {
    const std::string* value = find(name);
    if (!value) return fallback;
    std::size_t end = 0;
    uint64_t number = 0;
    const bool hexadecimal = value->rfind("0x", 0) == 0;
    try {
      number = std::stoull(hexadecimal ? value->substr(2) : *value, &end, hexadecimal ? 16 : 10);
    } catch (const std::exception&) {
      end = 0;
    }
    const bool whole = end != 0 && end == value->size() - (hexadecimal ? 2 : 0) && (*value)[0] != '-';
    if (!whole) throw OptionError("option `" + name + "`: `" + *value + "` is not a number");
    return number;
  }

  /// Whether a flag is on.
  bool flag(const std::string& name, bool fallback) const {
    const std::string* value = find(name);
    if (!value) return fallback;
    if (value->empty() || *value == "on" || *value == "true") return true;
    if (*value == "off" || *value == "false") return false;
    throw OptionError("option `" + name + "`: `" + *value + "` is not `on` or `off`");
  }

  /// What the word stands for that an option has, or the first of these.
  template <class V>
  V choice(const std::string& name, const std::vector<std::pair<std::string, V>>& choices) const {
    const std::string word = text(name, choices.front().first);
    std::string words;
    for (const auto& [each, value] : choices) {
      if (each == word) return value;
      words += (words.empty() ? "" : each == choices.back().first ? " or " : ", ") + each;
    }
    throw OptionError("option `" + name + "`: `" + word + "` is not " + words);
  }

  /// Refuses what `specs` does not name, values that do not parse, and a name set twice.
  void check(const std::vector<Option>& specs) const {
    for (std::size_t at = 0; at < set_.size(); ++at) {
      const std::string& name = set_[at].first;
      const Option* spec = nullptr;
      std::string known;
      for (const Option& each : specs) {
        if (each.name == name) spec = &each;
        known += (known.empty() ? "" : ", ") + each.name;
      }
      if (!spec) throw OptionError("there is no option `" + name + "`; there are: " + known);
      for (std::size_t earlier = 0; earlier < at; ++earlier) {
        if (set_[earlier].first == name) throw OptionError("option `" + name + "` is given twice");
      }
      if (spec->kind == OptionKind::Number) number(name, 0);
      if (spec->kind == OptionKind::Flag) flag(name, false);
    }
  }

 private:
  const std::string* find(const std::string& name) const {
    for (const auto& [set, value] : set_) {
      if (set == name) return &value;
    }
    return nullptr;
  }

  std::vector<std::pair<std::string, std::string>> set_;
};

/// A value, where there is one.
inline std::optional<uint64_t> optional_if(bool there, uint64_t value) {
  return there ? std::optional(value) : std::nullopt;
}

/// Where an access landed: inside the range, at a width of 1, 2, 4 or 8 bytes.
struct Access {
  /// Index into the manifest's ranges.
  uint8_t range;
  uint64_t offset;
  uint8_t width;
  /// Guest clock: nanoseconds since power on. The only clock a device has.
  uint64_t now;
};

/// What the guest sees of a state without asking the device.
struct Outputs {
  /// Bit n: the level of line n.
  uint32_t levels = 0;
  /// When `alarm` is due, in nanoseconds of the guest clock.
  std::optional<uint64_t> deadline = {};
  /// Bit n: writes of posted kind n could now change no level and start no DMA.
  uint32_t postable = 0;
  std::array<std::optional<uint64_t>, SHADOWS> shadow = {};
};

/// Emulated hardware with registers, whose state is the plain data `S`.
///
/// A device also has `static Manifest manifest(const Options&)`. Calls never overlap. Order: `attach`; then `power_on`, or
/// `check` of state found from an earlier incarnation; then any of `read`, `write`, `alarm`, `button` and `scan`, each
/// followed by `outputs` and, once committed, by `settle`. `power_on` may come again at any time: it is the reset.
template <class S>
class Device {
 public:
  static_assert(std::is_trivially_copyable_v<S>, "state is plain data");
  using State = S;

  virtual ~Device() = default;
  /// Takes its powers.
  virtual void attach(const Options&, Powers&) {}
  /// The state after power on or reset; it is all zero before.
  virtual void power_on(State&) {}
  /// Whether state found in memory is one that this device could have left. It comes from a process that may have been under
  /// an attacker's control; false means a reset.
  virtual bool check(const State&) const { return true; }
  /// Answers a guest load. Nothing: no such register, or not at this width; the guest reads ones.
  virtual std::optional<uint64_t> read(State&, const Access&) { return std::nullopt; }
  /// Takes a guest store. False: no such register, or not at this width.
  virtual bool write(State&, const Access&, uint64_t) { return false; }
  /// The deadline in the committed outputs has passed.
  virtual void alarm(State&, uint64_t) {}
  /// The operator pressed the power button.
  virtual void button(State&, uint64_t) {}
  /// Looks at queues, after each wake and before each synchronous operation; a bounded amount of work. Says whether something
  /// was done.
  virtual bool scan(State&, uint64_t) { return false; }
  /// What the guest sees of this state.
  virtual Outputs outputs(const State&) const { return {}; }
  /// The state is committed: make its effects happen outside. Must bear being called again for the same state.
  virtual void settle(const State&) {}
};

}  // namespace cofferdam
