//! The VMM's end of a lane that sends messages, with a host that answers anything.
//!
//! Input: steps. A model of the lane, with the rules of `imc/src/lane/message.rs`, says what each has to give.

use crate::input::Input;
use crate::words;
use imc::lane::{
    ANSWER_REGION_BYTES, Carrier, LaneError, PipeCarrier, PostError, REQUEST_BYTES, Request, SocketCarrier, SpinBudget,
    StateView, VirtioCarrier, prepare_virtqueues,
};
use imc::{Packets, ReadWrite, Region, Wake, pipe as new_pipe};
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::unistd;
use schema::lane::Answer;
use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::Once;
use std::time::Duration;

/// Steps of one run.
const STEPS_MAX: usize = 128;
/// Entries that may be outstanding, answers taken in one look, restarts in vain (`imc/src/lane/message.rs`).
const ENTRIES: u32 = 32;
const BURST: usize = 16;
const RESTARTS_MAX: u32 = 16;
/// An `Answer` on the wire.
const ANSWER_BYTES: usize = 168;

/// Over packets.
pub fn socket(data: &[u8]) {
    checked(|| {
        let (ours, theirs) = Packets::pair().expect("a pair");
        let (waiter, wake) = wakes();
        let carrier = SocketCarrier::new(ours, waiter, clone(&wake), SpinBudget::NONE).expect("a carrier");
        let end: OwnedFd = theirs.into();
        let far = Far::Socket { end: Some(end), sent: VecDeque::new() };
        play(data, carrier.view(), carrier, wake, far);
    });
}

/// Over two pipes.
pub fn pipe(data: &[u8]) {
    checked(|| {
        let (asked, answers) = (new_pipe().expect("a pipe"), new_pipe().expect("a pipe"));
        let (waiter, wake) = wakes();
        let carrier = PipeCarrier::new(asked.1, answers.0, waiter, clone(&wake), SpinBudget::NONE).expect("a carrier");
        let far = Far::Pipe { ends: Some((asked.0.into(), answers.1.into())), sent: VecDeque::new() };
        play(data, carrier.view(), carrier, wake, far);
    });
}

/// Over virtqueues.
pub fn virtio(data: &[u8]) {
    checked(|| {
        let request = Region::create("fuzz", REQUEST_BYTES).expect("a region");
        let answers = Region::create("fuzz", ANSWER_REGION_BYTES).expect("a region");
        prepare_virtqueues(&request).expect("a fresh region");
        let (reply, wake) = wakes();
        let read = answers.read_only().and_then(|region| region.map()).expect("a mapping");
        let write = request.map().expect("a mapping");
        let carrier = VirtioCarrier::new(write, read, reply, clone(&wake), SpinBudget::NONE).expect("a carrier");
        let far = Far::Virtio { request, answers, used: 0, taken: 0, sent: VecDeque::new(), wild: false };
        play(data, carrier.view(), carrier, wake, far);
    });
}

fn checked(run: impl FnOnce()) {
    ignore_broken_pipes();
    let before = crate::descriptors();
    run();
    assert_eq!(crate::descriptors(), before, "a descriptor leaked");
}

/// As in every Rust program, a write to a dead peer is an error and not the end: libFuzzer's `main` is not Rust's.
#[allow(unsafe_code)] // nix cannot know what a handler would do.
fn ignore_broken_pipes() {
    static IGNORED: Once = Once::new();
    // SAFETY: what is ignored runs no handler.
    IGNORED.call_once(|| _ = unsafe { signal(Signal::SIGPIPE, SigHandler::SigIgn) });
}

fn wakes() -> (Wake, Wake) {
    (Wake::create().expect("a wake"), Wake::create().expect("a wake"))
}

fn clone(wake: &Wake) -> Wake {
    wake.try_clone().expect("a wake")
}

