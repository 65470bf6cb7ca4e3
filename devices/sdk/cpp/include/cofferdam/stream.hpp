// A device's end of a pair of byte rings to the outside: a serial line, for example.
#pragma once

#include <cstdint>
#include <optional>
#include <utility>

#include "bell.hpp"

namespace cofferdam {

/// A pair of byte rings.
///
/// The device's two indices are part of its state and published only once committed, in `settle`; so a byte is handed on
/// exactly once however often the process dies. Indices count bytes, modulo 2^32.
class Stream {
 public:
  static constexpr std::size_t RING_BYTES = 64 << 10;
  /// Four indices, each in a cache line of its own, come before the rings.
  static constexpr std::size_t INDEX_BYTES = 4096, BYTES = INDEX_BYTES + 2 * RING_BYTES;

  Stream(uint8_t* rings, Bell bell) : rings_(rings), bell_(bell) {}

  /// Free bytes of the out ring when `head` bytes have been put in all.
  std::size_t room(uint32_t head) const {
    const uint32_t filled = head - load(OUT_TAIL);
    return filled <= RING_BYTES ? RING_BYTES - filled : 0;
  }
  /// Puts a byte at `head` of the out ring, which has room. It means nothing until `publish`.
  void put(uint32_t head, uint8_t byte) const {
    __atomic_store_n(rings_ + INDEX_BYTES + head % RING_BYTES, byte, __ATOMIC_RELAXED);
  }
  /// The byte at `tail` of the in ring, if there is one.
  std::optional<uint8_t> get(uint32_t tail) const {
    const uint32_t there = load(IN_HEAD) - tail;
    // More than a ring has is a lie.
    if (there == 0 || there > RING_BYTES) return std::nullopt;
    return __atomic_load_n(rings_ + INDEX_BYTES + RING_BYTES + tail % RING_BYTES, __ATOMIC_RELAXED);
  }
  /// Publishes the committed indices, and wakes the other side if they changed.
  void publish(uint32_t out_head, uint32_t in_tail) const {
    if (published() == std::pair(out_head, in_tail)) return;
    __atomic_store_n(index(IN_TAIL), in_tail, __ATOMIC_RELEASE);
    __atomic_store_n(index(OUT_HEAD), out_head, __ATOMIC_RELEASE);
    bell_.ring();
  }
  /// The indices published last, out and in: where a device goes on whose state is gone.
  std::pair<uint32_t, uint32_t> published() const { return {load(OUT_HEAD), load(IN_TAIL)}; }

 private:
  static constexpr std::size_t OUT_HEAD = 0, OUT_TAIL = 64, IN_HEAD = 128, IN_TAIL = 192;
  uint32_t* index(std::size_t at) const { return reinterpret_cast<uint32_t*>(rings_ + at); }
  uint32_t load(std::size_t at) const { return __atomic_load_n(index(at), __ATOMIC_ACQUIRE); }
  uint8_t* rings_;
  Bell bell_;
};

}  // namespace cofferdam
