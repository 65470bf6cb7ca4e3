//! The VMM's end of a `memory` lane, with a state region of any bytes.
//!
//! Input: the words of the region's fixed part that are not zero, then steps.

use crate::input::Input;
use crate::words;
use imc::lane::{
    Carrier, Header, LaneError, MemoryCarrier, PostError, REQUEST_BYTES, Request, SpinBudget, StateView, StateWriter,
    state_region_bytes,
};
use imc::{ReadWrite, Region, Wake};
use std::cell::RefCell;
use std::time::Duration;

/// Bytes of hot state: small, for nothing here depends on it.
const STATE_BYTES: u32 = 64;
/// Bytes of the region's fixed part, which the VMM reads.
const FIXED_BYTES: u64 = 512;
/// Entries that may be outstanding (`imc/src/lane/layout.rs`).
const ENTRIES: u32 = 32;
/// Steps of one run.
const STEPS_MAX: usize = 128;

struct Regions {
    request: Region<ReadWrite>,
    state: Region<ReadWrite>,
}

thread_local! {
    static REGIONS: RefCell<Regions> = RefCell::new(Regions {
        request: Region::create("fuzz", REQUEST_BYTES).expect("a region"),
        state: Region::create("fuzz", state_region_bytes(STATE_BYTES, 0)).expect("a region"),
    });
}

pub fn run(data: &[u8]) {
    let before = crate::descriptors();
    REGIONS.with_borrow(|regions| play(data, regions));
    // The thread's regions are made in the first run.
    assert!(crate::descriptors() <= before + 2);
}

fn play(data: &[u8], Regions { request, state }: &Regions) {
    let mut input = Input(data);
    words::clear(request);
    words::clear(state);
    for _ in 0..input.below(16) {
        words::store(state, 8 * (input.u64() % (FIXED_BYTES / 8)), input.u64());
    }
    let (reply, wake) = (Wake::create().expect("a wake"), Wake::create().expect("a wake"));
    let view = StateView::new(state.read_only().and_then(|region| region.map()).expect("a mapping"));
    let clone = |wake: &Wake| wake.try_clone().expect("a wake");
    let mapping = request.map().expect("a mapping");
    let mut carrier = MemoryCarrier::new(mapping, view.clone(), clone(&reply), clone(&wake), SpinBudget::NONE);
    let retirement = carrier.retirement();
    let mut model = Model { seen: view.committed().sequence(), issued: view.committed().sequence(), stuffed: false };
    for _ in 0..STEPS_MAX {
        if input.is_empty() {
            break;
        }
        let dead = retirement.is_retired();
        let committed = view.committed().sequence();
        match input.below(9) {
            0 => words::store(state, 8 * (input.u64() % (FIXED_BYTES / 8)), input.u64()),
            // A commit of any operation near those that may be, with its answer.
            1 => commit(state, model.seen.wrapping_add(input.u8().into()), input.u64()),
            2 => {
                let posted = carrier.post(&asked(&mut input));
                match model.post(committed, dead) {
                    Expected::Gone => assert_eq!(posted, Err(PostError::Failed(LaneError::Gone))),
                    Expected::Violation => assert!(matches!(posted, Err(PostError::Failed(LaneError::Violation(_))))),
                    // A full lane rings its host, as what is posted does.
                    Expected::NoRoom => assert!(posted == Err(PostError::Full) || model.refuses_to_ring(&posted)),
                    Expected::Issued => assert!(posted.is_ok() || model.refuses_to_ring(&posted)),
                }
            }
            3 => {
                let called = carrier.call(&asked(&mut input), Duration::ZERO);
                match model.post(committed, dead) {
                    Expected::Gone => assert_eq!(called, Err(LaneError::Gone)),
                    Expected::Violation => assert!(matches!(called, Err(LaneError::Violation(_)))),
                    // There is no time to wait for room.
                    Expected::NoRoom => {
                        let called = called.map(|_| ()).map_err(PostError::Failed);
                        let late = called == Err(PostError::Failed(LaneError::Late));
                        assert!(late || model.refuses_to_ring(&called));
                    }
                    Expected::Issued => model.answered(state, &called),
                }
            }
            4 if dead => {
                // An answer that is there is handed out all the same.
                let resumed = carrier.resume(Duration::ZERO);
                let lawful = model.look(committed);
                assert!(resumed != Err(LaneError::Late) && (resumed.is_err() || lawful && committed == model.issued));
            }
            4 => model.answered(state, &carrier.resume(Duration::ZERO)),
            5 => {
                let counted = carrier.outstanding();
                if model.look(committed) {
                    assert_eq!(counted, Ok(model.issued.wrapping_sub(committed) as usize));
                } else {
                    assert!(matches!(counted, Err(LaneError::Violation(_))), "operation {committed} went unnoticed");
                }
            }
            // What is read without the lane's lock: any value may come, and nothing may wait for another.
            6 => _ = (view.levels(), view.deadline(), view.doorbells(), view.unknown(), view.committed()),
            // A host that fills its wake, so that whoever rings it would wait.
            7 => {
                wake.drain();
                wake.signal(u64::MAX - 1).expect("it was empty");
                model.stuffed = true;
            }
            // An honest answer to the last operation.
            _ => {
                let value = input.u64();
                commit(state, model.issued, value);
                assert_eq!(carrier.resume(Duration::ZERO), Ok(value));
                assert!(model.look(model.issued));
            }
        }
        if retirement.is_retired() {
            assert_eq!(carrier.call(&asked(&mut input), Duration::ZERO), Err(LaneError::Gone));
        }
    }
}

