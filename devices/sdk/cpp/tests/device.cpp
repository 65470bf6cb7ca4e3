// What a device is made of: options, state, registers, powers; and a device behind its engine.
#include <cofferdam/engine.hpp>
#include <cofferdam/powers.hpp>

#include <vector>

#include "test.hpp"

using namespace cofferdam;
using testing::test;

namespace {

struct Limits {
  uint16_t limit = 0xffff;
  uint64_t seen;
};

struct Thermo : Device<Limits> {
  std::vector<Register> registers() override {
    return {Register::at(0, 2).read([](Limits& state, const Access& at) { return state.seen = at.now, 0x12'0300; }),
            Register::at(2, 2).field(&Limits::limit).writable().posted(3),
            Register::at(8, 4).of(1).field(&Limits::seen).shadow(5),
            Register::at(12, 1).write([](Limits& state, const Access&, uint64_t value) { state.limit = value * 2 & 0xffff; })};
  }
  bool fails = false;
  Outputs outputs(const Limits& state) const override {
    if (fails && state.limit == 5) throw std::logic_error("it is too cold");
    return {};
  }
};

const std::vector<Option> SPECS = {Option::number("base", 0x440, "first port"), Option::flag("loud", false, "rings"),
                                   Option::text("action", "reset", "what it does")};

/// The sentence of a refusal.
template <class F>
std::string refused(F&& act) {
  try {
    act();
  } catch (const Refusal& refusal) {
    return refusal.what();
  }
  return "nothing was refused";
}

std::string refused_options(const Options::Settings& set) {
  return refused([&] { Options::parse(SPECS, set); });
}

/// A lane that nothing comes by.
struct Silence : Lane {
  std::optional<Entry> take() override { return std::nullopt; }
  void tell(const StateRegion&) override {}
  bool has_next() const override { return false; }
};

/// A device behind its engine, in memory of its own.
struct Served {
  alignas(64) uint8_t memory[4096] = {};
  Thermo* device = nullptr;
  std::optional<Engine<Thermo>> engine;
  uint32_t sequence = 0;

  Served() {
    auto made = std::make_unique<Thermo>();
    device = made.get();
    const StateRegion state(Words(memory, sizeof memory), STATE_BYTES<Limits>);
    engine.emplace(std::move(made), std::vector<uint64_t>{16, 16}, state, std::make_unique<Silence>(), [] {}, false);
    engine->start();
  }
  uint64_t ask(Operation operation, uint64_t offset, uint8_t width, uint64_t value = 0) {
    engine->serve({++sequence, operation, 0, width, offset, value, 7});
    return engine->state().reply();
  }
};

constexpr Access at(uint8_t range, uint64_t offset, uint8_t width) { return {range, offset, width, 7}; }

}  // namespace

int main() {
  test("options that cannot be are refused with a sentence", [] {
    SAME(refused_options({{"bass", "1"}}), "there is no option `bass`; there are: base, loud, action");
    for (const char* bad : {"-1", "+1", "0x", "", " 1", "1_0", "0x+1", "18446744073709551616"}) {
      SAME(refused_options({{"base", bad}}), "option `base`: `" + std::string(bad) + "` is not a number");
    }
    SAME(refused_options({{"base", "1"}, {"base", "1"}}), "option `base` is given twice");
    SAME(refused_options({{"loud", "very"}}), "option `loud`: `very` is not `on` or `off`");
    const Options good = Options::parse(SPECS, {{"base", "0x450"}, {"loud", ""}});
    SAME(good.number("base"), 0x450u), HOLDS(good.flag("loud")), SAME(good.text("action"), "reset");
    SAME(refused([&] { good.choice<int>("action", {{"halt", 1}, {"turn", 2}, {"stop", 3}}); }),
         "option `action`: `reset` is not halt, turn or stop");
    SAME(good.choice<int>("action", {{"halt", 1}, {"reset", 2}}), 2);
  });
  test("ports that there are not are refused with a sentence", [] {
    Manifest manifest;
    manifest.ranges = {Range::ports("registers", 0x1'0000, 4)};
    SAME(refused([&] { manifest.check(); }), "range `registers`: there is no port 0x10000");
  });
  test("what was not granted is refused with a sentence, and what is taken is taken once", [] {
    Powers powers;
    const std::string sentence = "the power `it` was not granted";
    SAME(refused([&] { powers.take_switch("it"); }), sentence), SAME(refused([&] { powers.file("it"); }), sentence);
    SAME(refused([&] { powers.stream("it"); }), sentence), SAME(refused([&] { powers.scanout("it"); }), sentence);
    uint8_t bytes[16] = {};
    powers.directs["it"].add(0, bytes, sizeof bytes);
    HOLDS(powers.direct("it").write(15, "x", 1)), SAME(bytes[15], 'x');
    SAME(refused([&] { powers.direct("it"); }), sentence);
  });
  test("what is no register, or not at this width or in this way, is refused", [] {
    Thermo thermo;
    Limits state{};
    for (const Access& access : {at(0, 0, 1), at(0, 1, 2), at(1, 0, 2), at(1, 8, 8), at(0, 12, 1)}) {
      HOLDS(!thermo.read(state, access));
    }
    for (const Access& access : {at(0, 0, 2), at(0, 2, 4), at(1, 8, 4)}) HOLDS(!thermo.write(state, access, 1));
    SAME(state.limit, 0xffff), SAME(state.seen, 0u);
  });
  test("registers do what they declare, and what does not fit is cut", [] {
    Thermo thermo;
    Limits state{};
    SAME(*thermo.read(state, at(0, 0, 2)), 0x12'0300u), SAME(*thermo.read(state, at(1, 8, 4)), 7u);
    HOLDS(thermo.write(state, at(0, 2, 2), 0x1'0012)), SAME(*thermo.read(state, at(0, 2, 2)), 0x12u);
    HOLDS(thermo.write(state, at(0, 12, 1), 5)), SAME(state.limit, 10);
  });
  test("an answer that is too wide is cut, and no register reads as ones", [] {
    Served served;
    SAME(served.ask(Operation::Read, 0, 2), 0x300u), SAME(served.ask(Operation::Read, 1, 1), 0xffu);
    SAME(served.ask(Operation::Read, 2, 2), 0xffffu), SAME(served.ask(Operation::Read, 64, 8), UINT64_MAX);
    SAME(served.engine->state().unknown(), 2u);
  });
  test("a device that throws has done nothing", [] {
    Served served;
    served.device->fails = true;
    std::string said;
    try {
      served.ask(Operation::Write, 2, 2, 5);
    } catch (const std::exception& error) {
      said = error.what();
    }
    SAME(said, "it is too cold"), SAME(served.engine->state().sequence(), 0u);
  });
  test("a picture is cut to its room and shown when it is whole", [] {
    std::vector<uint64_t> region(Scanout::BYTES / 8);
    const Scanout scanout(reinterpret_cast<uint8_t*>(region.data()));
    const auto large = scanout.begin(UINT32_MAX, UINT32_MAX);
    SAME(large.width(), 2560u), SAME(large.height(), 1600u), HOLDS(!scanout.picture());
    const std::vector<uint32_t> pixels(2561, 1);
    large.row(1599, pixels.data(), pixels.size()), large.row(UINT32_MAX, pixels.data(), 1), large.finish();
    const auto drawing = scanout.begin(2, 1);
    const uint32_t row[] = {0x11'2233, 0x44'5566, 0x77'8899};
    drawing.row(0, row, 3), drawing.finish();
    const auto shown = scanout.picture();
    SAME(shown->width, 2u), SAME(shown->height, 1u), SAME(shown->pixels[1], 0x44'5566u), SAME(region[0], 4u);
    SAME(region[2], uint64_t{1} << 32 | 8);
  });
  return testing::report();
}
