//! What firmware finds in the memory beside the clock: how much memory the machine has, its processors, floppy drives and order of
//! boot.
//!
//! Sources: public descriptions of the setup bytes of the PC/AT; those of Bochs and QEMU above
//! 0x30 as SeaBIOS's documentation names them.

use super::BYTES;
use crate::declare;
use device::manifest::OptionSpec;
use device::{OptionError, Options};

/// Types of the two floppy drives, the first in the upper half.
const FLOPPIES: usize = 0x10;
/// What is there: floppy drives, coprocessor, mouse, display.
const EQUIPMENT: usize = 0x14;
/// KiB below 1 MiB, and above it twice: as setup found it and as the test of memory did.
const BASE_KIB: usize = 0x15;
const EXTENDED_KIB: usize = 0x17;
const TESTED_KIB: usize = 0x30;
/// 64 KiB above 16 MiB, and above 4 GiB.
const ABOVE_16M: usize = 0x34;
const ABOVE_4G: usize = 0x5b;
/// The sum of the bytes before it, the upper byte first.
const SUMMED: std::ops::Range<usize> = 0x10..0x2e;
const SUM: usize = 0x2e;
/// What to boot: third choice in the upper half of the first, second and first choice in the other.
const BOOT_THIRD: usize = 0x38;
const BOOT_FIRST: usize = 0x3d;
/// Processors beside the first.
const MORE_CPUS: usize = 0x5f;

/// Conventional memory ends below the extended BIOS data area and the display.
const BASE_MEMORY_KIB: u16 = 640;
/// A drive, 80287, PS/2 mouse; floppy drives are counted above.
const HAS_FLOPPY: u8 = 1 << 0;
const HAS_COPROCESSOR: u8 = 1 << 1;
const HAS_MOUSE: u8 = 1 << 2;
const SECOND_FLOPPY: u8 = 1 << 6;
/// What stands for a medium in the order of boot.
const MEDIA: [(char, u16); 4] = [('a', 1), ('c', 2), ('d', 3), ('n', 4)];
/// Choices that there is room for.
const CHOICES: usize = 3;

/// Kinds of the two disks: 15 says that the extended bytes have them, and 47 that their geometry is given.
const DISKS: usize = 0x12;
const DISK_KINDS: [usize; 2] = [0x19, 0x1a];
const DISK_GEOMETRIES: [usize; 2] = [0x1b, 0x24];
const EXTENDED: u8 = 15;
const GIVEN: u8 = 47;
/// No cylinder has its writing compensated; both kinds of retries are off, and more than eight heads.
const NO_COMPENSATION: u16 = 0xffff;
const DISK_CONTROL: u8 = 0xc0;
const MANY_HEADS: u8 = 1 << 3;
/// How firmware translates the four disks' addresses, two bits each.
const TRANSLATIONS: usize = 0x39;
/// A bit beside the third choice: the first sector of a diskette is booted whatever is in it.
const UNCHECKED: u8 = 1;

pub(super) fn specs() -> [OptionSpec; 9] {
    [
        declare::number("memory", "0", "bytes of memory below 4 GiB, told to firmware"),
        declare::number("memory_above_4g", "0", "bytes of memory above 4 GiB, told to firmware"),
        declare::number("cpus", "1", "processors, told to firmware"),
        declare::text("boot", "", "what firmware boots first: a floppy, c disk, d CD, n network; at most three"),
        declare::number(
            "floppies",
            "0",
            "types of the floppy drives, told to firmware: the first in bits 4 to 7, the second below",
        ),
        declare::number("unchecked", "0", "1: firmware boots a diskette without a signature"),
        declare::text("disk0", "", "the first disk's CYLINDERS/HEADS/SECTORS, told to firmware"),
        declare::text("disk1", "", "the second's"),
        declare::number("translations", "0", "how firmware translates addresses of the four IDE disks, two bits each"),
    ]
}

