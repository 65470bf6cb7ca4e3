//! The structures in the BAR, as accesses of any width see them.

use super::describe::{COMMON, COMMON_BYTES, CONFIG, ISR, NOTIFY, NOTIFY_STEP, vectors};
use super::ring::{NO_VECTOR, Ring};
use super::state::State;
use super::{Backend, Done, Virtio};
use crate::{Access, NoRegister};

/// A field of the common configuration (4.1.4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
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
}

/// Offset, width and name of each field. They leave no gap.
const FIELDS: [(u64, u64, Field); 17] = [
    (0x00, 4, Field::DeviceFeatureSelect),
    (0x04, 4, Field::DeviceFeature),
    (0x08, 4, Field::DriverFeatureSelect),
    (0x0c, 4, Field::DriverFeature),
    (0x10, 2, Field::ConfigVector),
    (0x12, 2, Field::QueueCount),
    (0x14, 1, Field::Status),
    (0x15, 1, Field::ConfigGeneration),
    (0x16, 2, Field::QueueSelect),
    (0x18, 2, Field::QueueSize),
    (0x1a, 2, Field::QueueVector),
    (0x1c, 2, Field::QueueEnable),
    (0x1e, 2, Field::QueueNotifyOffset),
    (0x20, 8, Field::QueueDesc),
    (0x28, 8, Field::QueueDriver),
    (0x30, 8, Field::QueueDevice),
    (0x38, 4, Field::Unoffered),
];

