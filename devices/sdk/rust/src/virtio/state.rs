//! All of a virtio device that a guest could observe.

use super::ring::{NO_VECTOR, Ring};
use super::{Positions, QUEUES_MAX};
use crate::GuestMemory;
use virtio_bindings::virtio_config::{
    VIRTIO_CONFIG_S_ACKNOWLEDGE, VIRTIO_CONFIG_S_DRIVER, VIRTIO_CONFIG_S_DRIVER_OK, VIRTIO_CONFIG_S_FAILED,
    VIRTIO_CONFIG_S_FEATURES_OK, VIRTIO_CONFIG_S_NEEDS_RESET, VIRTIO_F_VERSION_1,
};
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

const VERSION_1: u64 = 1 << VIRTIO_F_VERSION_1;
const EVENT_INDEX: u64 = 1 << VIRTIO_RING_F_EVENT_IDX;

/// Features that every device has from its transport.
pub(super) const TRANSPORT_FEATURES: u64 = VERSION_1 | EVENT_INDEX | 1 << VIRTIO_RING_F_INDIRECT_DESC;

const DRIVER_OK: u8 = VIRTIO_CONFIG_S_DRIVER_OK as u8;
const FEATURES_OK: u8 = VIRTIO_CONFIG_S_FEATURES_OK as u8;
const NEEDS_RESET: u8 = VIRTIO_CONFIG_S_NEEDS_RESET as u8;
/// Bits of the status that a driver may set.
const DRIVER_STATUS: u8 =
    (VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_FAILED) as u8 | DRIVER_OK | FEATURES_OK;

/// ISR status (4.1.4.5): a queue has used buffers.
const ISR_QUEUE: u8 = 1 << 0;
/// ISR status: the configuration, or the need of a reset, has changed.
const ISR_CONFIG: u8 = 1 << 1;

/// The state of the transport. Its fields are named by the registers of the common configuration (4.1.4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct State {
    pub(super) driver_features: u64,
    pub(super) queues: [Ring; QUEUES_MAX],
    /// The backend's, in rings to the outside.
    pub(super) positions: Positions,
    pub(super) device_feature_select: u32,
    pub(super) driver_feature_select: u32,
    /// Configuration notifications due since power on, modulo 2^32.
    pub(super) config_signals: u32,
    pub(super) config_vector: u16,
    pub(super) queue_select: u16,
    pub(super) status: u8,
    isr: u8,
    /// 0 or 1: a source without a vector has raised the interrupt status.
    pin: u8,
    unused: [u8; 5],
}

impl State {
    /// After power on, for queues of at most these sizes and a backend at these positions.
    pub(super) fn new(queues: &[u16], positions: Positions) -> State {
        let mut state = State { config_vector: NO_VECTOR, positions, ..State::new_zeroed() };
        for (index, ring) in state.queues.iter_mut().enumerate() {
            *ring = Ring::new(queues.get(index).copied().unwrap_or(0), 0);
        }
        state
    }

    /// The driver's reset. Counts of notifications go on: they are compared with what was sent. So do positions: the other
    /// side of a ring is not reset.
    pub(super) fn reset(&mut self) {
        let (config_signals, positions) = (self.config_signals, self.positions);
        let mut fresh = State { config_vector: NO_VECTOR, config_signals, positions, ..State::new_zeroed() };
        for (ring, old) in fresh.queues.iter_mut().zip(&self.queues) {
            *ring = Ring::new(old.size_max, old.signals);
        }
        *self = fresh;
    }

    /// Whether a device with these queues and features could have left this.
    pub(super) fn is_sound(&self, queues: &[u16], offered: u64, memory: &GuestMemory) -> bool {
        let accepted = self.status & FEATURES_OK == 0 || are_acceptable(self.driver_features, offered);
        let negotiated = self.status & DRIVER_OK == 0 || self.status & FEATURES_OK != 0;
        let vectors = super::describe::vectors(queues.len());
        accepted
            && negotiated
            && self.status & !(DRIVER_STATUS | NEEDS_RESET) == 0
            && self.isr & !(ISR_QUEUE | ISR_CONFIG) == 0
            && self.pin <= u8::from(self.isr != 0)
            && self.unused == [0; 5]
            && is_vector(self.config_vector, vectors)
            && self.queues.iter().enumerate().all(|(index, ring)| {
                let size_max = queues.get(index).copied().unwrap_or(0);
                is_vector(ring.vector, vectors)
                    && ring.is_sound(size_max, self.has_event_index(), self.status & DRIVER_OK != 0, memory)
            })
    }

    /// Takes what the driver writes to the status register, other than 0.
    pub(super) fn set_status(&mut self, written: u8, offered: u64) {
        // A driver sets bits and clears none (2.1.1).
        let mut status = self.status | written & DRIVER_STATUS;
        if self.status & FEATURES_OK == 0 && !are_acceptable(self.driver_features, offered) {
            status &= !FEATURES_OK;
        }
        if status & FEATURES_OK == 0 {
            status &= !DRIVER_OK;
        }
        self.status = status;
    }

    /// Whether features can still be chosen.
    pub(super) fn is_negotiating(&self) -> bool {
        self.status & FEATURES_OK == 0
    }

    /// Whether queues are served.
    pub(super) fn is_running(&self) -> bool {
        self.status & (DRIVER_OK | NEEDS_RESET) == DRIVER_OK
    }

    /// Whether the event index was negotiated.
    pub(super) fn has_event_index(&self) -> bool {
        self.status & FEATURES_OK != 0 && self.driver_features & EVENT_INDEX != 0
    }

    /// Sets the status bit, and notifies a driver that is there (2.1.2).
    pub(super) fn need_reset(&mut self) {
        self.status |= NEEDS_RESET;
        if self.status & DRIVER_OK != 0 {
            self.isr |= ISR_CONFIG;
            if self.config_vector == NO_VECTOR {
                self.pin = 1;
            } else {
                self.config_signals = self.config_signals.wrapping_add(1);
            }
        }
    }

    /// A queue's used buffers are to be notified of (4.1.5.3).
    pub(super) fn notify_queue(&mut self, index: usize) {
        let ring = &mut self.queues[index];
        if ring.vector == NO_VECTOR {
            self.isr |= ISR_QUEUE;
            self.pin = 1;
        } else {
            ring.signals = ring.signals.wrapping_add(1);
        }
    }

    /// Reading the interrupt status clears it, and the pin with it.
    pub(super) fn take_isr(&mut self) -> u8 {
        self.pin = 0;
        std::mem::take(&mut self.isr)
    }

    /// The level of the pin.
    pub(super) fn pin_level(&self) -> bool {
        self.pin != 0
    }
}

/// A driver must want version 1, and nothing that was not offered (2.2, 6.1).
fn are_acceptable(features: u64, offered: u64) -> bool {
    features & !offered == 0 && features & VERSION_1 != 0
}

fn is_vector(vector: u16, vectors: u16) -> bool {
    vector < vectors || vector == NO_VECTOR
}
