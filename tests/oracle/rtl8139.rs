//! The network card, on its own: registers, the EEPROM, and frames that it sends to itself.

use crate::accesses::{Random, configure};
use crate::machine::Access;

/// Where both machines have the card, and where it is told to answer.
pub const SLOT: u32 = 3;
const PORTS: u16 = 0xc100;
const REGISTERS: u32 = 0xc000_1000;
/// The ISA bridge's slot, its interrupt routes, and the one input that they all lead to.
const BRIDGE: u32 = 1;
const ROUTES: u32 = 0x60;
pub const INPUT: u32 = 11;
/// In the card's configuration space.
const COMMAND: u32 = 0x04;
const FIRST_BAR: u32 = 0x10;
const SECOND_BAR: u32 = 0x14;

/// Memory of the guest.
const BUFFER: u32 = 0x10_0000;
const BUFFER_BYTES: u32 = 0x2000;
const FRAMES: u32 = 0x20_0000;
const FRAME_STRIDE: u32 = 0x800;
/// Frames that are sent.
const FRAME_COUNT: u32 = 400;

/// Has the card load what its EEPROM holds.
pub const LOAD: u32 = 0x40;
/// So many frames at a time, half of them through filters.
const FILTERED: u32 = 40;

/// Offsets and widths of the registers, as the data sheet has them.
const PLAIN: [(u16, u8); 39] = [
    (0x00, 4),
    (0x04, 4),
    (0x08, 4),
    (0x0c, 4),
    (0x10, 4),
    (0x14, 4),
    (0x18, 4),
    (0x1c, 4),
    (0x20, 4),
    (0x24, 4),
    (0x28, 4),
    (0x2c, 4),
    (0x30, 4),
    (0x34, 2),
    (0x36, 1),
    (0x37, 1),
    (0x38, 2),
    (0x3a, 2),
    (0x3c, 2),
    (0x3e, 2),
    (0x40, 4),
    (0x44, 4),
    (0x48, 4),
    (0x4c, 4),
    (0x50, 1),
    (0x51, 1),
    (0x52, 1),
    (0x54, 4),
    (0x58, 1),
    (0x59, 1),
    (0x5a, 1),
    (0x5c, 2),
    (0x60, 2),
    (0x62, 2),
    (0x64, 2),
    (0x66, 2),
    (0x68, 2),
    (0x6a, 2),
    (0xd8, 1),
];
/// And those that the C+ has besides.
const CPLUS: [(u16, u8); 5] = [(0xd9, 1), (0xe0, 2), (0xe4, 4), (0xe8, 4), (0xec, 1)];

/// Where the table looks for what was written last.
pub const POLL: u32 = PORTS as u32 + 0xd9;
pub const EEPROM: u32 = PORTS as u32 + 0x50;

/// Whether this is an access to a register, by port or in memory.
pub fn is_at(access: &Access, offset: u32) -> bool {
    access.at == offset + if access.memory { REGISTERS } else { PORTS.into() }
}

/// Whether this is to where packets come to lie.
pub fn is_in_buffer(access: &Access) -> bool {
    access.memory && (BUFFER..BUFFER + BUFFER_BYTES).contains(&access.at)
}

fn load(offset: u16, width: u8) -> Access {
    Access::read(PORTS + offset).wide(width)
}

fn store(offset: u16, width: u8, value: u32) -> Access {
    Access::write(PORTS + offset, 0).wide(width).of(value)
}

/// The same, at the card's addresses in memory.
fn in_memory(access: Access) -> Access {
    access.in_memory(REGISTERS + access.at - u32::from(PORTS))
}

/// A driver's work, then whatever comes.
pub fn accesses(random: &mut Random, count: usize) -> Vec<Access> {
    let mut all = Vec::new();
    all.extend(configure(BRIDGE, ROUTES, INPUT * 0x0101_0101));
    all.extend(configure(SLOT, FIRST_BAR, PORTS.into()));
    all.extend(configure(SLOT, SECOND_BAR, REGISTERS));
    // Ports, memory, and the card's own accesses to memory.
    all.extend(configure(SLOT, COMMAND, 7));
    let registers: Vec<(u16, u8)> = PLAIN.into_iter().chain(CPLUS).collect();
    let every = |all: &mut Vec<Access>| {
        for (offset, width) in &registers {
            all.extend([load(*offset, *width), in_memory(load(*offset, *width))]);
        }
    };
    every(&mut all);
    all.push(store(0x37, 1, 0x10));
    every(&mut all);
    // An interrupt that the driver asks for, and takes back.
    all.extend([store(0x3c, 2, 0x0100), store(0xd9, 1, 1), load(0x3e, 2), store(0x3e, 2, 0x0100), load(0x3e, 2)]);
    for word in 0..64 {
        read_eeprom(word, &mut all);
    }
    send_to_itself(random, &mut all);
    all.extend([store(0x10, 4, 0x2345), store(0x50, 1, LOAD), load(0x10, 4)]);
    all.extend([store(0x37, 1, 0x10), store(0x37, 1, 0x04)]);
    let frames = all.iter().filter(|access| access.memory && access.at < REGISTERS).count();
    while all.len() < count + frames {
        let (offset, width) = random.of(&registers);
        let value = match (offset, random.next() as u32) {
            // The transmitter stays on, and has nothing to send.
            (0x37, value) => value & 0xe2 | 0x04,
            (0x10..0x20, value) => value | 0x2000,
            (0xd9, value) => value & 0xfe,
            // The modes of the C+ stay off.
            (0xe0, value) => value & 0xfffc,
            // Locked and not; what the EEPROM is told is above.
            (0x50, value) => [0, 0x80, 0xc0][value as usize % 3],
            (_, value) => value,
        };
        // The driver's read pointer follows packets, of which there are none.
        let is_load = offset == 0x38 || random.one_in(2);
        let access =
            if is_load { load(offset, width) } else { store(offset, width, value & (u32::MAX >> (32 - 8 * width))) };
        all.push(if random.one_in(2) { in_memory(access) } else { access });
    }
    all
}

