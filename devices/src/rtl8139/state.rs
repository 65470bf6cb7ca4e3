//! All of the card that a guest could observe.

use super::eeprom::Eeprom;
use super::large::LARGE_MAX;
use super::registers::{cpcr, cr, eecr, isr, poll, rcr, tcr, tsd};
use super::ring::{RING_MAX, Return};
use crate::ethernet::ADDRESS_BYTES;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

/// Descriptors of the plain mode.
pub(super) const TRANSMITS: usize = 4;
/// The read pointer after a reset: 16 bytes before the first packet, as always.
const READ_POINTER: u16 = 0xfff0;
/// How far the read pointer is behind.
const READ_BEHIND: u16 = 16;

/// Descriptors that go back: of a frame that was received, and of one that was sent.
pub(super) const RECEIVED: usize = 0;
pub(super) const SENT: usize = 1;

/// The timer counts the PCI clock of 33 MHz (TCTR).
const CLOCK_MHZ: u64 = 33;
/// After so long it begins again.
pub(super) const CLOCK_WRAP_NS: u64 = (1 << 32) * 1000 / CLOCK_MHZ;

/// Which of the two transmit rings of the C+ mode.
pub(super) const NORMAL: usize = 0;
pub(super) const HIGH: usize = 1;

/// The state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct State {
    pub(super) multicast: u64,
    /// Start of the receive ring of the C+ mode.
    pub(super) ring: u64,
    /// Where the counters were last wanted (DTCCR).
    pub(super) tally: u64,
    /// When the timer began to count.
    pub(super) timer_start: u64,
    /// When it next reaches its interrupt's count; [`NEVER`] if it has none.
    pub(super) timer_due: u64,
    pub(super) counters: Counters,
    /// Descriptors of the C+ mode that go back to the driver.
    pub(super) returning: [Return; 2],
    /// Frames sent and received in all, modulo 2^32.
    pub(super) sent: u32,
    pub(super) received: u32,
    pub(super) status: [u32; TRANSMITS],
    /// Addresses of frames to send; in C+ mode the two transmit rings' addresses, of two of these each.
    pub(super) start: [u32; TRANSMITS],
    pub(super) receive_start: u32,
    /// Offset in the receive buffer of the next packet (CBR, which shows 16 bits of it).
    pub(super) written: u32,
    pub(super) transmit_config: u32,
    pub(super) receive_config: u32,
    pub(super) timer_interrupt: u32,
    /// Next descriptors of the C+ mode.
    pub(super) receive_index: u32,
    pub(super) transmit_index: [u32; 2],
    /// Bytes of data that were sent of the large frames there.
    pub(super) large: [u32; 2],
    /// CAPR.
    pub(super) read: u16,
    pub(super) mask: u16,
    pub(super) interrupts: u16,
    pub(super) multiple: u16,
    pub(super) basic_control: u16,
    pub(super) advertised: u16,
    pub(super) cplus: u16,
    pub(super) id: [u8; 8],
    pub(super) command: u8,
    /// The mode of 9346CR; its wires are the EEPROM's.
    pub(super) eeprom_mode: u8,
    pub(super) config: [u8; 6],
    /// Which of the plain mode's descriptors is sent next.
    pub(super) next: u8,
    /// Bits of TPPoll: rings that are not known to be empty.
    pub(super) poll: u8,
    pub(super) early_transmit: u8,
    /// 0 or 1: a frame waits for a receive descriptor, which the driver was told.
    pub(super) stalled: u8,
    pub(super) eeprom: Eeprom,
    unused: [u8; 6],
}

/// No deadline.
pub(super) const NEVER: u64 = u64::MAX;

/// What the C+ counts (data sheet, "Dump tally counter"), all of the width that fits best here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Counters {
    pub(super) sent: u64,
    pub(super) received: u64,
    pub(super) transmit_errors: u64,
    pub(super) matched: u64,
    pub(super) broadcasts: u64,
    pub(super) multicasts: u32,
    pub(super) missed: u32,
}

