// What a device was granted. What it does not take in `attach` it will never have.
#pragma once

#include <cstdint>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <unistd.h>

namespace cofferdam {

/// An eventfd: a switch, or an MSI-X vector.
class Bell {
 public:
  explicit Bell(int descriptor) : descriptor_(descriptor) {}
  /// Rings it.
  void ring(uint64_t value = 1) const {
    // Whoever listens keeps it from filling up; a device has nobody to tell that it cannot be rung.
    [[maybe_unused]] const ssize_t written = ::write(descriptor_, &value, sizeof value);
  }

 private:
  int descriptor_;
};

/// Turns a switch once for each time that the state asks for it, and once more after a restart.
class Latch {
 public:
  Latch() = default;
  explicit Latch(Bell bell) : bell_(bell) {}
  /// The committed state asks for this value, or for nothing.
  void settle(std::optional<uint64_t> wanted) {
    if (rung_ == wanted) return;
    rung_ = wanted;
    if (wanted) bell_.ring(*wanted);
  }

 private:
  Bell bell_{-1};
  std::optional<uint64_t> rung_;
};

/// The part of guest memory that was granted. The guest may change it at any time: read once, then check.
class GuestMemory {
 public:
  /// Copies bytes of the guest's; false: they are not in the grant.
  bool read(uint64_t address, void* into, std::size_t length) const {
    const uint8_t* found = window(address, length);
    if (found) std::memcpy(into, found, length);
    return found != nullptr;
  }
  /// Stores bytes; false: they are not in the grant.
  bool write(uint64_t address, const void* from, std::size_t length) const {
    uint8_t* found = window(address, length);
    if (found) std::memcpy(found, from, length);
    return found != nullptr;
  }
  void add(uint64_t base, uint8_t* start, std::size_t length) { windows_.push_back({base, start, length}); }
  bool empty() const { return windows_.empty(); }

 private:
  struct Window {
    uint64_t base;
    uint8_t* start;
    std::size_t length;
  };
  uint8_t* window(uint64_t address, std::size_t length) const {
    for (const Window& each : windows_) {
      const uint64_t into = address - each.base;
      if (address >= each.base && into <= each.length && length <= each.length - into) return each.start + into;
    }
    return nullptr;
  }
  std::vector<Window> windows_;
};

/// A file that was granted, read and written at offsets.
class File {
 public:
  File(int descriptor, uint64_t size) : descriptor_(descriptor), size_(size) {}
  uint64_t size() const { return size_; }
  /// Bytes at an offset, all of them or false.
  bool read(uint64_t offset, void* into, std::size_t length) const {
    auto* at = static_cast<uint8_t*>(into);
    while (length > 0) {
      const ssize_t done = ::pread(descriptor_, at, length, static_cast<off_t>(offset));
      if (done <= 0) return false;
      at += done, offset += static_cast<uint64_t>(done), length -= static_cast<std::size_t>(done);
    }
    return true;
  }
  /// Stores bytes at an offset, never beyond its end.
  bool write(uint64_t offset, const void* from, std::size_t length) const {
    if (offset > size_ || length > size_ - offset) return false;
    const auto* at = static_cast<const uint8_t*>(from);
    while (length > 0) {
      const ssize_t done = ::pwrite(descriptor_, at, length, static_cast<off_t>(offset));
      if (done <= 0) return false;
      at += done, offset += static_cast<uint64_t>(done), length -= static_cast<std::size_t>(done);
    }
    return true;
  }
  /// What was written is on the disk when this returns true.
  bool flush() const { return ::fdatasync(descriptor_) == 0; }

 private:
  int descriptor_;
  uint64_t size_;
};

/// Everything that was granted to a device.
class Powers {
 public:
  std::map<std::string, Bell> switches = {};
  std::vector<Bell> vectors = {};
  std::map<std::string, File> files = {};
  GuestMemory memory = {};

  /// The switch of this name.
  Bell take_switch(const std::string& name) const { return of(switches, name); }
  /// The file of this name.
  File take_file(const std::string& name) const { return of(files, name); }

 private:
  template <class T>
  static T of(const std::map<std::string, T>& granted, const std::string& name) {
    const auto found = granted.find(name);
    if (found == granted.end()) throw std::runtime_error("the power `" + name + "` was not granted");
    return found->second;
  }
};

}  // namespace cofferdam
