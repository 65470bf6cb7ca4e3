//! The commands: how each begins, how long it is, and what it does with data (table 5-1).

use super::fifo::FIFO_BYTES;
use super::medium::SECTOR_BYTES;

/// The longest command.
pub(super) const COMMAND_BYTES: usize = 9;
/// The longest result, DUMPREG's.
const RESULT_BYTES: usize = 10;

// All that passes the FIFO fits it, whatever a guest does.
const _: () = assert!(COMMAND_BYTES <= FIFO_BYTES && RESULT_BYTES <= FIFO_BYTES);

/// Bits of a command's first byte.
pub(super) const MULTI_TRACK: u8 = 1 << 7;
pub(super) const DOUBLE_DENSITY: u8 = 1 << 6;
pub(super) const SKIP: u8 = 1 << 5;
const CODE: u8 = 0x1f;

/// What a command is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Command {
    ReadTrack,
    Specify,
    SenseDriveStatus,
    Write,
    Read,
    Recalibrate,
    SenseInterrupt,
    WriteDeleted,
    ReadId,
    ReadDeleted,
    Format,
    DumpRegisters,
    Seek,
    RelativeSeek,
    Version,
    ScanEqual,
    Perpendicular,
    Configure,
    Lock,
    Verify,
    ScanLowOrEqual,
    ScanHighOrEqual,
}

impl Command {
    /// The command that begins so. The bits that only some commands have are zero in the others.
    pub(super) fn of(first: u8) -> Option<Command> {
        Some(match (first & CODE, first & !CODE) {
            (0x02, _) => Command::ReadTrack,
            (0x05, _) => Command::Write,
            (0x06, _) => Command::Read,
            (0x09, _) => Command::WriteDeleted,
            (0x0a, _) => Command::ReadId,
            (0x0c, _) => Command::ReadDeleted,
            (0x0d, _) => Command::Format,
            (0x11, _) => Command::ScanEqual,
            (0x16, _) => Command::Verify,
            (0x19, _) => Command::ScanLowOrEqual,
            (0x1d, _) => Command::ScanHighOrEqual,
            (0x0f, 0x80 | 0xc0) => Command::RelativeSeek,
            (0x14, 0 | 0x80) => Command::Lock,
            (0x03, 0) => Command::Specify,
            (0x04, 0) => Command::SenseDriveStatus,
            (0x07, 0) => Command::Recalibrate,
            (0x08, 0) => Command::SenseInterrupt,
            (0x0e, 0) => Command::DumpRegisters,
            (0x0f, 0) => Command::Seek,
            (0x10, 0) => Command::Version,
            (0x12, 0) => Command::Perpendicular,
            (0x13, 0) => Command::Configure,
            _ => return None,
        })
    }

    /// Its length.
    pub(super) fn bytes(self) -> usize {
        match self {
            Command::SenseInterrupt | Command::DumpRegisters | Command::Version | Command::Lock => 1,
            Command::SenseDriveStatus | Command::Recalibrate | Command::ReadId | Command::Perpendicular => 2,
            Command::Specify | Command::Seek | Command::RelativeSeek => 3,
            Command::Configure => 4,
            Command::Format => 6,
            _ => COMMAND_BYTES,
        }
    }

    /// Whether it looks at the diskette, and so has an execution phase.
    pub(super) fn executes(self) -> bool {
        self.bytes() == COMMAND_BYTES || matches!(self, Command::ReadId | Command::Format)
    }

    /// Whether it passes data to the host.
    pub(super) fn reads(self) -> bool {
        matches!(self, Command::Read | Command::ReadDeleted | Command::ReadTrack)
    }

    /// Whether it changes the diskette.
    pub(super) fn writes(self) -> bool {
        matches!(self, Command::Write | Command::WriteDeleted | Command::Format)
    }

    /// Whether it compares the host's data with the diskette's.
    pub(super) fn scans(self) -> bool {
        matches!(self, Command::ScanEqual | Command::ScanLowOrEqual | Command::ScanHighOrEqual)
    }

    /// Bytes that it passes for each sector: the sector's, or its ID field.
    pub(super) fn unit(self) -> usize {
        match self {
            Command::Format => 4,
            Command::Verify | Command::ReadId => 0,
            _ => SECTOR_BYTES,
        }
    }
}