pub(super) fn read<B: Backend>(device: &Virtio<B>, state: &mut State, at: Access) -> Result<u64, NoRegister> {
    let end = at.offset + u64::from(at.width);
    match at.offset {
        COMMON.. if end <= COMMON + u64::from(COMMON_BYTES) => {
            let parts = overlaps(at).map(|part| part.of(read_field(device, state, part.field)));
            Ok(parts.fold(0, |value, part| value | part))
        }
        ISR => Ok(state.take_isr().into()),
        CONFIG.. if end <= CONFIG + device.backend.config().len() as u64 => {
            let start = (at.offset - CONFIG) as usize;
            let bytes = &device.backend.config()[start..start + usize::from(at.width)];
            Ok(bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
        }
        _ => Err(NoRegister),
    }
}

pub(super) fn write<B: Backend>(
    device: &mut Virtio<B>,
    state: &mut State,
    at: Access,
    value: u64,
) -> Result<(), NoRegister> {
    match at.offset {
        COMMON.. if at.offset + u64::from(at.width) <= COMMON + u64::from(COMMON_BYTES) => {
            for part in overlaps(at) {
                let whole = part.into(read_field(device, state, part.field), value);
                write_field(device, state, part.field, whole);
            }
            Ok(())
        }
        NOTIFY.. if is_doorbell(at.offset - NOTIFY, B::QUEUES.len()) => {
            // A doorbell that came as an access. More work than one look does is found by the next.
            device.look(state);
            Ok(())
        }
        _ => Err(NoRegister),
    }
}

fn is_doorbell(offset: u64, queues: usize) -> bool {
    offset.is_multiple_of(NOTIFY_STEP) && offset / NOTIFY_STEP < queues as u64
}

/// The part of a field that an access touches.
#[derive(Debug, Clone, Copy)]
struct Part {
    field: Field,
    /// Bits from the start of the field to the start of the part.
    field_shift: u32,
    /// Bits from the start of the access to the start of the part.
    access_shift: u32,
    /// As many ones as the part has bits.
    mask: u64,
}

impl Part {
    /// What the access sees of a field's `whole`.
    fn of(self, whole: u64) -> u64 {
        (whole >> self.field_shift & self.mask) << self.access_shift
    }

    /// A field's `whole` after the access wrote `value`.
    fn into(self, whole: u64, value: u64) -> u64 {
        whole & !(self.mask << self.field_shift) | (value >> self.access_shift & self.mask) << self.field_shift
    }
}

/// Drivers use the width of the field (4.1.3.1), or halves of a field of 8 bytes; but all widths have a meaning.
fn overlaps(at: Access) -> impl Iterator<Item = Part> {
    let (start, end) = (at.offset - COMMON, at.offset - COMMON + u64::from(at.width));
    FIELDS.into_iter().filter_map(move |(offset, width, field)| {
        let (first, last) = (start.max(offset), end.min(offset + width));
        (first < last).then(|| Part {
            field,
            field_shift: (first - offset) as u32 * 8,
            access_shift: (first - start) as u32 * 8,
            mask: u64::MAX >> (64 - (last - first) * 8),
        })
    })
}

fn read_field<B: Backend>(device: &Virtio<B>, state: &State, field: Field) -> u64 {
    let queue = state.queues.get(usize::from(state.queue_select)).filter(|ring| ring.size_max != 0);
    let of_queue = |get: fn(&Ring) -> u64| queue.map_or(0, get);
    match field {
        Field::DeviceFeatureSelect => state.device_feature_select.into(),
        Field::DeviceFeature => half(device.features(), state.device_feature_select),
        Field::DriverFeatureSelect => state.driver_feature_select.into(),
        Field::DriverFeature => half(state.driver_features, state.driver_feature_select),
        Field::ConfigVector => state.config_vector.into(),
        Field::QueueCount => B::QUEUES.len() as u64,
        Field::Status => state.status.into(),
        // The configuration of a device never changes.
        Field::ConfigGeneration => 0,
        Field::QueueSelect => state.queue_select.into(),
        Field::QueueSize => of_queue(|ring| ring.size.into()),
        Field::QueueVector => queue.map_or(NO_VECTOR, |ring| ring.vector).into(),
        Field::QueueEnable => of_queue(|ring| ring.is_enabled().into()),
        Field::QueueNotifyOffset => queue.map_or(0, |_| state.queue_select.into()),
        Field::QueueDesc => of_queue(|ring| ring.desc),
        Field::QueueDriver => of_queue(|ring| ring.driver),
        Field::QueueDevice => of_queue(|ring| ring.device),
        Field::Unoffered => 0,
    }
}

fn write_field<B: Backend>(device: &mut Virtio<B>, state: &mut State, field: Field, value: u64) {
    let is_vector = |vector: u16| vector < vectors(B::QUEUES.len());
    // An event mapped to a vector that does not exist is mapped to none, which the driver reads back (4.1.5.1.2.1).
    let vector = Some(value as u16).filter(|vector| is_vector(*vector)).unwrap_or(NO_VECTOR);
    let negotiating = state.is_negotiating();
    let queue = state.queues.get_mut(usize::from(state.queue_select)).filter(|ring| ring.size_max != 0);
    // What a queue is made of was fixed when it was enabled.
    let fixed = queue.as_ref().is_none_or(|ring| ring.is_enabled());
    match (field, queue) {
        (Field::DeviceFeatureSelect, _) => state.device_feature_select = value as u32,
        (Field::DriverFeatureSelect, _) => state.driver_feature_select = value as u32,
        (Field::DriverFeature, _) if negotiating => {
            if let shift @ (0 | 32) = u64::from(state.driver_feature_select) * 32 {
                let others = state.driver_features & !(u64::from(u32::MAX) << shift);
                state.driver_features = others | value << shift;
            }
        }
        (Field::ConfigVector, _) => state.config_vector = vector,
        (Field::Status, _) if value == 0 => {
            state.reset();
            device.done = Done::for_reset(state);
            device.broken = None;
        }
        (Field::Status, _) => state.set_status(value as u8, device.features()),
        (Field::QueueSelect, _) => state.queue_select = value as u16,
        (Field::QueueVector, Some(ring)) => ring.vector = vector,
        (Field::QueueSize, Some(ring)) if !fixed && ring.can_have_size(value as u16) => ring.size = value as u16,
        (Field::QueueDesc, Some(ring)) if !fixed => ring.desc = value,
        (Field::QueueDriver, Some(ring)) if !fixed => ring.driver = value,
        (Field::QueueDevice, Some(ring)) if !fixed => ring.device = value,
        (Field::QueueEnable, Some(ring)) if !fixed && value == 1 => {
            if let Err(why) = ring.enable(&device.memory) {
                device.fail(state, why);
            }
        }
        // Read-only fields, fields of no queue, and changes that come too late.
        _ => {}
    }
}

/// One of the two halves of 64 feature bits; further ones are empty.
fn half(features: u64, select: u32) -> u64 {
    match select {
        0 => features & u64::from(u32::MAX),
        1 => features >> 32,
        _ => 0,
    }
}