fn play(data: &[u8], view: StateView, mut carrier: impl Carrier, wake: Wake, far: Far) {
    let mut input = Input(data);
    let retirement = carrier.retirement();
    let mut model = Model { far, ..Model::default() };
    for _ in 0..STEPS_MAX {
        if input.is_empty() {
            break;
        }
        let dead = retirement.is_retired();
        let heard = match input.below(12) {
            0 => {
                let length = usize::from(input.u8());
                model.far.send(input.take(length));
                continue;
            }
            1 => {
                let answer = answer(&mut input, &model);
                model.far.answer(&answer);
                continue;
            }
            // As an honest host answers the last operation.
            2 => {
                let answer = Answer { sequence: model.issued, value: input.u64(), ..Answer::default() };
                model.far.answer(&answer);
                continue;
            }
            3 => {
                model.far.take();
                continue;
            }
            4 => {
                wake.drain();
                wake.signal(u64::MAX - 1).expect("it was empty");
                model.stuffed = true;
                continue;
            }
            5 => {
                model.far.leave();
                continue;
            }
            // A host that starts again and again.
            6 => {
                let answer = Answer { sequence: model.seen, started: true, ..Answer::default() };
                (0..input.u8() % 16).for_each(|_| model.far.answer(&answer));
                continue;
            }
            7 => {
                let posted = carrier.post(&asked(&mut input));
                if dead {
                    assert_eq!(posted, Err(PostError::Failed(LaneError::Gone)));
                    continue;
                }
                let heard = if model.is_full() { model.hear() } else { Heard::Nothing };
                match posted {
                    Ok(()) => {
                        assert!(!model.is_full() || model.is_wild(), "more is outstanding than there are entries");
                        model.issued += 1;
                        heard.and_no_violation()
                    }
                    Err(PostError::Full) => heard.and_no_violation(),
                    Err(PostError::Failed(error)) => heard.and_violation(&error, &model),
                }
            }
            8 => {
                let called = carrier.call(&asked(&mut input), Duration::ZERO);
                if dead {
                    assert_eq!(called, Err(LaneError::Gone));
                    continue;
                }
                let mut heard = Heard::Nothing;
                if model.is_full() {
                    heard = model.hear();
                }
                if heard != Heard::Violation && !model.is_full() {
                    model.issued += 1;
                    heard = model.hear();
                }
                model.answered(heard, called)
            }
            9 => {
                let resumed = carrier.resume(Duration::ZERO);
                if dead {
                    // What is still to be heard may be an answer.
                    assert_ne!(resumed, Err(LaneError::Late));
                    continue;
                }
                let heard = model.hear();
                model.answered(heard, resumed)
            }
            10 => {
                let refreshed = carrier.refresh();
                if dead {
                    continue;
                }
                match (model.hear(), refreshed) {
                    (heard, Ok(_)) => heard.and_no_violation(),
                    (heard, Err(error)) => heard.and_violation(&error, &model),
                }
            }
            _ => {
                let outstanding = carrier.outstanding().expect("it is a matter of counting");
                assert!(outstanding <= ENTRIES as usize);
                assert!(dead || model.is_wild() || outstanding == (model.issued - model.seen) as usize);
                continue;
            }
        };
        if retirement.is_retired() {
            assert_eq!(carrier.call(&asked(&mut input), Duration::ZERO), Err(LaneError::Gone));
        } else if heard == Heard::Something && !model.is_wild() {
            let Answer { levels, deadline, doorbells, unknown, .. } = model.last;
            let seen = (view.levels().high, view.deadline(), view.doorbells(), view.unknown());
            assert_eq!(seen, (levels, deadline, doorbells, unknown));
        }
    }
}

/// What the lane should have made of what was sent.
#[derive(Default)]
struct Model {
    far: Far,
    issued: u32,
    seen: u32,
    restarts: u32,
    /// The reply to the last operation that took effect.
    value: u64,
    last: Answer,
    /// The host's wake is full.
    stuffed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Heard {
    Nothing,
    Something,
    Violation,
}

impl Heard {
    fn and_no_violation(self) -> Heard {
        assert_ne!(self, Heard::Violation, "a violation went unnoticed");
        self
    }