/// What the carrier may make of a commit word.
struct Model {
    /// The newest commit that was looked at.
    seen: u32,
    issued: u32,
    /// The host's wake is full, so that ringing it is a violation of the host's.
    stuffed: bool,
}

enum Expected {
    Gone,
    Violation,
    NoRoom,
    Issued,
}

impl Model {
    /// Looks at the commit word. False: no honest host could have stored it.
    fn look(&mut self, committed: u32) -> bool {
        let lawful = committed.wrapping_sub(self.seen) <= self.issued.wrapping_sub(self.seen);
        if lawful {
            self.seen = committed;
        }
        lawful
    }

    /// Issues one more operation, if there is room. The commit word is looked at only where what was seen leaves none.
    fn post(&mut self, committed: u32, dead: bool) -> Expected {
        if dead {
            return Expected::Gone;
        }
        let full = |model: &Model| model.issued.wrapping_sub(model.seen) >= ENTRIES;
        if full(self) && !self.look(committed) {
            return Expected::Violation;
        }
        if full(self) {
            return Expected::NoRoom;
        }
        self.issued = self.issued.wrapping_add(1);
        Expected::Issued
    }

    /// Whether it failed since the host's wake is full.
    fn refuses_to_ring(&self, posted: &Result<(), PostError>) -> bool {
        self.stuffed && matches!(posted, Err(PostError::Failed(LaneError::Violation(_))))
    }

    /// Compares an answer to the last operation with what is committed: the word, and the reply of its copy.
    fn answered(&mut self, state: &Region<ReadWrite>, answer: &Result<u64, LaneError>) {
        // Where they lie is in `imc/src/lane/layout.rs`.
        let word = words::load(state, 0);
        let (committed, copy) = ((word >> 32) as u32, word & 1);
        let (value, replied) = (words::load(state, 8 + 24 * copy), words::load(state, 16 + 24 * copy) as u32);
        if matches!(answer, Err(LaneError::Violation(_))) && self.stuffed {
            return;
        }
        let expected = match self.look(committed) {
            false => None,
            true if committed != self.issued => Some(Err(LaneError::Late)),
            true => (replied == self.issued).then_some(Ok(value)),
        };
        match expected {
            Some(expected) => assert_eq!(*answer, expected),
            None => assert!(matches!(answer, Err(LaneError::Violation(_))), "it went unnoticed: {answer:?}"),
        }
    }
}

/// Commits as an honest host does.
fn commit(state: &Region<ReadWrite>, sequence: u32, value: u64) {
    let mapping = state.map().expect("a mapping");
    let mut writer = StateWriter::new(mapping, STATE_BYTES, 0).expect("the region is large enough");
    writer.begin();
    writer.commit(Header::default(), Some((sequence, value)));
}

fn asked(input: &mut Input<'_>) -> Request {
    let operation = input.operation();
    Request { operation, range: input.u8(), width: 1 << (input.u8() % 4), offset: input.u64(), value: 1, now: 2 }
}
