//! The controller's registers and phases, and the commands that need no diskette.
//!
//! Sections and tables are those of the 82077AA data sheet, May 1994; the README says which of them could be looked up.

use super::command::{COMMAND_BYTES, Command};
use super::fifo::{FIFO_BYTES, Fifo};
use super::medium::{Position, Rate, SECTOR_BYTES};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

/// Drives that a controller can select. This machine has two; commands to the others find nobody.
pub(super) const SELECTS: usize = 4;

/// Digital output register (DOR).
const DOR_SELECT: u8 = 0b11;
/// Low: reset.
const DOR_RUN: u8 = 1 << 2;
/// Low: INT and DRQ are cut off.
const DOR_GATE: u8 = 1 << 3;
const DOR_MOTORS_SHIFT: u8 = 4;

/// Data rate select register: bit 7 resets, and is low again by itself.
const DSR_RESET: u8 = 1 << 7;
const RATE: u8 = 0b11;

/// Tape drive register: the select of a tape drive, which nothing here is.
const TDR_SELECT: u8 = 0b11;

/// Main status register.
pub(super) const MSR_READY: u8 = 1 << 7;
pub(super) const MSR_TO_HOST: u8 = 1 << 6;
pub(super) const MSR_NO_DMA: u8 = 1 << 5;
pub(super) const MSR_BUSY: u8 = 1 << 4;

/// Digital input register, of which this mode drives one bit; the others are read as zero.
const DIR_CHANGED: u8 = 1 << 7;

/// Status register 0.
pub(super) const ST0_ABNORMAL: u8 = 1 << 6;
pub(super) const ST0_INVALID: u8 = 1 << 7;
const ST0_POLLED: u8 = 0b11 << 6;
pub(super) const ST0_SOUGHT: u8 = 1 << 5;
const ST0_NO_TRACK_0: u8 = 1 << 4;
/// Status register 1, of which the others are beside the transfers.
pub(super) const ST1_NO_ADDRESS_MARK: u8 = 1 << 0;
/// Status register 3; bits 3 and 5 are always set.
const ST3_PROTECTED: u8 = 1 << 6;
const ST3_TRACK_0: u8 = 1 << 4;
const ST3_ALWAYS: u8 = 1 << 5 | 1 << 3;

/// The second byte of CONFIGURE.
const IMPLIED_SEEK: u8 = 1 << 6;
const NO_FIFO: u8 = 1 << 5;
const THRESHOLD: u8 = 0x0f;
const CONFIGURE_ALL: u8 = 0x7f;
/// The third byte of SPECIFY.
const NO_DMA: u8 = 1 << 0;
/// PERPENDICULAR MODE: without OW only GAP and WGATE change.
const PERPENDICULAR_DRIVES: u8 = 0b0011_1100;
const PERPENDICULAR_LOW: u8 = 0b11;
const PERPENDICULAR_OVERWRITE: u8 = 1 << 7;

/// RECALIBRATE gives up after this many step pulses (5.2.2).
const RECALIBRATE_PULSES: i16 = 79;

/// Where in a command the controller is (4).
pub(super) const COMMAND: u8 = 0;
pub(super) const EXECUTION: u8 = 1;
pub(super) const RESULT: u8 = 2;

/// Registers, phase, and what the command that is being executed has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Controller {
    /// In the execution phase: when it goes on, unless it waits for the host.
    pub(super) due_ns: u64,
    /// Sectors that a command that counts has still to do.
    pub(super) sectors_left: u16,
    /// Without DMA: bytes of the sector that have passed between FIFO and diskette.
    pub(super) passed: u16,
    pub(super) fifo: Fifo,
    pub(super) command: [u8; COMMAND_BYTES],
    /// C, H, R and N of the sector that is next.
    pub(super) id: [u8; 4],
    /// The head that is over it.
    pub(super) head: u8,
    /// Sectors that have passed the head since the index hole; only READ ID and READ TRACK can tell.
    pub(super) index: u8,
    /// Status registers 0 to 2 as they are so far.
    pub(super) status: [u8; 3],
    /// One of [`COMMAND`], [`EXECUTION`], [`RESULT`].
    pub(super) phase: u8,
    /// 0 or 1: without DMA, a sector is being passed.
    pub(super) passing: u8,
    /// 0 or 1: INT, as far as it does not ask for a byte.
    interrupt: u8,
    dor: u8,
    tdr: u8,
    rate: u8,
    /// Status register 0 for each drive, until SENSE INTERRUPT STATUS takes it; 0: nothing to tell.
    reports: [u8; SELECTS],
    cylinders: [u8; SELECTS],
    specified: [u8; 2],
    configured: u8,
    precompensation: u8,
    perpendicular: u8,
    /// 0 or 1.
    locked: u8,
    /// What DUMPREG gives: the last EOT or SC.
    pub(super) last_sector: u8,
    unused: [u8; 4],
    /// Of the diskette, on its way.
    pub(super) sector: [u8; SECTOR_BYTES],
}

