//! A 93C46 serial EEPROM of 64 words, as it is wired to the card: three wires in, one out.
//!
//! Source: Microchip, *93C46* data sheet, sections "Instruction set" and "Functional description". Bits come on the rising edge
//! of the clock while the chip is selected: a one, two of the instruction, six of the address, then data.

use super::registers::eecr;
use crate::ethernet::ADDRESS_BYTES;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

const WORDS: usize = 64;
/// Bits behind the first one that make an instruction with its address.
const INSTRUCTION_BITS: u8 = 8;
const WORD_BITS: u8 = 16;

/// Word 0 of every card's EEPROM, by which a driver knows that it has one (data sheet, "EEPROM contents").
const SIGNATURE: u16 = 0x8129;
/// Vendor and device of the PCI configuration, and of the subsystem.
const IDENTITY: usize = 1;
/// The first of three words of the card's address.
const ADDRESS: usize = 7;

/// What the chip is doing.
const IDLE: u8 = 0;
const INSTRUCTION: u8 = 1;
const READING: u8 = 2;
const WRITING: u8 = 3;
/// Done, until it is selected anew.
const DONE: u8 = 4;

/// The EEPROM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Eeprom {
    words: [u16; WORDS],
    /// Bits that have come in, or that are yet to go out.
    shift: u16,
    /// How many.
    bits: u8,
    phase: u8,
    /// Instruction and address, as they came.
    instruction: u8,
    /// 0 or 1: words may be written.
    enabled: u8,
    /// The wires in, as the register has them.
    wires: u8,
    /// 0 or 1: the wire out.
    out: u8,
}

impl Eeprom {
    /// As it leaves the factory, with this address.
    pub(super) fn new(address: [u8; ADDRESS_BYTES], identity: [u16; 4]) -> Eeprom {
        let mut eeprom = Eeprom { out: 1, ..Eeprom::new_zeroed() };
        eeprom.words[0] = SIGNATURE;
        eeprom.words[IDENTITY..IDENTITY + identity.len()].copy_from_slice(&identity);
        for (word, bytes) in eeprom.words[ADDRESS..].iter_mut().zip(address.as_chunks::<2>().0) {
            *word = u16::from_le_bytes(*bytes);
        }
        eeprom
    }

    pub(super) fn is_sound(&self) -> bool {
        self.phase <= DONE
            && self.bits <= WORD_BITS
            && self.enabled <= 1
            && self.out <= 1
            && self.wires & !(eecr::SELECT | eecr::CLOCK | eecr::DATA_IN) == 0
    }

    /// The address in it.
    pub(super) fn address(&self) -> [u8; ADDRESS_BYTES] {
        let mut address = [0; ADDRESS_BYTES];
        for (bytes, word) in address.as_chunks_mut::<2>().0.iter_mut().zip(&self.words[ADDRESS..]) {
            *bytes = word.to_le_bytes();
        }
        address
    }

    /// All four wires, as the register has them.
    pub(super) fn register(&self) -> u8 {
        self.wires | if self.out() { eecr::DATA_OUT } else { 0 }
    }

    fn out(&self) -> bool {
        self.out != 0
    }

    /// The wires in have these levels now, as the register has them.
    pub(super) fn drive(&mut self, register: u8) {
        let before = std::mem::replace(&mut self.wires, register & (eecr::SELECT | eecr::CLOCK | eecr::DATA_IN));
        let rises = |wire| self.wires & wire != 0 && before & wire == 0;
        if self.wires & eecr::SELECT == 0 {
            (self.phase, self.bits, self.shift, self.out) = (IDLE, 0, 0, 1);
        } else if rises(eecr::CLOCK) {
            self.clock(self.wires & eecr::DATA_IN != 0);
        }
    }

    fn clock(&mut self, bit: bool) {
        match self.phase {
            IDLE if bit => self.phase = INSTRUCTION,
            INSTRUCTION => {
                self.push(bit);
                if self.bits == INSTRUCTION_BITS {
                    self.instruction = self.shift as u8;
                    self.begin();
                }
            }
            READING => {
                if self.bits == 0 {
                    // The next word follows without another instruction.
                    self.instruction = self.instruction & 0xc0 | self.instruction.wrapping_add(1) & 0x3f;
                    (self.shift, self.bits) = (self.words[self.address_bits()], WORD_BITS);
                }
                self.out = (self.shift >> 15) as u8;
                self.shift <<= 1;
                self.bits -= 1;
            }
            WRITING => {
                self.push(bit);
                if self.bits == WORD_BITS {
                    let word = self.shift;
                    match self.instruction >> 6 {
                        _ if self.enabled == 0 => {}
                        0b00 => self.words = [word; WORDS],
                        _ => self.words[self.address_bits()] = word,
                    }
                    self.phase = DONE;
                }
            }
            _ => {}
        }
    }

