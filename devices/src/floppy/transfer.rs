//! The execution phase: sectors between diskette and host, by DMA or through the FIFO (4.2, 5.1).
//!
//! Where the diskette is in its turn is not kept: a sector is under the head when it is wanted. So is the time that it takes:
//! one short step for some sectors. A host that lets the FIFO wait loses nothing.

use super::command::{Command, DOUBLE_DENSITY, MULTI_TRACK, SKIP};
use super::controller::{Controller, EXECUTION, ST0_SOUGHT, ST1_NO_ADDRESS_MARK};
use super::dma8237::Dma;
use super::medium::{Drive, Position, SECTOR_BYTES, SECTOR_SIZE_CODE};
use device::GuestMemory;

/// From the end of a command's bytes, or from one step to the next, until the execution phase goes on. Long enough for the
/// guest to do something in between, and short enough for one that does nothing but wait.
pub(super) const STEP_NS: u64 = 20_000;

/// Sectors of one step with DMA: a track of the densest diskette. It bounds how long the registers are not answered.
const SECTORS_PER_STEP: usize = 36;

/// Turns of the loop of one step without DMA: the end of a sector, the start of the next, and its first bytes.
const TURNS_PER_STEP: usize = 3;

/// Status register 1. Any of them makes the termination abnormal.
const ST1_END_OF_CYLINDER: u8 = 1 << 7;
const ST1_DATA_ERROR: u8 = 1 << 5;
const ST1_OVERRUN: u8 = 1 << 4;
const ST1_NO_DATA: u8 = 1 << 2;
const ST1_PROTECTED: u8 = 1 << 1;
/// Status register 2.
const ST2_CONTROL_MARK: u8 = 1 << 6;
const ST2_DATA_ERROR: u8 = 1 << 5;
const ST2_WRONG_CYLINDER: u8 = 1 << 4;
const ST2_SCAN_EQUAL: u8 = 1 << 3;
const ST2_SCAN_NOT_SATISFIED: u8 = 1 << 2;

/// VERIFY's second byte: the last byte counts sectors.
const VERIFY_COUNTS: u8 = 1 << 7;

/// All that takes part in a transfer.
pub(super) struct Transfer<'a> {
    pub(super) chip: &'a mut Controller,
    pub(super) dma: &'a mut Dma,
    pub(super) positions: &'a mut [Position],
    pub(super) drives: &'a mut [Option<Drive>],
    pub(super) memory: &'a GuestMemory,
}

/// What became of a sector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sector {
    /// The next one is wanted.
    Done,
    /// The command has come to its end.
    Last,
}

