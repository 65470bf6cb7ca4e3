// Virtio over PCI, as a library inside a plugin: a modern device (virtio 1.2, section 4.1) with split queues.
//
// A device derives from `Backend`: what it offers and how it serves one chain of buffers. `Virtio<BACKEND>` is the device. To
// everybody else it is a memory BAR, doorbells, a pin and MSI-X vectors.
//
// What survives a crash, and how: a queue's position is committed state; the rings are guest memory, which is not. So the order
// is:
//
// 1. `scan` serves chains and writes entries of the used ring behind its published index, where no driver looks;
// 2. the state is committed, with the queue's new positions;
// 3. `settle` publishes the used ring's index from the committed state;
// 4. the next `scan` decides whether the driver wants to be notified, which may be asked only after publication. The decision is
//    state: an interrupt status, or a count of notifications for each source;
// 5. the state is committed, and `settle` rings the vectors whose counts it has not rung before.
//
// A process that dies before 2 has done nothing: its successor finds the same chains and serves them again. One that dies later
// has a successor that publishes again what was published, or should have been, and rings all vectors.
//
// The MSI-X enable bit lies in configuration space, which is the VMM's, so here a source whose vector is "none" drives the pin.
//
// Not modelled: what the Rust library does not model either, requests of several chains, and rings to the outside.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "model.hpp"
#include "powers.hpp"
#include "virtio/chain.hpp"
#include "virtio/describe.hpp"
#include "virtio/registers.hpp"
#include "virtio/ring.hpp"
#include "virtio/state.hpp"

namespace cofferdam::virtio {

/// Largest queue. Linux asks for no more by default, and a chain is never longer than the largest queue (2.7.5.3.1).
inline constexpr uint16_t QUEUE_SIZE_MAX = SEGMENTS_MAX;
/// Chains of one queue served in one scan: between scans, accesses that vcpus wait for are answered.
inline constexpr uint32_t CHAINS_PER_SCAN = 64;
/// Work on one queue in one scan, in bytes moved. A chain is served whole, so the last may exceed it.
inline constexpr uint64_t WORK_PER_SCAN = 1 << 20;

/// A chain to be served.
struct Request {
  /// Number of its queue.
  std::size_t queue;
  /// What the driver accepted.
  uint64_t features;
  /// Its buffers.
  const Chain& chain;
};

/// What became of a chain.
struct Served {
  /// Bytes written, from the first writable one on and without a gap (2.7.8.2).
  uint32_t written;
  /// What it cost, in bytes moved, or `WORK_PER_SCAN` for something that should be the last of its scan.
  uint64_t work;
};

/// What makes one kind of virtio device: its offer, and how it serves a chain.
///
/// A backend also has `static constexpr std::array<uint16_t, N> QUEUES`, the largest size of each queue, a power of 2; and
/// `static Function function(const Options&)`. Order of calls: `attach`, then any of the others. Whatever `serve` does is done
/// again when the process dies before the commit, so doing it twice must be the same as doing it once. What it keeps in the
/// object is lost with the process.
class Backend {
 public:
  virtual ~Backend() = default;
  /// Options that a person may set.
  static std::vector<Option> options() { return {}; }
  /// Takes its powers, other than guest memory and the vectors.
  virtual void attach(const Options&, Powers&) {}
  /// Feature bits of the device type. The transport adds its own.
  virtual uint64_t features() const { return 0; }
  /// The device configuration; its length is the one that is declared.
  virtual std::vector<uint8_t> config() const { return {}; }
  /// Serves one chain of a queue; throws `Broken` for one that cannot be a request.
  virtual Served serve(const Request&) = 0;
};

/// A virtio device on PCI.
template <class B>
class Virtio : public Device<State> {
 public:
  static constexpr std::size_t QUEUES = B::QUEUES.size();
  static_assert(QUEUES <= QUEUES_MAX);

  static std::vector<Option> options() { return B::options(); }
  static Manifest manifest(const Options& options) { return virtio::manifest(B::function(options), QUEUES); }

  void attach(const Options& options, Powers& powers) override {
    if (powers.memory.empty() || powers.vectors.size() != vectors(QUEUES)) {
      throw Refusal("guest memory and the vectors were not granted");
    }
    memory_ = powers.memory;
    vectors_ = powers.vectors;
    doorbell_ = powers.doorbell;
    backend_.attach(options, powers);
  }

  void power_on(State& state) override {
    state = State::fresh(B::QUEUES.data(), QUEUES);
    begin_anew(state);
  }

  bool check(const State& state) const override {
    return state.is_sound(B::QUEUES.data(), QUEUES, features(), memory_);
  }

