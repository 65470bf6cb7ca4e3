//! The registers, as accesses of any width see them: where each is, and which of its bits mean what.
//!
//! Names are those of the data sheet. A load has no side effect, so its bytes may come from several registers; a store changes
//! each register that it touches, in their order.

/// Bytes of either range.
pub(super) const RANGE_BYTES: u64 = 0x100;

/// Command register (CR).
pub(super) mod cr {
    pub(in super::super) const BUFFER_EMPTY: u8 = 1 << 0;
    pub(in super::super) const TRANSMIT: u8 = 1 << 2;
    pub(in super::super) const RECEIVE: u8 = 1 << 3;
    pub(in super::super) const RESET: u8 = 1 << 4;
}

/// Interrupt status and mask (ISR, IMR). In C+ mode "receive buffer overflow" is "no receive descriptor".
pub(super) mod isr {
    pub(in super::super) const RECEIVE_OK: u16 = 1 << 0;
    pub(in super::super) const TRANSMIT_OK: u16 = 1 << 2;
    pub(in super::super) const TRANSMIT_ERROR: u16 = 1 << 3;
    pub(in super::super) const RECEIVE_OVERFLOW: u16 = 1 << 4;
    pub(in super::super) const NO_TRANSMIT_DESCRIPTOR: u16 = 1 << 7;
    pub(in super::super) const SOFTWARE: u16 = 1 << 8;
    pub(in super::super) const TIMEOUT: u16 = 1 << 14;
    pub(in super::super) const SYSTEM_ERROR: u16 = 1 << 15;
    /// All that there are.
    pub(in super::super) const ALL: u16 = 0xe1ff;
}

/// Transmit status of a descriptor (TSD0-3).
pub(super) mod tsd {
    pub(in super::super) const SIZE: u32 = 0x1fff;
    pub(in super::super) const OWN: u32 = 1 << 13;
    pub(in super::super) const UNDERRUN: u32 = 1 << 14;
    pub(in super::super) const OK: u32 = 1 << 15;
    pub(in super::super) const ABORT: u32 = 1 << 30;
    /// What a driver sets: size, early threshold, and OWN, which it clears.
    pub(in super::super) const WRITABLE: u32 = SIZE | OWN | 0x003f_0000;
}

/// Transmit configuration (TCR).
pub(super) mod tcr {
    pub(in super::super) const LOOPBACK: u32 = 3 << 17;
    pub(in super::super) const WRITABLE: u32 = 0x0307_07f0;
    /// Hardware version, bits 30-26 and 23-22, of the RTL8139C and of the C+.
    pub(in super::super) const VERSION_C: u32 = 0x7400_0000;
    pub(in super::super) const VERSION_CPLUS: u32 = 0x7480_0000;
}

/// Receive configuration (RCR).
pub(super) mod rcr {
    pub(in super::super) const ALL: u32 = 1 << 0;
    pub(in super::super) const MATCH: u32 = 1 << 1;
    pub(in super::super) const MULTICAST: u32 = 1 << 2;
    pub(in super::super) const BROADCAST: u32 = 1 << 3;
    pub(in super::super) const WRAP: u32 = 1 << 7;
    pub(in super::super) const LENGTH_SHIFT: u32 = 11;
    pub(in super::super) const WRITABLE: u32 = 0x0f03_ffbf;
}

/// EEPROM command (9346CR).
pub(super) mod eecr {
    pub(in super::super) const DATA_OUT: u8 = 1 << 0;
    pub(in super::super) const DATA_IN: u8 = 1 << 1;
    pub(in super::super) const CLOCK: u8 = 1 << 2;
    pub(in super::super) const SELECT: u8 = 1 << 3;
    pub(in super::super) const MODE: u8 = 3 << 6;
    pub(in super::super) const LOAD: u8 = 1 << 6;
    pub(in super::super) const PROGRAM: u8 = 2 << 6;
    /// Configuration registers may be written.
    pub(in super::super) const UNLOCK: u8 = 3 << 6;
}

/// C+ command (CPCR).
pub(super) mod cpcr {
    pub(in super::super) const TRANSMIT: u16 = 1 << 0;
    pub(in super::super) const RECEIVE: u16 = 1 << 1;
    pub(in super::super) const WRITABLE: u16 = 0x027b;
}

/// Transmit priority polling (TPPoll) of the C+.
pub(super) mod poll {
    pub(in super::super) const SOFTWARE: u8 = 1 << 0;
    pub(in super::super) const NORMAL: u8 = 1 << 6;
    pub(in super::super) const HIGH: u8 = 1 << 7;
}

