//! Where the two machines differ, and how to tell. `docs/oracle.md` says which section of the data sheet decides.

use crate::display::{ACCESS, PAIRED};
use crate::ide;
use crate::machine::{Access, Act};
use crate::rtl8139;
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
    }

    fn note_drives(&mut self, access: &Access) {
        let value = access.value as u8;
        match (access.memory, access.at, access.act) {
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

    /// What tells differences apart when they have no reason yet: where they are, and which levels differ.
    pub fn kind(&self, access: &Access, seen: &Seen) -> String {
        let direction = if access.writes() { "out" } else { "in" };
        let place = match (access.memory, access.at) {
            (true, at) => format!("memory {:#x}", at & !0xfff),
            (false, port @ (0x71 | 0x1cf | 0x3c5 | 0x3cf | 0x3d5)) => {
                format!("{port:#x} index {:#x}", self.wrote(port - 1))
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
    fn is_moving(&self) -> bool {
        self.command & 0x1f == 6 && !self.by_dma && self.results <= 512
    }

    /// Which word of a packet's answer was just read: six words are the packet's own.
    fn answer_word(&self) -> usize {
        self.words.saturating_sub(7)
    }

    /// What was written last to a port.
    pub fn wrote(&self, port: u32) -> u8 {
        self.last.get(&port).copied().unwrap_or(0)
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

/// A difference that is known.
pub struct Difference {
    pub device: &'static str,
    pub name: &'static str,
    pub is_it: fn(&Context, &Access, &Seen) -> bool,
}

const fn difference(
    device: &'static str,
    name: &'static str,
    is_it: fn(&Context, &Access, &Seen) -> bool,
) -> Difference {
    Difference { device, name, is_it }
}

/// All of them. Values and levels are explained each by itself.
pub const DIFFERENCES: &[Difference] = &[
    difference("mc146818", "memory that firmware has filled", |context, access, _| {
        let index = context.wrote(0x70) & 0x7f;
        access.is_at(0x71) && index > 13 && !context.kept.contains(&index)
    }),
    difference("mc146818", "a second place for the century", |context, access, _| {
        access.is_at(0x71) && [0x32, 0x37].contains(&(context.wrote(0x70) & 0x7f))
    }),
    difference("mc146818", "UIE while SET is on", |context, access, seen| {
        access.is_at(0x71) && context.wrote(0x70) & 0x7f == 11 && seen.only(0x10)
    }),
    difference("uart16550", "the receiver's register when it is empty", |_, access, seen| {
        access.is_at(0x3f8) && !seen.levels() && seen.ours == 0
    }),
    difference("uart16550", "OUT2 gates the interrupt", |context, _, seen| {
        seen.levels() && seen.their_level && context.wrote(0x3fc) & 8 == 0
    }),
    difference("uart16550", "OUT2 in loopback", |context, _, seen| {
        seen.levels() && seen.their_level && context.wrote(0x3fc) & 0x18 == 0x18
    }),
    difference("uart16550", "changes of modem lines in loopback", |_, access, seen| {
        access.is_at(0x3fe) && seen.only(0x0f) && seen.theirs & 0x0f == 0
    }),
    difference("uart16550", "a time-out without time", |context, access, seen| {
        access.is_at(0x3fa) && context.wrote(0x3fc) & 0x10 != 0 && seen.only(0x0f)
    }),
    difference("parallel", "bits 0 to 2 of the status register", |_, access, seen| {
        access.is_at(0x379) && seen.only(0x07)
    }),
    difference("parallel", "an acknowledgement that takes no time", |_, access, seen| {
        access.is_at(0x379) && seen.only(0xc7)
    }),
    difference("parallel", "when the interrupt ends", |_, _, seen| seen.levels()),
    difference("parallel", "the control register after power on", |context, access, seen| {
        access.is_at(0x37a) && seen.only(0x08) && !context.last.contains_key(&0x37a)
    }),
    difference("i8042", "bit 7 of the configuration", |context, access, seen| {
        access.is_at(0x60) && seen.only(0x80) && context.wrote(0x64) == 0x20
    }),
    difference("i8042", "ports and configuration after power on", |context, access, seen| {
        access.is_at(0x60) && !seen.levels() && !context.last.contains_key(&0x60)
    }),
    difference("i8042", "which port was written last", |_, access, seen| {
        access.is_at(0x64) && seen.only(0x0c) && (seen.ours ^ seen.theirs) & 8 != 0
    }),
    difference("i8042", "the system flag", |_, access, seen| access.is_at(0x64) && seen.only(0x04)),
    difference("i8042", "an answer while the keyboard is off", |_, _, seen| seen.levels() && seen.our_level),
    difference("rtl8139", "the reset bit after power on", |_, access, seen| {
        rtl8139::is_at(access, 0x37) && seen.only(0x10)
    }),
    difference("rtl8139", "a bit of the transmit configuration", |_, access, seen| {
        rtl8139::is_at(access, 0x40) && seen.only(0x0008_0000)
    }),
    difference("rtl8139", "an interrupt that the driver asks for", |context, access, seen| {
        context.wrote(rtl8139::POLL) & 1 != 0 && (seen.levels() || rtl8139::is_at(access, 0x3e)) && seen.our_level
    }),
    difference("rtl8139", "what outlives a reset", |_, access, seen| {
        let filter = rtl8139::is_at(access, 0x44) && seen.only(0x02);
        let start = (0x20..0x30).step_by(4).any(|offset| rtl8139::is_at(access, offset));
        (filter || start) && seen.ours == 0
    }),
    difference("rtl8139", "what loading the EEPROM resets", |context, access, seen| {
        rtl8139::is_at(access, 0x10) && seen.theirs == 0x2000 && context.wrote(rtl8139::EEPROM) == rtl8139::LOAD as u8
    }),
    difference("rtl8139", "the polling register", |_, access, _| rtl8139::is_at(access, 0xd9)),
    difference("rtl8139", "the counters' command outside of C+ mode", |_, access, seen| {
        rtl8139::is_at(access, 0x10) && (seen.ours ^ seen.theirs) & 8 != 0
    }),
    difference("rtl8139", "what is read only of a transmit status", |_, access, seen| {
        (0x10..0x20).step_by(4).any(|offset| rtl8139::is_at(access, offset)) && seen.only(0xffc0_c000)
    }),
    difference("rtl8139", "the same in the summary", |_, access, seen| {
        rtl8139::is_at(access, 0x60) && seen.only(0xfff0)
    }),
    difference("rtl8139", "what the EEPROM holds besides the address", |context, access, seen| {
        rtl8139::is_at(access, 0x50) && seen.only(1) && context.wrote(rtl8139::EEPROM) & 8 != 0
    }),
    difference("rtl8139", "the EEPROM's output while it is not selected", |_, access, seen| {
        rtl8139::is_at(access, 0x50) && seen.only(1)
    }),
    difference("rtl8139", "the first configuration register", |_, access, _| rtl8139::is_at(access, 0x51)),
    difference("rtl8139", "vital product data", |_, access, seen| rtl8139::is_at(access, 0x52) && seen.only(0x02)),
    difference("rtl8139", "flow control and standby power", |_, access, seen| {
        rtl8139::is_at(access, 0x58) && seen.only(0xd0)
    }),
    difference("rtl8139", "fast back-to-back transfers", |_, access, seen| {
        rtl8139::is_at(access, 0x59) && seen.only(0x01)
    }),
    difference("rtl8139", "the link's control", |_, access, _| rtl8139::is_at(access, 0x62)),
    difference("rtl8139", "the link's status", |_, access, _| rtl8139::is_at(access, 0x64)),
    difference("rtl8139", "what is advertised", |_, access, seen| rtl8139::is_at(access, 0x66) && seen.only(0x0400)),
    difference("rtl8139", "the link's partner", |_, access, _| rtl8139::is_at(access, 0x68)),
    difference("rtl8139", "the negotiation's state", |_, access, _| rtl8139::is_at(access, 0x6a)),
    difference("rtl8139", "the order of bytes", |_, access, seen| rtl8139::is_at(access, 0xe0) && seen.only(0x0200)),
    difference("rtl8139", "whom a packet is for", |_, access, seen| rtl8139::is_in_buffer(access) && seen.only(0xe000)),
    difference("rtl8139", "bytes behind a packet", |_, access, seen| {
        let (ours, theirs) = (seen.ours.to_le_bytes(), seen.theirs.to_le_bytes());
        rtl8139::is_in_buffer(access) && ours.iter().zip(theirs).all(|(ours, theirs)| *ours == 0 || *ours == theirs)
    }),
    difference("pvpanic", "a read wider than the register", |_, access, _| access.width > 1),
    difference("piix-ide (disk)", "an interrupt after a reset by software", |context, _, seen| {
        context.is_reset && seen.levels() && seen.their_level && seen.ours == seen.theirs
    }),
    difference("piix-ide (disk)", "what a drive says of itself", |context, access, seen| {
        access.is_at(0x1f0) && context.command == 0xec && !seen.levels() && !says_where(context.words - 1)
    }),
    difference("piix-ide (cdrom)", "an interrupt after a reset by software", |context, _, seen| {
        context.is_reset && seen.levels() && seen.their_level && seen.ours == seen.theirs
    }),
    difference("piix-ide (cdrom)", "what a drive says of itself", |context, access, seen| {
        access.is_at(0x170) && context.command == 0xa1 && !seen.levels() && !says_where(context.words - 1)
    }),
    difference("piix-ide (disk)", "registers of a drive that is not there", |context, access, _| {
        context.wrote(0x1f6) & 0x10 != 0 && (0x1f1..0x1f7).contains(&access.at)
    }),
    difference("piix-ide (cdrom)", "bit 4 of a packet device's status", |_, access, seen| {
        (access.is_at(0x376) || access.is_at(0x177)) && seen.only(0x10)
    }),
    difference("piix-ide (disk)", "a command that takes no time", |_, access, seen| {
        let ends = access.is_at(0x1f7) || access.is_at(0x1f0) || access.is_at(ide::MASTER);
        ends && access.writes() && seen.our_level && !seen.their_level
    }),
    difference("piix-ide (cdrom)", "a command that takes no time", |_, access, seen| {
        let ends = access.is_at(0x170) || access.is_at(ide::MASTER + ide::MASTER_BYTES);
        ends && access.writes() && seen.our_level && !seen.their_level
    }),
    difference("piix-ide (cdrom)", "names in an inquiry", |context, access, _| {
        access.is_at(0x170) && context.packet == 0x12 && context.answer_word() >= 4
    }),
    difference("piix-ide (cdrom)", "the valid bit of sense data", |context, access, seen| {
        access.is_at(0x170) && context.packet == 0x03 && context.answer_word() == 0 && seen.only(0x80)
    }),
    difference("piix-ide (cdrom)", "sense data after a command that succeeded", |context, access, seen| {
        access.is_at(0x170) && context.packet == 0x03 && context.answer_word() > 0 && seen.ours == 0
    }),
    difference("piix-ide (cdrom)", "the format of a table of contents", |context, access, _| {
        access.is_at(0x170) && context.packet == 0x43
    }),
    difference("piix-ide (cdrom)", "the length of an event", |context, access, _| {
        access.is_at(0x170) && context.packet == 0x4a && context.answer_word() == 0
    }),
    difference("piix-ide (cdrom)", "slots of a drive without a changer", |context, access, _| {
        access.is_at(0x170) && context.packet == 0xbd && context.answer_word() == 2
    }),
    difference("piix-ide (cdrom)", "a tray that may not be opened", |context, access, seen| {
        let sense = access.is_at(0x170) && context.packet == 0x03 && [0x05, 0x253].contains(&seen.ours);
        sense || access.is_at(0x171) && context.packet == 0x1b && seen.ours == 0x50
    }),
    difference("piix-ide (cdrom)", "the code of a diagnosis", |_, access, seen| {
        access.is_at(0x171) && [(1, 0), (0, 1)].contains(&(seen.ours, seen.theirs))
    }),
    difference("piix-ide (cdrom)", "a table with room left", |_, access, seen| {
        access.is_at(ide::MASTER + ide::MASTER_BYTES + 2) && (seen.ours & 1, seen.theirs & 1) == (1, 0) && seen.only(1)
    }),
    difference("piix-ide (disk)", "an address that does not exist", |context, access, seen| {
        let verified = context.command == 0x40 && (seen.only(0x01) || seen.only(0x11));
        access.is_at(0x1f1) && seen.ours == 0x10 || verified && (access.is_at(0x1f7) || access.is_at(0x3f6))
    }),
    difference("piix-ide (disk)", "bit 4 of the status", |_, access, seen| {
        (access.is_at(0x1f7) || access.is_at(0x3f6)) && seen.only(0x10) && !seen.levels()
    }),
    difference("piix-ide (disk)", "how long an error is kept", |_, access, seen| {
        access.is_at(0x1f1) && seen.theirs == 0 && !seen.levels()
    }),
    difference("piix-ide (disk)", "a drive in standby", |context, access, seen| {
        access.is_at(0x1f2) && context.command == 0xe5 && (seen.ours, seen.theirs) == (0x00, 0xff)
    }),
    difference("piix-ide (disk)", "count and address after sectors have moved", |context, access, seen| {
        [READ, WRITE, ide::READ_DMA, ide::WRITE_DMA].contains(&context.command)
            && (0x1f2..0x1f7).contains(&access.at)
            && !seen.levels()
    }),
    difference("fw-cfg", "where a write that failed leaves the position", |context, access, _| {
        access.memory && context.failed
    }),
    difference("floppy", "the DMA gate when DMA is off", |_, access, seen| access.is_at(0x3f2) && seen.only(0x08)),
    difference("floppy", "the tape drive register", |_, access, _| access.is_at(0x3f3)),
    difference("floppy", "a sector that a track does not have", |context, access, seen| {
        access.is_at(0x3f5) && context.command == 0x46 && (seen.ours, seen.theirs) == (0x04, 0x80)
    }),
    difference("floppy", "the interrupt ends with the first byte of the result", |context, access, seen| {
        seen.levels() && seen.their_level && !context.is_moving() && (access.is_at(0x3f5) || access.is_at(0x3f4))
    }),
    difference("floppy", "the interrupt of a burst", |context, access, seen| {
        seen.levels() && seen.ours == seen.theirs && context.is_moving() && (access.is_at(0x3f5) || access.is_at(0x3f4))
    }),
    difference("floppy", "the end of a write without DMA", |context, access, seen| {
        let end = access.is_at(0x3f4) && (seen.ours, seen.theirs) == (0xd0, 0x30);
        context.command == 0x45 && (end || access.is_at(0x3f2) && seen.their_level)
    }),
    difference("floppy", "the head in status register 0", |context, access, seen| {
        access.is_at(0x3f5) && context.command & 0x1f == 6 && seen.only(0x04)
    }),
    difference("floppy", "the cylinder after a reset", |context, access, seen| {
        let number = context.command == 0x08 && context.results == 2;
        access.is_at(0x3f5) && (number || context.command == 0x04 && seen.only(0x10))
    }),
    difference("floppy", "what DUMPREG gives", |context, access, _| access.is_at(0x3f5) && context.command == 0x0e),
    difference("vga", "planes that an even address means", |context, access, _| {
        access.memory && access.at == PAIRED && context.graphics[4] == 2
    }),
    difference("vga", "write mode 3", |context, access, _| access.memory && context.graphics[5] & 3 == 3),
    difference("vga", "registers that the CRT controller does not have", |context, access, _| {
        access.is_at(0x3d5) && context.wrote(0x3d4) > 0x18
    }),
    difference("vga", "the palette's mask", |_, access, _| access.is_at(0x3c6)),
    difference("vga", "the attribute controller's index", |_, access, _| access.is_at(0x3c0)),
    difference("vga", "where the beam is while time stands still", |_, access, seen| {
        access.is_at(0x3da) && seen.only(0x09)
    }),
    difference("vga", "sizes while a mode is on", |context, access, seen| {
        access.is_at(0x1cf) && context.mode && [1, 2, 3].contains(&context.wrote(0x1ce)) && !seen.levels()
    }),
    difference("vga", "depth before there is a mode", |context, access, _| {
        access.is_at(0x1cf) && context.wrote(0x1ce) == 3
    }),
];

/// Commands of a disk that move sectors.
const READ: u8 = 0x20;
const WRITE: u8 = 0x30;

/// Words of an identity that say where sectors are. The others are the maker's, or say what the drive can do.
fn says_where(word: usize) -> bool {
    matches!(word, 1 | 3 | 6 | 47 | 54..=58 | 60 | 61 | 100..=103)
}
