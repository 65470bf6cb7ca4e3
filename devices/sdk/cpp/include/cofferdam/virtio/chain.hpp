// The buffers of one request.
#pragma once

#include <cstdint>
#include <cstring>
#include <optional>
#include <utility>
#include <vector>

#include "../powers.hpp"

namespace cofferdam::virtio {

/// Most buffers in a chain: a driver may not use more descriptors than the largest queue has (2.7.5.3.1).
inline constexpr std::size_t SEGMENTS_MAX = 256;

/// How a driver broke the rules of a queue. Thrown; the device then needs a reset.
enum class Broken {
  /// A queue was enabled that is not aligned, or not inside memory.
  Queue,
  /// The available index ran away from the device by more than the queue holds.
  Index,
  /// A chain names a descriptor that does not exist, goes round in circles, or nests indirect tables.
  Endless,
  /// A chain has more than `SEGMENTS_MAX` buffers.
  Long,
  /// A buffer to read follows one to write.
  Order,
  /// A buffer is not in memory.
  Outside,
  /// A chain cannot be a request of this device.
  Short,
  /// The device itself cannot go on.
  Failed,
};

/// Bytes of guest memory, scattered over buffers. Where one ends and the next begins means nothing (2.7.4.1). All of them were
/// in guest memory when they were checked; their content may change at any time.
class Buffers {
 public:
  explicit Buffers(const GuestMemory& memory) : memory_(&memory) {}

  /// How many.
  uint64_t bytes() const { return bytes_; }

  /// The first `at` bytes, or all if there are fewer, and the rest.
  std::pair<Buffers, Buffers> split_at(uint64_t at) const {
    Buffers first(*memory_), rest(*memory_);
    for (const Segment& each : segments_) {
      const uint64_t part = std::min<uint64_t>(each.length, at);
      at -= part;
      if (part > 0) first.add(each.address, static_cast<uint32_t>(part));
      if (part < each.length) rest.add(each.address + part, static_cast<uint32_t>(each.length - part));
    }
    return {std::move(first), std::move(rest)};
  }

  /// Copies the first bytes into `into`, as many as there are; gives how many.
  std::size_t read(void* into, std::size_t length) const {
    auto* to = static_cast<uint8_t*>(into);
    split_at(length).first.each([&](uint8_t* piece, std::size_t bytes) {
      std::memcpy(to, piece, bytes);
      to += bytes;
      return true;
    });
    return static_cast<std::size_t>(to - static_cast<uint8_t*>(into));
  }

  /// Copies `from` over the first bytes, as many as there are; gives how many.
  std::size_t write(const void* from, std::size_t length) const {
    const auto* at = static_cast<const uint8_t*>(from);
    split_at(length).first.each([&](uint8_t* piece, std::size_t bytes) {
      std::memcpy(piece, at, bytes);
      at += bytes;
      return true;
    });
    return static_cast<std::size_t>(at - static_cast<const uint8_t*>(from));
  }

  /// Hands over the bytes in order, where they lie, until `act` says false; says whether it never did.
  template <class F>
  bool each(F&& act) const {
    for (const Segment& segment : segments_) {
      if (!memory_->each(segment.address, segment.length, act)) return false;
    }
    return true;
  }

  /// Adds a buffer, which lies in guest memory.
  void add(uint64_t address, uint32_t length) {
    segments_.push_back({address, length});
    bytes_ += length;
  }
  /// How many buffers.
  std::size_t count() const { return segments_.size(); }

 private:
  struct Segment {
    uint64_t address;
    uint32_t length;
  };
  const GuestMemory* memory_;
  std::vector<Segment> segments_;
  uint64_t bytes_ = 0;
};

/// A request: what the device may read, then what it may write.
struct Chain {
  Buffers readable, writable;
};

/// A descriptor (2.7.5).
struct Descriptor {
  uint64_t address;
  uint32_t length;
  uint16_t flags, next;
  static constexpr uint16_t NEXT = 1, WRITE = 2, INDIRECT = 4;
};
static_assert(sizeof(Descriptor) == 16);

/// Follows the descriptors of a chain, reads each once, and checks them.
inline Chain collect(const GuestMemory& memory, uint64_t table, uint32_t size, uint32_t head) {
  constexpr uint32_t TABLE_MAX = UINT16_MAX;
  Chain chain{Buffers(memory), Buffers(memory)};
  uint32_t index = head, left = size;
  uint64_t total = 0;
  bool indirect = false;
  for (;;) {
    const uint64_t at = table + uint64_t{index} * sizeof(Descriptor);
    Descriptor found;
    if (left == 0 || index >= size || at < table || !memory.read(at, &found, sizeof found)) throw Broken::Endless;
    if (found.flags & Descriptor::INDIRECT) {
      // A table in a table, or one that is not made of descriptors, is followed nowhere.
      const uint32_t entries = found.length / sizeof(Descriptor);
      if (indirect || found.length % sizeof(Descriptor) != 0 || entries > TABLE_MAX) throw Broken::Endless;
      table = found.address, size = left = entries, index = 0, indirect = true;
      continue;
    }
    // No chain may describe more than 2^32 bytes (2.7.5).
    total += found.length;
    if (total > UINT32_MAX) throw Broken::Endless;
    if (chain.readable.count() + chain.writable.count() == SEGMENTS_MAX) throw Broken::Long;
    const bool writable = found.flags & Descriptor::WRITE;
    if (!writable && chain.writable.count() > 0) throw Broken::Order;
    if (!memory.contains(found.address, found.length)) throw Broken::Outside;
    (writable ? chain.writable : chain.readable).add(found.address, found.length);
    if (!(found.flags & Descriptor::NEXT)) return chain;
    index = found.next, --left;
  }
}

}  // namespace cofferdam::virtio
