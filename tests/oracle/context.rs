//! What is known of a device from the accesses so far, and how it tells where two answers differ.

use crate::board::LEVELLED;
use crate::display::ACCESS;
use crate::machine::{Access, Act};
use std::collections::{BTreeMap, BTreeSet};

/// What is known of the device from the accesses so far.
#[derive(Default)]
pub struct Context {
    /// What was written last to each of the ports that matter.
    pub last: BTreeMap<u32, u8>,
    /// Bytes of the clock's memory that were written.
    pub kept: BTreeSet<u8>,
    /// The first byte of a drive's or a floppy controller's last command.
    pub command: u8,
    /// Words of data of a drive, and results of a floppy controller, since then.
    pub words: usize,
    pub results: usize,
    /// Bytes of a command to the floppy controller, and of the data that it is given without DMA, that are still to come.
    rest: usize,
    /// A drive was reset, and its status not looked at since.
    pub is_reset: bool,
    /// The floppy controller uses DMA: the last byte of SPECIFY said so.
    pub by_dma: bool,
    /// The last request to the firmware configuration was a write, and nothing was selected since.
    pub failed: bool,
    /// The first byte of a CD-ROM drive's last packet.
    pub packet: u8,
    /// The display's Bochs interface has a mode on.
    pub mode: bool,
    /// Registers of the display's graphics controller.
    pub graphics: [u8; 16],
    /// The timer's counters.
    pub counters: [Counter; 3],
    /// The input of the interrupt controllers that is tried was high when it began to be level triggered.
    pub levelled: bool,
    /// It has gone low before its request was taken.
    pub withdrawn: bool,
    is_high: bool,
    /// The second of them is in special mask mode, and has been told of an end that it had to find.
    is_special: bool,
    pub is_spared: bool,
}

impl Context {
    pub fn note(&mut self, access: &Access) {
        if access.writes() {
            self.last.insert(access.at, access.value as u8);
            if access.is_at(0x71) {
                self.kept.insert(self.wrote(0x70) & 0x7f);
            }
        }
        self.note_drives(access);
        if !access.memory {
            self.note_timer(access);
        }
    }

    fn note_drives(&mut self, access: &Access) {
        let value = access.value as u8;
        match (access.memory, access.at, access.act) {
            (false, LEVELLED, Act::Wire(level)) => {
                (self.levelled, self.withdrawn) = (false, self.is_high && !level);
                self.is_high = level;
            }
            (false, 0x4d1, Act::Write) => self.levelled |= self.is_high,
            (false, 0xa0, Act::Write) if value & 0x10 != 0 => {
                (self.levelled, self.withdrawn) = (self.is_high, false);
                (self.is_special, self.is_spared) = (false, false);
            }
            (false, 0xa0, Act::Write) if value & 0x48 == 0x48 => self.is_special = value & 0x20 != 0,
            (false, 0xa0, Act::Write) if value & 0x68 == 0x20 => self.is_spared |= self.is_special,
            (false, 0x3cf, Act::Write) => self.graphics[usize::from(self.wrote(0x3ce) & 15)] = value,
            (false, 0x1cf, Act::Write) if self.wrote(0x1ce) == 4 => self.mode = value & 1 != 0,
            (false, 0x1f7 | 0x177, Act::Write) => (self.command, self.words, self.is_reset) = (value, 0, false),
            (false, 0x3f6 | 0x376, Act::Write) => self.is_reset |= value & 4 != 0,
            (false, 0x1f0 | 0x170, _) => {
                if self.words == 0 && access.writes() {
                    self.packet = value;
                }
                self.words += 1;
            }
            (true, ACCESS, Act::Write) => {
                let control = access.value.swap_bytes();
                self.failed = control & 0x10 != 0 || self.failed && control & 0x08 == 0;
            }
            (false, 0x510, Act::Write) => self.failed = false,
            (false, 0x3f5, Act::Write) if self.rest > 0 => {
                self.rest -= 1;
                if self.command == 0x03 && self.rest == 0 {
                    self.by_dma = value & 1 == 0;
                }
            }
            (false, 0x3f5, Act::Write) => {
                let data = if value & 0x1f == 0x05 && !self.by_dma { 512 } else { 0 };
                (self.command, self.results, self.rest) = (value, 0, parameters(value) + data);
            }
            (false, 0x3f5, _) => self.results += 1,
            _ => {}
        }
    }

    fn note_timer(&mut self, access: &Access) {
        let value = access.value as u8;
        for (at, counter) in self.counters.iter_mut().enumerate() {
            counter.looked_at_status = false;
            match (access.at, access.act) {
                (0x43, Act::Write) if value >= 0xc0 => {
                    counter.status |= value & 0x10 == 0 && value >> (at + 1) & 1 != 0;
                }
                (0x43, Act::Write) if usize::from(value >> 6) == at && value & 0x30 != 0 => {
                    *counter = Counter { control: value, gate: counter.gate, ..Counter::default() };
                }
                (0x61, Act::Write) if at == 2 => {
                    counter.is_loaded |= counter.is_counted() && value & 1 != 0 && !counter.gate;
                    counter.gate = value & 1 != 0;
                }
                (port, Act::Write) if port == 0x40 + at as u32 => {
                    counter.bytes += 1;
                    counter.is_loaded = counter.is_counted() && !matches!(counter.mode(), 1 | 5);
                }
                (port, Act::Read) if port == 0x40 + at as u32 => {
                    counter.looked_at_status = std::mem::take(&mut counter.status);
                }
                _ => {}
            }
        }
    }

