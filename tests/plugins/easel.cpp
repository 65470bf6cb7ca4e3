// An easel: what the guest puts into its memory, four pixels, it shows as a picture.
#include <cofferdam/device.hpp>

using namespace cofferdam;

struct State {};

struct Easel : Device<State> {
  GuestMemory pixels;
  std::optional<Scanout> picture;

  static Manifest manifest(const Options&) {
    Manifest manifest{"easel", "what direct ranges and scanouts are for", Class::Display};
    manifest.ranges = {Range::memory("canvas", 0xfed1'0000, 0x1000)};
    manifest.wishes = {Wish::direct(0, "pixels", "the guest draws there"),
                       {Power::Scanout, "picture", "people look at it"}};
    return manifest;
  }
  void attach(const Options&, Powers& powers) override {
    pixels = powers.direct("pixels"), picture = powers.scanout("picture");
  }
  void refresh(State&, uint64_t) override {
    uint32_t row[4] = {};
    const Scanout::Drawing drawing = picture->begin(4, 1);
    if (pixels.read(0, row, sizeof row)) drawing.row(0, row, 4);
    drawing.finish();
  }
};

int main() { return run<Easel>(); }