impl Transfer<'_> {
    /// Enters the execution phase of `command`.
    pub(super) fn begin(&mut self, command: Command, now: u64, loaded: &[bool]) {
        let chip = &mut *self.chip;
        let [_, second, c, h, r, n, end, _, last] = chip.command;
        chip.id = [c, h, r, n];
        chip.head = second >> 2 & 1;
        chip.status = [0; 3];
        (chip.passing, chip.passed) = (0, 0);
        chip.fifo.clear();
        match command {
            // N, SC, GPL and D stand where others have C, H, R and N.
            Command::Format => {
                chip.sectors_left = h.into();
                chip.last_sector = h;
            }
            Command::ReadId => {}
            _ => {
                chip.last_sector = end;
                chip.sectors_left = match command {
                    Command::ReadTrack => end.into(),
                    // 0 sectors are 256.
                    Command::Verify if second & VERIFY_COUNTS != 0 => u16::from(last.wrapping_sub(1)) + 1,
                    _ => 0,
                };
                if command == Command::ReadTrack {
                    chip.index = 0;
                }
                if chip.seeks_by_itself() {
                    chip.step(chip.pulses(c), self.positions, loaded);
                    chip.status[0] = ST0_SOUGHT;
                }
            }
        }
        chip.phase = EXECUTION;
        chip.due_ns = now.saturating_add(STEP_NS);
    }

    /// The execution phase goes on. Does a bounded amount of work.
    pub(super) fn go_on(&mut self, now: u64) {
        let Some(command) = Command::of(self.chip.command[0]) else { return };
        if self.chip.uses_dma() || command.unit() == 0 {
            for _ in 0..SECTORS_PER_STEP {
                if self.sector_at_once(command) == Sector::Last {
                    return self.chip.finish();
                }
            }
        } else {
            for _ in 0..TURNS_PER_STEP {
                if self.pass(command) == Sector::Last {
                    return self.chip.finish();
                }
                if self.chip.wants_service() {
                    return;
                }
            }
        }
        self.chip.due_ns = now.saturating_add(STEP_NS);
    }

    /// One sector, whole.
    fn sector_at_once(&mut self, command: Command) -> Sector {
        if command == Command::ReadId {
            return self.read_id();
        }
        if !self.load(command) {
            return Sector::Last;
        }
        if self.skips(command) {
            return self.advance(command, false);
        }
        let unit = command.unit();
        if unit > 0 && !self.chip.gate() {
            return self.fail(ST1_OVERRUN, 0);
        }
        let moved = match self.chip.sector.get_mut(..unit) {
            _ if unit == 0 => None,
            Some(bytes) if command.reads() => Some(self.dma.put(self.memory, bytes)),
            Some(bytes) => Some(self.dma.get(self.memory, bytes)),
            None => None,
        };
        let ended = moved.is_some_and(|moved| moved.done);
        if let Some(moved) = moved
            && moved.bytes < unit
        {
            if !ended {
                return self.fail(ST1_OVERRUN, 0);
            }
            // What the host did not give of a sector is zero (WRITE DATA).
            if !command.reads()
                && let Some(rest) = self.chip.sector.get_mut(moved.bytes..)
            {
                rest.fill(0);
            }
        }
        self.store(command, ended)
    }

    /// As many bytes as the FIFO takes or has, without DMA.
    fn pass(&mut self, command: Command) -> Sector {
        let unit = command.unit();
        if self.chip.passing == 0 {
            if !self.load(command) {
                return Sector::Last;
            }
            if self.skips(command) {
                return self.advance(command, false);
            }
            (self.chip.passing, self.chip.passed) = (1, 0);
        }
        let chip = &mut *self.chip;
        if command.reads() {
            if chip.fifo.is_empty() {
                for _ in 0..chip.burst() {
                    let Some(byte) = chip.sector.get(usize::from(chip.passed)) else { break };
                    if !chip.fifo.put(*byte) {
                        break;
                    }
                    chip.passed += 1;
                }
            }
            if !chip.fifo.is_empty() {
                return Sector::Done;
            }
        } else {
            let arrived = usize::from(chip.passed) + chip.fifo.len();
            let stay = if arrived >= unit { 0 } else { chip.depth() - chip.burst() };
            while chip.fifo.len() > stay && usize::from(chip.passed) < unit {
                let (Some(place), Some(byte)) = (chip.sector.get_mut(usize::from(chip.passed)), chip.fifo.take())
                else {
                    break;
                };
                *place = byte;
                chip.passed += 1;
            }
            if usize::from(chip.passed) < unit {
                return Sector::Done;
            }
        }
        chip.passing = 0;
        self.store(command, false)
    }

    /// Ends the command with these bits.
    fn fail(&mut self, first: u8, second: u8) -> Sector {
        self.chip.status[1] |= first;
        self.chip.status[2] |= second;
        Sector::Last
    }

    /// The diskette under the head, if its tracks can be read as they are to be.
    fn diskette(&mut self) -> Option<(&mut Drive, u8)> {
        let number = self.chip.drive();
        let (Some(Some(drive)), Some(position)) = (self.drives.get_mut(number), self.positions.get(number)) else {
            return None;
        };
        let readable = self.chip.command[0] & DOUBLE_DENSITY != 0
            && self.chip.motor(number)
            && drive.format.is_read_at(self.chip.rate())
            && position.cylinder < drive.format.cylinders
            && self.chip.head < drive.format.heads;
        readable.then_some((drive, position.cylinder))
    }

    fn read_id(&mut self) -> Sector {
        let head = self.chip.head;
        let Some((drive, cylinder)) = self.diskette() else { return self.fail(ST1_NO_ADDRESS_MARK, 0) };
        let sectors = drive.format.sectors;
        let next = self.chip.index % sectors + 1;
        self.chip.index = next;
        self.chip.id = [cylinder, head, next, SECTOR_SIZE_CODE];
        Sector::Last
    }

    /// Where the next sector is, if the diskette has it.
    fn find(&mut self, command: Command) -> Option<u64> {
        let ([c, h, r, n], head, index) = (self.chip.id, self.chip.head, self.chip.index);
        let Some((drive, cylinder)) = self.diskette() else {
            self.fail(ST1_NO_ADDRESS_MARK, 0);
            return None;
        };
        let matches = (c, h, n) == (cylinder, head, SECTOR_SIZE_CODE);
        if command == Command::ReadTrack {
            // From the index hole on, whatever the ID fields say (READ TRACK).
            let number = index % drive.format.sectors + 1;
            let offset = drive.format.offset(cylinder, head, number);
            self.chip.index = number;
            if !matches || r != number {
                self.fail(ST1_NO_DATA, 0);
            }
            return offset;
        }
        let offset = if matches { drive.format.offset(cylinder, head, r) } else { None };
        if offset.is_none() {
            self.fail(ST1_NO_DATA, if c == cylinder { 0 } else { ST2_WRONG_CYLINDER });
        }
        offset
    }

    /// Makes ready for the next sector: finds it, and reads it if it is to be read. `false`: the command has failed.
    fn load(&mut self, command: Command) -> bool {
        let number = self.chip.drive();
        if command.writes()
            && let Some(Some(drive)) = self.drives.get(number)
            && drive.protected
        {
            self.fail(ST1_PROTECTED, 0);
            return false;
        }
        if command == Command::Format {
            let found = self.diskette().is_some();
            if !found {
                self.fail(ST1_NO_ADDRESS_MARK, 0);
            }
            // No sectors to format is a track without any.
            return found && self.chip.sectors_left > 0;
        }
        let Some(offset) = self.find(command) else { return false };
        if command.reads() || command == Command::Verify {
            let Some(Some(drive)) = self.drives.get_mut(number) else { return false };
            if !drive.read(offset, &mut self.chip.sector) {
                self.fail(ST1_DATA_ERROR, ST2_DATA_ERROR);
                // A whole track is read through errors.
                return command == Command::ReadTrack;
            }
        }
        true
    }

    /// Whether the sector, whose mark is never that of a deleted one, is passed over (tables 5-4 and 5-5).
    fn skips(&mut self, command: Command) -> bool {
        if command != Command::ReadDeleted {
            return false;
        }
        self.chip.status[2] |= ST2_CONTROL_MARK;
        self.chip.command[0] & SKIP != 0
    }

    /// The sector's data have passed. `ended`: the host says that they were the last.
    fn store(&mut self, command: Command, ended: bool) -> Sector {
        if command == Command::Format {
            return self.format(ended);
        }
        if command.scans() {
            return self.compare(command, ended);
        }
        if command.writes() {
            let number = self.chip.drive();
            let Some(offset) = self.find(command) else { return Sector::Last };
            let Some(Some(drive)) = self.drives.get_mut(number) else { return Sector::Last };
            if !drive.write(offset, &mut self.chip.sector) {
                return self.fail(ST1_DATA_ERROR, ST2_DATA_ERROR);
            }
        }
        // A sector with the other mark is the last.
        self.advance(command, ended || command == Command::ReadDeleted)
    }

    /// Writes a sector of a track that is formatted. An image keeps the format it has: an ID field that it has no place for
    /// is as good as not written.
    fn format(&mut self, ended: bool) -> Sector {
        let [_, _, size, _, _, filler, ..] = self.chip.command;
        let [c, h, r, n, ..] = self.chip.sector;
        self.chip.sectors_left = self.chip.sectors_left.saturating_sub(1);
        self.chip.id = [c, h, r, n];
        let head = self.chip.head;
        let number = self.chip.drive();
        let Some((drive, cylinder)) = self.diskette() else { return self.fail(ST1_NO_ADDRESS_MARK, 0) };
        let kept = (c, h, n, size) == (cylinder, head, SECTOR_SIZE_CODE, SECTOR_SIZE_CODE);
        if kept && let Some(offset) = drive.format.offset(cylinder, head, r) {
            self.chip.sector = [filler; SECTOR_BYTES];
            let Some(Some(drive)) = self.drives.get_mut(number) else { return Sector::Last };
            if !drive.write(offset, &mut self.chip.sector) {
                return self.fail(ST1_DATA_ERROR, ST2_DATA_ERROR);
            }
        }
        if ended || self.chip.sectors_left == 0 { Sector::Last } else { Sector::Done }
    }

    /// Compares the host's bytes, which are in the buffer, with the diskette's (8272A, scan commands).
    fn compare(&mut self, command: Command, ended: bool) -> Sector {
        /// A byte that meets every condition.
        const ANY: u8 = 0xff;
        let number = self.chip.drive();
        let Some(offset) = self.find(command) else { return Sector::Last };
        let Some(Some(drive)) = self.drives.get_mut(number) else { return Sector::Last };
        let mut found = [0; SECTOR_BYTES];
        if !drive.read(offset, &mut found) {
            return self.fail(ST1_DATA_ERROR, ST2_DATA_ERROR);
        }
        let pairs = || found.iter().zip(&self.chip.sector).filter(|(disk, host)| **disk != ANY && **host != ANY);
        let equal = pairs().all(|(disk, host)| disk == host);
        let satisfied = match command {
            Command::ScanLowOrEqual => pairs().all(|(disk, host)| disk <= host),
            Command::ScanHighOrEqual => pairs().all(|(disk, host)| disk >= host),
            _ => equal,
        };
        if satisfied {
            self.chip.status[2] |= if equal { ST2_SCAN_EQUAL } else { 0 };
            return Sector::Last;
        }
        let sector = self.advance(command, ended);
        if sector == Sector::Last {
            self.chip.status[2] |= ST2_SCAN_NOT_SATISFIED;
        }
        sector
    }

    /// Goes on to the next sector. The ID field that is shown at the end is that of table 5-6.
    fn advance(&mut self, command: Command, ended: bool) -> Sector {
        let chip = &mut *self.chip;
        let [c, h, r, _] = &mut chip.id;
        let end = chip.last_sector;
        // SCAN's last byte says how far the next sector is.
        let stride = if command.scans() { chip.command[8].max(1) } else { 1 };
        let counted = match chip.sectors_left {
            0 => false,
            left => {
                chip.sectors_left = left - 1;
                left == 1
            }
        };
        if command == Command::ReadTrack {
            *r = r.wrapping_add(1);
            return match (ended, counted) {
                (true, _) => Sector::Last,
                (false, true) => self.fail(ST1_END_OF_CYLINDER, 0),
                (false, false) => Sector::Done,
            };
        }
        let last = if command.scans() { u16::from(*r) + u16::from(stride) > u16::from(end) } else { *r == end };
        let both = chip.command[0] & MULTI_TRACK != 0;
        let first_side = chip.head == 0;
        if !last {
            *r = r.wrapping_add(stride);
        } else {
            *r = 1;
            if both {
                *h ^= 1;
            }
            if !(both && first_side) {
                *c = c.wrapping_add(1);
            }
        }
        if ended || counted {
            return Sector::Last;
        }
        if last && both && first_side {
            chip.head = 1;
            return Sector::Done;
        }
        match command {
            _ if !last => Sector::Done,
            // The end of the cylinder is its end, unless it was to count further.
            Command::Verify if chip.sectors_left == 0 => Sector::Last,
            _ if command.scans() => Sector::Last,
            _ => self.fail(ST1_END_OF_CYLINDER, 0),
        }
    }
}
