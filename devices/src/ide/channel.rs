//! A channel: its two drives behind one set of registers (ATA/ATAPI-6, clause 7).

use super::ata::{DEVICE_RESET, DIAGNOSE};
use super::state::{BUSY, Channel, DISABLE, DRIVES, HIGH_ORDER, Phase, RESET};
use super::unit::{Buffer, Kind, Unit};
use super::work::Work;
use device::{Ahead, Bulk, GuestMemory};

/// Registers of the command block, by offset.
pub(super) const DATA: u64 = 0;
pub(super) const ERROR: u64 = 1;
const COUNT: u64 = 2;
const LOW: u64 = 3;
const MID: u64 = 4;
const HIGH: u64 = 5;
pub(super) const DEVICE: u64 = 6;
pub(super) const STATUS: u64 = 7;

/// Bit of the device register that selects device 1.
pub(super) const DEVICE_1: u8 = 0x10;
/// What a register reads where there is no drive: the bus is pulled up but for its bit 7 (4.2.1, table 5).
const FLOATING: u8 = 0x7f;

/// A channel, with what hangs on it.
pub(super) struct Cable<'a> {
    pub state: &'a mut Channel,
    pub units: &'a mut [Option<Unit>],
    pub bulk: &'a Bulk,
    pub memory: &'a GuestMemory,
}

