//! A device host's end of a lane that sends messages, with a VMM that asks anything.
//!
//! Input: the carrier, a byte; then steps. Nothing is told: a host that finds no room waits for its VMM, which it trusts that
//! far.

use crate::input::Input;
use crate::words;
use imc::lane::{ANSWER_REGION_BYTES, HostLane, REQUEST_BYTES, Rest, prepare_virtqueues};
use imc::{Packets, ReadWrite, Region, Wake, pipe};
use nix::unistd;
use schema::lane::Access;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// Steps of one run.
const STEPS_MAX: usize = 128;
/// An `Access` on the wire.
const ACCESS_BYTES: u64 = 72;
/// Entries of a queue, and where its buffers, its available ring and the answers are (`imc/src/lane/virtio/mod.rs`).
const ENTRIES: u16 = 32;
const BUFFERS: u64 = 1344;
const AVAILABLE: u64 = 64;
const ANSWERS: u64 = 640;

pub fn run(data: &[u8]) {
    let before = crate::descriptors();
    play(data);
    assert_eq!(crate::descriptors(), before, "a descriptor leaked");
}

/// The VMM's end.
enum Far {
    Descriptor(OwnedFd),
    Virtio { request: Region<ReadWrite>, answers: Region<ReadWrite>, available: u16 },
}

fn play(data: &[u8]) {
    let mut input = Input(data);
    let wake = Wake::create().expect("a wake");
    let irq = Arc::new(Wake::create().expect("a wake"));
    let rest = Rest::new(wake.try_clone().expect("a wake"), irq);
    let (mut lane, mut far, _answers) = end(input.below(3), &rest);
    let mut next = 1u32;
    for _ in 0..STEPS_MAX {
        if input.is_empty() {
            break;
        }
        match input.below(5) {
            0 => {
                let length = usize::from(input.u8());
                far.send(input.take(length));
            }
            1 => {
                // Most often the next, so that it gets somewhere.
                let sequence = next.wrapping_add(u32::from(input.u8() / 64));
                let operation = input.operation();
                let (range, value) = (input.u8(), input.u64());
                far.ask(&Access { sequence, operation, range, width: 1, offset: 2, value, now: 3 });
            }
            2 => {
                wake.signal(1).expect("it was empty");
                rest.sleep().expect("it was rung");
            }
            3 => {
                lane.fall_asleep();
                let _ = (lane.has_next(), lane.spin());
            }
            _ => {
                // What a descriptor holds has an end, and so has a queue that nobody fills meanwhile.
                while let Ok(Some(access)) = lane.take() {
                    assert_eq!(access.sequence, next, "entries are taken in order");
                    next = next.wrapping_add(1);
                }
            }
        }
    }
    if let Far::Virtio { answers, .. } = &far {
        let mut told = vec![0; (ANSWER_REGION_BYTES - ANSWERS) as usize];
        nix::sys::uio::pread(answers, &mut told, ANSWERS as i64).expect("the place is inside");
        assert!(told.iter().all(|byte| *byte == 0), "who takes what is asked writes no answer");
    }
}

/// Both ends of a lane, and what the host's holds beside them.
fn end(carrier: usize, rest: &Arc<Rest>) -> (HostLane, Far, Option<OwnedFd>) {
    match carrier {
        0 => {
            let (ours, theirs) = Packets::pair().expect("a pair");
            (HostLane::socket(ours, Arc::clone(rest), 0), Far::Descriptor(theirs.into()), None)
        }
        1 => {
            let (asked, answers) = (pipe().expect("a pipe"), pipe().expect("a pipe"));
            let lane = HostLane::pipe(asked.0, answers.1, Arc::clone(rest), 0);
            (lane, Far::Descriptor(asked.1.into()), Some(answers.0.into()))
        }
        _ => {
            let request = Region::create("fuzz", REQUEST_BYTES).expect("a region");
            let answers = Region::create("fuzz", ANSWER_REGION_BYTES).expect("a region");
            prepare_virtqueues(&request).expect("a fresh region");
            let read = request.read_only().and_then(|region| region.map()).expect("a mapping");
            let write = answers.map().expect("a mapping");
            let reply = Wake::create().expect("a wake");
            let lane = HostLane::virtio(read, write, reply, Arc::clone(rest), 0).expect("the regions fit");
            (lane, Far::Virtio { request, answers, available: 0 }, None)
        }
    }
}

impl Far {
    /// Sends bytes; into shared memory, stores them anywhere.
    fn send(&mut self, bytes: &[u8]) {
        match self {
            // A full queue is one of the things that may happen.
            Far::Descriptor(end) => _ = unistd::write(&*end, bytes),
            Far::Virtio { request, .. } => {
                for store in bytes.chunks_exact(10) {
                    let at = u64::from(u16::from_le_bytes([store[0], store[1]])) % (REQUEST_BYTES / 8);
                    words::store(request, 8 * at, u64::from_le_bytes(store[2..].try_into().expect("eight bytes")));
                }
            }
        }
    }

    /// Asks in due form.
    fn ask(&mut self, access: &Access) {
        let mut bytes = Vec::new();
        schema::Scratch::default().encode(access, &mut bytes).expect("it has a fixed size");
        let Far::Virtio { request, available, .. } = self else { return self.send(&bytes) };
        let write = |at: u64, bytes: &[u8]| {
            nix::sys::uio::pwrite(&*request, bytes, at as i64).expect("the place is inside");
        };
        write(BUFFERS + ACCESS_BYTES * u64::from(*available % ENTRIES), &bytes);
        *available = available.wrapping_add(1);
        write(AVAILABLE + 2, &available.to_le_bytes());
    }
}
