//! The controllers in a PC with one drive of 1.44 MB.

mod commands;
mod dma;
mod exchange;
mod registers;
mod transfers;

use super::medium::{FORMATS, SECTOR_BYTES};
use super::*;
use crate::conformance::{Bench, Random, Strike, World, conforms};
use device::BlockStore;
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex};
use vm_memory::{Bytes, GuestAddress, VolatileSlice};

const MEMORY_BYTES: usize = 1 << 20;

/// An image in memory.
#[derive(Clone)]
struct Image {
    bytes: Arc<Mutex<Vec<u8>>>,
    readonly: bool,
    /// Every transfer fails.
    broken: bool,
}

impl Image {
    /// Sectors that all differ.
    fn new(bytes: u64) -> Image {
        let contents = (0..bytes).map(|at| (at / 512 * 7 + at / 512 / 256 + at % 251) as u8).collect();
        Image { bytes: Arc::new(Mutex::new(contents)), readonly: false, broken: false }
    }

    fn contents(&self) -> Vec<u8> {
        self.bytes.lock().unwrap().clone()
    }

    fn sector(&self, number: usize) -> Vec<u8> {
        self.bytes.lock().unwrap()[number * SECTOR_BYTES..][..SECTOR_BYTES].to_vec()
    }
}

impl BlockStore for Image {
    fn bytes(&self) -> u64 {
        self.bytes.lock().unwrap().len() as u64
    }
    fn readonly(&self) -> bool {
        self.readonly
    }
    fn read_at(&mut self, offset: u64, into: &[VolatileSlice<'_>]) -> io::Result<()> {
        if self.broken {
            return Err(io::ErrorKind::Other.into());
        }
        let bytes = self.bytes.lock().unwrap();
        let mut rest = &bytes[offset as usize..];
        for slice in into {
            slice.copy_from(&rest[..slice.len()]);
            rest = &rest[slice.len()..];
        }
        Ok(())
    }
    fn write_at(&mut self, offset: u64, from: &[VolatileSlice<'_>]) -> io::Result<()> {
        if self.broken {
            return Err(io::ErrorKind::Other.into());
        }
        let mut bytes = self.bytes.lock().unwrap();
        let mut rest = &mut bytes[offset as usize..];
        for slice in from {
            slice.copy_to(&mut rest[..slice.len()]);
            rest = &mut rest[slice.len()..];
        }
        Ok(())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Drive A with a diskette, drive B with none.
struct Pc {
    a: Option<Image>,
    setting: &'static str,
    memory: GuestMemory,
    /// What a guest that knows the chip does next.
    script: VecDeque<Strike>,
}

impl Pc {
    fn with(a: Option<Image>) -> Pc {
        let setting = if a.is_some() { "writable" } else { "empty" };
        let memory = GuestMemory::from_ranges(&[(GuestAddress(0), MEMORY_BYTES)]).unwrap();
        Pc { a, setting, memory, script: VecDeque::new() }
    }

    fn image(&self) -> &Image {
        self.a.as_ref().unwrap()
    }

    fn memory(&self, at: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.memory.read_slice(&mut bytes, GuestAddress(at)).unwrap();
        bytes
    }
}

impl World for Pc {
    const NAME: &'static str = NAME;
    /// Its state is large, and a step may be a track.
    const STEPS: usize = 20_000;

    fn new() -> Pc {
        Pc::with(Some(Image::new(1440 << 10)))
    }

    fn options(&self) -> Options {
        Options::new([("a", self.setting)])
    }

    fn powers(&self) -> Powers {
        let mut powers = Powers { memory: Some(self.memory.clone()), ..Powers::default() };
        if let Some(image) = &self.a {
            powers.stores.push((1, Box::new(image.clone())));
        }
        powers
    }

    fn seen(&self) -> Vec<u8> {
        let mut seen = self.image().contents();
        seen.extend(self.memory(0, MEMORY_BYTES));
        seen
    }

    /// Mostly a guest that programs DMA and gives whole commands, with a byte wrong here and there.
    fn strike(&mut self, random: &mut Random, manifest: &Manifest) -> Strike {
        if let Some(strike) = self.script.pop_front() {
            return if random.one_in(60) { Strike { value: random.value(), ..strike } } else { strike };
        }
        match random.below(10) {
            0..2 => {
                let range = random.below(manifest.ranges.len() as u64) as u8;
                let offset = random.below(manifest.ranges[usize::from(range)].length);
                return Strike { range, offset, width: 1, value: random.value(), write: random.one_in(2) };
            }
            2..4 => {}
            _ => self.plan(random),
        }
        let offset = if random.one_in(3) { STATUS } else { DATA };
        Strike { range: REGISTERS, offset, width: 1, value: random.next(), write: random.one_in(4) }
    }
}

conforms!(Pc);

impl Pc {
    fn plan(&mut self, random: &mut Random) {
        let mut outs: Vec<(u16, u8)> = Vec::new();
        if random.one_in(2) {
            outs.push((0x3f2, if random.one_in(20) { random.next() as u8 } else { 0x1c }));
            outs.push((0x3f7, if random.one_in(4) { random.below(4) as u8 } else { 0 }));
            outs.extend(program(
                [0x44, 0x46, 0x4a, 0x56, 0x66][random.below(5) as usize],
                random.below(2 * MEMORY_BYTES as u64) as u32,
                random.below(40) as u16 * 256 + 255,
            ));
            outs.push((0xd4, 0));
        }
        let code = [0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0a, 0x0c, 0x0d, 0x0e, 0x0f, 0x10];
        let more = [0x11, 0x12, 0x13, 0x14, 0x16, 0x19, 0x1d, 0x8f, 0x94];
        let all = [&code[..], &more[..]].concat();
        let code = all[random.below(all.len() as u64) as usize];
        let flags = if matches!(code & 0x1f, 2 | 5 | 6 | 9 | 0xa..=0xd | 0x11 | 0x16 | 0x19 | 0x1d) {
            0x40 | (random.next() as u8 & 0xa0)
        } else {
            0
        };
        let cylinder = random.below(4) as u8;
        let head = random.below(2) as u8;
        let drive = if random.one_in(10) { random.below(4) as u8 } else { 0 };
        let bytes: Vec<u8> = match code {
            0x03 => vec![code, 0xdf, if random.one_in(3) { 3 } else { 2 }],
            0x0d => vec![code | flags, head << 2 | drive, 2, random.below(20) as u8, 0x54, random.next() as u8],
            0x13 => vec![code, 0, random.next() as u8, 0],
            0x0f | 0x8f => vec![code, drive, cylinder],
            0x04 | 0x07 | 0x0a => vec![code | flags, head << 2 | drive],
            0x12 => vec![code, random.next() as u8],
            0x08 | 0x0e | 0x10 | 0x14 | 0x94 => vec![code],
            _ => {
                let first = random.below(19) as u8;
                let second = (random.next() as u8 & 0x80) | head << 2 | drive;
                vec![code | flags, second, cylinder, head, first, 2, random.below(20) as u8, 0x1b, random.next() as u8]
            }
        };
        outs.extend(bytes.into_iter().map(|byte| (0x3f5, byte)));
        self.script.extend(outs.into_iter().map(|(port, value)| {
            let (range, offset) = place(port);
            Strike { range, offset, width: 1, value: value.into(), write: true }
        }));
        for _ in 0..random.below(24) {
            self.script.push_back(Strike { range: REGISTERS, offset: DATA, width: 1, value: 0, write: false });
        }
    }
}

/// Range and offset of a port.
fn place(port: u16) -> (u8, u64) {
    let (range, base) = match port {
        0x3f0..=0x3f5 => (REGISTERS, PORT),
        0x3f7 => (INPUT, INPUT_PORT),
        0x00..=0x0f => (FIRST_DMA, FIRST_DMA_PORT),
        0x80..=0x8f => (PAGE, PAGE_PORT),
        0xc0..=0xdf => (SECOND_DMA, SECOND_DMA_PORT),
        other => panic!("{other:#x} is not a port of this device"),
    };
    (range, (port - base).into())
}

/// Programs channel 2.
fn program(mode: u8, address: u32, count: u16) -> Vec<(u16, u8)> {
    let ([a, b, page, _], [c, d]) = (address.to_le_bytes(), count.to_le_bytes());
    vec![
        (0x0a, 6),
        (0x0c, 0),
        (0x04, a),
        (0x04, b),
        (0x0c, 0),
        (0x05, c),
        (0x05, d),
        (0x81, page),
        (0x0b, mode),
        (0x0a, 2),
    ]
}

/// DMA modes of channel 2, one byte at a time: to memory, from memory, nothing.
const TO_MEMORY: u8 = 0x46;
const FROM_MEMORY: u8 = 0x4a;
const NOWHERE: u8 = 0x42;

impl Bench<Pc> {
    fn outb(&mut self, port: u16, value: u8) {
        let (range, offset) = place(port);
        self.write(range, offset, 1, value.into()).unwrap();
    }

    fn inb(&mut self, port: u16) -> u8 {
        let (range, offset) = place(port);
        self.read(range, offset, 1).unwrap() as u8
    }

    fn int(&self) -> bool {
        self.outputs().levels == 1
    }

    fn msr(&mut self) -> u8 {
        self.inb(0x3f4)
    }

    fn send(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.outb(0x3f5, *byte));
    }

    /// What the FIFO gives while the main status says that there is a result.
    fn result(&mut self) -> Vec<u8> {
        std::iter::from_fn(|| (self.msr() & 0xf0 == 0xd0).then(|| self.inb(0x3f5))).collect()
    }

    fn ask(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.send(bytes);
        self.result()
    }

    /// Waits, as a guest with interrupts does, and takes the result.
    fn await_result(&mut self) -> Vec<u8> {
        for _ in 0..1000 {
            if self.int() {
                return self.result();
            }
            self.pass_until(self.now + STEP_NS);
        }
        panic!("no interrupt came");
    }

    fn dma(&mut self, mode: u8, address: u32, bytes: usize) {
        for (port, value) in program(mode, address, (bytes - 1) as u16) {
            self.outb(port, value);
        }
    }

    /// A PC whose firmware has switched the motor on.
    fn pc() -> Bench<Pc> {
        Bench::started(Pc::new())
    }

    fn started(pc: Pc) -> Bench<Pc> {
        let mut bench = Bench::with(pc);
        bench.outb(0x3f2, 0x1c);
        bench
    }

    fn seek(&mut self, cylinder: u8) {
        self.send(&[0x0f, 0, cylinder]);
        assert!(self.int());
        assert_eq!(self.ask(&[0x08]), [0x20, cylinder]);
    }

    fn without_dma(&mut self) {
        self.send(&[0x03, 0xdf, 0x03]);
    }
}

#[test]
fn an_image_that_is_no_diskette_is_refused_in_a_sentence() {
    for bytes in [0, 100, 513, (2880 << 10) + 512] {
        let pc = Pc::with(Some(Image::new(bytes)));
        let error = Floppy::attach(&pc.options(), &mut pc.powers()).err().unwrap().to_string();
        assert!(error.contains(&format!("{bytes} bytes is no diskette")), "{error}");
    }
}

#[test]
fn a_setting_that_is_none_is_refused() {
    let error = Floppy::manifest(&Options::new([("b", "open")])).unwrap_err().to_string();
    assert_eq!(error, "option `b`: `open` is not `empty`, `readonly` or `writable`");
}

#[test]
fn a_host_is_given_what_is_in_its_drives_and_low_memory_alone() {
    let powers = |settings: &[(&str, &str)]| {
        let manifest = Floppy::manifest(&Options::new(settings.iter().copied())).unwrap();
        manifest.wishes.into_iter().map(|wish| wish.power).collect::<Vec<_>>()
    };
    assert_eq!(powers(&[]), [Power::LowMemory]);
    assert_eq!(powers(&[("a", "readonly")]), [Power::LowMemory, Power::FileRead]);
    assert_eq!(powers(&[("b", "writable"), ("a", "readonly")]), [Power::LowMemory, Power::FileRead, Power::FileWrite]);
}

#[test]
fn an_images_size_says_which_diskette_it_is() {
    let shapes = FORMATS.map(|format| (format.bytes() >> 10, format.cylinders, format.heads, format.sectors));
    let expected = [
        (160, 40, 1, 8),
        (180, 40, 1, 9),
        (320, 40, 2, 8),
        (360, 40, 2, 9),
        (720, 80, 2, 9),
        (1200, 80, 2, 15),
        (1440, 80, 2, 18),
        (1680, 80, 2, 21),
        (2880, 80, 2, 36),
    ];
    assert_eq!(shapes, expected);
    assert!(FORMATS.is_sorted_by_key(|format| format.bytes()), "the smallest that holds an image is found first");
    let drive = Drive::new(Box::new(Image::new(1_296_384)), false).unwrap();
    assert_eq!(drive.format.bytes(), 1440 << 10, "a shorter image is the beginning of one");
}

#[test]
fn state_that_no_controller_has_is_refused() {
    let pc = Pc::new();
    let mut device = Floppy::attach(&pc.options(), &mut pc.powers()).unwrap();
    let good = device.power_on();
    assert!(device.check(&good));
    let spoilt = |spoil: &dyn Fn(&mut State)| {
        let mut state = good;
        spoil(&mut state);
        !device.check(&state)
    };
    assert!(spoilt(&|state| state.chip.phase = 3));
    assert!(spoilt(&|state| state.chip.phase = 2), "a result of no bytes");
    assert!(spoilt(&|state| state.chip.passed = 513));
    assert!(spoilt(&|state| state.chip.head = 2));
    assert!(spoilt(&|state| state.positions[1].cylinder = 84));
    let executing = |first| {
        move |state: &mut State| {
            state.chip.phase = 1;
            state.chip.command[0] = first;
        }
    };
    assert!(spoilt(&executing(0x08)), "SENSE INTERRUPT STATUS has no execution phase");
    assert!(!spoilt(&executing(0x46)));
}