  std::optional<uint64_t> read(State& state, const Access& at) override {
    const uint64_t end = at.offset + at.width;
    if (end <= COMMON + COMMON_BYTES) return registers::read(view(), state, at);
    if (at.offset == ISR) return state.take_isr();
    const std::vector<uint8_t> config = backend_.config();
    if (at.offset < CONFIG || end > CONFIG + config.size()) return std::nullopt;
    uint64_t value = 0;
    for (uint64_t byte = end; byte-- > at.offset;) value = value << 8 | config[byte - CONFIG];
    return value;
  }

  bool write(State& state, const Access& at, uint64_t value) override {
    if (at.offset + at.width <= COMMON + COMMON_BYTES) {
      const registers::Effect effect = registers::write(view(), state, at, value);
      if (effect.was_reset) begin_anew(state);
      if (effect.broken) broken_ = effect.broken;
      return true;
    }
    const uint64_t into = at.offset - NOTIFY;
    if (at.offset < NOTIFY || into % NOTIFY_STEP != 0 || into / NOTIFY_STEP >= QUEUES) return false;
    // A doorbell that came as an access. More work than one look does is found by the next.
    look(state);
    return true;
  }

  bool scan(State& state, uint64_t) override { return look(state); }

  Outputs outputs(const State& state) const override { return {state.pin}; }

  void settle(const State& state) override {
    for (std::size_t index = 0; index < QUEUES_MAX; ++index) {
      const Ring& ring = state.queues[index];
      Done& done = done_[index];
      if (ring.has_undecided() && done.published != ring.next_used) {
        ring.publish(memory_);
        done.published = ring.next_used;
      }
      ring_once(ring.vector, ring.signals, done.signals);
    }
    ring_once(state.config_vector, state.config_signals, config_signals_);
  }

  /// Why the device last came to need a reset, if this incarnation saw it.
  std::optional<Broken> broken() const { return broken_; }
  B& backend() { return backend_; }

 private:
  /// What this incarnation has done outside its state: nothing that may not be done again.
  struct Done {
    /// The used index that was published; the available index at which a doorbell was asked for, and the one last seen to be new.
    std::optional<uint16_t> published, armed, seen;
    /// Notifications already sent.
    std::optional<uint32_t> signals;
  };

  /// Features offered.
  uint64_t features() const { return backend_.features() | TRANSPORT_FEATURES; }

  registers::View view() const { return {QUEUES, features(), memory_}; }

  /// After a reset into `state` nothing is published, and there is nothing to notify of.
  void begin_anew(const State& state) {
    done_ = {};
    for (std::size_t index = 0; index < QUEUES_MAX; ++index) done_[index].signals = state.queues[index].signals;
    config_signals_ = state.config_signals;
    broken_ = std::nullopt;
  }

  /// Looks at every queue. Says whether something was done, or is left to do.
  bool look(State& state) {
    bool changed = false;
    for (std::size_t index = 0; index < QUEUES; ++index) {
      // A queue can break the whole device.
      if (!state.queues[index].enabled || !state.is_running()) continue;
      try {
        changed |= look_at(state, index);
      } catch (const Broken why) {
        // The driver, or the device, cannot go on without a reset (2.1.2).
        broken_ = why;
        state.need_reset();
        changed = true;
      }
    }
    return changed;
  }

  /// Decides about the notification of what is published, then serves chains.
  bool look_at(State& state, std::size_t index) {
    const bool event_index = state.has_event_index();
    Ring& ring = state.queues[index];
    Done& done = done_[index];
    const bool changed = ring.has_undecided();
    // Only `settle` publishes, and it comes after a commit.
    if (changed && done.published == ring.next_used && ring.decide(memory_, event_index)) state.notify_queue(index);
    uint32_t chains = 0;
    uint64_t work = 0;
    while (chains < CHAINS_PER_SCAN && work < WORK_PER_SCAN) {
      const uint16_t available = ring.available(memory_);
      if (available == ring.next_avail) {
        if (done.armed == available) return changed || chains > 0;
        ring.ask_for_doorbell(memory_, event_index);
        done.armed = available;
        // Now that a doorbell is asked for, one more look: an entry may have come just before.
        continue;
      }
      if (done.seen != available) {
        done.seen = available;
        doorbell_();
      }
      const uint16_t head = ring.next_head(memory_, available);
      const Chain chain = collect(memory_, ring.desc, ring.size, head);
      const Served served = backend_.serve({index, state.driver_features, chain});
      ring.complete(memory_, head, served.written);
      ++chains;
      work += served.work;
    }
    return true;
  }

  void ring_once(uint16_t vector, uint32_t signals, std::optional<uint32_t>& sent) {
    if (sent == signals) return;
    sent = signals;
    if (vector < vectors_.size()) vectors_[vector].ring();
  }

  B backend_;
  GuestMemory memory_;
  std::vector<Bell> vectors_;
  std::function<void()> doorbell_;
  std::array<Done, QUEUES_MAX> done_;
  std::optional<uint32_t> config_signals_;
  std::optional<Broken> broken_;
};

}  // namespace cofferdam::virtio
