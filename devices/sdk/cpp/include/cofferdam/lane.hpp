// A device's lane: what it is asked, and how the VMM is told what it committed. Layouts are those of schema/lane.capnp and
// imc/src/lane/layout.rs. Words in shared memory are read and written whole and atomically; what the VMM may still write is
// copied once.
#pragma once

#include <array>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <utility>

#include <unistd.h>

#include "model.hpp"

namespace cofferdam {

inline constexpr uint32_t ENTRIES = 32;
inline constexpr uint64_t NEVER = UINT64_MAX;

enum class Operation : uint16_t { Read = 1, Write, Post, Alarm, Reset, Quiesce, Shutdown, Button, Refresh };

/// One operation.
struct Entry {
  uint32_t sequence;
  Operation operation;
  uint8_t range;
  uint8_t width;
  uint64_t offset, value, now;
};

/// The bits that an access of this width has.
constexpr uint64_t mask(uint8_t width) { return width >= 8 ? UINT64_MAX : (uint64_t{1} << 8 * width) - 1; }

/// A region that is shared with another process, as words.
class Words {
 public:
  Words() = default;
  Words(uint8_t* start, std::size_t length) : start_(start), length_(length) {}
  uint64_t load(std::size_t at) const { return __atomic_load_n(word(at), __ATOMIC_ACQUIRE); }
  void store(std::size_t at, uint64_t value) const { __atomic_store_n(word(at), value, __ATOMIC_RELEASE); }
  uint8_t* bytes(std::size_t at) const { return start_ + at; }
  std::size_t length() const { return length_; }

 private:
  uint64_t* word(std::size_t at) const { return reinterpret_cast<uint64_t*>(start_ + at); }
  uint8_t* start_ = nullptr;
  std::size_t length_ = 0;
};

/// What the VMM sees of a state.
struct Header {
  Outputs outputs = {};
  uint64_t now = 0;
  uint64_t deadline() const { return outputs.deadline.value_or(NEVER); }
  uint32_t valid() const {
    uint32_t bits = 0;
    for (std::size_t slot = 0; slot < SHADOWS; ++slot) bits |= uint32_t{outputs.shadow[slot].has_value()} << slot;
    return bits;
  }
};

/// A device's state region: two copies of its state, of which one is current.
class StateRegion {
 public:
  StateRegion(Words words, uint32_t state_bytes) : words_(words), state_bytes_(state_bytes) {
    if (words.length() < HOT + 2 * stride()) throw std::runtime_error("the state region is too small");
    committed_ = words_.load(COMMIT);
    const int copy = committed_ & 1;
    const uint64_t both = words_.load(at(copy, REPLY_AND_LEVELS));
    reply_ = words_.load(at(copy, REPLY_VALUE));
    header_.outputs.levels = static_cast<uint32_t>(both >> 32);
    header_.now = words_.load(at(copy, NOW));
    const uint64_t both_falls = words_.load(FALLS);
    falls_ = {static_cast<uint32_t>(both_falls), static_cast<uint32_t>(both_falls >> 32)};
    wake_up();
  }

  uint32_t sequence() const { return static_cast<uint32_t>(committed_ >> 32); }
  const Header& header() const { return header_; }
  uint64_t reply() const { return reply_; }
  uint32_t falls() const { return falls_[committed_ & 1]; }
  uint64_t unknown() const { return words_.load(UNKNOWN); }
  uint64_t doorbells() const { return words_.load(DOORBELLS); }
  bool has_state() const { return words_.load(FORMAT) == (MAGIC | state_bytes_); }
  uint8_t* current() const { return hot(committed_ & 1); }
  uint8_t* working() const { return hot((committed_ & 1) ^ 1); }

  /// Copies the current state, to be changed.
  uint8_t* begin() const {
    std::memcpy(working(), current(), state_bytes_);
    return working();
  }

