// All of a virtio device that a guest could observe.
#pragma once

#include <array>
#include <cstdint>
#include <utility>

#include "describe.hpp"
#include "ring.hpp"

namespace cofferdam::virtio {

/// Most queues of a device, so that its state has a fixed size: a network device has three.
inline constexpr std::size_t QUEUES_MAX = 4;

inline constexpr uint64_t EVENT_INDEX = uint64_t{1} << 29, VERSION_1 = uint64_t{1} << 32;
/// Features that every device has from its transport; bit 28 is indirect descriptors.
inline constexpr uint64_t TRANSPORT_FEATURES = VERSION_1 | EVENT_INDEX | uint64_t{1} << 28;

/// The state of the transport. Its fields are named by the registers of the common configuration (4.1.4.3).
struct State {
  uint64_t driver_features;
  std::array<Ring, QUEUES_MAX> queues;
  uint32_t device_feature_select, driver_feature_select;
  /// Configuration notifications due since power on, modulo 2^32.
  uint32_t config_signals;
  uint16_t config_vector, queue_select;
  uint8_t status, isr;
  /// 0 or 1: a source without a vector has raised the interrupt status.
  uint8_t pin;
  uint8_t unused[5];

  static constexpr uint8_t ACKNOWLEDGE = 1, DRIVER = 2, DRIVER_OK = 4, FEATURES_OK = 8, NEEDS_RESET = 64, FAILED = 128;

  /// After power on, for `count` queues of at most these sizes.
  static State fresh(const uint16_t* sizes, std::size_t count) {
    State state{};
    state.config_vector = NO_VECTOR;
    for (std::size_t index = 0; index < QUEUES_MAX; ++index) {
      state.queues[index] = Ring::fresh(index < count ? sizes[index] : 0, 0);
    }
    return state;
  }

  /// The driver's reset. Counts of notifications go on: they are compared with what was sent.
  void reset() {
    State fresh{};
    fresh.config_vector = NO_VECTOR, fresh.config_signals = config_signals;
    for (std::size_t index = 0; index < QUEUES_MAX; ++index) {
      fresh.queues[index] = Ring::fresh(queues[index].size_max, queues[index].signals);
    }
    *this = fresh;
  }

  /// Whether a device with these queues and features could have left this.
  bool is_sound(const uint16_t* sizes, std::size_t count, uint64_t offered, const GuestMemory& memory) const {
    if ((status & FEATURES_OK) && !are_acceptable(driver_features, offered)) return false;
    if ((status & DRIVER_OK) && !(status & FEATURES_OK)) return false;
    if ((status & ~(DRIVER_STATUS | NEEDS_RESET)) || (isr & ~(ISR_QUEUE | ISR_CONFIG)) || pin > (isr != 0)) return false;
    for (const uint8_t byte : unused) {
      if (byte) return false;
    }
    if (!is_vector(config_vector, count)) return false;
    for (std::size_t index = 0; index < QUEUES_MAX; ++index) {
      const uint16_t most = index < count ? sizes[index] : 0;
      if (!is_vector(queues[index].vector, count) || !queues[index].is_sound(most, status & DRIVER_OK, memory)) return false;
    }
    return true;
  }

  /// Takes what the driver writes to the status register, other than 0.
  void set_status(uint8_t written, uint64_t offered) {
    // A driver sets bits and clears none (2.1.1).
    unsigned next = status | (written & DRIVER_STATUS);
    if (!(status & FEATURES_OK) && !are_acceptable(driver_features, offered)) next &= ~FEATURES_OK;
    if (!(next & FEATURES_OK)) next &= ~DRIVER_OK;
    status = static_cast<uint8_t>(next);
  }

  /// Whether features can still be chosen.
  bool is_negotiating() const { return !(status & FEATURES_OK); }
  /// Whether queues are served.
  bool is_running() const { return (status & (DRIVER_OK | NEEDS_RESET)) == DRIVER_OK; }
  /// Whether the event index was negotiated.
  bool has_event_index() const { return (status & FEATURES_OK) && (driver_features & EVENT_INDEX); }

  /// Sets the status bit, and notifies a driver that is there (2.1.2).
  void need_reset() {
    status |= NEEDS_RESET;
    if (!(status & DRIVER_OK)) return;
    isr |= ISR_CONFIG;
    if (config_vector == NO_VECTOR) {
      pin = 1;
    } else {
      ++config_signals;
    }
  }

  /// A queue's used buffers are to be notified of (4.1.5.3).
  void notify_queue(std::size_t index) {
    if (queues[index].vector == NO_VECTOR) {
      isr |= ISR_QUEUE;
      pin = 1;
    } else {
      ++queues[index].signals;
    }
  }

  /// Reading the interrupt status clears it, and the pin with it.
  uint8_t take_isr() {
    pin = 0;
    return std::exchange(isr, uint8_t{0});
  }

  /// Whether it names a vector of a device with so many queues, or none.
  static bool is_vector(uint64_t vector, std::size_t queues) { return vector < vectors(queues) || vector == NO_VECTOR; }

 private:
  static constexpr unsigned DRIVER_STATUS = ACKNOWLEDGE | DRIVER | DRIVER_OK | FEATURES_OK | FAILED;
  static constexpr unsigned ISR_QUEUE = 1, ISR_CONFIG = 2;

  /// A driver must want version 1, and nothing that was not offered (2.2, 6.1).
  static bool are_acceptable(uint64_t features, uint64_t offered) { return !(features & ~offered) && (features & VERSION_1); }
};

}  // namespace cofferdam::virtio
