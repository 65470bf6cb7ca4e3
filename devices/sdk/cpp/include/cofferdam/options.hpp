// A device's options: what it declares, and what a person set.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace cofferdam {

/// Why not: one sentence for the person who asked.
struct Refusal : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// What an option's value is. Values are those of the schema.
enum class OptionKind : uint16_t { Number = 1, Text, Flag };

/// A number as people write addresses.
inline std::string hexadecimal(uint64_t number) {
  std::string digits;
  do {
    digits.insert(digits.begin(), "0123456789abcdef"[number % 16]);
  } while (number /= 16);
  return "0x" + digits;
}

/// An option that a person may set.
struct Option {
  std::string name;
  OptionKind kind;
  /// What it is when it is not set.
  std::string fallback;
  std::string summary;

  /// An option whose value is a number, decimal or 0x hexadecimal.
  static Option number(std::string name, uint64_t fallback, std::string summary) {
    // Large numbers are addresses.
    std::string shown = fallback > 255 ? hexadecimal(fallback) : std::to_string(fallback);
    return {std::move(name), OptionKind::Number, std::move(shown), std::move(summary)};
  }
  /// An option whose value is text.
  static Option text(std::string name, std::string fallback, std::string summary) {
    return {std::move(name), OptionKind::Text, std::move(fallback), std::move(summary)};
  }
  /// An option that is on or off.
  static Option flag(std::string name, bool fallback, std::string summary) {
    return {std::move(name), OptionKind::Flag, fallback ? "on" : "off", std::move(summary)};
  }
};

/// Values of a device's options: what was set, or the default.
class Options {
 public:
  using Settings = std::vector<std::pair<std::string, std::string>>;

  /// Refuses what `specs` does not name, values that do not parse, and a name set twice.
  static Options parse(const std::vector<Option>& specs, const Settings& set) {
    Options options;
    options.specs_ = specs;
    for (std::size_t at = 0; at < set.size(); ++at) {
      const auto& [name, value] = set[at];
      for (std::size_t earlier = 0; earlier < at; ++earlier) {
        if (set[earlier].first == name) throw Refusal("option `" + name + "` is given twice");
      }
      Option& spec = options.named(name);
      spec.fallback = value;
      if (spec.kind == OptionKind::Number) options.number(name);
      if (spec.kind == OptionKind::Flag) options.flag(name);
    }
    return options;
  }

  /// The text of an option.
  std::string text(const std::string& name) const { return find(name, OptionKind::Text); }

  /// The number of an option.
  uint64_t number(const std::string& name) const {
    const std::string& value = find(name, OptionKind::Number);
    const bool is_hexadecimal = value.compare(0, 2, "0x") == 0;
    const std::string digits = is_hexadecimal ? value.substr(2) : value;
    const char* known = is_hexadecimal ? "0123456789abcdefABCDEF" : "0123456789";
    // Signs and spaces are none.
    if (!digits.empty() && digits.find_first_not_of(known) == std::string::npos) {
      try {
        return std::stoull(digits, nullptr, is_hexadecimal ? 16 : 10);
      } catch (const std::out_of_range&) {
      }
    }
    throw Refusal("option `" + name + "`: `" + value + "` is not a number");
  }

  /// Whether a flag is on.
  bool flag(const std::string& name) const {
    const std::string& value = find(name, OptionKind::Flag);
    if (value.empty() || value == "on" || value == "true") return true;
    if (value == "off" || value == "false") return false;
    throw Refusal("option `" + name + "`: `" + value + "` is not `on` or `off`");
  }

  /// What the word stands for that an option has: one of these.
  template <class V>
  V choice(const std::string& name, const std::vector<std::pair<std::string, V>>& choices) const {
    const std::string word = text(name);
    std::string words;
    for (const auto& [each, value] : choices) {
      if (each == word) return value;
      words += (words.empty() ? "" : each == choices.back().first ? " or " : ", ") + each;
    }
    throw Refusal("option `" + name + "`: `" + word + "` is not " + words);
  }

 private:
  Option& named(const std::string& name) {
    std::string known;
    for (Option& each : specs_) {
      if (each.name == name) return each;
      known += (known.empty() ? "" : ", ") + each.name;
    }
    throw Refusal("there is no option `" + name + "`; there are: " + known);
  }

  const std::string& find(const std::string& name, OptionKind kind) const {
    for (const Option& each : specs_) {
      if (each.name == name && each.kind == kind) return each.fallback;
    }
    throw std::logic_error("the device declares no option `" + name + "` of this kind");
  }

  /// What was declared; what was set is in the place of its default.
  std::vector<Option> specs_;
};

}  // namespace cofferdam