    fn and_violation(self, error: &LaneError, model: &Model) -> Heard {
        assert!(matches!(error, LaneError::Violation(_)), "{error}");
        let reason = self == Heard::Violation || model.stuffed || model.is_wild() || model.far.is_gone();
        assert!(reason, "no honest host does otherwise: {error}");
        self
    }
}

impl Model {
    fn is_full(&self) -> bool {
        self.issued - self.seen >= ENTRIES
    }

    /// Whether what the host does cannot be told any more.
    fn is_wild(&self) -> bool {
        matches!(self.far, Far::Virtio { wild: true, .. })
    }

    /// One look at what was sent.
    fn hear(&mut self) -> Heard {
        let mut heard = Heard::Nothing;
        if self.is_wild() {
            return heard;
        }
        for _ in 0..BURST {
            match self.far.next() {
                None => return heard,
                Some(answer) if answer.is_some_and(|answer| self.accept(&answer)) => heard = Heard::Something,
                Some(_) => return Heard::Violation,
            }
        }
        if self.stuffed { Heard::Violation } else { heard }
    }

    fn accept(&mut self, answer: &Answer) -> bool {
        let done = answer.sequence.wrapping_sub(self.seen);
        if done > self.issued - self.seen {
            return false;
        }
        self.seen = answer.sequence;
        self.last = *answer;
        if done > 0 {
            self.restarts = 0;
            self.value = answer.value;
        }
        if answer.started && answer.sequence != self.issued {
            self.restarts += 1;
        }
        self.restarts <= RESTARTS_MAX
    }

    fn answered(&self, heard: Heard, answer: Result<u64, LaneError>) -> Heard {
        match answer {
            Ok(_) | Err(LaneError::Late) if self.is_wild() => {}
            Ok(value) => {
                assert_eq!((self.seen, value), (self.issued, self.value), "an answer that nobody gave");
                return heard.and_no_violation();
            }
            Err(LaneError::Late) => {
                assert!(self.seen != self.issued, "an answer was overheard");
                return heard.and_no_violation();
            }
            Err(error) => return heard.and_violation(&error, self),
        }
        heard
    }
}

/// The host's end, and what it has sent that was not yet heard.
#[derive(Default)]
enum Far {
    #[default]
    Gone,
    Socket {
        end: Option<OwnedFd>,
        sent: VecDeque<Vec<u8>>,
    },
    Pipe {
        ends: Option<(OwnedFd, OwnedFd)>,
        sent: VecDeque<u8>,
    },
    Virtio {
        request: Region<ReadWrite>,
        answers: Region<ReadWrite>,
        used: u16,
        taken: u16,
        sent: VecDeque<Answer>,
        wild: bool,
    },
}

impl Far {
    /// Sends bytes; into shared memory, stores them anywhere.
    fn send(&mut self, bytes: &[u8]) {
        match self {
            Far::Gone => {}
            Far::Socket { end, sent } => {
                if let Some(end) = end
                    && unistd::write(&*end, bytes).is_ok()
                {
                    sent.push_back(bytes.to_vec());
                }
            }
            Far::Pipe { ends, sent } => {
                if let Some((_, answers)) = ends
                    && let Ok(length) = unistd::write(&*answers, bytes)
                {
                    sent.extend(&bytes[..length]);
                }
            }
            Far::Virtio { answers, wild, .. } => {
                *wild = true;
                for store in bytes.chunks_exact(10) {
                    let at = u64::from(u16::from_le_bytes([store[0], store[1]])) % (ANSWER_REGION_BYTES / 8);
                    words::store(answers, 8 * at, u64::from_le_bytes(store[2..].try_into().expect("eight bytes")));
                }
            }
        }
    }