/// A register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Register {
    /// IDR0-5, and the two bytes behind, which are reserved.
    Id,
    /// MAR0-7.
    Multicast,
    TransmitStatus(u8),
    TransmitStart(u8),
    ReceiveStart,
    EarlyCount,
    EarlyStatus,
    Command,
    ReadPointer,
    WritePointer,
    InterruptMask,
    InterruptStatus,
    TransmitConfig,
    ReceiveConfig,
    Timer,
    Missed,
    Eeprom,
    Config(u8),
    TimerInterrupt,
    MediaStatus,
    MultipleInterrupt,
    Revision,
    TransmitSummary,
    BasicControl,
    BasicStatus,
    Advertised,
    Partner,
    Expansion,
    Disconnects,
    FalseCarriers,
    Poll,
    CplusCommand,
    ReceiveRing,
    EarlyTransmit,
}

/// Offset, width and name of each register, in order; what lies between them reads as zeros.
const REGISTERS: [(u64, u64, Register); 44] = [
    (0x00, 8, Register::Id),
    (0x08, 8, Register::Multicast),
    (0x10, 4, Register::TransmitStatus(0)),
    (0x14, 4, Register::TransmitStatus(1)),
    (0x18, 4, Register::TransmitStatus(2)),
    (0x1c, 4, Register::TransmitStatus(3)),
    (0x20, 4, Register::TransmitStart(0)),
    (0x24, 4, Register::TransmitStart(1)),
    (0x28, 4, Register::TransmitStart(2)),
    (0x2c, 4, Register::TransmitStart(3)),
    (0x30, 4, Register::ReceiveStart),
    (0x34, 2, Register::EarlyCount),
    (0x36, 1, Register::EarlyStatus),
    (0x37, 1, Register::Command),
    (0x38, 2, Register::ReadPointer),
    (0x3a, 2, Register::WritePointer),
    (0x3c, 2, Register::InterruptMask),
    (0x3e, 2, Register::InterruptStatus),
    (0x40, 4, Register::TransmitConfig),
    (0x44, 4, Register::ReceiveConfig),
    (0x48, 4, Register::Timer),
    (0x4c, 4, Register::Missed),
    (0x50, 1, Register::Eeprom),
    (0x51, 1, Register::Config(0)),
    (0x52, 1, Register::Config(1)),
    (0x54, 4, Register::TimerInterrupt),
    (0x58, 1, Register::MediaStatus),
    (0x59, 1, Register::Config(3)),
    (0x5a, 1, Register::Config(4)),
    (0x5c, 2, Register::MultipleInterrupt),
    (0x5e, 1, Register::Revision),
    (0x60, 2, Register::TransmitSummary),
    (0x62, 2, Register::BasicControl),
    (0x64, 2, Register::BasicStatus),
    (0x66, 2, Register::Advertised),
    (0x68, 2, Register::Partner),
    (0x6a, 2, Register::Expansion),
    (0x6c, 2, Register::Disconnects),
    (0x6e, 2, Register::FalseCarriers),
    (0xd8, 1, Register::Config(5)),
    (0xd9, 1, Register::Poll),
    (0xe0, 2, Register::CplusCommand),
    (0xe4, 8, Register::ReceiveRing),
    (0xec, 1, Register::EarlyTransmit),
];

/// The part of a register that an access touches.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part {
    pub(super) register: Register,
    /// Bits from the start of the register to the start of the part.
    register_shift: u32,
    /// Bits from the start of the access to the start of the part.
    access_shift: u32,
    /// As many ones as the part has bits.
    ones: u64,
}

impl Part {
    /// What the access sees of the register's `whole`.
    pub(super) fn of(self, whole: u64) -> u64 {
        (whole >> self.register_shift & self.ones) << self.access_shift
    }

    /// The bits of the register that the access touches.
    pub(super) fn mask(self) -> u64 {
        self.ones << self.register_shift
    }

    /// What the access writes there; zeros elsewhere.
    pub(super) fn written(self, value: u64) -> u64 {
        (value >> self.access_shift & self.ones) << self.register_shift
    }
}

/// Offset and width of a register.
pub(super) fn place(register: Register) -> Option<(u64, u64)> {
    REGISTERS.iter().find(|(.., other)| *other == register).map(|(offset, width, _)| (*offset, *width))
}

/// The registers that an access of `width` bytes at `offset` touches.
pub(super) fn overlaps(offset: u64, width: u64) -> impl Iterator<Item = Part> {
    REGISTERS.into_iter().filter_map(move |(start, bytes, register)| {
        let (first, last) = (offset.max(start), (offset + width).min(start + bytes));
        (first < last).then(|| Part {
            register,
            register_shift: (first - start) as u32 * 8,
            access_shift: (first - offset) as u32 * 8,
            ones: u64::MAX >> (64 - (last - first) * 8),
        })
    })
}
