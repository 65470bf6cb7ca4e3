// A box: port 0 gives the bytes of a file, one after the other, and prints; port 1 writes the next byte of the file.
#include <cofferdam/device.hpp>

using namespace cofferdam;

struct State {
  uint32_t read, written, said;
};

struct Box : Device<State> {
  std::optional<Stream> out;
  std::optional<File> content;

  static Manifest manifest(const Options&) {
    Manifest manifest{"box", "what files and streams are for"};
    manifest.ranges = {Range::ports("box", 0x5000, 2)};
    manifest.wishes = {{Power::Stream, "out", "it prints"}, {Power::FileWrite, "content", "it has bytes"}};
    return manifest;
  }
  void attach(const Options&, Powers& powers) override {
    out = powers.stream("out"), content = powers.file("content");
  }
  std::optional<uint64_t> read(State& state, const Access& at) override {
    uint8_t byte = 0;
    if (at.offset != 0 || at.width != 1 || !content->read(state.read++, &byte, 1)) return std::nullopt;
    return byte;
  }
  bool write(State& state, const Access& at, uint64_t value) override {
    const auto byte = static_cast<uint8_t>(value);
    if (at.width != 1) return false;
    if (at.offset == 1) return content->write(state.written++, &byte, 1) && content->flush();
    if (out->room(state.said) > 0) out->put(state.said++, byte);
    return true;
  }
  void settle(const State& state) override { out->publish(state.said, 0); }
};

int main() { return run<Box>(); }
