use super::*;
use crate::conformance::{Bench, Random, Strike, World, conforms};
use device::manifest::Manifest;
use std::io::Result as IoResult;
use vm_memory::VolatileSlice;

/// A store in memory that is only read.
pub(super) struct Memory(pub(super) Vec<u8>);

impl BlockStore for Memory {
    fn bytes(&self) -> u64 {
        self.0.len() as u64
    }
    fn readonly(&self) -> bool {
        true
    }
    fn read_at(&mut self, offset: u64, into: &[VolatileSlice<'_>]) -> IoResult<()> {
        let mut at = offset as usize;
        for slice in into {
            slice.copy_from(&self.0[at..at + slice.len()]);
            at += slice.len();
        }
        Ok(())
    }
    fn write_at(&mut self, _: u64, _: &[VolatileSlice<'_>]) -> IoResult<()> {
        Err(std::io::ErrorKind::PermissionDenied.into())
    }
    fn flush(&mut self) -> IoResult<()> {
        Ok(())
    }
}

const RAM_BYTES: usize = 1 << 20;
const REQUEST: u64 = 0x1000;
const TARGET: u64 = 0x2000;
/// The first file.
const NUMBERS: u32 = 0x20;

struct Outside {
    memory: GuestMemory,
    items: Vec<u8>,
}

impl World for Outside {
    const NAME: &'static str = NAME;
    const STEPS: usize = 20_000;

    fn new() -> Outside {
        let memory = GuestMemory::from_ranges(&[(GuestAddress(0), RAM_BYTES)]).unwrap();
        let mut items = Items::default();
        items.number(SIGNATURE, b"QEMU".to_vec()).unwrap();
        items.number(ID, 3_u32.to_le_bytes().to_vec()).unwrap();
        items.file("opt/numbers", (0..=255).collect()).unwrap();
        items.file("opt/large", vec![0xaa; 600 << 10]).unwrap();
        let outside = Outside { memory, items: items.finish() };
        // Requests for random ones to find.
        for (at, control, length, to) in [
            (0, READ | SELECT | NUMBERS << 16, 300, TARGET),
            (16, READ, u32::MAX, 0xf_f000),
            (32, READ | SKIP, 9, TARGET),
        ] {
            outside.ask(REQUEST + at, control, length, to);
        }
        outside
    }

    fn powers(&self) -> Powers {
        Powers {
            memory: Some(self.memory.clone()),
            stores: vec![(1, Box::new(Memory(self.items.clone())))],
            ..Powers::default()
        }
    }

    fn strike(&mut self, random: &mut Random, _: &Manifest) -> Strike {
        let (offset, width) =
            [(0, 2), (1, 1), (1, 1), (4, 4), (8, 4), (8, 4), (2, 2), (6, 1)][random.below(8) as usize];
        let value = match random.below(3) {
            0 => u64::from((REQUEST as u32 + 16 * random.below(3) as u32).swap_bytes()),
            1 => random.below(0x24),
            _ => random.value(),
        };
        // Mostly a request is below 4 GiB.
        let value = if offset == 4 && !random.one_in(8) { 0 } else { value };
        Strike { range: 0, offset, width, value, write: random.one_in(2) }
    }
}

conforms!(Outside);

impl Outside {
    fn ask(&self, at: u64, control: u32, length: u32, to: u64) {
        self.memory.write_slice(&control.to_be_bytes(), GuestAddress(at)).unwrap();
        self.memory.write_slice(&length.to_be_bytes(), GuestAddress(at + 4)).unwrap();
        self.memory.write_slice(&to.to_be_bytes(), GuestAddress(at + 8)).unwrap();
    }

    fn answer(&self) -> u32 {
        u32::from_be(self.memory.read_obj(GuestAddress(REQUEST)).unwrap())
    }

    fn bytes(&self, at: u64, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.memory.read_slice(&mut bytes, GuestAddress(at)).unwrap();
        bytes
    }
}

/// Makes a request and gives its control word afterwards.
fn request(bench: &mut Bench<Outside>, control: u32, length: u32, to: u64) -> u32 {
    bench.world.ask(REQUEST, control, length, to);
    bench.write(0, DMA_LOW, 4, (REQUEST as u32).swap_bytes().into()).unwrap();
    bench.scan();
    bench.world.answer()
}

#[test]
fn access_of_another_width_or_between_the_registers_is_none() {
    let mut bench = Bench::<Outside>::new();
    for (offset, width) in [(0, 1), (0, 4), (2, 1), (4, 2), (8, 1), (6, 4)] {
        assert_eq!(bench.write(0, offset, width, 0), Err(NoRegister), "{width} at {offset}");
    }
    for (offset, width) in [(0, 1), (0, 2), (0, 4), (2, 2)] {
        assert_eq!(bench.read(0, offset, width), Err(NoRegister), "{width} at {offset}");
    }
}

#[test]
fn item_is_read_byte_by_byte_and_zeros_follow_it() {
    let mut bench = Bench::<Outside>::new();
    bench.write(0, SELECTOR, 2, SIGNATURE.into()).unwrap();
    let read: Vec<u64> = (0..6).map(|_| bench.read(0, DATA, 1).unwrap()).collect();
    assert_eq!(read, [b'Q', b'E', b'M', b'U', 0, 0].map(u64::from));
    bench.write(0, DATA, 1, 0xff).unwrap();
    bench.write(0, SELECTOR, 2, SIGNATURE.into()).unwrap();
    assert_eq!(bench.read(0, DATA, 1), Ok(b'Q'.into()), "selecting begins anew, and a store changed nothing");
    bench.write(0, SELECTOR, 2, u64::from(SIGNATURE | 1 << 14)).unwrap();
    assert_eq!(bench.read(0, DATA, 1), Ok(b'Q'.into()), "that it is to be written is not part of its number");
    bench.write(0, SELECTOR, 2, 0x8444).unwrap();
    assert_eq!(bench.read(0, DATA, 1), Ok(0), "no such item");
}

#[test]
fn address_register_reads_as_the_signature() {
    let mut bench = Bench::<Outside>::new();
    assert_eq!(bench.read(0, DMA_HIGH, 4), Ok(u32::from_le_bytes(*b"QEMU").into()));
    assert_eq!(bench.read(0, DMA_LOW, 4), Ok(u32::from_le_bytes(*b" CFG").into()));
    assert_eq!(bench.read(0, DMA_LOW + 3, 1), Ok(b'G'.into()));
}

#[test]
fn request_reads_where_it_says_and_goes_on_from_there() {
    let mut bench = Bench::<Outside>::new();
    assert_eq!(request(&mut bench, READ | SELECT | NUMBERS << 16, 4, TARGET), 0);
    assert_eq!(bench.world.bytes(TARGET, 5), [0, 1, 2, 3, 0]);
    assert_eq!(request(&mut bench, SKIP, 250, 0), 0);
    assert_eq!(request(&mut bench, READ, 4, TARGET), 0);
    assert_eq!(bench.world.bytes(TARGET, 5), [254, 255, 0, 0, 0]);
    assert_eq!(request(&mut bench, SELECT | NUMBERS << 16, 7, TARGET), 0, "only selected");
    assert_eq!(bench.read(0, DATA, 1), Ok(0));
    assert_eq!(bench.read(0, DATA, 1), Ok(1));
}

#[test]
fn nothing_can_be_written_and_nothing_is_read_to_where_no_memory_is() {
    let mut bench = Bench::<Outside>::new();
    assert_eq!(request(&mut bench, WRITE | SELECT | NUMBERS << 16, 4, TARGET), ERROR);
    for to in [RAM_BYTES as u64 - 2, RAM_BYTES as u64, u64::MAX, u64::MAX - 3] {
        assert_eq!(request(&mut bench, READ, 4, to), ERROR, "{to:#x}");
    }
    for at in [RAM_BYTES as u64 - 8, 0xffff_fff8] {
        bench.write(0, DMA_LOW, 4, (at as u32).swap_bytes().into()).unwrap();
    }
    bench.write(0, DMA_HIGH, 4, 0xffff_ffff).unwrap();
    bench.write(0, DMA_LOW, 4, 0xffff_ffff).unwrap();
    assert_eq!(request(&mut bench, READ | SELECT, 4, TARGET), 0, "the upper half is of one request only");
}

#[test]
fn long_transfer_is_made_in_steps_between_which_others_are_answered() {
    let mut bench = Bench::<Outside>::new();
    bench.world.ask(REQUEST, READ | SELECT | (NUMBERS + 1) << 16, 700 << 10, TARGET);
    bench.write(0, DMA_LOW, 4, (REQUEST as u32).swap_bytes().into()).unwrap();
    assert_eq!(bench.read(0, DMA_HIGH, 1), Ok(b'Q'.into()));
    bench.restart();
    bench.scan();
    assert_eq!(bench.world.answer(), 0);
    let read = bench.world.bytes(TARGET, 700 << 10);
    assert!(read[..600 << 10].iter().all(|byte| *byte == 0xaa) && read[600 << 10..].iter().all(|byte| *byte == 0));
}
