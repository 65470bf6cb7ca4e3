//! Accesses to the timer and the interrupt controllers of a board.

use crate::accesses::Random;
use crate::machine::Access;

/// The I/O APIC's two registers in memory.
pub const SELECT: u32 = 0xfec0_0000;
pub const WINDOW: u32 = 0xfec0_0010;
/// Its registers: the first of its entries, and how many follow.
pub const ENTRY: u8 = 0x10;
const REGISTERS: u8 = 0x40;
/// Bits that the halves of an entry have (82093AA, 3.2.4).
pub const ENTRY_BITS: [u64; 2] = [0x0001_afff, 0xff00_0000];
/// The two 8259As, each with its word for the cascade and the inputs that are not the cascade's.
const FIRST: u16 = 0x20;
const SECOND: u16 = 0xa0;
const CONTROLLERS: [(u16, u8); 2] = [(FIRST, 0x04), (SECOND, 0x02)];
/// Fourth words: nested in either way, with ends by command and without.
const ALL: &[u8] = &[0x01, 0x01, 0x03, 0x11, 0x13];
const BY_COMMAND: &[u8] = &[0x01, 0x11];
const AUTOMATIC: &[u8] = &[0x03];
/// Inputs of each.
const PINS: u32 = 8;
const CASCADE: u32 = 2;
/// Inputs that can be level triggered (82371SB, "ELCR1", "ELCR2").
const CAN_BE_LEVEL: u16 = 0xdef8;
/// The input that is tried while it changes its trigger.
pub const LEVELLED: u32 = 11;
/// What says which inputs are level triggered.
const TRIGGERS: u16 = 0x4d0;

/// Counts of the timer that mean something of their own, in both bytes.
const COUNTS: [u16; 8] = [0, 1, 2, 3, 0x0100, 0x1234, 0x9998, 0xffff];
/// The longest count lasts 54.9 ms.
const COUNTED_NS: u32 = 60_000_000;

/// The timer: each counter in each mode, latched and not, with port 0x61. Time stands still.
pub fn i8254(random: &mut Random, count: usize) -> Vec<Access> {
    let mut accesses = Vec::new();
    for gate in [0, 1] {
        accesses.push(Access::write(0x61, gate));
        for control in 0x10..0x40 {
            for counter in 0..3 {
                accesses.extend([Access::write(0x43, counter << 6 | control), Access::read(0x61)]);
                for value in COUNTS {
                    program(&mut accesses, counter, control, value);
                    accesses.push(Access::read(0x61));
                    read_back(&mut accesses, 2 << counter);
                }
            }
        }
    }
    while accesses.len() < count {
        let counter = random.below(3) as u8;
        let port = 0x40 + u16::from(counter);
        match random.below(8) {
            0 => {
                let control = (1 + random.below(3) as u8) << 4 | random.below(16) as u8;
                program(&mut accesses, counter, control, random.next() as u16);
            }
            1 => accesses.extend([Access::write(0x43, counter << 6), Access::read(port), Access::read(port)]),
            2 => read_back(&mut accesses, random.byte() & 0x3e),
            3 => accesses.extend([Access::write(0x61, random.byte()), Access::read(0x61)]),
            4 => accesses.push(Access::read(0x43)),
            5 => {
                // Another count, in the way that was agreed on; the upper byte first is ignored where there is one byte.
                accesses.extend([Access::write(port, random.byte() & 0x77), Access::write(port, random.byte() & 0x77)]);
            }
            _ => accesses.extend([Access::read(port), Access::read(port)]),
        }
    }
    accesses
}

/// The read-back command for these counters, and what it latched; then the counts as they are.
fn read_back(accesses: &mut Vec<Access>, command: u8) {
    accesses.push(Access::write(0x43, 0xc0 | command));
    for counter in (0..3).filter(|counter| command >> (1 + counter) & 1 != 0) {
        let statuses = 1 - usize::from(command >> 4 & 1);
        // A latched count is read whole, whichever bytes of it are.
        accesses.extend(std::iter::repeat_n(Access::read(0x40 + counter), statuses + 4));
    }
}

/// The same while time passes: what comes of a count when it is over, in the modes that come to an end.
pub fn i8254_in_time(random: &mut Random, count: usize) -> Vec<Access> {
    let mut accesses = Vec::new();
    while accesses.len() < count {
        for mode in [0, 1, 4, 5] {
            accesses.push(Access::write(0x61, random.byte() & 1));
            for counter in [0, 2] {
                program(&mut accesses, counter, 3 << 4 | mode << 1, random.next() as u16);
            }
            accesses.push(Access::write(0x61, random.byte() & 1));
            accesses.extend([Access::pass(COUNTED_NS), Access::read(0x61)]);
            // What a status says of counts that were loaded and of outputs.
            accesses.extend([Access::write(0x43, 0xea), Access::read(0x40), Access::read(0x42)]);
        }
    }
    accesses
}