    fn push(&mut self, bit: bool) {
        self.shift = self.shift << 1 | u16::from(bit);
        self.bits += 1;
    }

    fn address_bits(&self) -> usize {
        usize::from(self.instruction & 0x3f)
    }

    /// An instruction is complete.
    fn begin(&mut self) {
        (self.bits, self.shift) = (0, 0);
        self.phase = DONE;
        match (self.instruction >> 6, self.instruction >> 4 & 3) {
            (0b10, _) => {
                // A zero comes before the word.
                (self.phase, self.out) = (READING, 0);
                (self.shift, self.bits) = (self.words[self.address_bits()], WORD_BITS);
            }
            (0b01, _) | (0b00, 0b01) => self.phase = WRITING,
            (0b11, _) if self.enabled != 0 => self.words[self.address_bits()] = u16::MAX,
            (0b00, 0b10) if self.enabled != 0 => self.words = [u16::MAX; WORDS],
            (0b00, 0b11) => self.enabled = 1,
            (0b00, 0b00) => self.enabled = 0,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: [u8; 6] = [2, 0, 0, 0, 0, 7];

    fn eeprom() -> Eeprom {
        Eeprom::new(ADDRESS, [0x10ec, 0x8139, 0x10ec, 0x8139])
    }

    fn send(eeprom: &mut Eeprom, bits: u32, count: u32) {
        for at in (0..count).rev() {
            let data = if bits >> at & 1 != 0 { eecr::DATA_IN } else { 0 };
            eeprom.drive(eecr::SELECT | data);
            eeprom.drive(eecr::SELECT | data | eecr::CLOCK);
        }
    }

    fn word(eeprom: &mut Eeprom) -> u16 {
        (0..16).fold(0, |word, _| {
            eeprom.drive(eecr::SELECT);
            eeprom.drive(eecr::SELECT | eecr::CLOCK);
            word << 1 | u16::from(eeprom.out())
        })
    }

    fn read(eeprom: &mut Eeprom, address: u32) -> u16 {
        eeprom.drive(0);
        send(eeprom, 0b110 << 6 | address, 9);
        assert!(!eeprom.out(), "a zero comes first");
        word(eeprom)
    }

    #[test]
    fn words_are_not_written_before_that_is_enabled() {
        let mut eeprom = eeprom();
        send(&mut eeprom, 0b101 << 6 | 9, 9);
        send(&mut eeprom, 0x1234, 16);
        assert_eq!(read(&mut eeprom, 9), 0x0700);
    }

    #[test]
    fn words_are_written_once_that_is_enabled() {
        let mut eeprom = eeprom();
        send(&mut eeprom, 0b1_0011_0000, 9);
        eeprom.drive(0);
        send(&mut eeprom, 0b101 << 6 | 9, 9);
        send(&mut eeprom, 0x1234, 16);
        assert_eq!(read(&mut eeprom, 9), 0x1234);
        assert_eq!(eeprom.address(), [2, 0, 0, 0, 0x34, 0x12]);
    }

    #[test]
    fn signature_and_address_are_read_one_after_the_other() {
        let mut eeprom = eeprom();
        assert_eq!(read(&mut eeprom, 0), SIGNATURE);
        assert_eq!([word(&mut eeprom), word(&mut eeprom)], [0x10ec, 0x8139]);
        assert_eq!(read(&mut eeprom, 7), 0x0002);
        assert_eq!([word(&mut eeprom), word(&mut eeprom)], [0, 0x0700]);
        assert_eq!(eeprom.address(), ADDRESS);
    }

    #[test]
    fn driver_that_expects_a_longer_address_sees_that_the_chip_is_another() {
        // 8 bits of address, as a 93C56 has: the word then comes two bits early.
        let mut eeprom = eeprom();
        eeprom.drive(0);
        send(&mut eeprom, 0b110 << 8, 11);
        assert_ne!(word(&mut eeprom), SIGNATURE);
    }

    #[test]
    fn zeros_before_the_first_one_mean_nothing() {
        let mut eeprom = eeprom();
        send(&mut eeprom, 0, 5);
        send(&mut eeprom, 0b110 << 6, 9);
        assert_eq!(word(&mut eeprom), SIGNATURE);
    }
}