    /// Sends an answer in due form.
    fn answer(&mut self, answer: &Answer) {
        let mut bytes = Vec::new();
        schema::Scratch::default().encode(answer, &mut bytes).expect("it has a fixed size");
        assert_eq!(bytes.len(), ANSWER_BYTES);
        let Far::Virtio { request, answers, used, sent, .. } = self else { return self.send(&bytes) };
        // The layout of `imc/src/lane/virtio/mod.rs`.
        if load(request, 192 + 2) == *used {
            return;
        }
        let buffer = *used % ENTRIES as u16;
        store(answers, 640 + u64::from(buffer) * ANSWER_BYTES as u64, &bytes);
        let entry = u64::from(buffer) | (ANSWER_BYTES as u64) << 32;
        store(answers, 320 + 4 + 8 * u64::from(buffer), &entry.to_le_bytes());
        *used = used.wrapping_add(1);
        store(answers, 320 + 2, &used.to_le_bytes());
        sent.push_back(*answer);
    }

    /// Takes everything that was asked, so that there is room for more.
    fn take(&mut self) {
        let mut place = [0; 4096];
        match self {
            Far::Gone => {}
            Far::Socket { end, .. } => while end.as_ref().is_some_and(|end| unistd::read(end, &mut place).is_ok()) {},
            Far::Pipe { ends, .. } => {
                while ends.as_ref().is_some_and(|(asked, _)| unistd::read(asked, &mut place).is_ok()) {}
            }
            Far::Virtio { request, answers, taken, .. } => {
                while *taken != load(request, 64 + 2) {
                    let buffer = u64::from(*taken % ENTRIES as u16);
                    store(answers, 4 + 8 * buffer, &buffer.to_le_bytes());
                    *taken = taken.wrapping_add(1);
                }
                store(answers, 2, &taken.to_le_bytes());
            }
        }
    }

    /// Dies, as far as a host's death can be seen here.
    fn leave(&mut self) {
        match self {
            Far::Socket { end, .. } => *end = None,
            Far::Pipe { ends, .. } => *ends = None,
            Far::Gone | Far::Virtio { .. } => {}
        }
    }

    fn is_gone(&self) -> bool {
        matches!(self, Far::Gone | Far::Socket { end: None, .. } | Far::Pipe { ends: None, .. })
    }

    /// The next of what was sent: an answer, or something that is none. After a death, that it died.
    fn next(&mut self) -> Option<Option<Answer>> {
        let bytes = match self {
            Far::Gone => None,
            Far::Socket { sent, .. } => sent.pop_front(),
            Far::Pipe { sent, .. } if sent.is_empty() => None,
            Far::Pipe { sent, .. } => Some(sent.drain(..sent.len().min(ANSWER_BYTES)).collect()),
            Far::Virtio { sent, .. } => return sent.pop_front().map(Some),
        };
        match bytes {
            Some(bytes) if bytes.len() == ANSWER_BYTES => Some(crate::messages::decode(&bytes).ok()),
            Some(_) => Some(None),
            None if self.is_gone() => Some(None),
            None => None,
        }
    }
}

fn load(region: &Region<ReadWrite>, at: u64) -> u16 {
    (words::load(region, at / 8 * 8) >> (at % 8 * 8)) as u16
}

fn store(region: &Region<ReadWrite>, at: u64, bytes: &[u8]) {
    nix::sys::uio::pwrite(region, bytes, at as i64).expect("the place is inside");
}

/// An answer about an operation near those that may be.
fn answer(input: &mut Input<'_>, model: &Model) -> Answer {
    let sequence = model.seen.wrapping_add(u32::from(input.u8() % 40)).wrapping_sub(u32::from(input.u8() & 1));
    let mut answer = Answer { sequence, started: input.u8() & 1 != 0, value: input.u64(), ..Answer::default() };
    if input.u8() & 1 != 0 {
        answer.levels = input.u64() as u32;
        answer.deadline = Some(input.u64()).filter(|deadline| *deadline != u64::MAX);
        (answer.doorbells, answer.unknown) = (input.u64(), input.u64());
    }
    answer
}

fn asked(input: &mut Input<'_>) -> Request {
    let operation = input.operation();
    Request { operation, range: input.u8(), width: 1 << (input.u8() % 4), offset: input.u64(), value: 1, now: 2 }
}
