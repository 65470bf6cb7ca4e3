// What a device declares of itself: the VMM knows it by nothing else. Names are those of schema/manifest.capnp.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "options.hpp"

namespace cofferdam {

/// What kind of work a device does. Values are those of the schema.
enum class Class : uint16_t { Block = 1, Net, Char, Timer, Display, Entropy, System };
/// What a device may be given.
enum class Power : uint16_t { Stream = 1, Memory, LowMemory, FileRead, FileWrite, Switch, Direct, Entropy, Scanout };
/// What a switch does.
enum class Switch : uint16_t { None = 0, Reset, PowerOff, Panicked, Exit, CrashLoaded };
/// Where a range lies.
enum class Space { Port, Memory, Bar, PortBar };

/// Addresses that a device answers.
struct Range {
  std::string name;
  Space space;
  /// A port, an address, or the number of a BAR.
  uint64_t first;
  uint64_t length;

  /// I/O ports from `first` on.
  static Range ports(std::string name, uint64_t first, uint64_t length) {
    return {std::move(name), Space::Port, first, length};
  }
  /// Guest addresses from `first` on.
  static Range memory(std::string name, uint64_t first, uint64_t length) {
    return {std::move(name), Space::Memory, first, length};
  }
  /// Memory wherever this BAR points.
  static Range memory_bar(std::string name, uint8_t bar, uint64_t length) {
    return {std::move(name), Space::Bar, bar, length};
  }
  /// Ports wherever this BAR points.
  static Range port_bar(std::string name, uint8_t bar, uint64_t length) {
    return {std::move(name), Space::PortBar, bar, length};
  }
};

/// A pin interrupt; line n is bit n of the outputs' levels.
struct Line {
  uint8_t number;
  bool is_pin;

  /// An ISA interrupt.
  static Line isa(uint8_t number) { return {number, false}; }
  /// A PCI pin: 1 is INTA.
  static Line pin(uint8_t number) { return {number, true}; }
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
  /// For power `Switch`: what it does.
  Switch what = Switch::None;
  /// For power `Direct`: the index of the range that it backs, all of it.
  uint8_t range = 0;

  /// A wish for memory of its own behind this range, which the guest sees without asking the device.
  static Wish direct(uint8_t range, std::string name, std::string because) {
    return {Power::Direct, std::move(name), std::move(because), Switch::None, range};
  }
};

/// A PCI identity.
struct Pci {
  uint16_t vendor, device, subsystem_vendor = 0, subsystem = 0;
  uint32_t class_code = 0;
  uint8_t revision = 0;
  std::vector<std::vector<uint8_t>> capabilities = {};
  uint8_t vector_bar = 0;
};

/// What a device declares. Its registers and options are functions of the device.
struct Manifest {
  std::string name;
  std::string summary;
  Class kind = Class::System;
  std::vector<Range> ranges = {};
  std::vector<Line> lines = {};
  uint16_t vectors = 0;
  std::vector<Doorbell> doorbells = {};
  std::vector<Wish> wishes = {};
  std::optional<Pci> pci = {};

  /// Refuses what the schema has no room for: an option may have asked for it.
  void check() const {
    for (const Range& range : ranges) {
      if (range.space == Space::Port && range.first > UINT16_MAX) {
        throw Refusal("range `" + range.name + "`: there is no port " + hexadecimal(range.first));
      }
    }
  }
};

}  // namespace cofferdam
