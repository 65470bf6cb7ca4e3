// Something to ring.
#pragma once

#include <cstdint>

#include <unistd.h>

namespace cofferdam {

/// An eventfd: a switch, or an MSI-X vector.
class Bell {
 public:
  explicit Bell(int descriptor) : descriptor_(descriptor) {}
  /// Rings it.
  void ring(uint64_t value = 1) const {
    // Whoever listens keeps it from filling up; a device has nobody to tell that it cannot be rung.
    [[maybe_unused]] const ssize_t written = ::write(descriptor_, &value, sizeof value);
  }

 private:
  int descriptor_;
};

}  // namespace cofferdam
