//! Both ends of a stream, each with indices of any value from the other.
//!
//! Input: steps.

use crate::input::Input;
use crate::words;
use imc::{DeviceEnd, RING_BYTES, ReadWrite, Region, RelayEnd, STREAM_BYTES, Wake};
use std::cell::RefCell;

/// Where each index lies (`imc/src/stream.rs`).
const OUT_HEAD: u64 = 0;
const OUT_TAIL: u64 = 64;
const IN_HEAD: u64 = 128;
const IN_TAIL: u64 = 192;
/// Steps of one run.
const STEPS_MAX: usize = 256;

thread_local! {
    static REGION: RefCell<Region<ReadWrite>> = RefCell::new(Region::create("fuzz", STREAM_BYTES).expect("a region"));
}

pub fn run(data: &[u8]) {
    let before = crate::descriptors();
    REGION.with_borrow(|region| play(data, region));
    // The thread's region is made in the first run.
    assert!(crate::descriptors() <= before + 1);
}

fn play(data: &[u8], region: &Region<ReadWrite>) {
    let mut input = Input(data);
    for index in [OUT_HEAD, OUT_TAIL, IN_HEAD, IN_TAIL] {
        words::store(region, index, 0);
    }
    let bell = Wake::create().expect("a wake");
    let device = DeviceEnd::new(region.map().expect("a mapping"), bell.try_clone().expect("a wake"));
    let mut relay = RelayEnd::new(region.map().expect("a mapping"));
    let (mut out_tail, mut in_head) = (0u32, 0u32);
    let index = |at: u64| words::load(region, at) as u32;
    for _ in 0..STEPS_MAX {
        if input.is_empty() {
            break;
        }
        match input.below(8) {
            0 => words::store(region, 64 * (input.u64() % 4), input.u64()),
            1 => words::store(region, 64 * (input.u64() % 4), u64::from(in_head.wrapping_add(input.u8().into()))),
            2 => {
                let bound = usize::from(input.u16());
                let mut taken = Vec::new();
                let claimed = index(OUT_HEAD).wrapping_sub(out_tail) as usize;
                let there = if claimed <= RING_BYTES { claimed } else { 0 };
                assert_eq!(relay.take(&mut taken, bound), there > RING_BYTES / 2);
                assert_eq!(taken.len(), there.min(bound));
                out_tail = out_tail.wrapping_add(taken.len() as u32);
                assert_eq!(index(OUT_TAIL), out_tail);
            }
            3 => {
                let bytes = vec![input.u8(); usize::from(input.u16())];
                let room = RING_BYTES.saturating_sub(in_head.wrapping_sub(index(IN_TAIL)) as usize);
                assert_eq!(relay.room(), room);
                assert_eq!(relay.offer(&bytes), room.min(bytes.len()));
                in_head = in_head.wrapping_add(room.min(bytes.len()) as u32);
                assert_eq!(index(IN_HEAD), in_head);
            }
            4 => {
                let head = input.u64() as u32;
                let room = device.room(head);
                assert_eq!(room, RING_BYTES.saturating_sub(head.wrapping_sub(index(OUT_TAIL)) as usize));
                device.put(head, input.u8());
            }
            5 => {
                let tail = input.u64() as u32;
                let there = index(IN_HEAD).wrapping_sub(tail) as usize;
                assert_eq!(device.get(tail).is_some(), there != 0 && there <= RING_BYTES);
            }
            6 => {
                let (head, tail) = (input.u64() as u32, input.u64() as u32);
                let rings = device.published() != (head, tail);
                device.publish(head, tail);
                assert_eq!(device.published(), (head, tail));
                assert_eq!(bell.drain(), rings.then_some(1));
            }
            // What an honest device does: it goes on where it was, and says so.
            _ => {
                let (head, tail) = (out_tail.wrapping_add(input.u16().into()), index(IN_HEAD));
                device.publish(head, tail);
                bell.drain();
            }
        }
    }
}
