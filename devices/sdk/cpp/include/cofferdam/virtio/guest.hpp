// A guest and a device host in miniature, in one process, that drive a virtio device: for tests.
//
// `Guest` makes accesses, builds rings in memory and commits as a host does. It can let the device's process die between any two
// steps, so a test that passes with `Deaths::Never` can be run again with the others, and must pass the same.
#pragma once

#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <utility>
#include <vector>

#include <sys/eventfd.h>
#include <unistd.h>

#include "../virtio.hpp"

namespace cofferdam::virtio::guest {

/// Memory of the guest: two windows that meet, and nothing behind them; and where they meet.
inline constexpr uint64_t MEMORY_BYTES = 0x20'0000, SEAM = 0x10'0000;
/// Where the driver puts the three parts of queue n: at n times `QUEUE_STEP` behind these.
inline constexpr uint64_t DESC = 0x1'0000, AVAIL = 0x1'4000, USED = 0x1'8000, QUEUE_STEP = 0x1'0000;

/// When the device's process dies.
enum class Deaths {
  /// It lives.
  Never,
  /// After each step, before its commit. Its successor does the step.
  BeforeCommit,
  /// After each commit, before its effects happen.
  BeforeSettle,
  /// After each step and its effects.
  AfterSettle,
};
inline constexpr Deaths ALL_DEATHS[] = {Deaths::Never, Deaths::BeforeCommit, Deaths::BeforeSettle, Deaths::AfterSettle};

/// A buffer of a chain.
struct Buffer {
  uint64_t address;
  uint32_t bytes;
  /// The device may write it.
  bool writable;
};

/// A guest, its device, and the host between them. `grant` is called for each incarnation, to put what the device needs beside
/// memory and vectors into its powers.
template <class B>
class Guest {
 public:
  explicit Guest(std::function<void(Powers&)> grant = [](Powers&) {}) : grant_(std::move(grant)), bytes_(MEMORY_BYTES) {
    memory.add(SEAM, bytes_.data() + SEAM, MEMORY_BYTES - SEAM);
    memory.add(0, bytes_.data(), SEAM);
    for (std::size_t each = 0; each <= B::QUEUES.size(); ++each) eventfds_.push_back(::eventfd(0, EFD_NONBLOCK));
    attach();
    device->power_on(state);
    device->settle(state);
  }
  Guest(const Guest&) = delete;
  ~Guest() {
    for (const int each : eventfds_) ::close(each);
  }

  GuestMemory memory;
  /// The device's present incarnation.
  std::unique_ptr<Virtio<B>> device;
  /// The committed state.
  State state{};
  Deaths deaths = Deaths::Never;
  uint64_t doorbells = 0;

  /// The device's process dies; a new one takes up what is committed.
  void kill() {
    attach();
    if (!device->check(state)) throw std::logic_error("a device refuses the state that its predecessor committed");
    device->settle(state);
  }

  /// One scan. Gives what it says of itself.
  bool scan() {
    const State before = state;
    const bool changed = step([](Virtio<B>& device, State& state) { return device.scan(state, 0); });
    if (!changed && std::memcmp(&before, &state, sizeof before) != 0) throw std::logic_error("an idle scan changes the state");
    return changed;
  }

  /// A doorbell: scans until there is nothing more to do.
  void ring() {
    for (int scans = 0; scans < 10'000; ++scans) {
      if (!scan()) return;
    }
    throw std::logic_error("the device finds no end");
  }

  /// A load from the BAR.
  uint64_t load(uint64_t offset, uint8_t width) {
    ring();
    const uint64_t ones = UINT64_MAX >> (64 - 8 * width);
    return step([&](Virtio<B>& device, State& state) { return device.read(state, {0, offset, width, 0}); }).value_or(ones);
  }

  /// A store to the BAR.
  void store(uint64_t offset, uint8_t width, uint64_t value) {
    ring();
    step([&](Virtio<B>& device, State& state) { return device.write(state, {0, offset, width, 0}, value); });
    ring();
  }

  /// A doorbell that comes as a store.
  void notify(uint64_t queue = 0) { store(NOTIFY + queue * NOTIFY_STEP, 2, queue); }

  /// Resets the device, accepts `features` and version 1, sets up all queues with `size` entries, with the vector of the same
  /// number plus one, or none; and starts.
  void start(uint64_t features = 0, uint16_t size = 8, bool vectors = true) {
    for (const uint8_t status : {0, 1, 3}) store(0x14, 1, status);
    features |= VERSION_1;
    for (const unsigned half : {0u, 1u}) {
      store(0x08, 4, half);
      store(0x0c, 4, features >> 32 * half & UINT32_MAX);
    }
    store(0x14, 1, 0xb);
    if (status() != 0xb) throw std::logic_error("the device refuses these features");
    if (vectors) store(0x10, 2, 0);
    size_ = size;
    for (uint64_t queue = 0; queue < B::QUEUES.size(); ++queue) {
      const uint64_t at = queue * QUEUE_STEP;
      for (const uint64_t part : {DESC, AVAIL, USED}) std::memset(bytes_.data() + part + at, 0, 0x4000);
      store(0x16, 2, queue);
      store(0x18, 2, size);
      if (vectors) store(0x1a, 2, queue + 1);
      for (const auto& [reg, part] : {std::pair{0x20, DESC}, std::pair{0x28, AVAIL}, std::pair{0x30, USED}}) {
        store(static_cast<uint64_t>(reg), 8, part + at);
      }
      store(0x1c, 2, 1);
    }
    store(0x14, 1, 0xf);
  }

