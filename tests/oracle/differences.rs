//! Where the two machines differ, and how to tell. `docs/oracle.md` says which section of the data sheet decides.

use crate::board::{ENTRY, ENTRY_BITS, SELECT, WINDOW};
use crate::context::{Context, Seen};
use crate::display::PAIRED;
use crate::ide;
use crate::machine::Access;
use crate::rtl8139;

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
    difference("i8254", "the control word's address", |_, access, _| access.is_at(0x43) && !access.writes()),
    difference("i8254", "the masks of memory and slots", |_, access, seen| {
        access.is_at(0x61) && seen.ours & 0x0c != 0 && seen.theirs & 0x0c == 0 && seen.only(0x3c)
    }),
    difference("i8254", "the refreshes of memory", |_, access, seen| access.is_at(0x61) && seen.only(0x10)),
    difference("i8254", "null count", null_count),
    difference("i8254", "a count that is not loaded", |context, access, _| {
        context.counter(access).is_some_and(|counter| !counter.looked_at_status && !counter.is_loaded)
    }),
    difference("i8254", "an odd count in mode 3", |context, access, seen| {
        let is_square = context.counter(access).is_some_and(|counter| counter.mode() == 3);
        is_square && seen.theirs == seen.ours + 1
    }),
    difference("i8254", "another count of a period", |context, access, _| {
        context.counter(access).is_some_and(|counter| !counter.looked_at_status && counter.is_periodic())
    }),
    difference("i8254", "a mode whose upper bit does not matter", |context, access, seen| {
        context.shown(access, seen).is_some_and(|counter| counter.control & 0x0c == 0x0c)
    }),
    difference("i8254", "an output that is low for a time", |context, access, seen| {
        context.shown(access, seen).is_some_and(|counter| counter.is_counted() && counter.is_low_for_a_time())
    }),
    difference("i8254", "the output between a control word and its count", |context, access, seen| {
        context.shown(access, seen).is_some_and(|counter| !counter.is_counted())
    }),
    difference("i8254 (in time)", "the refreshes of memory", |_, access, seen| access.is_at(0x61) && seen.only(0x10)),
    difference("i8254 (in time)", "an output that is low for a time", |context, access, seen| {
        context.shown(access, seen).is_some_and(|counter| counter.is_low_for_a_time())
    }),
    difference("i8254 (in time)", "a gate that is low in mode 0", |context, access, seen| {
        context.shown(access, seen).is_some_and(|counter| counter.mode() == 0 && !counter.gate)
    }),
    difference("i8259", "an input that is high when it begins to be level triggered", |context, _, _| context.levelled),
    difference("i8259", "a request that goes away", |context, _, _| context.withdrawn),
    difference("i8259", "what waits behind what the second gave", |_, access, seen| {
        access.is_at(0x20) && (seen.ours, seen.theirs) == (0x82, 0x00)
    }),
    difference("i8259", "the end of what is masked in special mask mode", |context, _, _| context.is_spared),
    difference("ioapic", "its version", |context, access, _| access.is_in_memory(WINDOW) && context.wrote(SELECT) == 1),
    difference("ioapic", "bits of an entry that mean nothing", |context, access, seen| {
        access.is_in_memory(WINDOW) && context.wrote(SELECT) >= ENTRY && {
            let bits = ENTRY_BITS[usize::from(context.wrote(SELECT) % 2)];
            seen.ours == seen.theirs & bits
        }
    }),
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

/// What was latched of a counter says whether its last count waits.
fn null_count(context: &Context, access: &Access, seen: &Seen) -> bool {
    context.counter(access).is_some_and(|counter| counter.looked_at_status) && seen.only(0x40)
}