/// A control word for a counter, and its count.
fn program(accesses: &mut Vec<Access>, counter: u8, control: u8, count: u16) {
    // A decimal digit has ten values.
    let count = if control & 1 == 1 { count & 0x7777 } else { count };
    // Of a period, one cycle is too short.
    let [low, high] = (if control & 4 == 4 && count == 1 { 2 } else { count }).to_le_bytes();
    let port = 0x40 + u16::from(counter);
    accesses.push(Access::write(0x43, counter << 6 | control));
    if control & 0x10 != 0 {
        accesses.push(Access::write(port, low));
    }
    if control & 0x20 != 0 {
        accesses.push(Access::write(port, high));
    }
}

/// The two controllers, with requests at all inputs: each set-up, then operations in any order.
pub fn i8259(random: &mut Random, count: usize) -> Vec<Access> {
    let mut accesses = initialize(random, [ALL, ALL]);
    // A request that goes away, and an input that is high when it begins to be level triggered, or all is begun anew.
    accesses.extend([Access::wire(LEVELLED, true), Access::wire(LEVELLED, false)]);
    look(&mut accesses, SECOND);
    accesses.extend(initialize(random, [ALL, ALL]));
    accesses.extend([Access::wire(LEVELLED, true), Access::write(0xa0, 0x0c), Access::read(0xa0)]);
    // It is masked while it is in service.
    accesses.extend([
        Access::write(SECOND + 1, 1 << (LEVELLED % PINS)),
        Access::write(SECOND, 0x68),
        Access::write(SECOND, 0x20),
    ]);
    look(&mut accesses, SECOND);
    accesses.push(Access::write(TRIGGERS + 1, 1 << (LEVELLED % PINS)));
    look(&mut accesses, SECOND);
    accesses.extend(initialize(random, [ALL, ALL]));
    look(&mut accesses, SECOND);
    // Two requests of the second's, which end by themselves.
    accesses.extend(inputs().map(|input| Access::wire(input, false)));
    accesses.push(Access::write(TRIGGERS + 1, 0));
    accesses.extend(initialize(random, [AUTOMATIC, AUTOMATIC]));
    accesses.extend([Access::wire(PINS + 1, true), Access::wire(PINS + 2, true)]);
    for port in [FIRST, SECOND, FIRST] {
        poll(&mut accesses, port);
    }
    accesses.extend(initialize(random, [ALL, ALL]));
    while accesses.len() < count {
        accesses.extend(inputs().map(|input| Access::wire(input, false)));
        let levels = [random.byte() & random.byte(), random.byte() & random.byte()];
        for (port, levels) in (TRIGGERS..).zip(levels) {
            accesses.extend([Access::write(port, levels), Access::read(port)]);
        }
        accesses.extend(initialize(random, [ALL, ALL]));
        let levels = u16::from_le_bytes(levels) & CAN_BE_LEVEL;
        // What the second asks of the first while the first asks for nothing is a matter of its own.
        let (port, _) = random.of(&CONTROLLERS);
        if port == FIRST {
            accesses.push(Access::write(SECOND + 1, 0xff));
        }
        // In special mask mode a program says what it ends.
        let is_special = random.one_in(2);
        for _ in 0..random.below(200) {
            operate(&mut accesses, random, port, levels, is_special);
        }
        take_all(&mut accesses, port);
        cascade(&mut accesses, random);
    }
    accesses
}

/// Every request is taken, in its order, and comes to its end.
fn take_all(accesses: &mut Vec<Access>, port: u16) {
    accesses.extend([Access::write(port + 1, 0), Access::write(port, 0x48)]);
    for _ in 0..=8 {
        accesses.extend((0x60..0x68).map(|end| Access::write(port, end)));
        accesses.extend([Access::write(port, 0x0c), Access::read(port)]);
    }
}

/// Requests of the second's inputs, as a program takes them: from the first, then from the second, and ended in the other order.
fn cascade(accesses: &mut Vec<Access>, random: &mut Random) {
    accesses.extend(inputs().map(|input| Access::wire(input, false)));
    accesses.extend([TRIGGERS, TRIGGERS + 1].map(|port| Access::write(port, 0)));
    accesses.extend(initialize(random, [ALL, BY_COMMAND]));
    for _ in 0..PINS {
        for _ in 0..2 {
            accesses.push(Access::wire(PINS + random.below(PINS.into()) as u32, true));
            poll(accesses, FIRST);
        }
        // The first may have taken one or both; the second has given none yet.
        for _ in 0..2 {
            poll(accesses, SECOND);
            accesses.extend([SECOND, FIRST].map(|port| Access::write(port, 0x20)));
            poll(accesses, FIRST);
        }
    }
}

