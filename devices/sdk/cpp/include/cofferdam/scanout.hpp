// Where a display draws what it shows. Layout: schema/display.capnp.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <optional>
#include <vector>

namespace cofferdam {

/// A region that pictures are drawn into, for who may only read it.
///
/// Its generation is no state: it goes on with each picture, also with one that is drawn again because the process died while it
/// was drawn.
class Scanout {
 public:
  /// Widest and highest picture.
  static constexpr uint32_t WIDTH_MAX = 2560, HEIGHT_MAX = 1600;
  static constexpr std::size_t PIXELS_AT = 4096, PIXEL_BYTES = 4;
  static constexpr std::size_t BYTES = PIXELS_AT + std::size_t{WIDTH_MAX} * HEIGHT_MAX * PIXEL_BYTES;

  /// A picture while it is drawn.
  class Drawing {
   public:
    /// Pixels of a row.
    uint32_t width() const { return width_; }
    /// Rows.
    uint32_t height() const { return height_; }
    /// Draws row `row`, of so many pixels from the left: 0x00RRGGBB. What lies beyond the picture is left out.
    void row(uint32_t row, const uint32_t* pixels, std::size_t count) const {
      if (row >= height_) return;
      const std::size_t start = PIXELS_AT + std::size_t{row} * width_ * PIXEL_BYTES;
      std::memcpy(region_ + start, pixels, std::min<std::size_t>(count, width_) * PIXEL_BYTES);
    }
    /// The picture is whole.
    void finish() const {
      const uint64_t size = width_ | uint64_t{height_} << 32, stride = width_ * PIXEL_BYTES | XRGB8888 << 32;
      std::memcpy(region_ + SIZE, &size, sizeof size);
      std::memcpy(region_ + STRIDE, &stride, sizeof stride);
      // Who sees that it is whole sees all of it.
      __atomic_thread_fence(__ATOMIC_SEQ_CST);
      __atomic_store_n(generation(region_), generation_ + 1, __ATOMIC_RELEASE);
    }

   private:
    friend class Scanout;
    Drawing(uint8_t* region, uint64_t generation, uint32_t width, uint32_t height)
        : region_(region), generation_(generation), width_(width), height_(height) {}
    uint8_t* region_;
    uint64_t generation_;
    uint32_t width_, height_;
  };

  /// A scanout in `BYTES` bytes, which begin on a page.
  explicit Scanout(uint8_t* region) : region_(region) {}

  /// Begins a picture of this size, cut to what there is room for. What was there means nothing from now on.
  Drawing begin(uint32_t width, uint32_t height) const {
    const uint64_t next = __atomic_load_n(generation(region_), __ATOMIC_RELAXED) | 1;
    __atomic_store_n(generation(region_), next, __ATOMIC_RELAXED);
    // Who sees a pixel of the new picture sees that it is drawn.
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    return {region_, next, std::min(width, WIDTH_MAX), std::min(height, HEIGHT_MAX)};
  }

  /// What was drawn last: for tests.
  struct Picture {
    uint32_t width, height;
    std::vector<uint32_t> pixels;
  };
  /// Nothing while a picture is drawn.
  std::optional<Picture> picture() const {
    if (__atomic_load_n(generation(region_), __ATOMIC_ACQUIRE) % 2 != 0) return std::nullopt;
    Picture shown{};
    std::memcpy(&shown.width, region_ + SIZE, sizeof shown.width);
    std::memcpy(&shown.height, region_ + SIZE + sizeof shown.width, sizeof shown.height);
    shown.pixels.resize(std::size_t{shown.width} * shown.height);
    std::memcpy(shown.pixels.data(), region_ + PIXELS_AT, shown.pixels.size() * PIXEL_BYTES);
    return shown;
  }

 private:
  static constexpr std::size_t SIZE = 8, STRIDE = 16;
  /// The one format: of each word the low byte is blue, then green, then red.
  static constexpr uint64_t XRGB8888 = 1;
  static uint64_t* generation(uint8_t* region) { return reinterpret_cast<uint64_t*>(region); }
  uint8_t* region_;
};

}  // namespace cofferdam
