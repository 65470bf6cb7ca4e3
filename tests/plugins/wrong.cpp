// A device whose author did wrong: each port in another way. The last is a good one.
#include <cofferdam/device.hpp>

#include <cstdlib>

using namespace cofferdam;

struct State {
  uint16_t reads;
};

struct Wrong : Device<State> {
  static Manifest manifest(const Options&) {
    Manifest manifest{"wrong", "what authors do"};
    manifest.ranges = {Range::ports("wrong", 0x5000, 4)};
    return manifest;
  }
  static void fails() { throw std::logic_error("it is too cold"); }
  static void may_not_throw() noexcept { fails(); }
  std::optional<uint64_t> read(State& state, const Access& at) override {
    ++state.reads;
    if (at.offset == 0) throw 42;
    if (at.offset == 1) may_not_throw();
    if (at.offset == 2) std::exit(3);
    return state.reads;
  }
};

int main() { return run<Wrong>(); }
