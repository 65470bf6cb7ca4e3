//! Accesses to each device: directed ones from its data sheet, then random ones.

use crate::machine::Access;

/// A small generator of random numbers (SplitMix64), the same on each run.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub fn one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }

    pub fn byte(&mut self) -> u8 {
        self.next() as u8
    }

    /// One of these.
    pub fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }
}

/// A store to a register of a function in PCI configuration space.
pub fn configure(slot: u32, register: u32, value: u32) -> [Access; 2] {
    let address = 1 << 31 | slot << 11 | register;
    [Access::write(0xcf8, 0).wide(4).of(address), Access::write(0xcfc, 0).wide(4).of(value)]
}

/// Every value into a register and out of it again.
fn every_value(port: u16, into: &mut Vec<Access>) {
    for value in 0..=255 {
        into.extend([Access::write(port, value), Access::read(port)]);
    }
}

/// The real-time clock: index and data.
pub fn mc146818(random: &mut Random, count: usize) -> Vec<Access> {
    let mut accesses = Vec::new();
    let mut at = |register: u8, value: Option<u8>| {
        accesses.push(Access::write(0x70, register));
        accesses.push(value.map_or(Access::read(0x71), |value| Access::write(0x71, value)));
    };
    for register in 0..128 {
        at(register, None);
    }
    // Memory keeps every value; so do the alarm's bytes.
    for register in (14..128).filter(|register| *register != 0x32).chain([1, 3, 5]) {
        for value in [0x00, 0x55, 0xaa, 0xff] {
            at(register, Some(value));
            at(register, None);
        }
    }
    // While SET is on, the calendar is ten bytes of memory, in each encoding.
    for encoding in [0x80, 0x82, 0x84, 0x86] {
        at(0x0b, Some(encoding));
        for register in [0, 2, 4, 6, 7, 8, 9] {
            for value in [0x00, 0x01, 0x12, 0x23, 0x59, 0x99] {
                at(register, Some(value));
                at(register, None);
            }
        }
    }
    while accesses.len() < count {
        let register = match random.below(4) {
            0 => random.below(14) as u8,
            1 => random.of(&[0x0a, 0x0b, 0x0c, 0x0d]),
            _ => random.below(128) as u8 | if random.one_in(4) { 0x80 } else { 0 },
        };
        accesses.push(Access::write(0x70, register));
        let register = register & 0x7f;
        // Set-up stays as it is: SET on, so that no calendar is made of what is no date.
        let value = match register {
            0x0b => 0x80 | random.byte() & 0x76,
            // The divider runs as before.
            0x0a => 0x20 | random.byte() & 0x8f,
            _ => random.byte(),
        };
        for _ in 0..=random.below(2) {
            accesses.push(if random.one_in(2) { Access::write(0x71, value) } else { Access::read(0x71) });
        }
    }
    accesses
}

/// The UART: eight registers, with nobody at the other end.
pub fn uart16550(random: &mut Random, count: usize) -> Vec<Access> {
    let mut accesses = Vec::new();
    let port = |offset: u16| 0x3f8 + offset;
    // Without OUT2 no interrupt leaves the chip; with it one does.
    accesses.extend([
        Access::write(port(1), 2),
        Access::read(port(2)),
        Access::write(port(1), 0),
        Access::write(port(4), 8),
    ]);
    for offset in [1, 3, 7] {
        every_value(port(offset), &mut accesses);
    }
    accesses.extend([Access::write(port(1), 0), Access::read(port(2))]);
    for control in (0..=255).filter(|control| control & 0x10 == 0) {
        accesses.extend([Access::write(port(4), control), Access::read(port(4)), Access::read(port(6))]);
    }
    // The divisor lies over the first two while the latch bit is on.
    accesses.push(Access::write(port(3), 0x83));
    every_value(port(0), &mut accesses);
    every_value(port(1), &mut accesses);
    accesses.extend([Access::write(port(3), 0x03), Access::write(port(1), 0), Access::write(port(4), 8)]);
    // Loopback: each output is seen at its input; each byte comes back, up to the FIFO's depth.
    for control in 0x10..=0x1f {
        accesses.extend([Access::write(port(4), control), Access::read(port(6)), Access::read(port(6))]);
    }
    for control in [0x00, 0x01, 0x41, 0x81, 0xc1] {
        accesses.extend([Access::write(port(2), control | 6), Access::write(port(1), 0x0f), Access::read(port(2))]);
        for byte in 0..18 {
            accesses.extend([Access::write(port(0), byte), Access::read(port(5)), Access::read(port(2))]);
        }
        for _ in 0..18 {
            accesses.extend([Access::read(port(0)), Access::read(port(5)), Access::read(port(2))]);
        }
    }
    accesses.extend([Access::write(port(1), 0), Access::write(port(4), 0x08), Access::write(port(2), 0x07)]);
    accesses.extend([Access::read(port(6)), Access::read(port(5)), Access::read(port(2))]);
    while accesses.len() < count {
        let offset = random.of(&[0, 0, 0, 1, 2, 2, 3, 4, 5, 5, 6, 7]);
        let value = match offset {
            // The FIFOs stay on, and what is to be sent stays in its own.
            2 => random.byte() & 0xc2 | 1,
            // The cable stays connected, and the interrupt with it.
            4 => random.byte() & 0x0f | 0x08,
            _ => random.byte(),
        };
        accesses.push(if random.one_in(2) { Access::read(port(offset)) } else { Access::write(port(offset), value) });
    }
    accesses
}

