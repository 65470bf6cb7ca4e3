// A split queue (2.7): its registers and positions as plain data, and the steps a device makes along it.
#pragma once

#include <cstdint>

#include "../powers.hpp"
#include "chain.hpp"

namespace cofferdam::virtio {

/// No MSI-X vector (4.1.4.3).
inline constexpr uint16_t NO_VECTOR = 0xffff;

/// A queue. From the moment it is enabled its first five fields do not change until a reset.
struct Ring {
  /// Guest addresses of descriptor table, available ring and used ring.
  uint64_t desc, driver, device;
  /// Entries: a power of 2.
  uint16_t size;
  /// 0 or 1.
  uint16_t enabled;
  /// What the device offers; 0: there is no such queue.
  uint16_t size_max;
  uint16_t vector;
  /// Entries of the available ring that were served, and of the used ring that were written, modulo 2^16.
  uint16_t next_avail, next_used;
  /// Entries of the used ring for which it is decided whether to notify, modulo 2^16.
  uint16_t decided;
  uint16_t unused;
  /// Notifications due since power on, modulo 2^32.
  uint32_t signals;
  uint32_t unused_too;

  static Ring fresh(uint16_t size_max, uint32_t signals) {
    Ring ring{};
    ring.size = ring.size_max = size_max, ring.vector = NO_VECTOR, ring.signals = signals;
    return ring;
  }

  /// Whether this could have been left by a device with a queue of at most `most` entries.
  bool is_sound(uint16_t most, bool started, const GuestMemory& memory) const {
    if (size_max != most || enabled > 1 || unused || unused_too) return false;
    if (!enabled) return !next_avail && !next_used && !decided && (size == most || can_have_size(size));
    if (!can_have_size(size) || !lies_in(memory) || next_avail != next_used) return false;
    const auto undecided = static_cast<uint16_t>(next_used - decided);
    // The driver wrote the published index first; from then on only the device changes it.
    return !started || static_cast<uint16_t>(load(memory, device + INDEX) - decided) <= undecided;
  }

  /// Whether a driver may choose this many entries (4.1.4.3.2).
  bool can_have_size(uint64_t entries) const {
    return entries != 0 && (entries & (entries - 1)) == 0 && entries <= size_max;
  }

  /// Whether all three parts are aligned and lie in memory (2.7), each ring with the word of the event index.
  bool lies_in(const GuestMemory& memory) const {
    const bool aligned = desc % 16 == 0 && driver % 2 == 0 && device % 4 == 0;
    // An available ring at address 0 is one that was not configured.
    return aligned && driver != 0 && memory.contains(desc, std::size_t{size} * sizeof(Descriptor)) &&
           memory.contains(driver, HEADER + std::size_t{size} * AVAIL_ENTRY + 2) &&
           memory.contains(device, HEADER + std::size_t{size} * USED_ENTRY + 2);
  }

  /// Fixes the configuration, if it is one to work with.
  void enable(const GuestMemory& memory) {
    if (!lies_in(memory)) throw Broken::Queue;
    enabled = 1;
  }

  /// The available index.
  uint16_t available(const GuestMemory& memory) const { return load(memory, driver + INDEX); }

  /// The head of the next chain, of which there is one.
  uint16_t next_head(const GuestMemory& memory, uint16_t index) const {
    if (static_cast<uint16_t>(index - next_avail) > size) throw Broken::Index;
    return load(memory, driver + HEADER + uint64_t{next_avail} % size * AVAIL_ENTRY);
  }

  /// Asks for a doorbell at the next entry. Entries must be looked for once more afterwards.
  void ask_for_doorbell(const GuestMemory& memory, bool event_index) const {
    if (event_index) {
      memory.store(device + HEADER + uint64_t{size} * USED_ENTRY, next_avail);
    } else {
      memory.store(device, 0);
    }
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
  }

  /// Writes the next entry of the used ring, behind the published index, and steps on in both rings.
  void complete(const GuestMemory& memory, uint16_t head, uint32_t written) {
    const uint32_t element[2] = {head, written};
    if (!memory.write(device + HEADER + uint64_t{next_used} % size * USED_ENTRY, element, sizeof element)) {
      throw Broken::Outside;
    }
    ++next_avail, ++next_used;
  }

  /// Shows the driver all entries written so far.
  void publish(const GuestMemory& memory) const { memory.store(device + INDEX, next_used); }

  /// Whether there are used entries whose notification is not decided.
  bool has_undecided() const { return decided != next_used; }

  /// Decides, for all that is published, whether the driver wants a notification (2.7.7.2).
  bool decide(const GuestMemory& memory, bool event_index) {
    // What was published must be visible before what the driver wants is read.
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    const uint16_t before = decided, now = next_used;
    decided = now;
    if (!event_index) return (load(memory, driver) & NO_INTERRUPT) == 0;
    const uint16_t used_event = load(memory, driver + HEADER + uint64_t{size} * AVAIL_ENTRY);
    return static_cast<uint16_t>(now - used_event - 1) < static_cast<uint16_t>(now - before);
  }

 private:
  /// Bytes before the entries of either ring, flags and index; and where the index is.
  static constexpr uint64_t HEADER = 4, INDEX = 2, AVAIL_ENTRY = 2, USED_ENTRY = 8;
  static constexpr uint16_t NO_INTERRUPT = 1;

  /// A word of a ring, which was in memory when the queue was enabled. Granted memory does not go away.
  static uint16_t load(const GuestMemory& memory, uint64_t address) {
    const std::optional<uint16_t> word = memory.load(address);
    if (!word) throw Broken::Outside;
    return *word;
  }
};
static_assert(sizeof(Ring) == 48);

}  // namespace cofferdam::virtio