/// What the options say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Setup {
    memory: u64,
    above_4g: u64,
    cpus: u8,
    boot: u16,
    floppies: u8,
    unchecked: bool,
    disks: [Option<(u16, u8, u8)>; 2],
    translations: u8,
}

impl Setup {
    pub(super) fn of(options: &Options) -> Result<Setup, OptionError> {
        let refused = |name: &str, wanted| OptionError::Value {
            name: name.into(),
            value: options.text(name).unwrap_or_default().into(),
            wanted,
        };
        let byte = |name, default| match options.number(name)? {
            None => Ok(default),
            Some(number) => u8::try_from(number).map_err(|_| refused(name, "a number below 256")),
        };
        let cpus = byte("cpus", 1)?;
        if cpus == 0 {
            return Err(refused("cpus", "a number of processors"));
        }
        let mut boot = 0;
        let order = options.text("boot").unwrap_or_default();
        for (choice, letter) in order.chars().enumerate() {
            let medium = MEDIA.iter().find(|(known, _)| *known == letter).filter(|_| choice < CHOICES);
            let (_, medium) = medium.ok_or(refused("boot", "at most three of the letters a, c, d and n"))?;
            boot |= medium << (4 * choice);
        }
        let disk = |name: &str| -> Result<Option<(u16, u8, u8)>, OptionError> {
            let Some(text) = options.text(name).filter(|text| !text.is_empty()) else { return Ok(None) };
            let parts: Vec<u16> = text.split('/').filter_map(|part| part.parse().ok()).collect();
            match parts.as_slice() {
                [cylinders, heads, sectors] if *heads < 256 && *sectors < 256 => {
                    Ok(Some((*cylinders, *heads as u8, *sectors as u8)))
                }
                _ => Err(refused(name, "CYLINDERS/HEADS/SECTORS")),
            }
        };
        Ok(Setup {
            unchecked: byte("unchecked", 0)? != 0,
            disks: [disk("disk0")?, disk("disk1")?],
            translations: byte("translations", 0)?,
            memory: options.number("memory")?.unwrap_or(0),
            above_4g: options.number("memory_above_4g")?.unwrap_or(0),
            cpus,
            boot,
            floppies: byte("floppies", 0)?,
        })
    }