impl Controller {
    /// As firmware leaves it: running, no motor on, 500 kb/s, and nothing to tell.
    pub(super) fn power_on() -> Controller {
        Controller { fifo: Fifo::EMPTY, dor: DOR_RUN | DOR_GATE, configured: NO_FIFO, ..Controller::new_zeroed() }
    }

    pub(super) fn check(&self) -> bool {
        let told = |bits: u8| matches!(bits & ST0_POLLED, ST0_POLLED | ST0_ABNORMAL | 0);
        self.fifo.check()
            && self.phase <= RESULT
            && usize::from(self.passed) <= SECTOR_BYTES
            && [self.passing, self.interrupt, self.locked, self.head].iter().all(|flag| *flag <= 1)
            && self.tdr & !TDR_SELECT == 0
            && self.rate & !RATE == 0
            && self.reports.iter().all(|report| told(*report))
            && self.configured & !CONFIGURE_ALL == 0
            && self.perpendicular & !(PERPENDICULAR_DRIVES | PERPENDICULAR_LOW) == 0
            && self.unused == [0; 4]
            && match self.phase {
                // As many bytes as it began with, less those that were taken.
                COMMAND => self.fifo.len() < COMMAND_BYTES,
                EXECUTION => Command::of(self.command[0]).is_some_and(Command::executes),
                _ => !self.fifo.is_empty(),
            }
    }

    /// What the two bits of a rate mean.
    pub(super) fn rate(&self) -> Rate {
        match self.rate {
            0 => Rate::Kbps500,
            1 => Rate::Kbps300,
            2 => Rate::Kbps250,
            _ => Rate::Mbps1,
        }
    }

    pub(super) fn set_rate(&mut self, value: u8) {
        self.rate = value & RATE;
    }

    fn runs(&self) -> bool {
        self.dor & DOR_RUN != 0
    }

    /// Whether INT and DRQ reach the machine.
    pub(super) fn gate(&self) -> bool {
        self.dor & DOR_GATE != 0
    }

    pub(super) fn motor(&self, drive: usize) -> bool {
        self.dor >> DOR_MOTORS_SHIFT & 1 << (drive % SELECTS) != 0
    }

    pub(super) fn uses_dma(&self) -> bool {
        self.specified[1] & NO_DMA == 0
    }

    pub(super) fn seeks_by_itself(&self) -> bool {
        self.configured & IMPLIED_SEEK != 0
    }

    /// How much of the FIFO is in use (CONFIGURE).
    pub(super) fn depth(&self) -> usize {
        if self.configured & NO_FIFO != 0 { 1 } else { FIFO_BYTES }
    }

    /// Bytes that the FIFO lets wait before it asks for service (4.2.1): all that there is room for, less the threshold.
    pub(super) fn burst(&self) -> usize {
        let threshold = usize::from(self.configured & THRESHOLD) + 1;
        self.depth().saturating_sub(threshold).max(1)
    }

    /// Whether the command that is being executed passes data to the host.
    fn gives(&self) -> bool {
        Command::of(self.command[0]).is_some_and(Command::reads)
    }

    /// Without DMA: whether the host is to take, or give, a byte.
    pub(super) fn wants_service(&self) -> bool {
        if self.phase != EXECUTION || self.uses_dma() || self.passing == 0 {
            return false;
        }
        match self.gives() {
            true => !self.fifo.is_empty(),
            false => {
                let unit = Command::of(self.command[0]).map_or(0, Command::unit);
                self.fifo.len() < self.depth() && usize::from(self.passed) + self.fifo.len() < unit
            }
        }
    }

    /// Whether the execution phase goes on by itself.
    pub(super) fn goes_on(&self) -> bool {
        self.phase == EXECUTION && !self.wants_service()
    }

    /// Whether the line to the DMA controller is up.
    pub(super) fn requests_dma(&self) -> bool {
        let moves = Command::of(self.command[0]).is_some_and(|command| command.unit() > 0);
        self.phase == EXECUTION && self.uses_dma() && self.gate() && moves
    }

    pub(super) fn int(&self) -> bool {
        self.gate() && self.runs() && (self.interrupt != 0 || self.wants_service())
    }