/// The parallel port: data, status, control.
pub fn parallel(random: &mut Random, count: usize) -> Vec<Access> {
    let mut accesses = vec![Access::read(0x379), Access::read(0x37a)];
    every_value(0x378, &mut accesses);
    every_value(0x37a, &mut accesses);
    // A byte printed, as drivers do it.
    for byte in 0..=255 {
        let lines = [(0x378, byte), (0x37a, 0x0d), (0x37a, 0x0c)];
        accesses.extend(lines.map(|(port, value)| Access::write(port, value)));
        accesses.extend([Access::read(0x379), Access::read(0x379)]);
    }
    while accesses.len() < count {
        let port = random.of(&[0x378, 0x379, 0x37a]);
        accesses.push(if random.one_in(2) { Access::read(port) } else { Access::write(port, random.byte()) });
    }
    accesses
}

/// The keyboard controller and its keyboard: whole conversations, since between two bytes of one time has to pass. Nothing that
/// resets the processor.
pub fn i8042(random: &mut Random, count: usize) -> Vec<Access> {
    const CONFIGURATION: u8 = 0x45;
    let mut accesses = Vec::new();
    // A command or a byte for the keyboard, and so many bytes of answer.
    let mut talk = |port: u16, bytes: &[u8], answers: usize| {
        for (at, byte) in bytes.iter().enumerate() {
            accesses.push(Access::write(if at == 0 { port } else { 0x60 }, *byte));
            accesses.push(Access::read(0x64));
        }
        for _ in 0..answers {
            accesses.extend([Access::read(0x60), Access::read(0x64)]);
        }
        accesses.len()
    };
    talk(0x64, &[0x20], 1);
    talk(0x64, &[0xc0], 1);
    talk(0x64, &[0xd0], 1);
    // Every configuration with the keyboard on, its bytes translated; the second port's bits as they are.
    for value in 0..=255u8 {
        talk(0x64, &[0x60, value & 0xcd | 0x40], 0);
        talk(0x64, &[0x20], 1);
    }
    talk(0x64, &[0x60, CONFIGURATION], 0);
    loop {
        let made = match random.below(12) {
            0 => talk(0x64, &[0x60, CONFIGURATION & !1 | random.byte() & 1], 0),
            1 => talk(0x64, &[0x20], 1),
            2 => talk(0x64, &[0xab], 1),
            3 => talk(0x64, &[0xd2, random.byte()], 1),
            4 => talk(0x60, &[0xee], 1),
            5 => talk(0x60, &[random.of(&[0xf4, 0xf5, 0xf6])], 1),
            6 => {
                // Off, as the configuration says, and on again.
                talk(0x64, &[0xad], 0);
                talk(0x64, &[0x20], 1);
                talk(0x64, &[0xae], 0)
            }
            7 => {
                // What is sent to a keyboard that is off switches it on.
                talk(0x64, &[0xad], 0);
                talk(0x60, &[0xee], 1);
                talk(0x64, &[0x20], 1)
            }
            _ => talk(0x64, &[random.of(&[0x20, 0xab])], 1),
        };
        if made >= count {
            return accesses;
        }
    }
}

/// The panic device, without saying that anybody panicked.
pub fn pvpanic(random: &mut Random, count: usize) -> Vec<Access> {
    let one = |random: &mut Random| match random.below(4) {
        0 => Access::write(0x505, random.byte() & !3),
        1 => Access::read(0x505).wide(random.of(&[2, 4])),
        _ => Access::read(0x505),
    };
    (0..count).map(|_| one(random)).collect()
}

/// The watchdog: it starts and stops, and time stands still.
pub fn ib700(random: &mut Random, count: usize) -> Vec<Access> {
    let one = |random: &mut Random| {
        let port = random.of(&[0x441, 0x443]);
        // A time of zero would end the machine.
        if random.one_in(4) { Access::read(port) } else { Access::write(port, random.byte() & !1) }
    };
    (0..count).map(|_| one(random)).collect()
}
