// The watchdog of the iBASE IB700 single-board computer: a timer that ends the machine unless the guest winds it in time.
// Source: iBASE, IB700 Pentium III CPU card, User's Manual, "Watchdog Timer Configuration".
#include <cofferdam/device.hpp>
using namespace cofferdam;

struct State { uint64_t expires_ns; uint32_t expiries; uint8_t runs; };

struct Ib700 : Device<State> {
  Latch expired;
  static std::vector<Option> options() { return {Option::text("action", "reset", "at its end: reset, poweroff or panic")}; }
  static Manifest manifest(const Options& options) {
    const auto action = options.choice<Switch>(
        "action", {{"reset", Switch::Reset}, {"poweroff", Switch::PowerOff}, {"panic", Switch::Panicked}});
    Manifest manifest{"ib700", "iBASE IB700 watchdog timer"};
    manifest.ranges = {Range::ports("stop", 0x441, 1), Range::ports("start", 0x443, 1)};
    manifest.wishes = {{Power::Switch, "expired", "a guest that stands still is to be ended", action}};
    return manifest;
  }
  void attach(const Options&, Powers& powers) override { expired = Latch(powers.take_switch("expired")); }
  bool check(const State& state) const override { return state.runs <= 1 && (state.runs || !state.expires_ns); }
  bool write(State& state, const Access& at, uint64_t value) override {
    state.runs = at.range == 1;
    // Value 0 is the longest time, each further one two seconds less, and value 15 none at all.
    state.expires_ns = state.runs ? at.now + (30 - value % 16 * 2) * 1'000'000'000 : 0;
    return true;
  }
  void alarm(State& state, uint64_t now) override {
    if (state.runs && state.expires_ns <= now) state = {0, state.expiries + 1, 0};
  }
  Outputs outputs(const State& state) const override { return {0, optional_if(state.runs, state.expires_ns)}; }
  void settle(const State& state) override { expired.settle(optional_if(state.expiries, state.expiries)); }
};

int main() { return run<Ib700>(); }
