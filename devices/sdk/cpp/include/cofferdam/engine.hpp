// A device between its lane and its state: what is asked is done on a copy, and takes effect by one commit.
#pragma once

#include <cstring>
#include <functional>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "lane.hpp"
#include "model.hpp"

namespace cofferdam {

/// Bytes of a state in its region: whole words, and never none.
template <class S>
inline constexpr uint32_t STATE_BYTES = (sizeof(S) + 7) / 8 * 8;

/// A device with its state region and its lane.
template <class D>
class Engine {
 public:
  using State = typename D::State;

  Engine(std::unique_ptr<D> device, std::vector<uint64_t> lengths, StateRegion state, std::unique_ptr<Lane> lane,
         std::function<void()> ring, bool poisoned)
      : device_(std::move(device)),
        lengths_(std::move(lengths)),
        state_(state),
        lane_(std::move(lane)),
        ring_(std::move(ring)),
        poisoned_(poisoned) {}

  StateRegion& state() { return state_; }
  const Lane& lane() const { return *lane_; }
  /// It was told to leave.
  bool left() const { return left_; }

  /// Powers the device on, or goes on with the state that an earlier incarnation committed.
  void start() {
    const uint64_t now = state_.header().now;
    if (state_.has_state() && !poisoned_ && device_->check(copy(state_.current()))) {
      state_.begin();
    } else {
      power_on();
    }
    commit(now, std::nullopt);
    told_ = {};
    ring_();
  }

  /// Does what stands in the lane, and lets the device look at its queues. Says whether there was anything.
  bool work() {
    bool any = false;
    while (const std::optional<Entry> entry = lane_->take()) {
      serve(*entry);
      any = true;
    }
    if (!resting_) {
      state_.begin();
      any |= scan(now_.value_or(state_.header().now));
      tell();
    }
    return any;
  }

  /// Does one operation.
  void serve(const Entry& entry) {
    const uint64_t now = now_ && *now_ > entry.now ? *now_ : entry.now;
    now_ = now;
    resting_ = false;
    if (entry.operation != Operation::Alarm && is_due(now)) {
      state_.begin();
      change([&](State& state) { device_->alarm(state, now); });
      commit(now, std::nullopt);
      told_.deadline = NEVER;
    }
    state_.begin();
    if ((entry.operation == Operation::Read || entry.operation == Operation::Write) && scan(now)) state_.begin();
    const uint64_t reply = perform(entry, now);
    commit(now, std::pair{entry.sequence, reply});
    switch (entry.operation) {
      case Operation::Alarm:
        // The VMM has used the deadline up: it is to hear of the next one, or that there is none.
        ring_();
        note();
        break;
      case Operation::Post:
      case Operation::Button:
      case Operation::Refresh:
        tell();
        break;
      default:
        // Its vcpu looks at levels and deadline before it goes on.
        note();
    }
    left_ |= entry.operation == Operation::Shutdown;
  }

 private:
  static constexpr int QUIESCE_LOOKS = 1024;

  /// What the VMM knows of the device's outputs.
  struct Told {
    uint32_t levels = 0, falls = 0;
    uint64_t deadline = NEVER;
  };

  uint64_t perform(const Entry& entry, uint64_t now) {
    if (std::exchange(poisoned_, false)) return mask(entry.width);
    state_.attempt(entry.sequence);
    switch (entry.operation) {
      case Operation::Read:
      case Operation::Write:
      case Operation::Post: {
        const std::optional<uint64_t> value = access(entry, now);
        if (!value) state_.count_unknown();
        return value.value_or(UINT64_MAX) & mask(entry.width);
      }
      case Operation::Alarm:
        // Another operation may have run it first.
        if (is_due(now)) change([&](State& state) { device_->alarm(state, now); });
        return 0;
      case Operation::Button:
        change([&](State& state) { device_->button(state, now); });
        return 0;
      case Operation::Refresh:
        change([&](State& state) { device_->refresh(state, now); });
        return 0;
      case Operation::Reset:
        power_on();
        return 0;
      case Operation::Quiesce:
      case Operation::Shutdown:
        for (int look = 0; look < QUIESCE_LOOKS && scan(now); ++look) state_.begin();
        resting_ = true;
        return 0;
    }
    throw std::runtime_error("the VMM asked for an operation that does not exist");
  }

  std::optional<uint64_t> access(const Entry& entry, uint64_t now) {
    const uint8_t width = entry.width;
    if (entry.range >= lengths_.size() || (width != 1 && width != 2 && width != 4 && width != 8)) return std::nullopt;
    const uint64_t length = lengths_[entry.range];
    if (width > length || entry.offset > length - width) return std::nullopt;
    const Access at{entry.range, entry.offset, width, now};
    std::optional<uint64_t> value;
    change([&](State& state) {
      if (entry.operation == Operation::Read) {
        value = device_->read(state, at);
      } else if (device_->write(state, at, entry.value & mask(width))) {
        value = 0;
      }
    });
    return value;
  }

  bool scan(uint64_t now) {
    bool done = false;
    change([&](State& state) { done = device_->scan(state, now); });
    if (done) commit(now, std::nullopt);
    return done;
  }

  void commit(uint64_t now, std::optional<std::pair<uint32_t, uint64_t>> reply) {
    state_.commit(Header{device_->outputs(copy(state_.working())), now}, reply);
    lane_->tell(state_);
    device_->settle(copy(state_.current()));
  }

  void power_on() {
    State state{};
    device_->power_on(state);
    std::memcpy(state_.working(), &state, sizeof state);
  }

  static State copy(const uint8_t* memory) {
    State state;
    std::memcpy(&state, memory, sizeof state);
    return state;
  }

  template <class F>
  void change(F&& how) {
    State state = copy(state_.working());
    how(state);
    std::memcpy(state_.working(), &state, sizeof state);
  }

  bool is_due(uint64_t now) const { return state_.header().deadline() <= now; }

  void tell() {
    const Header& header = state_.header();
    const bool levels = header.outputs.levels != told_.levels || state_.falls() != told_.falls;
    if (levels || header.deadline() < told_.deadline) ring_();
    note();
  }

  void note() { told_ = {state_.header().outputs.levels, state_.falls(), state_.header().deadline()}; }

  std::unique_ptr<D> device_;
  std::vector<uint64_t> lengths_;
  StateRegion state_;
  std::unique_ptr<Lane> lane_;
  std::function<void()> ring_;
  bool poisoned_;
  std::optional<uint64_t> now_;
  Told told_;
  bool resting_ = false, left_ = false;
};

}  // namespace cofferdam
