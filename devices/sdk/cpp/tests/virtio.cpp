// The virtio library, with a device that copies what it may read to where it may write.
#include <cofferdam/virtio/guest.hpp>

#include <functional>
#include <random>

#include "test.hpp"

using namespace cofferdam;
using namespace cofferdam::virtio;
using namespace cofferdam::virtio::guest;
using testing::test;

namespace {

constexpr uint64_t OFFER = 1 << 3 | 1 << 7, IN = 0x8'0000, OUT = 0x9'0000, TABLE = 0x7'0000;
constexpr uint16_t NEXT = Descriptor::NEXT, WRITE = Descriptor::WRITE, INDIRECT = Descriptor::INDIRECT;
constexpr uint8_t NEEDS_RESET = State::NEEDS_RESET;
uint64_t served = 0;

struct Echo : Backend {
  static constexpr std::array<uint16_t, 2> QUEUES = {256, 64};
  static Function function(const Options&) {
    return {"echo", "Copies", Class::System, 42, 0xff'00'00, 8, "its queue lies there"};
  }
  uint64_t features() const override { return OFFER; }
  std::vector<uint8_t> config() const override { return {1, 2, 3, 4, 5, 6, 7, 8}; }
  Served serve(const Request& request) override {
    ++served;
    std::array<uint8_t, 4096> bytes;
    const std::size_t count = request.chain.readable.read(bytes.data(), bytes.size());
    const std::size_t written = request.chain.writable.write(bytes.data(), count);
    return {static_cast<uint32_t>(written), request.chain.readable.bytes() + request.chain.writable.bytes()};
  }
};

using EchoGuest = Guest<Echo>;
using Used = std::vector<std::pair<uint32_t, uint32_t>>;

std::unique_ptr<EchoGuest> started(uint64_t features = 0, uint16_t size = 8, bool vectors = true) {
  auto guest = std::make_unique<EchoGuest>();
  guest->start(features, size, vectors);
  guest->rung(0), guest->rung(1);
  return guest;
}

std::vector<Buffer> pair(uint32_t bytes) { return {{IN, bytes, false}, {OUT, bytes, true}}; }

/// Lets `mischief` happen on a running device, and expects that it asks for a reset because of `why`.
void expect(Broken why, const std::function<void(EchoGuest&)>& mischief) {
  for (const Deaths deaths : ALL_DEATHS) {
    for (const bool vectors : {true, false}) {
      const auto guest = started(EVENT_INDEX, 8, vectors);
      guest->memory.write(IN, "good", 4);
      guest->submit(5, pair(4));
      guest->deaths = deaths;
      mischief(*guest);
      guest->ring();
      if (deaths == Deaths::Never) {
        HOLDS(guest->device->broken() == why);
        SAME(guest->rung(0), uint64_t{vectors});
      }
      SAME(guest->status(), 0xfu | NEEDS_RESET);
      SAME(guest->level(), !vectors);
      SAME(guest->load(0x1000, 1) & 2, 2u);
      // Nothing more is done until the reset, and after it all is well.
      const State state = guest->state;
      guest->offer(5);
      guest->ring();
      SAME(std::memcmp(&state, &guest->state, sizeof state), 0);
      guest->deaths = Deaths::Never;
      guest->start();
      guest->submit(5, pair(4));
      guest->ring();
      HOLDS(guest->used() == Used({{5, 4}}));
    }
  }
}

void bad_drivers() {
  test("an index too far ahead", [] {
    for (const uint16_t index : {9, 0xffff}) expect(Broken::Index, [=](auto& guest) { guest.memory.store(AVAIL + 2, index); });
  });
  test("a head that does not exist", [] {
    for (const uint16_t head : {8, 0xffff}) expect(Broken::Endless, [=](auto& guest) { guest.offer(head); });
  });
  test("a next that does not exist", [] {
    expect(Broken::Endless, [](auto& guest) { guest.describe(DESC, IN, 1, NEXT, 8), guest.offer(0); });
  });
  test("a chain that goes round in circles", [] {
    expect(Broken::Endless, [](auto& guest) {
      guest.describe(DESC, IN, 1, NEXT, 1), guest.describe(DESC + 16, IN, 1, NEXT, 0), guest.offer(0);
    });
  });
  test("an indirect table that goes round in circles", [] {
    expect(Broken::Long, [](auto& guest) {
      guest.describe(TABLE, IN, 1, NEXT, 0), guest.describe(DESC, TABLE, 16 * 60'000, INDIRECT, 0), guest.offer(0);
    });
  });
  test("an indirect table of no or half descriptors, or too many, or outside memory", [] {
    std::vector<std::pair<uint64_t, uint32_t>> tables;
    for (const uint32_t bytes : {0u, 8u, 24u, 16u << 16, 0xffff'fff0u}) tables.emplace_back(TABLE, bytes);
    for (const uint64_t far : {MEMORY_BYTES, MEMORY_BYTES - 8, UINT64_MAX - 3, uint64_t{1} << 63}) tables.emplace_back(far, 16);
    for (const auto& [address, bytes] : tables) {
      expect(Broken::Endless, [address = address, bytes = bytes](auto& guest) {
        guest.describe(DESC, address, bytes, INDIRECT, 0), guest.offer(0);
      });
    }
  });
  test("an indirect table in an indirect table", [] {
    expect(Broken::Endless, [](auto& guest) {
      guest.describe(TABLE, TABLE, 16, INDIRECT, 0), guest.describe(DESC, TABLE, 16, INDIRECT, 0), guest.offer(0);
    });
  });
  test("a chain with too many buffers", [] {
    const std::vector<Buffer> chain(SEGMENTS_MAX + 1, Buffer{IN, 1, false});
    expect(Broken::Long, [&](auto& guest) { guest.submit_indirect(0, TABLE, chain); });
  });
  test("a readable buffer after a writable one", [] {
    expect(Broken::Order, [](auto& guest) { guest.submit(0, {{IN, 1, false}, {OUT, 1, true}, {IN, 1, false}}); });
  });
  test("a buffer outside memory", [] {
    const std::pair<uint64_t, uint32_t> buffers[] = {
        {MEMORY_BYTES, 1}, {MEMORY_BYTES - 1, 2}, {UINT64_MAX, 1}, {UINT64_MAX, UINT32_MAX - 9}, {0, UINT32_MAX - 9}};
    for (const auto& [address, bytes] : buffers) {
      for (const uint16_t flags : {uint16_t{0}, WRITE}) {
        expect(Broken::Outside, [address = address, bytes = bytes, flags](auto& guest) {
          guest.describe(DESC, address, bytes, flags, 0), guest.offer(0);
        });
      }
    }
  });
  test("random rings never end the device", [] {
    std::mt19937_64 chance(42);
    const auto below = [&](uint64_t bound) { return chance() % bound; };
    EchoGuest guest;
    const uint64_t before = served;
    for (int turn = 0; turn < 50'000; ++turn) {
      if (turn % 8 == 0 || guest.status() != 0xf) guest.start(below(2) * EVENT_INDEX, 8, below(2));
      for (uint64_t left = below(8); left > 0; --left) {
        const uint64_t at = below(3) == 0 ? DESC + below(8) * 16 : TABLE + below(16) * 16;
        const uint64_t addresses[] = {chance(), below(MEMORY_BYTES + 64), DESC + below(0x1'0000), USED + below(64),
                                      TABLE + below(256)};
        const uint64_t lengths[] = {chance(), 16 * below(8), below(2000)};
        guest.describe(at, addresses[below(5)], static_cast<uint32_t>(lengths[below(3)]), static_cast<uint16_t>(below(8)),
                       static_cast<uint16_t>(below(10)));
      }
      for (uint64_t left = below(4); left > 0; --left) guest.offer(static_cast<uint16_t>(below(9)));
      if (below(16) == 0) {
        const auto byte = static_cast<uint8_t>(chance());
        guest.memory.write(AVAIL + below(24), &byte, 1);
      }
      const uint64_t then = served;
      guest.scan();
      HOLDS(served - then <= CHAINS_PER_SCAN);
    }
    HOLDS(served - before > 5'000);
  });
}

void the_registers() {
  test("an access where there is nothing is refused", [] {
    EchoGuest guest;
    const State before = guest.state;
    for (const uint64_t offset : {0x3c, 0xfff, 0x1001, 0x1fff, 0x2008, 0x3001, 0x3008, 0x3fff}) {
      HOLDS(!guest.device->read(guest.state, {0, offset, 1, 0}));
      HOLDS(!guest.device->write(guest.state, {0, offset, 1, 0}, 0));
    }
    SAME(std::memcmp(&before, &guest.state, sizeof before), 0);
  });
  test("a queue that does not lie in memory is not enabled and needs a reset", [] {
    std::vector<std::pair<int, uint64_t>> bad = {
        {0, DESC + 8}, {1, AVAIL + 1}, {2, USED + 2}, {1, 0}, {0, MEMORY_BYTES - 16}};
    for (const uint64_t far : {MEMORY_BYTES, UINT64_MAX - 15, uint64_t{1} << 63}) {
      for (const int part : {0, 1, 2}) bad.emplace_back(part, far);
    }
    for (const auto& [part, address] : bad) {
      EchoGuest guest;
      uint64_t parts[] = {DESC, AVAIL, USED};
      parts[part] = address;
      for (const int each : {0, 1, 2}) guest.store(0x20 + 8 * static_cast<uint64_t>(each), 8, parts[each]);
      guest.store(0x1c, 2, 1);
      SAME(guest.load(0x1c, 2), 0u);
      SAME(guest.status(), NEEDS_RESET);
      HOLDS(guest.device->broken() == Broken::Queue);
      HOLDS(!guest.level());
    }
  });
  test("a driver must want version 1 and nothing that is not offered", [] {
    const std::pair<uint64_t, bool> wanted[] = {
        {VERSION_1 | OFFER, true}, {OFFER, false}, {VERSION_1 | 1 << 4, false}, {uint64_t{1} << 40, false}};
    for (const auto& [features, accepted] : wanted) {
      EchoGuest guest;
      guest.store(0x14, 1, 3);
      for (const unsigned half : {0u, 1u}) guest.store(0x08, 4, half), guest.store(0x0c, 4, features >> 32 * half & UINT32_MAX);
      guest.store(0x14, 1, 0xb);
      SAME((guest.status() & 8) != 0, accepted);
    }
  });
  test("an access of any width and place sees the same bytes", [] {
    const auto guest = started(OFFER);
    std::vector<uint64_t> bytes;
    for (uint64_t offset = 0; offset < 0x3c; ++offset) bytes.push_back(guest->load(offset, 1));
    for (const uint8_t width : {2, 4, 8}) {
      for (uint64_t offset = 0; offset + width <= 0x3c; ++offset) {
        const uint64_t value = guest->load(offset, width);
        for (unsigned byte = 0; byte < width; ++byte) SAME(value >> 8 * byte & 0xff, bytes[offset + byte]);
      }
    }
    SAME(guest->load(0x39, 4), 0xffff'ffffu);
  });
}

void queues() {
  test("chains are served in order and told of", [] {
    for (const Deaths deaths : ALL_DEATHS) {
      const auto guest = started(EVENT_INDEX);
      guest->deaths = deaths;
      guest->memory.write(IN, "hello", 5);
      guest->submit(2, pair(5));
      guest->submit(6, {{IN, 2, false}, {OUT + 0x100, 1, true}});
      guest->notify();
      HOLDS(guest->used() == Used({{2, 5}, {6, 1}}));
      HOLDS(guest->bytes(OUT, 6) == std::vector<uint8_t>({'h', 'e', 'l', 'l', 'o', 0}));
      SAME(guest->rung(1) == 1, deaths == Deaths::Never);
      HOLDS(!guest->level());
    }
  });
  test("a used entry is not shown before it is committed", [] {
    const auto guest = started();
    guest->submit(0, pair(4));
    State working = guest->state;
    HOLDS(guest->device->scan(working, 0));
    HOLDS(guest->used().empty());
    guest->device->settle(working);
    HOLDS(guest->used() == Used({{0, 4}}));
    SAME(guest->rung(1), 0u);
    guest->state = working;
    guest->ring();
    SAME(guest->rung(1), 1u);
  });
  test("positions wrap around", [] {
    const auto guest = started(EVENT_INDEX);
    for (unsigned turn = 0; turn < 66'000; ++turn) {
      guest->memory.store(AVAIL + 4 + 8 * 2, static_cast<uint16_t>(turn));
      guest->submit(static_cast<uint16_t>(turn % 3 * 2), pair(5));
      guest->ring();
      SAME(*guest->memory.load(USED + 2), static_cast<uint16_t>(turn + 1));
    }
    SAME(guest->rung(1), 66'000u);
  });
  test("with the event index the driver is notified when it asked for it", [] {
    const auto guest = started(EVENT_INDEX);
    guest->memory.store(AVAIL + 4 + 8 * 2, 2);
    for (const uint64_t rung : {0, 0, 1, 0, 0}) {
      guest->submit(0, pair(1));
      guest->ring();
      SAME(guest->rung(1), rung);
    }
    SAME(*guest->memory.load(USED + 4 + 8 * 8), 5);
  });
  test("a queue without a vector drives the pin until its status is read", [] {
    for (const Deaths deaths : ALL_DEATHS) {
      const auto guest = started(EVENT_INDEX, 8, false);
      guest->deaths = deaths;
      guest->submit(0, pair(1));
      guest->ring();
      HOLDS(guest->level());
      SAME(guest->load(0x1000, 1), 1u);
      HOLDS(!guest->level());
    }
  });
  test("a scan does a bounded amount of work", [] {
    const auto guest = started(0, 256);
    for (uint16_t head = 0; head < 256; head = static_cast<uint16_t>(head + 2)) guest->submit(head, pair(1));
    const uint64_t before = served;
    guest->scan();
    SAME(served - before, CHAINS_PER_SCAN);
    guest->ring();
    SAME(guest->used().size(), 128u);
  });
  test("an indirect table is followed, and a buffer may span two windows", [] {
    for (const Deaths deaths : ALL_DEATHS) {
      const auto guest = started();
      guest->deaths = deaths;
      guest->memory.write(SEAM - 3, "across", 6);
      guest->submit_indirect(7, TABLE + 3, {{0, 0, false}, {SEAM - 3, 6, false}, {OUT, 2, true}, {OUT + 8, 4, true}});
      guest->ring();
      HOLDS(guest->used() == Used({{7, 6}}));
      HOLDS(guest->bytes(OUT, 12) == std::vector<uint8_t>({'a', 'c', 0, 0, 0, 0, 0, 0, 'r', 'o', 's', 's'}));
    }
  });
}

/// A driver that does the same random things each time; gives all that is left.
std::pair<State, std::vector<uint8_t>> life(uint64_t seed, Deaths deaths) {
  std::mt19937_64 chance(seed);
  const auto below = [&](uint64_t bound) { return chance() % bound; };
  EchoGuest guest;
  guest.start(below(2) * EVENT_INDEX, 16, below(4) != 0);
  guest.deaths = deaths;
  for (int turn = 0; turn < 200; ++turn) {
    const auto head = static_cast<uint16_t>(below(4) * 4);
    const uint64_t address = 0x8'0000 + below(0x10'0000);
    const auto bytes = static_cast<uint32_t>(below(3000));
    const std::vector<Buffer> chain = {{address, bytes, false},
                                       {address / 2 + 0x7'0000, bytes / 3, false},
                                       {0x18'0000 + below(0x4'0000), bytes, true}};
    below(4) == 0 ? guest.submit_indirect(head, 0x1e'0000, chain) : guest.submit(head, chain);
    guest.memory.store(AVAIL + 4 + 16 * 2, static_cast<uint16_t>(chance()));
    switch (below(4)) {
      case 0: guest.notify(); break;
      case 1: guest.load(0x1000, 1); break;
      default: guest.ring();
    }
  }
  SAME(guest.status(), 0xfu);
  return {guest.state, guest.bytes(0, MEMORY_BYTES)};
}

void restarts() {
  test("a life with deaths leaves the same state and memory as one without", [] {
    for (uint64_t seed = 1; seed <= 12; ++seed) {
      const auto [state, memory] = life(seed, Deaths::Never);
      for (const Deaths deaths : ALL_DEATHS) {
        const auto [other, other_memory] = life(seed, deaths);
        SAME(std::memcmp(&state, &other, sizeof state), 0);
        HOLDS(memory == other_memory);
      }
    }
  });
  test("a successor publishes what was committed and rings all vectors", [] {
    const auto guest = started();
    guest->submit(0, pair(1));
    State committed = guest->state;
    guest->device->scan(committed, 0);
    guest->state = committed;
    HOLDS(guest->used().empty());
    guest->kill();
    HOLDS(guest->used() == Used({{0, 1}}));
    for (const std::size_t vector : {0, 1, 2}) SAME(guest->rung(vector), 1u);
  });
  test("state that this device could not have left is refused", [] {
    const std::function<void(State&)> mutations[] = {
        [](State& state) { state.driver_features |= 1; },
        [](State& state) { state.driver_features &= ~VERSION_1; },
        [](State& state) { state.status |= 0x10; },
        [](State& state) { state.status &= static_cast<uint8_t>(~8); },
        [](State& state) { state.config_vector = 3; },
        [](State& state) { state.queues[0].vector = 3; },
        [](State& state) { state.queues[0].size = 7; },
        [](State& state) { state.queues[0].size = 512; },
        [](State& state) { state.queues[1].size = 128; },
        [](State& state) { state.queues[0].desc = MEMORY_BYTES; },
        [](State& state) { state.queues[0].driver = UINT64_MAX; },
        [](State& state) { state.queues[0].device = UINT64_MAX - 1; },
        [](State& state) { state.queues[0].next_used = 1; },
        [](State& state) { state.queues[2].size_max = 8; },
        [](State& state) { state.queues[3].next_avail = 1; },
    };
    const auto guest = started(EVENT_INDEX);
    HOLDS(guest->device->check(guest->state));
    for (const auto& mutation : mutations) {
      State state = guest->state;
      mutation(state);
      HOLDS(!guest->device->check(state));
    }
  });
  test("random state is refused or harmless", [] {
    std::mt19937_64 chance(7);
    const auto guest = started(EVENT_INDEX);
    const State good = guest->state;
    int accepted = 0;
    for (int turn = 0; turn < 50'000; ++turn) {
      State state = good;
      for (uint64_t left = chance() % 3 + 1; left > 0; --left) {
        reinterpret_cast<uint8_t*>(&state)[chance() % sizeof state] = static_cast<uint8_t>(chance());
      }
      if (!guest->device->check(state)) continue;
      ++accepted;
      guest->state = state;
      guest->device->settle(state);
      guest->ring();
    }
    HOLDS(accepted > 500);
  });
}

}  // namespace

int main() {
  bad_drivers();
  the_registers();
  queues();
  restarts();
  return testing::report();
}
