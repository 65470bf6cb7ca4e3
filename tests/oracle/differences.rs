//! Where the two machines differ, and how to tell. `docs/oracle.md` says which section of the data sheet decides.

use crate::machine::Access;
use crate::rtl8139;
use std::collections::{BTreeMap, BTreeSet};

/// What is known of the device from the accesses so far.
#[derive(Default)]
pub struct Context {
    /// What was written last to each of the ports that matter.
    pub last: BTreeMap<u32, u8>,
    /// Bytes of the clock's memory that were written.
    pub kept: BTreeSet<u8>,
}

impl Context {
    pub fn note(&mut self, access: &Access) {
        if access.writes() {
            self.last.insert(access.at, access.value as u8);
            if access.at == 0x71 {
                self.kept.insert(self.wrote(0x70) & 0x7f);
            }
        }
    }

    /// What tells differences apart when they have no reason yet.
    pub fn kind(&self, access: &Access, seen: &Seen) -> String {
        let direction = if access.writes() { "out" } else { "in" };
        let (ours, theirs) = match seen.ours == seen.theirs {
            true => (0, 0),
            false => (seen.ours, seen.theirs),
        };
        let (level, other) = (u8::from(seen.our_level), u8::from(seen.their_level));
        let loops = self.wrote(0x3fc) & 0x10 != 0;
        format!("{direction} {:#x} ours {ours:#x} theirs {theirs:#x} level {level}/{other} loops {loops}", access.at)
    }

    /// What was written last to a port.
    pub fn wrote(&self, port: u32) -> u8 {
        self.last.get(&port).copied().unwrap_or(0)
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
        access.at == 0x71 && index > 13 && !context.kept.contains(&index)
    }),
    difference("mc146818", "a second place for the century", |context, access, _| {
        access.at == 0x71 && [0x32, 0x37].contains(&(context.wrote(0x70) & 0x7f))
    }),
    difference("mc146818", "UIE while SET is on", |context, access, seen| {
        access.at == 0x71 && context.wrote(0x70) & 0x7f == 11 && seen.only(0x10)
    }),
    difference("uart16550", "the receiver's register when it is empty", |_, access, seen| {
        access.at == 0x3f8 && !seen.levels() && seen.ours == 0
    }),
    difference("uart16550", "OUT2 gates the interrupt", |context, _, seen| {
        seen.levels() && seen.their_level && context.wrote(0x3fc) & 8 == 0
    }),
    difference("uart16550", "OUT2 in loopback", |context, _, seen| {
        seen.levels() && seen.their_level && context.wrote(0x3fc) & 0x18 == 0x18
    }),
    difference("uart16550", "changes of modem lines in loopback", |_, access, seen| {
        access.at == 0x3fe && seen.only(0x0f) && seen.theirs & 0x0f == 0
    }),
    difference("uart16550", "a time-out without time", |context, access, seen| {
        access.at == 0x3fa && context.wrote(0x3fc) & 0x10 != 0 && seen.only(0x0f)
    }),
    difference("parallel", "bits 0 to 2 of the status register", |_, access, seen| {
        access.at == 0x379 && seen.only(0x07)
    }),
    difference("parallel", "an acknowledgement that takes no time", |_, access, seen| {
        access.at == 0x379 && seen.only(0xc7)
    }),
    difference("parallel", "when the interrupt ends", |_, _, seen| seen.levels()),
    difference("parallel", "the control register after power on", |context, access, seen| {
        access.at == 0x37a && seen.only(0x08) && !context.last.contains_key(&0x37a)
    }),
    difference("i8042", "bit 7 of the configuration", |context, access, seen| {
        access.at == 0x60 && seen.only(0x80) && context.wrote(0x64) == 0x20
    }),
    difference("i8042", "ports and configuration after power on", |context, access, seen| {
        access.at == 0x60 && !seen.levels() && !context.last.contains_key(&0x60)
    }),
    difference("i8042", "which port was written last", |_, access, seen| {
        access.at == 0x64 && seen.only(0x0c) && (seen.ours ^ seen.theirs) & 8 != 0
    }),
    difference("i8042", "the system flag", |_, access, seen| access.at == 0x64 && seen.only(0x04)),
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
];
