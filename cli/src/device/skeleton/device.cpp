// A temperature sensor with an alarm line.
//
// | offset | width | register |
// | --- | --- | --- |
// | 0 | 2 | temperature, in tenths of a degree |
// | 2 | 2 | limit: at this temperature and above, the interrupt line is high |
#include <cofferdam/device.hpp>

using namespace cofferdam;

struct State {
  uint16_t limit = 0xffff;
};

struct Sensor : Device<State> {
  uint64_t tenths = 0;

  static std::vector<Option> options() {
    return {Option::number("base", 0x440, "first port"),
            Option::number("tenths", 215, "the temperature, in tenths of a degree")};
  }
  std::vector<Register> registers() override {
    return {Register::at(0, 2).read([this](State&, const Access&) { return tenths; }),
            Register::at(2, 2).field(&State::limit).writable()};
  }
  static Manifest manifest(const Options& options) {
    Manifest manifest{"NAME", "Temperature sensor with an alarm line"};
    manifest.ranges = {Range::ports("registers", options.number("base"), 4)};
    manifest.lines = {Line::isa(5)};
    return manifest;
  }
  void attach(const Options& options, Powers&) override { tenths = options.number("tenths"); }
  Outputs outputs(const State& state) const override { return {tenths >= state.limit}; }
};

int main() { return run<Sensor>(); }