/// Takes what is most urgent, and looks at what that has changed.
fn poll(accesses: &mut Vec<Access>, port: u16) {
    accesses.extend([Access::write(port, 0x0c), Access::read(port)]);
    look(accesses, port);
}

/// All but the cascade's.
fn inputs() -> impl Iterator<Item = u32> {
    (0..16).filter(|input| *input != CASCADE)
}

/// The initialization words of both, the fourth one of these, and a look between them.
fn initialize(random: &mut Random, fourth: [&[u8]; 2]) -> Vec<Access> {
    let mut accesses = Vec::new();
    for ((port, cascade), fourth) in CONTROLLERS.into_iter().zip(fourth) {
        // With level triggers, which this board leaves to other registers, and without a fourth word.
        let first = 0x10 | if fourth == AUTOMATIC { 1 } else { random.of(&[0x01, 0x01, 0x01, 0x09, 0x00]) };
        accesses.extend([Access::write(port, first), Access::read(port), Access::read(port + 1)]);
        accesses.extend([Access::write(port + 1, random.byte()), Access::write(port + 1, cascade)]);
        if first & 1 != 0 {
            accesses.push(Access::write(port + 1, random.of(fourth)));
        }
        accesses.extend([Access::read(port), Access::read(port + 1)]);
    }
    accesses
}

/// Requests, what is in service, and masks.
fn look(accesses: &mut Vec<Access>, port: u16) {
    accesses.extend([0x0a, 0x0b].into_iter().flat_map(|word| [Access::write(port, word), Access::read(port)]));
    accesses.push(Access::read(port + 1));
}

/// Something that a program does to them, or that happens to them.
fn operate(accesses: &mut Vec<Access>, random: &mut Random, port: u16, levels: u16, is_special: bool) {
    let level = random.below(8) as u8;
    match random.below(16) {
        0..5 => {
            // An edge's request that has not been taken is a matter of its own.
            let input = inputs().nth(random.below(15) as usize).unwrap_or_default();
            accesses.push(Access::wire(input, levels >> input & 1 == 0 || random.one_in(2)));
        }
        5 => accesses.push(Access::write(port + 1, random.byte() & random.byte())),
        6 if !is_special => accesses.push(Access::write(port, 0x20)),
        6 | 7 => accesses.push(Access::write(port, 0x60 | level)),
        // Ends and rotations, all of them.
        8 => accesses.push(Access::write(port, random.byte() & 0xe7 | if is_special { 0x40 } else { 0 })),
        9..12 => accesses.extend([Access::write(port, 0x0c), Access::read(port)]),
        12 => accesses.extend([Access::write(port, 0x0c | random.byte() & 0x03), Access::read(port + 1)]),
        13 => accesses.push(Access::write(port, 0x08 | random.byte() & if is_special { 0x63 } else { 0x03 })),
        _ => look(accesses, port),
    }
}

/// The I/O APIC: each register with each bit, then random ones.
pub fn ioapic(random: &mut Random, count: usize) -> Vec<Access> {
    let select = |number: u8| Access::write(0, 0).in_memory(SELECT).wide(4).of(number.into());
    let read = |address: u32| Access::read(0).in_memory(address).wide(4);
    let write = |value: u32| Access::write(0, 0).in_memory(WINDOW).wide(4).of(value);
    let mut accesses = Vec::new();
    for number in 0..=u8::MAX {
        accesses.extend([select(number), read(SELECT), read(WINDOW)]);
    }
    for number in 0..REGISTERS {
        accesses.push(select(number));
        for value in (0..32).map(|bit| 1 << bit).chain([0, u32::MAX]) {
            accesses.extend([write(value), read(WINDOW)]);
        }
    }
    while accesses.len() < count {
        let number = if random.one_in(4) { random.below(16) as u8 } else { ENTRY + random.below(48) as u8 };
        accesses.push(select(number));
        for _ in 0..random.below(3) {
            accesses.extend([write(random.next() as u32), read(WINDOW)]);
        }
        accesses.push(read(WINDOW));
        if random.one_in(8) {
            // Narrow ones, and between the registers.
            accesses.push(Access::read(0).in_memory(SELECT + random.below(0x40) as u32 * 4).wide(4));
        }
    }
    accesses
}