impl Cable<'_> {
    /// Drive `index`, if there is one.
    pub(super) fn drive(&mut self, index: usize) -> Option<Work<'_>> {
        let unit = self.units.get_mut(index)?.as_mut()?;
        let buffer = Buffer { bulk: self.bulk, number: unit.number };
        Some(Work { drive: self.state.drives.get_mut(index)?, unit, buffer })
    }

    /// The selected drive, if there is one.
    pub(super) fn selected(&mut self) -> Option<Work<'_>> {
        self.drive(usize::from(self.state.selected))
    }

    /// Which drive answers a load: device 0 for an absent device 1 (9.16.1). Nobody: nothing is on the cable, or only device 1.
    fn answering(state: &Channel, units: &[Option<Unit>]) -> Option<usize> {
        let present = |index: &usize| units.get(*index).is_some_and(Option::is_some);
        [usize::from(state.selected), 0].into_iter().find(present)
    }

    fn is_resetting(state: &Channel) -> bool {
        state.control & RESET != 0
    }

    /// The status, without a side effect: the alternate status register.
    pub(super) fn status(state: &Channel, units: &[Option<Unit>]) -> u8 {
        match Self::answering(state, units) {
            None => FLOATING,
            // Device 0 says for device 1 that it is not there.
            Some(index) if index != usize::from(state.selected) => 0,
            Some(_) if Self::is_resetting(state) => BUSY,
            Some(index) => state.drives[index].status,
        }
    }

    /// What the status register gives, unless it has a side effect: it would clear an interrupt.
    pub(super) fn quiet_status(state: &Channel, units: &[Option<Unit>]) -> Option<u8> {
        let is_pending = state.drives.get(usize::from(state.selected)).is_some_and(|drive| drive.interrupt == 1);
        (!is_pending).then(|| Self::status(state, units))
    }

    /// A load from the command block, but for the data register.
    pub(super) fn read(&mut self, offset: u64) -> u8 {
        let Some(index) = Self::answering(self.state, self.units) else { return FLOATING };
        let kind = self.units[index].as_ref().map(|unit| unit.kind);
        // A packet device says nothing for a device 1 that is not there (9.16.1).
        if index != usize::from(self.state.selected) && kind == Some(Kind::Cdrom) {
            return 0;
        }
        if offset == STATUS {
            let status = Self::status(self.state, self.units);
            if let Some(work) = self.selected() {
                work.drive.interrupt = 0;
            }
            return status;
        }
        let drive = &self.state.drives[index];
        let earlier = usize::from(self.state.control & HIGH_ORDER != 0);
        match offset {
            ERROR => drive.error,
            COUNT => drive.count[earlier],
            LOW => drive.low[earlier],
            MID => drive.mid[earlier],
            HIGH => drive.high[earlier],
            // Bits 7 and 5 were always ones before they were obsolete (ATA-3, 5.2.8).
            _ => drive.device | 0xa0,
        }
    }

    /// A store to the command block, but for the data register: both drives take it.
    pub(super) fn write(&mut self, offset: u64, value: u8) {
        self.state.control &= !HIGH_ORDER;
        if Self::is_resetting(self.state) {
            return;
        }
        if offset == STATUS {
            return self.command(value);
        }
        // A drive that is occupied does not look at its registers: they are to be written when BSY and DRQ are clear (7.10.3 to
        // 7.14.3).
        if self.selected().is_some_and(|work| work.drive.is_occupied()) {
            return;
        }
        for drive in &mut self.state.drives {
            let register = match offset {
                ERROR => &mut drive.features,
                COUNT => &mut drive.count,
                LOW => &mut drive.low,
                MID => &mut drive.mid,
                HIGH => &mut drive.high,
                _ => {
                    drive.device = value;
                    continue;
                }
            };
            *register = [value, register[0]];
        }
        if offset == DEVICE {
            self.state.selected = u8::from(value & DEVICE_1 != 0);
        }
    }

    fn command(&mut self, code: u8) {
        if code == DIAGNOSE {
            // Both diagnose themselves, and device 0 reports (9.10).
            self.reset();
            if let Some(work) = self.selected() {
                work.drive.interrupt = 1;
            }
            return;
        }
        let Some(mut work) = self.selected() else { return };
        if code == DEVICE_RESET && work.is_packet_device() {
            return work.device_reset();
        }
        if work.drive.is_occupied() {
            return;
        }
        work.command(code);
        self.transfer();
    }

    /// The device control register.
    pub(super) fn control(&mut self, value: u8) {
        let before = self.state.control;
        self.state.control = value & (HIGH_ORDER | RESET | DISABLE);
        if before & !value & RESET != 0 {
            self.reset();
        }
    }

    /// Both drives begin anew, and device 0 is selected.
    fn reset(&mut self) {
        self.state.selected = 0;
        for index in 0..DRIVES {
            match self.drive(index) {
                Some(mut work) => {
                    work.drive.device = 0;
                    work.reset();
                }
                None => self.state.drives[index].device = 0,
            }
        }
    }

    /// A load of so many words from the data register, as a bridge makes of a longer one. They are those of one block: behind its end
    /// the drive is about to make the next one ready, and drives nothing.
    pub(super) fn load(&mut self, words: u32) -> u64 {
        let word = match (Self::answering(self.state, self.units), Self::is_resetting(self.state)) {
            (None, _) => u16::from_le_bytes([FLOATING, 0xff]),
            (Some(_), true) => 0,
            (Some(_), false) => return self.selected().map_or(0, |mut work| work.load(words)),
        };
        (0..words).fold(0, |value, at| value | u64::from(word) << (16 * at))
    }

    /// Loads of elements of `width` bytes from the data register, up to the end of a block: the next one goes where the committed
    /// state has this one's. None, if there is not a whole element of a block.
    pub(super) fn load_string(&mut self, width: usize, into: &mut [u8]) -> usize {
        if Self::is_resetting(self.state) {
            return 0;
        }
        self.selected().map_or(0, |mut work| work.load_string(width, into))
    }

    /// What loads from the data register would give of the block, but for its last element of `width` bytes, with which the next
    /// block comes.
    pub(super) fn ahead(state: &Channel, units: &[Option<Unit>], width: u32) -> Option<Ahead> {
        let selected = usize::from(state.selected);
        let (drive, unit) = (state.drives.get(selected)?, units.get(selected)?.as_ref()?);
        if Self::is_resetting(state) || drive.phase() != Phase::In {
            return None;
        }
        let bytes = drive.end.checked_sub(drive.at)?.checked_sub(width)? / width * width;
        Some(Ahead { offset: Buffer::place(unit.number, drive.half) + drive.at, bytes })
    }

    /// A store to the data register.
    pub(super) fn store(&mut self, word: u16) {
        if !Self::is_resetting(self.state)
            && let Some(mut work) = self.selected()
        {
            work.store(word);
            self.transfer();
        }
    }

    /// Whether a look would find something to do.
    pub(super) fn is_pending(state: &Channel) -> bool {
        state.drives.iter().any(|drive| drive.phase() == Phase::Flush) || Self::can_transfer(state)
    }

    /// Does what was left for later: makes written data safe, goes on with a transfer.
    pub(super) fn go_on(&mut self) {
        for index in 0..DRIVES {
            if let Some(mut work) = self.drive(index)
                && work.drive.phase() == Phase::Flush
            {
                work.flush();
            }
        }
        self.transfer();
    }

    /// The level of the interrupt line: that of the selected drive, unless the host does not want it.
    pub(super) fn level(state: &Channel) -> bool {
        let drive = state.drives.get(usize::from(state.selected));
        state.control & (DISABLE | RESET) == 0 && drive.is_some_and(|drive| drive.interrupt == 1)
    }
}