    /// Writes it where firmware looks for it.
    pub(super) fn show(&self, bytes: &mut [u8; BYTES]) {
        let mut word = |at: usize, value: u64, most: u64| {
            bytes[at..at + 2].copy_from_slice(&(value.min(most) as u16).to_le_bytes());
        };
        let above = |start: u64, unit: u64| self.memory.saturating_sub(start) / unit;
        word(BASE_KIB, BASE_MEMORY_KIB.into(), u64::from(u16::MAX));
        for at in [EXTENDED_KIB, TESTED_KIB] {
            word(at, above(1 << 20, 1 << 10), u64::from(u16::MAX));
        }
        word(ABOVE_16M, above(16 << 20, 64 << 10), u64::from(u16::MAX));
        bytes[ABOVE_4G..ABOVE_4G + 3].copy_from_slice(&(self.above_4g >> 16).to_le_bytes()[..3]);
        bytes[FLOPPIES] = self.floppies;
        bytes[EQUIPMENT] = HAS_COPROCESSOR
            | HAS_MOUSE
            | if self.floppies == 0 { 0 } else { HAS_FLOPPY }
            | if self.floppies & 0xf != 0 && self.floppies >> 4 != 0 { SECOND_FLOPPY } else { 0 };
        bytes[BOOT_FIRST] = self.boot as u8;
        bytes[BOOT_THIRD] = (self.boot >> 4) as u8 & 0xf0 | if self.unchecked { UNCHECKED } else { 0 };
        bytes[TRANSLATIONS] = self.translations;
        for (number, (cylinders, heads, sectors)) in (0..).zip(self.disks).filter_map(|(at, disk)| Some((at, disk?))) {
            bytes[DISKS] |= EXTENDED << (4 * (1 - number));
            bytes[DISK_KINDS[number]] = GIVEN;
            let [low, high] = cylinders.to_le_bytes();
            let [no_low, no_high] = NO_COMPENSATION.to_le_bytes();
            let control = DISK_CONTROL | if heads > 8 { MANY_HEADS } else { 0 };
            let at = DISK_GEOMETRIES[number];
            bytes[at..at + 9].copy_from_slice(&[low, high, heads, no_low, no_high, control, low, high, sectors]);
        }
        bytes[MORE_CPUS] = self.cpus.saturating_sub(1);
        let sum = bytes[SUMMED].iter().fold(0_u16, |sum, byte| sum.wrapping_add((*byte).into()));
        bytes[SUM..SUM + 2].copy_from_slice(&sum.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(options: &[(&str, &str)]) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        Setup::of(&Options::new(options.iter().copied())).unwrap().show(&mut bytes);
        bytes
    }

    #[test]
    fn order_of_boot_that_has_no_place_is_refused() {
        for (name, value) in [("boot", "x"), ("boot", "acdn"), ("cpus", "0"), ("cpus", "256"), ("floppies", "256")] {
            assert!(Setup::of(&Options::new([(name, value)])).is_err(), "{name}={value}");
        }
    }

    #[test]
    fn disks_are_of_the_type_whose_geometry_is_given() {
        assert!(
            Setup::of(&Options::new([("disk0", "1/2")])).is_err()
                && Setup::of(&Options::new([("disk1", "x/2/3")])).is_err()
        );
        let told = bytes(&[("disk0", "1023/16/63"), ("disk1", "40/8/17"), ("translations", "5"), ("unchecked", "1")]);
        assert_eq!((told[0x12], told[0x19], told[0x1a], told[0x39], told[0x38]), (0xff, 47, 47, 5, 1));
        assert_eq!(told[0x1b..0x24], [0xff, 3, 16, 0xff, 0xff, 0xc8, 0xff, 3, 63]);
        assert_eq!(told[0x24..0x2d], [40, 0, 8, 0xff, 0xff, 0xc0, 40, 0, 17]);
        assert_eq!(bytes(&[("disk1", "1/1/1")])[0x12], 0x0f);
    }

    #[test]
    fn memory_is_told_in_kib_and_in_pieces_of_64_kib() {
        let small = bytes(&[("memory", "0x800000")]);
        assert_eq!((small[0x15], small[0x16]), (0x80, 0x02));
        assert_eq!((small[0x17], small[0x18], small[0x30], small[0x31]), (0x00, 0x1c, 0x00, 0x1c));
        assert_eq!((small[0x34], small[0x35]), (0, 0));
        let large = bytes(&[("memory", "0xc0000000"), ("memory_above_4g", "0x140000000")]);
        assert_eq!((large[0x17], large[0x18], large[0x30], large[0x31]), (0xff, 0xff, 0xff, 0xff));
        assert_eq!((large[0x34], large[0x35]), (0x00, 0xbf));
        assert_eq!(large[0x5b..0x5e], [0x00, 0x40, 0x01]);
    }

    #[test]
    fn drives_processors_and_order_of_boot_are_where_firmware_looks() {
        let told = bytes(&[("cpus", "3"), ("boot", "dca"), ("floppies", "0x40")]);
        assert_eq!((told[0x5f], told[0x3d], told[0x38], told[0x10], told[0x14]), (2, 0x23, 0x10, 0x40, 0b111));
        assert_eq!(bytes(&[("floppies", "0x44")])[0x14], 0b100_0111);
        let sum = told[0x10..0x2e].iter().map(|byte| u16::from(*byte)).sum::<u16>();
        assert_eq!(told[0x2e..0x30], sum.to_be_bytes());
    }
}