    pub(super) fn main_status(&self) -> u8 {
        match self.phase {
            _ if !self.runs() => 0,
            COMMAND if self.fifo.is_empty() => MSR_READY,
            COMMAND => MSR_READY | MSR_BUSY,
            EXECUTION if self.uses_dma() => MSR_BUSY,
            EXECUTION => {
                let ready = if self.wants_service() { MSR_READY } else { 0 };
                let direction = if self.gives() { MSR_TO_HOST } else { 0 };
                MSR_BUSY | MSR_NO_DMA | ready | direction
            }
            _ => MSR_READY | MSR_TO_HOST | MSR_BUSY,
        }
    }

    pub(super) fn output(&self) -> u8 {
        self.dor
    }

    pub(super) fn set_output(&mut self, value: u8) {
        let ran = self.runs();
        self.dor = value;
        match (ran, self.runs()) {
            (true, false) => self.reset(),
            (false, true) => self.poll(),
            _ => {}
        }
    }

    pub(super) fn tape(&self) -> u8 {
        self.tdr
    }

    pub(super) fn set_tape(&mut self, value: u8) {
        self.tdr = value & TDR_SELECT;
    }

    /// The write-only register beside the main status. Power down and precompensation are of no consequence here.
    pub(super) fn set_rate_select(&mut self, value: u8) {
        self.set_rate(value);
        if value & DSR_RESET != 0 && self.runs() {
            self.reset();
            self.poll();
        }
    }

    /// The change line of the drive that is selected.
    pub(super) fn input(&self, positions: &[Position]) -> u8 {
        let changed = positions.get(usize::from(self.dor & DOR_SELECT)).is_some_and(|position| position.changed != 0);
        if changed { DIR_CHANGED } else { 0 }
    }

    /// A reset by software: what LOCK protects is kept, and so is what SPECIFY said.
    fn reset(&mut self) {
        self.fifo.clear();
        (self.phase, self.passing, self.interrupt, self.reports) = (COMMAND, 0, 0, [0; SELECTS]);
        if self.locked == 0 {
            (self.configured, self.precompensation) = (NO_FIFO, 0);
        }
        self.configured &= NO_FIFO | THRESHOLD;
        self.perpendicular &= PERPENDICULAR_DRIVES;
    }

    /// After a reset each drive is found ready that was not before, and the first such find is told (7.4).
    fn poll(&mut self) {
        self.reports = std::array::from_fn(|drive| ST0_POLLED | drive as u8);
        self.interrupt = 1;
    }

    /// Ends a command: `result` is what the host is to read.
    pub(super) fn answer<const N: usize>(&mut self, result: [u8; N], interrupt: bool) {
        self.fifo.fill(result);
        self.phase = if N == 0 { COMMAND } else { RESULT };
        self.interrupt |= u8::from(interrupt);
    }

    /// The diskette in this drive is another one. What was under way with the old one finds no more of its tracks: it must not go
    /// on with the new one.
    pub(super) fn lose(&mut self, drive: usize) {
        if self.phase == EXECUTION && self.drive() == drive {
            self.status[1] |= ST1_NO_ADDRESS_MARK;
            self.finish();
        }
    }

    /// Ends the execution phase: status registers and ID field.
    pub(super) fn finish(&mut self) {
        let [seek, first, second] = self.status;
        let abnormal = if first != 0 { ST0_ABNORMAL } else { 0 };
        let zero = abnormal | seek | (self.head & 1) << 2 | self.drive() as u8;
        let [c, h, r, n] = self.id;
        self.passing = 0;
        self.answer([zero, first, second, c, h, r, n], true);
    }

    /// The drive that the command names.
    pub(super) fn drive(&self) -> usize {
        usize::from(self.command[1]) % SELECTS
    }

    /// Moves the arm of the drive that the command names, and counts.
    pub(super) fn step(&mut self, pulses: i16, positions: &mut [Position], loaded: &[bool]) {
        let drive = self.drive();
        self.cylinders[drive] = self.cylinders[drive].wrapping_add_signed(pulses as i8);
        if let (Some(position), Some(loaded)) = (positions.get_mut(drive), loaded.get(drive)) {
            position.step(pulses, *loaded);
        }
    }

    /// Pulses to cylinder `to`.
    pub(super) fn pulses(&self, to: u8) -> i16 {
        i16::from(to) - i16::from(self.cylinders[self.drive()])
    }

    /// A seek has ended.
    fn report(&mut self, status: u8) {
        let drive = self.drive();
        self.reports[drive] = status | drive as u8;
        self.answer([], true);
    }