  /// The device status.
  uint64_t status() { return load(0x14, 1); }
  /// The level of the pin.
  bool level() const { return device->outputs(state).levels & 1; }
  /// How often a vector was rung since the last look.
  uint64_t rung(std::size_t vector) const {
    uint64_t count = 0;
    return ::read(eventfds_[vector], &count, sizeof count) == sizeof count ? count : 0;
  }

  /// Writes a descriptor anywhere.
  void describe(uint64_t at, uint64_t address, uint32_t bytes, uint16_t flags, uint16_t next) {
    const Descriptor descriptor{address, bytes, flags, next};
    memory.write(at, &descriptor, sizeof descriptor);
  }

  /// Puts a chain into a queue's table from descriptor `head` on and makes it available. Rings nothing.
  void submit(uint16_t head, const std::vector<Buffer>& chain, uint64_t queue = 0) {
    link(DESC + queue * QUEUE_STEP, head, chain);
    offer(head, queue);
  }

  /// As `submit`, by way of an indirect table at `table`.
  void submit_indirect(uint16_t head, uint64_t table, const std::vector<Buffer>& chain) {
    link(table, 0, chain);
    describe(DESC + head * sizeof(Descriptor), table, static_cast<uint32_t>(chain.size() * sizeof(Descriptor)),
             Descriptor::INDIRECT, 0);
    offer(head);
  }

  /// Makes a chain available.
  void offer(uint16_t head, uint64_t queue = 0) {
    const uint64_t ring = AVAIL + queue * QUEUE_STEP;
    const uint16_t index = *memory.load(ring + 2);
    memory.store(ring + 4 + index % size_ * 2u, head);
    memory.store(ring + 2, static_cast<uint16_t>(index + 1));
  }

  /// All that a queue's device has used so far and has not overwritten: heads and lengths.
  std::vector<std::pair<uint32_t, uint32_t>> used(uint64_t queue = 0) const {
    const uint64_t ring = USED + queue * QUEUE_STEP;
    const uint16_t index = *memory.load(ring + 2);
    std::vector<std::pair<uint32_t, uint32_t>> found;
    for (unsigned entry = index > size_ ? index - size_ : 0u; entry < index; ++entry) {
      uint32_t element[2];
      memory.read(ring + 4 + entry % size_ * 8u, element, sizeof element);
      found.emplace_back(element[0], element[1]);
    }
    return found;
  }

  /// Bytes of memory.
  std::vector<uint8_t> bytes(uint64_t address, std::size_t length) const {
    std::vector<uint8_t> found(length);
    memory.read(address, found.data(), length);
    return found;
  }

 private:
  void link(uint64_t table, uint16_t first, const std::vector<Buffer>& chain) {
    for (std::size_t at = 0; at < chain.size(); ++at) {
      const auto index = static_cast<uint16_t>(first + at);
      const int flags = (chain[at].writable ? Descriptor::WRITE : 0) | (at + 1 < chain.size() ? Descriptor::NEXT : 0);
      describe(table + index * sizeof(Descriptor), chain[at].address, chain[at].bytes, static_cast<uint16_t>(flags),
               static_cast<uint16_t>(index + 1));
    }
  }

  /// Does `act` on a copy of the state and commits it, with the deaths that are due.
  template <class F>
  auto step(F&& act) {
    State working = state;
    auto outcome = act(*device, working);
    if (deaths == Deaths::BeforeCommit) {
      kill();
      working = state;
      outcome = act(*device, working);
    }
    state = working;
    if (deaths == Deaths::BeforeSettle) {
      kill();
    } else {
      device->settle(state);
    }
    if (deaths == Deaths::AfterSettle) kill();
    return outcome;
  }

  void attach() {
    Powers powers;
    powers.memory = memory;
    for (const int each : eventfds_) powers.vectors.push_back(Bell(each));
    powers.doorbell = [this] { ++doorbells; };
    grant_(powers);
    device = std::make_unique<Virtio<B>>();
    device->attach(Options::parse(B::options(), {}), powers);
  }

  std::function<void(Powers&)> grant_;
  std::vector<uint8_t> bytes_;
  std::vector<int> eventfds_;
  uint16_t size_ = 0;
};

}  // namespace cofferdam::virtio::guest