/// A word of the EEPROM, a bit at a time.
fn read_eeprom(word: u32, all: &mut Vec<Access>) {
    const PROGRAM: u32 = 0x80;
    const SELECT: u32 = PROGRAM | 0x08;
    const CLOCK: u32 = 0x04;
    const DATA: u32 = 0x02;
    all.push(store(0x50, 1, PROGRAM));
    for bit in (0..9).rev() {
        let data = if (0b110 << 6 | word) >> bit & 1 != 0 { DATA } else { 0 };
        all.extend([store(0x50, 1, SELECT | data), store(0x50, 1, SELECT | CLOCK | data)]);
    }
    for _ in 0..16 {
        all.extend([store(0x50, 1, SELECT), store(0x50, 1, SELECT | CLOCK), load(0x50, 1)]);
    }
    all.extend([store(0x50, 1, PROGRAM), store(0x50, 1, 0)]);
}

/// Frames of many lengths to many addresses, in loopback, and what comes of them in memory.
fn send_to_itself(random: &mut Random, all: &mut Vec<Access>) {
    /// The card's own address, all, a group, and somebody else's.
    const TO: [[u8; 6]; 4] =
        [[0x52, 0x54, 0, 0x12, 0x34, 0x56], [0xff; 6], [1, 0, 0x5e, 0, 0, 1], [0x52, 0x54, 0, 0x12, 0x34, 0x57]];
    all.extend([store(0x37, 1, 0x0c), store(0x30, 4, BUFFER), store(0x40, 4, 0x0006_0700), store(0x3c, 2, 0xffff)]);
    all.extend([store(0x08, 4, 0), store(0x0c, 4, 0)]);
    let mut at = 0;
    for number in 0..FRAME_COUNT {
        let length = 60 + random.below(if number % 8 == 0 { 1455 } else { 200 }) as u32;
        // What a filter lets through may be nothing: then the buffer is begun anew. Without filters packets go round and round.
        let filters = number % FILTERED == 0 || number % FILTERED > FILTERED / 2;
        let filter = if filters { random.of(&[0x0e, 0x0a, 0x04, 0x02]) } else { 0x0f };
        let to = random.of(&TO);
        let descriptor = (number % 4) as u16;
        let from = FRAMES + u32::from(descriptor) * FRAME_STRIDE;
        if filters || number % FILTERED == 1 {
            all.extend([store(0x37, 1, 0x04), store(0x37, 1, 0x0c), store(0x44, 4, filter), load(0x37, 1)]);
            at = 0;
        }
        all.extend([store(0x08, 4, if random.one_in(2) { u32::MAX } else { 0 })]);
        for word in 0..length.div_ceil(4) {
            let value = match word {
                0 => u32::from_le_bytes([to[0], to[1], to[2], to[3]]),
                1 => u32::from_le_bytes([to[4], to[5], 0x52, 0x54]),
                _ => random.next() as u32,
            };
            all.push(Access::write(0, 0).wide(4).of(value).in_memory(from + 4 * word));
        }
        all.extend([store(0x20 + 4 * descriptor, 4, from), store(0x10 + 4 * descriptor, 4, length)]);
        all.extend([load(0x10 + 4 * descriptor, 4), load(0x60, 2), load(0x3e, 2), load(0x37, 1), load(0x3a, 2)]);
        all.push(store(0x3e, 2, random.of(&[0xffff, 0x0001, 0x0004, 0x0005])));
        // What is there of it, its status and checksum above all.
        let end = at + 4 + length;
        let offsets = [at, at + 4, at + 8, (end - 4) & !3, end & !3];
        all.extend(offsets.map(|offset| Access::read(0).wide(4).in_memory(BUFFER + offset % BUFFER_BYTES)));
        if filters {
            continue;
        }
        at = (end + 4).next_multiple_of(4) % BUFFER_BYTES;
        all.extend([store(0x38, 2, at.wrapping_sub(16) & 0xffff), load(0x37, 1), load(0x38, 2)]);
    }
}
