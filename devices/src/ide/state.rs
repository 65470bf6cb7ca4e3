//! What the channels and their drives remember.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Channels of the function, and drives of a channel.
pub(super) const CHANNELS: usize = 2;
pub(super) const DRIVES: usize = 2;

/// Most bytes of a block: a packet device's byte count has 16 bits and is even (ATA/ATAPI-6, 8.23.5.2).
pub(super) const BLOCK_MAX: u32 = 0xfffe;
/// Most sectors of a block of READ and WRITE MULTIPLE.
pub(super) const MULTIPLE_MAX: u8 = 16;
/// Bytes of a command packet.
pub(super) const PACKET_BYTES: u32 = 12;

/// Bits of the status register (ATA/ATAPI-6, 7.15).
pub(super) const BUSY: u8 = 0x80;
pub(super) const READY: u8 = 0x40;
pub(super) const FAULT: u8 = 0x20;
/// Seek complete, until ATA-3; drivers of that time look at it.
pub(super) const SEEK: u8 = 0x10;
pub(super) const REQUEST: u8 = 0x08;
pub(super) const ERROR: u8 = 0x01;

/// Bits of the error register (7.9 and the commands' error outputs).
pub(super) const UNCORRECTABLE: u8 = 0x40;
pub(super) const NO_ADDRESS: u8 = 0x10;
pub(super) const ABORTED: u8 = 0x04;

/// Bits of the device control register (7.8): high order byte, software reset, interrupt disable.
pub(super) const HIGH_ORDER: u8 = 0x80;
pub(super) const RESET: u8 = 0x04;
pub(super) const DISABLE: u8 = 0x02;

/// Media events (MMC-5, 6.7, "GET EVENT STATUS NOTIFICATION"): a new medium, the medium was removed. 0 is none.
pub(super) const NEW_MEDIUM: u8 = 2;
pub(super) const MEDIUM_REMOVED: u8 = 3;

/// All state of the function.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct State {
    pub(super) channels: [Channel; CHANNELS],
}

/// A cable with its two drives.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Channel {
    pub drives: [Drive; DRIVES],
    pub master: Master,
    /// The device control register: written to both drives.
    pub control: u8,
    /// Which drive the device register selects.
    pub selected: u8,
    pub unused: [u8; 6],
}

/// The bus master's side of a channel.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Master {
    /// The descriptor table pointer register.
    pub table: u32,
    pub cursor: Cursor,
    pub command: u8,
    pub status: u8,
    /// The level of the channel's interrupt line.
    pub line: u8,
    pub unused: u8,
}

/// Where a transfer is in guest memory.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Cursor {
    /// Address of the next descriptor.
    pub next: u32,
    /// What is left of the region that the current one describes.
    pub address: u32,
    pub left: u32,
    /// The current one is the last.
    pub last: u8,
    pub unused: [u8; 3],
}

/// What a drive is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nothing.
    Idle,
    /// The host reads a block from the data register.
    In,
    /// The host writes a block to it.
    Out,
    /// The host writes a command packet to it.
    Packet,
    /// Data go to memory.
    DmaIn,
    /// Data come from memory.
    DmaOut,
    /// What was written is being made safe.
    Flush,
}

impl Phase {
    pub(super) fn of(byte: u8) -> Option<Phase> {
        use Phase::{DmaIn, DmaOut, Flush, Idle, In, Out, Packet};
        [Idle, In, Out, Packet, DmaIn, DmaOut, Flush].into_iter().find(|phase| *phase as u8 == byte)
    }
}

/// Where the data of a command that reads come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// The medium.
    Medium,
    /// An answer that was made up, in the buffer.
    Answer,
}

/// One drive. A register of the command block has two bytes: the one that was written last, and the one before it (6.20).
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Drive {
    /// Where the next block, or the rest of a DMA transfer, is on the medium or in the answer.
    pub offset: u64,
    /// Bytes behind the current block.
    pub left: u32,
    /// The block in the buffer: how much was moved of how much.
    pub at: u32,
    pub end: u32,
    /// Most bytes of a block.
    pub limit: u32,
    pub features: [u8; 2],
    pub count: [u8; 2],
    pub low: [u8; 2],
    pub mid: [u8; 2],
    pub high: [u8; 2],
    pub device: u8,
    pub status: u8,
    pub error: u8,
    /// An interrupt is pending.
    pub interrupt: u8,
    /// [`Phase`].
    pub phase: u8,
    /// [`Source`].
    pub source: u8,
    /// The geometry that INITIALIZE DEVICE PARAMETERS set.
    pub cylinders: u16,
    pub heads: u8,
    pub sectors: u8,
    /// Sectors of a block of READ and WRITE MULTIPLE; 0: these commands are off.
    pub multiple: u8,
    /// The DMA mode that SET FEATURES chose; 0: none.
    pub mode: u8,
    /// It is in standby.
    pub standby: u8,
    /// What is written must be safe before it is reported: the write cache is off.
    pub uncached: u8,
    /// Which half of the buffer the block is in.
    pub half: u8,
    /// Sense key, additional code and qualifier of the last packet command.
    pub sense: [u8; 3],
    /// Additional code and qualifier of a pending unit attention; 0: none.
    pub attention: [u8; 2],
    /// The tray is open; it may not be opened; what is to be told of it.
    pub open: u8,
    pub locked: u8,
    pub event: u8,
    /// The command is PACKET: its data and its end are told as such.
    pub packet: u8,
    pub unused: [u8; 6],
}

impl Drive {
    pub(super) fn phase(&self) -> Phase {
        // `check` refuses a state with any other number.
        Phase::of(self.phase).unwrap_or(Phase::Idle)
    }

    pub(super) fn source(&self) -> Source {
        if self.source == Source::Medium as u8 { Source::Medium } else { Source::Answer }
    }

    /// Whether the host has to wait, or to move data.
    pub(super) fn is_occupied(&self) -> bool {
        self.status & (BUSY | REQUEST) != 0
    }
}
