// The common configuration, as accesses of any width see it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>

#include "../model.hpp"
#include "state.hpp"

namespace cofferdam::virtio::registers {

/// What the registers depend on beside the state.
struct View {
  std::size_t queues;
  /// Features offered.
  uint64_t features;
  const GuestMemory& memory;
};

/// What a store did that the state alone does not tell.
struct Effect {
  bool was_reset = false;
  std::optional<Broken> broken = {};
};

/// A field of the common configuration (4.1.4.3).
enum class Field {
  DeviceFeatureSelect,
  DeviceFeature,
  DriverFeatureSelect,
  DriverFeature,
  ConfigVector,
  QueueCount,
  Status,
  ConfigGeneration,
  QueueSelect,
  QueueSize,
  QueueVector,
  QueueEnable,
  QueueNotifyOffset,
  QueueDesc,
  QueueDriver,
  QueueDevice,
  /// `queue_notify_data` and `queue_reset`, whose features are not offered.
  Unoffered,
};

/// Offset, width and name of each field. They leave no gap.
struct Place {
  uint64_t offset, width;
  Field field;
};
inline constexpr Place FIELDS[] = {
    {0x00, 4, Field::DeviceFeatureSelect}, {0x04, 4, Field::DeviceFeature}, {0x08, 4, Field::DriverFeatureSelect},
    {0x0c, 4, Field::DriverFeature},       {0x10, 2, Field::ConfigVector},  {0x12, 2, Field::QueueCount},
    {0x14, 1, Field::Status},              {0x15, 1, Field::ConfigGeneration}, {0x16, 2, Field::QueueSelect},
    {0x18, 2, Field::QueueSize},           {0x1a, 2, Field::QueueVector},   {0x1c, 2, Field::QueueEnable},
    {0x1e, 2, Field::QueueNotifyOffset},   {0x20, 8, Field::QueueDesc},     {0x28, 8, Field::QueueDriver},
    {0x30, 8, Field::QueueDevice},         {0x38, 4, Field::Unoffered},
};

/// The part of a field that an access touches.
struct Part {
  Field field;
  unsigned field_shift, access_shift;
  uint64_t mask;
};

/// Drivers use the width of the field (4.1.3.1), or halves of a field of 8 bytes; but all widths have a meaning.
template <class F>
void for_each_part(const Access& at, F&& act) {
  const uint64_t start = at.offset - COMMON, end = start + at.width;
  for (const Place& place : FIELDS) {
    const uint64_t first = std::max(start, place.offset), last = std::min(end, place.offset + place.width);
    if (first >= last) continue;
    act(Part{place.field, static_cast<unsigned>(8 * (first - place.offset)), static_cast<unsigned>(8 * (first - start)),
             UINT64_MAX >> (64 - 8 * (last - first))});
  }
}

/// The queue that the driver has selected, if there is one.
template <class S>
auto selected(S& state) -> decltype(&state.queues[0]) {
  const bool there = state.queue_select < QUEUES_MAX && state.queues[state.queue_select].size_max != 0;
  return there ? &state.queues[state.queue_select] : nullptr;
}

/// One of the two halves of 64 feature bits; further ones are empty.
constexpr uint64_t half(uint64_t features, uint32_t select) {
  return select > 1 ? 0 : features >> (32 * select) & UINT32_MAX;
}

inline uint64_t read_field(const View& view, const State& state, Field field) {
  const Ring* queue = selected(state);
  switch (field) {
    case Field::DeviceFeatureSelect: return state.device_feature_select;
    case Field::DeviceFeature: return half(view.features, state.device_feature_select);
    case Field::DriverFeatureSelect: return state.driver_feature_select;
    case Field::DriverFeature: return half(state.driver_features, state.driver_feature_select);
    case Field::ConfigVector: return state.config_vector;
    case Field::QueueCount: return view.queues;
    case Field::Status: return state.status;
    // The configuration of a device never changes.
    case Field::ConfigGeneration: return 0;
    case Field::QueueSelect: return state.queue_select;
    case Field::QueueSize: return queue ? queue->size : 0;
    case Field::QueueVector: return queue ? queue->vector : NO_VECTOR;
    case Field::QueueEnable: return queue ? queue->enabled : 0;
    case Field::QueueNotifyOffset: return queue ? state.queue_select : 0;
    case Field::QueueDesc: return queue ? queue->desc : 0;
    case Field::QueueDriver: return queue ? queue->driver : 0;
    case Field::QueueDevice: return queue ? queue->device : 0;
    case Field::Unoffered: return 0;
  }
  return 0;
}

inline void write_field(const View& view, State& state, Field field, uint64_t value, Effect& effect) {
  Ring* queue = selected(state);
  // An event mapped to a vector that does not exist is mapped to none, which the driver reads back (4.1.5.1.2.1).
  const uint16_t vector = State::is_vector(value, view.queues) ? static_cast<uint16_t>(value) : NO_VECTOR;
  // What a queue is made of was fixed when it was enabled.
  const bool open = queue && !queue->enabled;
  switch (field) {
    case Field::DeviceFeatureSelect: state.device_feature_select = static_cast<uint32_t>(value); break;
    case Field::DriverFeatureSelect: state.driver_feature_select = static_cast<uint32_t>(value); break;
    case Field::DriverFeature:
      if (state.is_negotiating() && state.driver_feature_select < 2) {
        const unsigned shift = 32 * state.driver_feature_select;
        state.driver_features = (state.driver_features & ~(uint64_t{UINT32_MAX} << shift)) | value << shift;
      }
      break;
    case Field::ConfigVector: state.config_vector = vector; break;
    case Field::Status:
      if (value == 0) {
        state.reset();
        effect = {true, {}};
      } else {
        state.set_status(static_cast<uint8_t>(value), view.features);
      }
      break;
    case Field::QueueSelect: state.queue_select = static_cast<uint16_t>(value); break;
    case Field::QueueVector:
      if (queue) queue->vector = vector;
      break;
    case Field::QueueSize:
      if (open && queue->can_have_size(value)) queue->size = static_cast<uint16_t>(value);
      break;
    case Field::QueueDesc:
      if (open) queue->desc = value;
      break;
    case Field::QueueDriver:
      if (open) queue->driver = value;
      break;
    case Field::QueueDevice:
      if (open) queue->device = value;
      break;
    case Field::QueueEnable:
      if (!open || value != 1) break;
      try {
        queue->enable(view.memory);
      } catch (const Broken why) {
        effect.broken = why;
        state.need_reset();
      }
      break;
    // Read-only fields.
    default: break;
  }
}

/// A load that lies in the common configuration.
inline uint64_t read(const View& view, const State& state, const Access& at) {
  uint64_t value = 0;
  for_each_part(at, [&](const Part& part) {
    value |= (read_field(view, state, part.field) >> part.field_shift & part.mask) << part.access_shift;
  });
  return value;
}

/// A store that lies in the common configuration.
inline Effect write(const View& view, State& state, const Access& at, uint64_t value) {
  Effect effect;
  for_each_part(at, [&](const Part& part) {
    const uint64_t others = read_field(view, state, part.field) & ~(part.mask << part.field_shift);
    const uint64_t written = (value >> part.access_shift & part.mask) << part.field_shift;
    write_field(view, state, part.field, others | written, effect);
  });
  return effect;
}

}  // namespace cofferdam::virtio::registers