  /// Makes the working copy current together with what the VMM sees of it. With a reply, that operation and all before it
  /// have then taken effect; without, it is an event.
  void commit(const Header& header, std::optional<std::pair<uint32_t, uint64_t>> reply) {
    uint64_t next;
    if (reply) {
      next = uint64_t{reply->first} << 32 | ((committed_ & UINT32_MAX) ^ 1);
      reply_ = reply->second;
    } else {
      const uint64_t events = ((committed_ >> 1) + 1) & 0x7fffffff;
      next = committed_ >> 32 << 32 | events << 1 | ((committed_ & 1) ^ 1);
    }
    const bool fell = header_.outputs.levels & ~header.outputs.levels;
    header_ = header;
    const int copy = next & 1;
    falls_[next & 1] = falls_[committed_ & 1] + fell;
    for (std::size_t slot = 0; slot < SHADOWS; ++slot) {
      if (header.outputs.shadow[slot]) words_.store(at(copy, SHADOW + 8 * slot), *header.outputs.shadow[slot]);
    }
    words_.store(at(copy, MASKS), header.outputs.postable | uint64_t{header.valid()} << 32);
    words_.store(at(copy, NOW), header.now);
    words_.store(at(copy, REPLY_VALUE), reply_);
    words_.store(at(copy, REPLY_AND_LEVELS), next >> 32 | uint64_t{header.outputs.levels} << 32);
    words_.store(at(copy, DEADLINE), header.deadline());
    words_.store(FALLS, falls_[0] | uint64_t{falls_[1]} << 32);
    words_.store(COMMIT, next);
    __atomic_thread_fence(__ATOMIC_RELEASE);
    if (!has_state()) words_.store(FORMAT, MAGIC | state_bytes_);
    committed_ = next;
  }

  void attempt(uint32_t sequence) const { words_.store(ATTEMPTED, sequence); }
  void count_unknown() const { words_.store(UNKNOWN, unknown() + 1); }
  void count_doorbell() const { words_.store(DOORBELLS, doorbells() + 1); }

  /// Says that the host is about to sleep. On return that is ordered before its last look for work.
  void fall_asleep() const {
    words_.store(GENERATION, words_.load(GENERATION) | 1);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
  }
  /// Says that it is awake.
  void wake_up() const { words_.store(GENERATION, (words_.load(GENERATION) | 1) + 1); }

 private:
  static constexpr std::size_t COMMIT = 0, ANSWERS = 8, ANSWER_BYTES = 24, FALLS = ANSWERS + 2 * ANSWER_BYTES;
  static constexpr std::size_t GENERATION = 64, FORMAT = 72, DOORBELLS = 128, UNKNOWN = 136, ATTEMPTED = 144;
  static constexpr std::size_t HEADERS = 256, HEADER_BYTES = 128, HOT = HEADERS + 2 * HEADER_BYTES;
  static constexpr std::size_t REPLY_VALUE = 0, REPLY_AND_LEVELS = 8, DEADLINE = 16, MASKS = 24, SHADOW = 32, NOW = 96;
  static constexpr uint64_t MAGIC = uint64_t{0xcffd0001} << 32;

  std::size_t stride() const { return (std::size_t{state_bytes_} + 63) / 64 * 64; }
  uint8_t* hot(int copy) const { return words_.bytes(HOT + static_cast<std::size_t>(copy) * stride()); }
  static std::size_t at(int copy, std::size_t field) {
    const auto which = static_cast<std::size_t>(copy);
    return field < ANSWER_BYTES ? ANSWERS + which * ANSWER_BYTES + field
                                : HEADERS + which * HEADER_BYTES + field - ANSWER_BYTES;
  }

  Words words_;
  uint32_t state_bytes_;
  uint64_t committed_ = 0, reply_ = 0;
  Header header_ = {};
  /// As each copy has them: to load them would be to fetch the commit word's line from whoever waits for it.
  std::array<uint32_t, 2> falls_ = {};
};

/// The way to a device.
class Lane {
 public:
  virtual ~Lane() = default;
  /// Takes the next operation, if there is one.
  virtual std::optional<Entry> take() = 0;
  /// Tells the VMM what was committed, unless it knows.
  virtual void tell(const StateRegion&) = 0;
  /// Whether there may be something to take: a cheap look.
  virtual bool has_next() const = 0;
  /// How many times the VMM wants an idle host to look again before it sleeps.
  virtual uint32_t spin() const { return 0; }
};

/// Entries in shared memory; what is committed is read where it lies.
class MemoryLane : public Lane {
 public:
  MemoryLane(Words request, int reply, uint32_t committed) : words_(request), reply_(reply), next_(committed + 1) {}

  std::optional<Entry> take() override {
    const std::size_t at = entry();
    const uint64_t first = words_.load(at);
    if (static_cast<uint32_t>(first) != next_) return std::nullopt;
    ++next_;
    return Entry{static_cast<uint32_t>(first), static_cast<Operation>(first >> 32 & 0xffff),
                 static_cast<uint8_t>(first >> 48), static_cast<uint8_t>(first >> 56),
                 words_.load(at + 8), words_.load(at + 16), words_.load(at + 24)};
  }

