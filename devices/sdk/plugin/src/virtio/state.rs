//! All of a virtio device that a guest could observe.

use super::ring::{NO_VECTOR, Ring};
use super::{QUEUES_MAX, describe};
use crate::GuestMemory;

/// Features of the transport (6): indirect descriptors, the event index, and that it is a modern device.
const INDIRECT_DESCRIPTORS: u64 = 1 << 28;
pub(super) const EVENT_INDEX: u64 = 1 << 29;
pub(super) const VERSION_1: u64 = 1 << 32;
/// Features that every device has from its transport.
pub(super) const TRANSPORT_FEATURES: u64 = VERSION_1 | EVENT_INDEX | INDIRECT_DESCRIPTORS;

/// Bits of the device status (2.1).
const ACKNOWLEDGE: u8 = 1;
const DRIVER: u8 = 2;
const DRIVER_OK: u8 = 4;
const FEATURES_OK: u8 = 8;
pub(super) const NEEDS_RESET: u8 = 64;
const FAILED: u8 = 128;
/// Those that a driver may set.
const DRIVER_STATUS: u8 = ACKNOWLEDGE | DRIVER | DRIVER_OK | FEATURES_OK | FAILED;

/// Interrupt status (4.1.4.5): a queue has used buffers.
const ISR_QUEUE: u8 = 1;
/// Interrupt status: the configuration, or the need of a reset, has changed.
const ISR_CONFIG: u8 = 2;

crate::state! {
    /// The state of the transport. Its fields are named by the registers of the common configuration (4.1.4.3).
    pub struct State {
        pub(super) driver_features: u64,
        pub(super) queues: [Ring; QUEUES_MAX],
        pub(super) device_feature_select: u32,
        pub(super) driver_feature_select: u32,
        /// Configuration notifications due since power on, modulo 2^32.
        pub(super) config_signals: u32,
        pub(super) config_vector: u16 = NO_VECTOR,
        pub(super) queue_select: u16,
        pub(super) status: u8,
        pub(super) isr: u8,
        /// 0 or 1: a source without a vector has raised the interrupt status.
        pub(super) pin: u8,
    }
}

impl State {
    /// After power on, for queues of at most these sizes.
    pub(super) fn new(queues: &[u16]) -> State {
        let size_max = |index| queues.get(index).copied().unwrap_or(0);
        State { queues: std::array::from_fn(|index| Ring::new(size_max(index), 0)), ..State::default() }
    }

    /// The driver's reset. Counts of notifications go on: they are compared with what was sent.
    pub(super) fn reset(&mut self) {
        let queues = std::array::from_fn(|index| {
            let Ring { size_max, signals, .. } = self.queues[index];
            Ring::new(size_max, signals)
        });
        *self = State { queues, config_signals: self.config_signals, ..State::default() };
    }

    /// Whether a device with these queues and features could have left this.
    pub(super) fn is_sound(&self, queues: &[u16], offered: u64, memory: &GuestMemory) -> bool {
        let has = |bit| self.status & bit != 0;
        (!has(FEATURES_OK) || are_acceptable(self.driver_features, offered))
            && (!has(DRIVER_OK) || has(FEATURES_OK))
            && !has(!(DRIVER_STATUS | NEEDS_RESET))
            && self.isr & !(ISR_QUEUE | ISR_CONFIG) == 0
            && self.pin <= u8::from(self.isr != 0)
            && is_vector(self.config_vector, queues.len())
            && self.queues.iter().enumerate().all(|(index, ring)| {
                let size_max = queues.get(index).copied().unwrap_or(0);
                is_vector(ring.vector, queues.len()) && ring.is_sound(size_max, has(DRIVER_OK), memory)
            })
    }

    /// Takes what the driver writes to the status register, other than 0.
    pub(super) fn set_status(&mut self, written: u8, offered: u64) {
        // A driver sets bits and clears none (2.1.1).
        let mut status = self.status | written & DRIVER_STATUS;
        if self.is_negotiating() && !are_acceptable(self.driver_features, offered) {
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
        !self.is_negotiating() && self.driver_features & EVENT_INDEX != 0
    }

    /// Sets the status bit, and notifies a driver that is there (2.1.2).
    pub(super) fn need_reset(&mut self) {
        self.status |= NEEDS_RESET;
        if self.status & DRIVER_OK == 0 {
            return;
        }
        self.isr |= ISR_CONFIG;
        if self.config_vector == NO_VECTOR {
            self.pin = 1;
        } else {
            self.config_signals = self.config_signals.wrapping_add(1);
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
}

/// Whether it names a vector of a device with so many queues, or none.
pub(super) fn is_vector(vector: u16, queues: usize) -> bool {
    vector < describe::vectors(queues) || vector == NO_VECTOR
}

/// A driver must want version 1, and nothing that was not offered (2.2, 6.1).
fn are_acceptable(features: u64, offered: u64) -> bool {
    features & !offered == 0 && features & VERSION_1 != 0
}
