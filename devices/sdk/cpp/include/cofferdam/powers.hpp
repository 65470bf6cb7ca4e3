// What a device was granted. What it does not take in `attach` it will never have.
#pragma once

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <sys/syscall.h>
#include <unistd.h>

#include "bell.hpp"
#include "options.hpp"
#include "scanout.hpp"
#include "stream.hpp"

namespace cofferdam {

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
    auto* to = static_cast<uint8_t*>(into);
    return contains(address, length) && each(address, length, [&](uint8_t* piece, std::size_t bytes) {
      std::memcpy(to, piece, bytes);
      to += bytes;
      return true;
    });
  }
  /// Stores bytes; false: they are not in the grant.
  bool write(uint64_t address, const void* from, std::size_t length) const {
    const auto* at = static_cast<const uint8_t*>(from);
    return contains(address, length) && each(address, length, [&](uint8_t* piece, std::size_t bytes) {
      std::memcpy(piece, at, bytes);
      at += bytes;
      return true;
    });
  }
  /// Hands over bytes where they lie: in more than one piece where windows meet. False: `act` has said so, or they are not in the
  /// grant.
  template <class F>
  bool each(uint64_t address, std::size_t length, F&& act) const {
    for (const Window& each : windows_) {
      const uint64_t into = address - each.base;
      if (length == 0 || address < each.base || into >= each.length) continue;
      const std::size_t part = std::min<std::size_t>(length, each.length - into);
      if (!act(each.start + into, part)) return false;
      address += part, length -= part;
    }
    return length == 0;
  }
  /// Whether all of these bytes were granted.
  bool contains(uint64_t address, std::size_t length) const {
    return each(address, length, [](uint8_t*, std::size_t) { return true; });
  }
  /// A 16-bit word at an even address, read whole: what the guest stores at the same time is seen or not. Nothing: it is not in
  /// the grant.
  std::optional<uint16_t> load(uint64_t address) const {
    const uint16_t* found = word(address);
    return found ? std::optional(__atomic_load_n(found, __ATOMIC_ACQUIRE)) : std::nullopt;
  }
  /// Stores a 16-bit word at an even address, whole, after all that was stored before; false: it is not in the grant.
  bool store(uint64_t address, uint16_t value) const {
    uint16_t* found = word(address);
    if (found) __atomic_store_n(found, value, __ATOMIC_RELEASE);
    return found != nullptr;
  }
  /// Adds a window.
  void add(uint64_t base, uint8_t* start, std::size_t length) {
    const auto after = [base](const Window& window) { return window.base > base; };
    windows_.insert(std::find_if(windows_.begin(), windows_.end(), after), {base, start, length});
  }
  bool empty() const { return windows_.empty(); }

 private:
  struct Window {
    uint64_t base;
    uint8_t* start;
    std::size_t length;
  };
  uint16_t* word(uint64_t address) const {
    for (const Window& each : windows_) {
      const uint64_t into = address - each.base;
      if (address % 2 == 0 && address >= each.base && into < each.length && each.length - into >= 2) {
        return reinterpret_cast<uint16_t*>(each.start + into);
      }
    }
    return nullptr;
  }
  /// By address.
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

/// The kernel's random numbers.
class Random {
 public:
  /// Fills `into`; false: the kernel has none to give.
  bool fill(uint8_t* into, std::size_t length) const {
    while (length > 0) {
      // The system call itself: the C library's function may keep memory of its own for it.
      const long done = ::syscall(SYS_getrandom, into, length, 0);
      if (done < 0 && errno == EINTR) continue;
      if (done <= 0) return false;
      into += done, length -= static_cast<std::size_t>(done);
    }
    return true;
  }
};

/// Everything that was granted to a device, by the names of its wishes. A test grants what it likes.
class Powers {
 public:
  std::map<std::string, Bell> switches = {};
  std::vector<Bell> vectors = {};
  std::map<std::string, File> files = {};
  std::map<std::string, Stream> streams = {};
  /// Memory of its own behind direct ranges: it begins at address 0, and the guest may change it at any time.
  std::map<std::string, GuestMemory> directs = {};
  std::map<std::string, Scanout> scanouts = {};
  GuestMemory memory = {};
  std::optional<Random> random = {};
  /// Counts a doorbell that was answered: only the device sees them.
  std::function<void()> doorbell = [] {};

  /// Takes the switch of this name; `switch` alone is a word of the language.
  Bell take_switch(const std::string& name) { return taken(switches, name); }
  /// Takes the file of this name.
  File file(const std::string& name) { return taken(files, name); }
  /// Takes the stream of this name.
  Stream stream(const std::string& name) { return taken(streams, name); }
  /// Takes the memory behind the direct range of this name.
  GuestMemory direct(const std::string& name) { return taken(directs, name); }
  /// Takes the scanout of this name.
  Scanout scanout(const std::string& name) { return taken(scanouts, name); }

 private:
  template <class T>
  static T taken(std::map<std::string, T>& granted, const std::string& name) {
    const auto found = granted.find(name);
    if (found == granted.end()) throw Refusal("the power `" + name + "` was not granted");
    return std::move(granted.extract(found).mapped());
  }
};

}  // namespace cofferdam