    /// The counter of the timer that a load was of.
    pub fn counter(&self, access: &Access) -> Option<&Counter> {
        self.counters.get(access.at.wrapping_sub(0x40) as usize).filter(|_| access.act == Act::Read && !access.memory)
    }

    /// The counter of the timer whose output is what differs: its status shows it, the board's port, or the interrupt.
    pub fn shown(&self, access: &Access, seen: &Seen) -> Option<&Counter> {
        if seen.levels() && seen.ours == seen.theirs {
            return Some(&self.counters[0]);
        }
        if access.is_at(0x61) && !access.writes() && seen.only(0x30) {
            return Some(&self.counters[2]);
        }
        self.counter(access).filter(|counter| counter.looked_at_status && seen.only(0xc0))
    }

    /// What tells differences apart when they have no reason yet: where they are, and which levels differ.
    pub fn kind(&self, access: &Access, seen: &Seen) -> String {
        let direction = if access.writes() { "out" } else { "in" };
        let place = match (access.memory, access.at) {
            (true, at) => format!("memory {:#x}", at & !0xfff),
            (false, port @ (0x71 | 0x1cf | 0x3c5 | 0x3cf | 0x3d5)) => {
                format!("{port:#x} index {:#x}", self.wrote(port - 1))
            }
            (false, port @ 0x40..0x43) => {
                let counter = &self.counters[port as usize - 0x40];
                let Counter { control, bytes, is_loaded, looked_at_status, gate, .. } = counter;
                format!(
                    "{port:#x} of {control:#x} after {bytes}, loaded {is_loaded}, status {looked_at_status}, gate {gate}"
                )
            }
            (false, 0x3f5) => format!("0x3f5 of {:#x}, {} results before", self.command, self.results),
            (false, 0x1f0 | 0x170) => {
                format!("{:#x} of {:#x} packet {:#x}, word {}", access.at, self.command, self.packet, self.words)
            }
            (false, 0x170..0x178) => format!("{:#x} of packet {:#x}", access.at, self.packet),
            (false, port) => format!("{port:#x} after command {:#x}", self.command),
        };
        format!("{direction} {place} levels {}/{}", u8::from(seen.our_level), u8::from(seen.their_level))
    }

    /// A floppy controller passes the bytes of a sector, without DMA.
    pub fn is_moving(&self) -> bool {
        self.command & 0x1f == 6 && !self.by_dma && self.results <= 512
    }

    /// Which word of a packet's answer was just read: six words are the packet's own.
    pub fn answer_word(&self) -> usize {
        self.words.saturating_sub(7)
    }

    /// What was written last to a port.
    pub fn wrote(&self, port: u32) -> u8 {
        self.last.get(&port).copied().unwrap_or(0)
    }
}

/// What is known of a counter of the timer.
#[derive(Default)]
pub struct Counter {
    pub control: u8,
    /// Bytes of counts since the control word.
    bytes: usize,
    pub gate: bool,
    /// A count has gone into the counting element since the control word.
    pub is_loaded: bool,
    /// A status is latched; the last load was of one.
    status: bool,
    pub looked_at_status: bool,
}

impl Counter {
    pub fn mode(&self) -> u8 {
        self.control >> 1 & if self.control & 4 == 0 { 7 } else { 3 }
    }

    /// Mode 2's and 4's for a cycle, mode 1's from a trigger on.
    pub fn is_low_for_a_time(&self) -> bool {
        matches!(self.mode(), 1 | 2 | 4 | 5)
    }

    pub fn is_periodic(&self) -> bool {
        matches!(self.mode(), 2 | 3) && self.bytes > 1 + usize::from(self.control & 0x30 == 0x30)
    }

    pub fn is_counted(&self) -> bool {
        self.bytes > usize::from(self.control & 0x30 == 0x30)
    }
}

/// Bytes that follow the first of a command to the floppy controller (82077AA, table 5-1).
fn parameters(first: u8) -> usize {
    match first & 0x1f {
        0x02 | 0x05 | 0x06 => 8,
        0x13 => 3,
        0x03 | 0x0f => 2,
        0x04 | 0x07 | 0x0a | 0x12 => 1,
        _ => 0,
    }
}

/// What both answered.
pub struct Seen {
    pub ours: u64,
    pub theirs: u64,
    pub our_level: bool,
    pub their_level: bool,
}

impl Seen {
    /// The values differ, in these bits alone.
    pub fn only(&self, bits: u64) -> bool {
        self.ours != self.theirs && (self.ours ^ self.theirs) & !bits == 0
    }

    /// The levels differ.
    pub fn levels(&self) -> bool {
        self.our_level != self.their_level
    }
}