impl Counters {
    /// As they lie in memory.
    pub(super) fn dump(&self) -> [u8; 64] {
        let mut bytes = [0; 64];
        let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
        put(0x00, &self.sent.to_le_bytes());
        put(0x08, &self.received.to_le_bytes());
        put(0x10, &self.transmit_errors.to_le_bytes());
        put(0x1c, &(self.missed as u16).to_le_bytes());
        put(0x28, &self.matched.to_le_bytes());
        put(0x30, &self.broadcasts.to_le_bytes());
        put(0x38, &self.multicasts.to_le_bytes());
        bytes
    }
}

impl State {
    /// After power on, with this EEPROM and these positions in the rings of frames.
    pub(super) fn new(eeprom: Eeprom, (sent, received): (u32, u32)) -> State {
        // Memory and ports are mapped; the rest is for wake-up and modems.
        const CONFIG1: u8 = 0x0c;
        let mut state = State { eeprom, sent, received, timer_due: NEVER, ..State::new_zeroed() };
        state.config[1] = CONFIG1;
        state.load_address();
        state.reset();
        state
    }

    /// The software reset (CR): neither the address, nor the multicast filter, nor the configuration is reset.
    pub(super) fn reset(&mut self) {
        *self = State {
            multicast: self.multicast,
            id: self.id,
            config: self.config,
            eeprom: self.eeprom,
            eeprom_mode: self.eeprom_mode,
            counters: self.counters,
            sent: self.sent,
            received: self.received,
            timer_start: self.timer_start,
            timer_due: NEVER,
            status: [tsd::OWN; TRANSMITS],
            read: READ_POINTER,
            ..State::new_zeroed()
        };
        self.reset_link();
    }

    /// The reset of the physical layer (BMCR): auto-negotiation, 100 Mbit/s, full duplex; all of that advertised.
    pub(super) fn reset_link(&mut self) {
        (self.basic_control, self.advertised) = (0x3100, 0x01e1);
    }

    /// Loads the address from the EEPROM.
    pub(super) fn load_address(&mut self) {
        self.id[..ADDRESS_BYTES].copy_from_slice(&self.eeprom.address());
    }

    pub(super) fn is_sound(&self) -> bool {
        self.command & !(cr::TRANSMIT | cr::RECEIVE) == 0
            && self.interrupts & !isr::ALL == 0
            && self.status.iter().all(|status| status & !(tsd::WRITABLE | tsd::OK | tsd::UNDERRUN | tsd::ABORT) == 0)
            && self.transmit_config & !tcr::WRITABLE == 0
            && self.receive_config & !rcr::WRITABLE == 0
            && self.cplus & !cpcr::WRITABLE == 0
            && self.eeprom_mode & !eecr::MODE == 0
            && self.poll & !(poll::NORMAL | poll::HIGH) == 0
            && usize::from(self.next) < TRANSMITS
            && self.written < self.buffer_bytes()
            && self.written.is_multiple_of(4)
            && self.receive_index < RING_MAX
            && self.transmit_index.iter().all(|index| *index < RING_MAX)
            && self.large.iter().all(|sent| *sent as usize <= LARGE_MAX)
            && self.stalled <= 1
            && self.returning.iter().all(Return::is_sound)
            && self.eeprom.is_sound()
            && self.unused == [0; 6]
    }

    /// Bytes of the receive buffer: 8, 16, 32 or 64 KiB. The packet that wraps may be written behind it (RCR).
    pub(super) fn buffer_bytes(&self) -> u32 {
        0x2000 << (self.receive_config >> rcr::LENGTH_SHIFT & 3)
    }

    /// Whether packets that reach the end of the buffer are written on behind it. In the largest there is no such mode.
    pub(super) fn writes_beyond(&self) -> bool {
        self.receive_config & rcr::WRAP != 0 && self.buffer_bytes() < 0x1_0000
    }