  bool has_next() const override { return static_cast<uint32_t>(words_.load(entry())) == next_; }

  void tell(const StateRegion& state) override {
    const uint32_t committed = state.sequence();
    if (told_ == committed) return;
    told_ = committed;
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    const uint64_t waiter = words_.load(WAITER);
    if (waiter >> 32 == 1 && committed - static_cast<uint32_t>(waiter) < uint32_t{1} << 31) {
      const uint64_t one = 1;
      [[maybe_unused]] const ssize_t written = ::write(reply_, &one, sizeof one);
    }
  }

  uint32_t spin() const override { return static_cast<uint32_t>(words_.load(0)); }

 private:
  static constexpr std::size_t WAITER = 8, RING = 2048, ENTRY_BYTES = 64;
  std::size_t entry() const { return RING + next_ % ENTRIES * ENTRY_BYTES; }
  Words words_;
  int reply_;
  uint32_t next_;
  std::optional<uint32_t> told_;
};

/// A packet for each message. Both are of fixed size, without pointers, behind the pointer to their root.
class SocketLane : public Lane {
 public:
  SocketLane(int packets, uint32_t committed, std::function<void()> make_room)
      : packets_(packets), next_(committed + 1), make_room_(std::move(make_room)) {}

  std::optional<Entry> take() override {
    for (;;) {
      std::array<uint64_t, ACCESS_WORDS + 1> packet;
      const ssize_t length = ::read(packets_, packet.data(), ACCESS_WORDS * 8 + 1);
      if (length < 0 && (errno == EAGAIN || errno == EINTR)) return std::nullopt;
      if (length != static_cast<ssize_t>(ACCESS_WORDS * 8)) throw std::runtime_error("the VMM sent a message that is none");
      const uint64_t first = packet[1];
      // What is not the next comes from before a restart: it was done, or is sent again in its turn.
      if (static_cast<uint32_t>(first) != next_) continue;
      ++next_;
      return Entry{static_cast<uint32_t>(first), static_cast<Operation>(first >> 32 & 0xffff),
                   static_cast<uint8_t>(first >> 48), static_cast<uint8_t>(first >> 56), packet[2], packet[3], packet[4]};
    }
  }

  bool has_next() const override { return true; }

  void tell(const StateRegion& state) override {
    const Header& header = state.header();
    std::array<uint64_t, ANSWER_WORDS> words = {};
    words[0] = uint64_t{20} << 32;
    words[1] = state.reply();
    words[2] = state.sequence() | uint64_t{header.outputs.levels} << 32;
    words[3] = header.deadline();
    words[4] = header.outputs.postable | uint64_t{header.valid()} << 32;
    for (std::size_t slot = 0; slot < SHADOWS; ++slot) words[5 + slot] = header.outputs.shadow[slot].value_or(0);
    // What a guest could see of it, beside the reply.
    std::array<uint64_t, 11> news;
    std::memcpy(news.data(), words.data() + 2, sizeof news);
    if (told_ && *told_ == news) return;
    words[13] = header.now;
    words[14] = state.doorbells();
    words[15] = state.unknown();
    words[16] = !told_;
    while (::write(packets_, words.data(), sizeof words) < 0) {
      if (errno != EAGAIN) throw std::runtime_error("the VMM cannot be told");
      make_room_();
    }
    told_ = news;
  }

 private:
  static constexpr std::size_t ACCESS_WORDS = 9, ANSWER_WORDS = 21;
  int packets_;
  uint32_t next_;
  std::function<void()> make_room_;
  std::optional<std::array<uint64_t, 11>> told_;
};

/// Whether to look for a while before one sleeps, learnt from how long it took before.
class Patience {
 public:
  uint32_t looks(uint32_t most) {
    if (expected_ <= most / 2 || ++waits_ >= TRY_EVERY) {
      waits_ = 0;
      return most;
    }
    return 0;
  }
  void came(uint32_t looks, uint32_t most) {
    if (expected_ > most / 2) expected_ = most / 2;
    learn(looks);
  }
  void missed(uint32_t looks) {
    if (looks > 0) learn(uint64_t{looks} * 2);
  }

 private:
  static constexpr uint32_t TRY_EVERY = 16;
  static constexpr uint64_t WEIGHT = 8;
  void learn(uint64_t looks) { expected_ = (expected_ * (WEIGHT - 1) + looks) / WEIGHT; }
  uint64_t expected_ = 0;
  uint32_t waits_ = 0;
};

}  // namespace cofferdam