    /// A byte for the FIFO. Gives the command that it completes.
    pub(super) fn take(&mut self, byte: u8) -> Option<Command> {
        match self.phase {
            _ if !self.runs() => None,
            EXECUTION => {
                // The chip does not look; what it did not ask for is lost.
                if self.wants_service() && !self.gives() {
                    self.fifo.put(byte);
                }
                None
            }
            COMMAND => {
                let first = if self.fifo.is_empty() { byte } else { self.command[0] };
                let Some(command) = Command::of(first) else {
                    self.answer([ST0_INVALID], false);
                    return None;
                };
                self.command[0] = first;
                self.fifo.put(byte);
                if self.fifo.len() < command.bytes() {
                    return None;
                }
                self.command = self.fifo.take_all();
                // They are the same, unless the state was found and is not this controller's.
                self.command[0] = first;
                Some(command)
            }
            _ => None,
        }
    }

    /// A byte of the FIFO for the host; what it gives when it has none is what is on the bus.
    pub(super) fn give(&mut self) -> u8 {
        const NOTHING: u8 = 0;
        match self.phase {
            _ if !self.runs() => NOTHING,
            EXECUTION if self.wants_service() && self.gives() => self.fifo.take().unwrap_or(NOTHING),
            RESULT => {
                self.interrupt = 0;
                let byte = self.fifo.take().unwrap_or(NOTHING);
                if self.fifo.is_empty() {
                    self.phase = COMMAND;
                    // What SENSE INTERRUPT STATUS has not told yet of seeks is a new interrupt; of a reset it is not.
                    self.interrupt = u8::from(self.reports.iter().any(|report| report & ST0_SOUGHT != 0));
                }
                byte
            }
            _ => NOTHING,
        }
    }

    /// Does a command that has no execution phase (5.2).
    pub(super) fn control(
        &mut self,
        command: Command,
        positions: &mut [Position],
        loaded: &[bool],
        protected: &[bool],
    ) {
        let [_, first, second, third, ..] = self.command;
        let drive = self.drive();
        match command {
            Command::Specify => {
                self.specified = [first, second];
                self.answer([], false);
            }
            Command::SenseDriveStatus => {
                let at_zero = positions.get(drive).is_some_and(|position| position.cylinder == 0);
                let track = if at_zero { ST3_TRACK_0 } else { 0 };
                // Light falls through the hole of a protected diskette, and where there is none.
                let tab = if *protected.get(drive).unwrap_or(&false) { ST3_PROTECTED } else { 0 };
                self.answer([tab | ST3_ALWAYS | track | first & 0b111], false);
            }
            Command::Recalibrate => {
                let there = positions.get(drive).is_some_and(|at| i16::from(at.cylinder) <= RECALIBRATE_PULSES);
                let at = positions.get(drive).map_or(0, |position| i16::from(position.cylinder));
                self.step(-at.min(RECALIBRATE_PULSES), positions, loaded);
                self.cylinders[drive] = 0;
                self.report(if there { ST0_SOUGHT } else { ST0_ABNORMAL | ST0_SOUGHT | ST0_NO_TRACK_0 });
            }
            Command::SenseInterrupt => self.sense_interrupt(),
            Command::Seek => {
                self.step(self.pulses(second), positions, loaded);
                self.report(ST0_SOUGHT);
            }
            Command::RelativeSeek => {
                const INWARDS: u8 = 1 << 6;
                let pulses = i16::from(second);
                self.step(if self.command[0] & INWARDS != 0 { pulses } else { -pulses }, positions, loaded);
                self.report(ST0_SOUGHT);
            }
            Command::Version => {
                /// An enhanced controller.
                const ENHANCED: u8 = 0x90;
                self.answer([ENHANCED], false);
            }
            Command::Configure => {
                (self.configured, self.precompensation) = (second & CONFIGURE_ALL, third);
                self.answer([], false);
            }
            Command::Perpendicular => {
                let kept = if first & PERPENDICULAR_OVERWRITE != 0 { first } else { self.perpendicular };
                self.perpendicular = kept & PERPENDICULAR_DRIVES | first & PERPENDICULAR_LOW;
                self.answer([], false);
            }
            Command::Lock => {
                self.locked = self.command[0] >> 7;
                self.answer([self.locked << 4], false);
            }
            Command::DumpRegisters => {
                let [a, b, c, d] = self.cylinders;
                let [srt_hut, hlt_nd] = self.specified;
                let perpendicular = self.locked << 7 | self.perpendicular;
                let rest = [self.last_sector, perpendicular, self.configured, self.precompensation];
                let [sector, perpendicular, configured, precompensation] = rest;
                self.answer([a, b, c, d, srt_hut, hlt_nd, sector, perpendicular, configured, precompensation], false);
            }
            // The others have an execution phase.
            _ => {}
        }
    }

    fn sense_interrupt(&mut self) {
        self.interrupt = 0;
        let Some(drive) = self.reports.iter().position(|report| *report != 0) else {
            return self.answer([ST0_INVALID], false);
        };
        let report = std::mem::take(&mut self.reports[drive]);
        self.answer([report, self.cylinders[drive]], false);
    }
}