    /// Bytes of the receive buffer that hold packets.
    pub(super) fn buffered(&self) -> u32 {
        let read = u32::from(self.read.wrapping_add(READ_BEHIND));
        self.written.wrapping_sub(read) & (self.buffer_bytes() - 1)
    }

    /// Whether frames are received.
    pub(super) fn receives(&self) -> bool {
        self.command & cr::RECEIVE != 0
    }

    /// Whether receive descriptors of the C+ mode are used.
    pub(super) fn receives_by_ring(&self) -> bool {
        self.cplus & cpcr::RECEIVE != 0
    }

    /// Whether the card is in C+ mode, in which some registers are others.
    pub(super) fn is_cplus(&self) -> bool {
        self.cplus & (cpcr::TRANSMIT | cpcr::RECEIVE) != 0
    }

    /// Start of a transmit ring of the C+ mode.
    pub(super) fn transmit_ring(&self, ring: usize) -> u64 {
        u64::from(self.start[2 * ring]) | u64::from(self.start[2 * ring + 1]) << 32
    }

    /// The level of the interrupt pin.
    pub(super) fn level(&self) -> bool {
        self.interrupts & self.mask != 0
    }

    /// A transmit ring of the C+ mode begins anew.
    pub(super) fn begin_ring(&mut self, ring: usize) {
        (self.transmit_index[ring], self.large[ring]) = (0, 0);
    }

    /// CR as it reads.
    pub(super) fn command(&self) -> u8 {
        self.command | if self.buffered() == 0 { cr::BUFFER_EMPTY } else { 0 }
    }

    /// Takes a write to CR.
    pub(super) fn set_command(&mut self, value: u8) {
        if value & cr::RESET != 0 {
            self.reset();
            return;
        }
        let begins = value & !self.command;
        if begins & cr::RECEIVE != 0 {
            (self.written, self.read, self.receive_index, self.stalled) = (0, READ_POINTER, 0, 0);
        }
        if begins & cr::TRANSMIT != 0 {
            [NORMAL, HIGH].into_iter().for_each(|ring| self.begin_ring(ring));
        }
        self.command = value & (cr::TRANSMIT | cr::RECEIVE);
    }

    /// All four descriptors' states in one register (TSAD).
    pub(super) fn transmit_summary(&self) -> u16 {
        (0..).zip(&self.status).fold(0, |summary, (number, status)| {
            let bit = |of: u32, at: u32| u16::from(status & of != 0) << (at + number);
            summary | bit(tsd::OWN, 0) | bit(tsd::ABORT, 4) | bit(tsd::UNDERRUN, 8) | bit(tsd::OK, 12)
        })
    }

    /// The timer's count (TCTR).
    pub(super) fn timer(&self, now: u64) -> u32 {
        clock_counts(now.saturating_sub(self.timer_start))
    }

    /// The timer begins anew, or its interrupt is to come at another count.
    pub(super) fn arm_timer(&mut self, now: u64) {
        self.timer_due = NEVER;
        if self.timer_interrupt != 0 {
            let since = now.saturating_sub(self.timer_start);
            let round = since - since % CLOCK_WRAP_NS;
            let due = self.timer_start.saturating_add(round).saturating_add(clock_ns(self.timer_interrupt));
            self.timer_due = if due > now { due } else { due.saturating_add(CLOCK_WRAP_NS) };
        }
    }

    /// The timer has reached its count, if it has by `now`.
    pub(super) fn expire_timer(&mut self, now: u64) {
        if self.timer_due <= now && self.timer_due != NEVER {
            self.interrupts |= isr::TIMEOUT;
            self.arm_timer(now);
        }
    }
}

/// What the timer has counted after so many nanoseconds.
fn clock_counts(nanoseconds: u64) -> u32 {
    (u128::from(nanoseconds) * u128::from(CLOCK_MHZ) / 1000) as u32
}

/// Nanoseconds until the timer has counted so far.
fn clock_ns(counts: u32) -> u64 {
    (u64::from(counts) * 1000).div_ceil(CLOCK_MHZ)
}
