// What a device implements.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <type_traits>
#include <utility>
#include <vector>

#include "declare.hpp"

namespace cofferdam {

class Powers;

/// Shadow values of a device.
inline constexpr std::size_t SHADOWS = 8;

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
  /// Values of the shadow registers; none while the next read would have a side effect or is not known.
  std::array<std::optional<uint64_t>, SHADOWS> shadow = {};
};

/// A register of a device whose state is `S`, as data: in a range, at an offset, of one width. Whatever it does not do is no
/// register.
template <class S>
class Register {
 public:
  using Read = std::function<uint64_t(S&, const Access&)>;
  using Write = std::function<void(S&, const Access&, uint64_t)>;

  /// A register at this offset of the first range, of this width.
  static Register at(uint64_t offset, uint8_t width) { return Register(offset, width); }
  /// In this range.
  Register of(uint8_t range) && { return place_.range = range, std::move(*this); }
  /// Loads give a field of the state.
  template <class F>
  Register field(F S::*field) && {
    read_ = [field](S& state, const Access&) { return static_cast<uint64_t>(state.*field); };
    set_ = [field](S& state, const Access&, uint64_t value) { state.*field = static_cast<F>(value); };
    return std::move(*this);
  }
  /// Stores set the field.
  Register writable() && { return write_ = set_, std::move(*this); }
  /// Answers loads.
  Register read(Read read) && { return read_ = std::move(read), std::move(*this); }
  /// Takes stores.
  Register write(Write write) && { return write_ = std::move(write), std::move(*this); }
  /// Stores may be posted, while this bit in the outputs' `postable` mask is set.
  Register posted(uint8_t bit) && { return place_.posted = bit, std::move(*this); }
  /// Loads are served from this shadow value of the outputs, while there is one.
  Register shadow(uint8_t slot) && { return place_.shadow = slot, std::move(*this); }

  /// What everybody is told of it.
  struct Place {
    uint8_t range;
    uint64_t offset;
    uint8_t width;
    std::optional<uint8_t> posted, shadow;
  };
  const Place& place() const { return place_; }
  /// Whether an access means it.
  bool is_at(const Access& at) const {
    return at.range == place_.range && at.offset == place_.offset && at.width == place_.width;
  }
  std::optional<uint64_t> load(S& state, const Access& at) const {
    return read_ ? std::optional(read_(state, at)) : std::nullopt;
  }
  bool store(S& state, const Access& at, uint64_t value) const {
    if (write_) write_(state, at, value);
    return static_cast<bool>(write_);
  }

 private:
  Register(uint64_t offset, uint8_t width) : place_{0, offset, width, {}, {}} {}
  Place place_;
  Read read_;
  Write write_, set_;
};

/// Emulated hardware with registers, whose state is the plain data `S`.
///
/// A device also has `static Manifest manifest(const Options&)`. Calls never overlap. Order: `attach`; then `power_on`, or
/// `check` of state found from an earlier incarnation; then any of `read`, `write`, `alarm`, `button`, `refresh` and `scan`,
/// each followed by `outputs` and, once committed, by `settle`. `power_on` may come again at any time: it is the reset.
template <class S>
class Device {
 public:
  static_assert(std::is_trivially_copyable_v<S>, "state is plain data");
  using State = S;
  using Register = cofferdam::Register<S>;

  Device() = default;
  /// Its registers may know where it is.
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;
  virtual ~Device() = default;

  /// Options that a person may set.
  static std::vector<Option> options() { return {}; }
  /// Its registers, where `read` and `write` are left as they are; and those that are not plain synchronous ones. Asked for once.
  virtual std::vector<Register> registers() { return {}; }
  /// Takes its powers.
  virtual void attach(const Options&, Powers&) {}
  /// The state after power on or reset; before, it is what the state says of itself, or zero.
  virtual void power_on(State&) {}
  /// Whether state found in memory is one that this device could have left. It comes from a process that may have been under
  /// an attacker's control; false means a reset.
  virtual bool check(const State&) const { return true; }
  /// Answers a guest load, from the registers that are declared. Nothing: no such register, or not at this width; the guest
  /// reads ones.
  virtual std::optional<uint64_t> read(State& state, const Access& at) {
    const Register* found = find(at);
    return found ? found->load(state, at) : std::nullopt;
  }
  /// Takes a guest store, by the registers that are declared. False: no such register, or not at this width.
  virtual bool write(State& state, const Access& at, uint64_t value) {
    const Register* found = find(at);
    return found && found->store(state, at, value);
  }
  /// The deadline in the committed outputs has passed.
  virtual void alarm(State&, uint64_t) {}
  /// The operator pressed the power button.
  virtual void button(State&, uint64_t) {}
  /// Somebody wants to see what a display shows: it is drawn into the `Scanout`. A bounded amount of work.
  virtual void refresh(State&, uint64_t) {}
  /// Looks at queues, after each wake and before each synchronous operation; a bounded amount of work. Says whether something
  /// was done.
  virtual bool scan(State&, uint64_t) { return false; }
  /// What the guest sees of this state.
  virtual Outputs outputs(const State&) const { return {}; }
  /// The state is committed: make its effects happen outside. Must bear being called again for the same state.
  virtual void settle(const State&) {}

 private:
  /// The register that an access means.
  const Register* find(const Access& at) {
    if (!registers_) registers_ = registers();
    for (const Register& each : *registers_) {
      if (each.is_at(at)) return &each;
    }
    return nullptr;
  }

  std::optional<std::vector<Register>> registers_;
};

}  // namespace cofferdam
