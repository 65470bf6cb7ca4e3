// The manifest of a virtio device, and where its structures lie in the BAR.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "../declare.hpp"

namespace cofferdam::virtio {

/// Bytes of the BAR: four structures, each in a page of its own so that each has its own way through the VMM.
inline constexpr uint64_t BAR_BYTES = 0x4000;
/// Common configuration (4.1.4.3), to and including `queue_reset`.
inline constexpr uint64_t COMMON = 0x0000, COMMON_BYTES = 0x3c;
/// Interrupt status (4.1.4.5).
inline constexpr uint64_t ISR = 0x1000;
/// Device configuration (4.1.4.6).
inline constexpr uint64_t CONFIG = 0x2000;
/// Notifications (4.1.4.4): queue n at n * NOTIFY_STEP.
inline constexpr uint64_t NOTIFY = 0x3000, NOTIFY_STEP = 4;

/// What the manifest of a virtio device says beyond what all of them say.
struct Function {
  std::string name;
  std::string summary;
  /// What kind of work it does.
  Class kind;
  /// Virtio device ID (section 5).
  uint16_t number;
  /// PCI class, sub-class, interface.
  uint32_t pci_class;
  /// Bytes of device configuration; 0: there is none.
  uint32_t config_bytes;
  /// Why it needs guest memory.
  std::string memory_because;
  /// What else it needs.
  std::vector<Wish> wishes = {};
};

/// MSI-X vectors: one for each queue and one for the configuration.
constexpr uint16_t vectors(std::size_t queues) { return static_cast<uint16_t>(queues + 1); }

namespace detail {

/// A vendor capability of `kind` that points at a part of the BAR, with `more` behind it.
inline std::vector<uint8_t> capability(uint8_t kind, uint64_t offset, uint64_t bytes, const std::vector<uint32_t>& more = {}) {
  constexpr uint8_t VENDOR = 0x09, BAR = 0, LENGTH = 16;
  std::vector<uint8_t> capability = {VENDOR, 0, static_cast<uint8_t>(LENGTH + 4 * more.size()), kind, BAR, 0, 0, 0};
  const auto append = [&](uint64_t word) {
    for (int shift = 0; shift < 32; shift += 8) capability.push_back(static_cast<uint8_t>(word >> shift));
  };
  append(offset);
  append(bytes);
  for (const uint32_t word : more) append(word);
  return capability;
}

}  // namespace detail

/// The manifest of a virtio device with so many queues.
inline Manifest manifest(const Function& function, std::size_t queues) {
  constexpr uint8_t COMMON_CFG = 1, NOTIFY_CFG = 2, ISR_CFG = 3, DEVICE_CFG = 4, VECTOR_BAR = 1;
  Manifest manifest{function.name, function.summary, function.kind};
  manifest.ranges = {Range::memory_bar("virtio", 0, BAR_BYTES)};
  manifest.lines = {Line::pin(1)};
  manifest.vectors = vectors(queues);
  // Any width: the value names a queue that the address names already.
  for (std::size_t queue = 0; queue < queues; ++queue) manifest.doorbells.push_back({0, NOTIFY + queue * NOTIFY_STEP});
  // Guest memory is the transport's wish, and comes first.
  manifest.wishes = {{Power::Memory, "memory", function.memory_because}};
  manifest.wishes.insert(manifest.wishes.end(), function.wishes.begin(), function.wishes.end());
  // A modern device (4.1.2.1): 0x1040 and the virtio ID, a revision of at least 1, a subsystem of at least 0x40.
  Pci pci{0x1af4, static_cast<uint16_t>(0x1040 + function.number), 0x1af4, 0x40, function.pci_class, 1, {}, VECTOR_BAR};
  // Where the driver finds the structures (4.1.4).
  pci.capabilities = {detail::capability(COMMON_CFG, COMMON, COMMON_BYTES),
                      detail::capability(NOTIFY_CFG, NOTIFY, queues * NOTIFY_STEP, {NOTIFY_STEP}),
                      detail::capability(ISR_CFG, ISR, 1)};
  if (function.config_bytes > 0) pci.capabilities.push_back(detail::capability(DEVICE_CFG, CONFIG, function.config_bytes));
  manifest.pci = pci;
  return manifest;
}

}  // namespace cofferdam::virtio
