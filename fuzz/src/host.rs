//! A device host's end of a `memory` lane, with a request region of any bytes.
//!
//! Input: the sequence to begin after, then steps.

use crate::input::Input;
use crate::words;
use imc::lane::{BadEntry, Header, HostLane, REQUEST_BYTES, StateWriter, state_region_bytes};
use imc::{ReadWrite, Region, Wake};
use std::cell::RefCell;

/// Entries of the ring, and where it begins (`imc/src/lane/layout.rs`).
const ENTRIES: u32 = 32;
const RING: u64 = 2048;
/// Steps of one run.
const STEPS_MAX: usize = 256;

thread_local! {
    static REGIONS: RefCell<[Region<ReadWrite>; 2]> = RefCell::new(
        [REQUEST_BYTES, state_region_bytes(0, 0)].map(|bytes| Region::create("fuzz", bytes).expect("a region")),
    );
}

pub fn run(data: &[u8]) {
    let before = crate::descriptors();
    REGIONS.with_borrow(|[request, state]| play(data, request, state));
    // The thread's regions are made in the first run.
    assert!(crate::descriptors() <= before + 2);
}

fn play(data: &[u8], request: &Region<ReadWrite>, state: &Region<ReadWrite>) {
    let mut input = Input(data);
    words::clear(request);
    let mut next = input.u64() as u32;
    let reply = Wake::create().expect("a wake");
    let mapping = request.read_only().and_then(|region| region.map()).expect("a mapping");
    let mut lane = HostLane::memory(mapping, reply.try_clone().expect("a wake"), next);
    let mut state = StateWriter::new(state.map().expect("a mapping"), 0, 0).expect("it is large enough");
    next = next.wrapping_add(1);
    let entry = |sequence: u32| RING + 64 * u64::from(sequence % ENTRIES);
    for _ in 0..STEPS_MAX {
        if input.is_empty() {
            break;
        }
        match input.below(5) {
            0 => words::store(request, 8 * (input.u64() % (REQUEST_BYTES / 8)), input.u64()),
            // As the VMM writes it, but for what it asks.
            1 => {
                let (at, rest) = (entry(next), u64::from(input.u16()) | u64::from(input.u16()) << 16);
                (1..4).for_each(|word| words::store(request, at + 8 * word, input.u64()));
                words::store(request, at, u64::from(next) | rest << 32);
            }
            2 => {
                // Without a store in between, the ring has no more than its entries.
                for taken in 0.. {
                    assert!(taken <= ENTRIES, "the lane hands out more than there is");
                    let there: Vec<u64> = (0..4).map(|word| words::load(request, entry(next) + 8 * word)).collect();
                    let is_next = there[0] as u32 == next;
                    assert_eq!(lane.has_next(), is_next);
                    match lane.take() {
                        Ok(None) => {
                            assert!(!is_next, "an entry was left");
                            break;
                        }
                        Ok(Some(access)) => {
                            assert!(is_next);
                            assert_eq!(access.sequence, next);
                            let first = u64::from(next) | (access.operation as u64) << 32;
                            let first = first | u64::from(access.range) << 48 | u64::from(access.width) << 56;
                            assert_eq!([first, access.offset, access.value, access.now], there[..]);
                            next = next.wrapping_add(1);
                        }
                        Err(bad) => {
                            assert!(is_next);
                            assert_eq!(bad, BadEntry::Operation { sequence: next, operation: (there[0] >> 32) as u16 });
                            break;
                        }
                    }
                }
            }
            3 => {
                state.commit(Header::default(), Some((input.u64() as u32, 0)));
                lane.tell(&state).expect("a wake takes a ring");
                assert!(reply.drain().is_none_or(|rings| rings == 1));
            }
            _ => drop(lane.spin()),
        }
    }
}
