// A temperature sensor with an alarm line.
//
// | offset | width | register |
// | --- | --- | --- |
// | 0 | 2 | temperature, in tenths of a degree |
// | 2 | 2 | limit: at this temperature and above, the interrupt line is high |
#include <cofferdam/device.hpp>

using namespace cofferdam;

struct State {
  uint16_t limit, unused[3];
};

struct Sensor : Device<State> {
  uint64_t tenths = 0;

  static Manifest manifest(const Options& options) {
    Manifest manifest{"NAME", "Temperature sensor with an alarm line"};
    manifest.options = {{"base", OptionKind::Number, "0x440", "first port"},
                        {"tenths", OptionKind::Number, "215", "the temperature, in tenths of a degree"}};
    manifest.ranges = {{"registers", Space::Port, options.number("base", 0x440), 4}};
    manifest.lines = {{5}};
    return manifest;
  }
  void attach(const Options& options, Powers&) override { tenths = options.number("tenths", 215); }
  void power_on(State& state) override { state.limit = 0xffff; }
  std::optional<uint64_t> read(State& state, const Access& at) override {
    if (at.width != 2 || at.offset % 2 != 0) return std::nullopt;
    return at.offset == 0 ? tenths : state.limit;
  }
  bool write(State& state, const Access& at, uint64_t value) override {
    if (at.width != 2 || at.offset != 2) return false;
    state.limit = static_cast<uint16_t>(value);
    return true;
  }
  Outputs outputs(const State& state) const override { return {tenths >= state.limit}; }
};

int main() { return run<Sensor>(); }
