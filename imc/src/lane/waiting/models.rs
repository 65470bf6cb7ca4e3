//! The sleep of both sides under a model checker: every order in which their steps can be seen, as the memory model allows.
//!
//! A wake-up that is lost shows as a thread that sleeps for ever, which loom reports as a deadlock. Each model is run once
//! more without the fence of one side, and must then find one: what is asserted is that the model can fail.

use super::{Rung, Side, Sleeper, Word, generation, retire, sleep, waiter};
use loom::sync::atomic::{AtomicU64, Ordering, fence};
use loom::sync::{Mutex, Notify};
use loom::thread;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// A word with the fences of the publisher, of the sleeper, or of both.
struct Modelled<const PUBLISHER: bool, const SLEEPER: bool>(AtomicU64);

type Fenced = Modelled<true, true>;
type PublisherUnfenced = Modelled<false, true>;
type SleeperUnfenced = Modelled<true, false>;

impl<const PUBLISHER: bool, const SLEEPER: bool> Default for Modelled<PUBLISHER, SLEEPER> {
    fn default() -> Self {
        Modelled(AtomicU64::new(0))
    }
}

impl<const PUBLISHER: bool, const SLEEPER: bool> Word for Modelled<PUBLISHER, SLEEPER> {
    fn load(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn store(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    fn fence(side: Side) {
        let kept = match side {
            Side::Publisher => PUBLISHER,
            Side::Sleeper => SLEEPER,
        };
        if kept {
            fence(Ordering::SeqCst);
        }
    }
}

/// What the two sides share. A notification is the eventfd: set by who rings, taken by who sleeps.
struct Shared<W> {
    /// Sequence of the last entry.
    published: AtomicU64,
    /// What a guest put into a queue of its memory.
    queued: AtomicU64,
    /// Sequence of the last commit.
    committed: AtomicU64,
    retired: W,
    generation: W,
    waiter: W,
    wake: Notify,
    reply: Notify,
}

impl<W: Word + Default> Shared<W> {
    fn new() -> Arc<Shared<W>> {
        Arc::new(Shared {
            published: AtomicU64::new(0),
            queued: AtomicU64::new(0),
            committed: AtomicU64::new(0),
            retired: W::default(),
            generation: W::default(),
            waiter: W::default(),
            wake: Notify::new(),
            reply: Notify::new(),
        })
    }
}

/// The VMM's end, behind the lane's lock.
struct Poster<W> {
    shared: Arc<Shared<W>>,
    rung: Rung,
    issued: u64,
}

impl<W: Word> Poster<W> {
    fn new(shared: &Arc<Shared<W>>) -> Poster<W> {
        Poster { shared: shared.clone(), rung: Rung::default(), issued: 0 }
    }

    fn post(&mut self) {
        self.issued += 1;
        self.shared.published.store(self.issued, Ordering::Release);
        if self.rung.must_ring(&self.shared.generation) {
            self.shared.wake.notify();
        }
    }
}

/// A host that looks at its lane and at its queue.
struct Host<W> {
    shared: Arc<Shared<W>>,
    /// What it has found in either.
    lane: u64,
    queue: u64,
    /// Whether it commits and tells what it finds in its lane.
    answers: bool,
}

impl<W: Word> Host<W> {
    fn new(shared: &Arc<Shared<W>>) -> Host<W> {
        Host { shared: shared.clone(), lane: 0, queue: 0, answers: false }
    }

    /// Serves until it has found this much.
    fn serve(&mut self, lane: u64, queue: u64) {
        while self.lane < lane || self.queue < queue {
            if self.look().is_none() {
                sleep(self);
            }
        }
    }
}

impl<W: Word> Sleeper for Host<W> {
    type Reason = ();

    fn fall_asleep(&mut self) {
        generation::fall_asleep(&self.shared.generation);
    }

    fn look(&mut self) -> Option<()> {
        let (lane, queue) = (self.shared.published.load(Ordering::Acquire), self.shared.queued.load(Ordering::Acquire));
        let found = lane > self.lane || queue > self.queue;
        if self.answers && lane > self.lane {
            commit(&*self.shared, lane);
        }
        (self.lane, self.queue) = (lane, queue);
        found.then_some(())
    }

    fn rest(&mut self) -> Option<()> {
        self.shared.wake.wait();
        Some(())
    }

    fn wake_up(&mut self) {
        generation::wake_up(&self.shared.generation);
    }
}

fn commit<W: Word>(shared: &Shared<W>, sequence: u64) {
    shared.committed.store(sequence, Ordering::Release);
    if waiter::must_ring(&shared.waiter, sequence as u32) {
        shared.reply.notify();
    }
}

/// A vcpu that waits for a sequence. Its reason is whether it was committed, and not retired.
struct Waiter<'a, W> {
    shared: &'a Shared<W>,
    sequence: u64,
}

impl<W: Word> Sleeper for Waiter<'_, W> {
    type Reason = bool;

    fn fall_asleep(&mut self) {
        waiter::fall_asleep(&self.shared.waiter, self.sequence as u32);
    }

    fn look(&mut self) -> Option<bool> {
        if self.shared.committed.load(Ordering::Acquire) >= self.sequence {
            return Some(true);
        }
        (self.shared.retired.load() != 0).then_some(false)
    }

    fn rest(&mut self) -> Option<bool> {
        self.shared.reply.wait();
        None
    }

    fn wake_up(&mut self) {
        waiter::wake_up(&self.shared.waiter);
    }
}

fn wait<W: Word>(shared: &Shared<W>, sequence: u64) -> bool {
    sleep(&mut Waiter { shared, sequence })
}

/// How many switches away from a thread that could go on are tried: all, or up to some where all are too many. What goes
/// wrong here takes one or two.
#[derive(Clone, Copy)]
enum Switches {
    All,
    UpTo(usize),
}

use Switches::{All, UpTo};

fn holds(switches: Switches, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = match switches {
        All => None,
        UpTo(bound) => Some(bound),
    };
    builder.check(model);
}

/// The model must find that a wake-up is lost.
#[track_caller]
fn fails(switches: Switches, model: impl Fn() + Send + Sync + 'static) {
    let end = catch_unwind(AssertUnwindSafe(|| holds(switches, model)));
    let panic = end.expect_err("no wake-up was lost: the model would not notice");
    let message = panic.downcast_ref::<String>().map_or("", String::as_str);
    assert!(message.contains("deadlock"), "{message}");
}

fn posts_to_a_host_that_falls_asleep<W: Word + Default + Send + Sync + 'static>() {
    let shared = Shared::<W>::new();
    let mut poster = Poster::new(&shared);
    let posts = thread::spawn(move || {
        poster.post();
        poster.post();
    });
    Host::new(&shared).serve(2, 0);
    posts.join().unwrap();
}

#[test]
fn host_that_falls_asleep_is_woken_by_a_post() {
    holds(All, posts_to_a_host_that_falls_asleep::<Fenced>);
    fails(All, posts_to_a_host_that_falls_asleep::<PublisherUnfenced>);
    fails(All, posts_to_a_host_that_falls_asleep::<SleeperUnfenced>);
}

fn commits_for_a_waiter_that_falls_asleep<W: Word + Default + Send + Sync + 'static>() {
    let shared = Shared::<W>::new();
    let commits = thread::spawn({
        let shared = shared.clone();
        move || {
            commit(&shared, 1);
            commit(&shared, 2);
        }
    });
    assert!(wait(&shared, 1) && wait(&shared, 2));
    commits.join().unwrap();
}

#[test]
fn waiter_that_falls_asleep_is_woken_by_the_commit() {
    holds(All, commits_for_a_waiter_that_falls_asleep::<Fenced>);
    fails(All, commits_for_a_waiter_that_falls_asleep::<PublisherUnfenced>);
    fails(All, commits_for_a_waiter_that_falls_asleep::<SleeperUnfenced>);
}

fn calls<W: Word + Default + Send + Sync + 'static>() {
    let shared = Shared::<W>::new();
    let mut host = Host::new(&shared);
    host.answers = true;
    let serves = thread::spawn(move || host.serve(2, 0));
    let mut poster = Poster::new(&shared);
    for sequence in [1, 2] {
        poster.post();
        assert!(wait(&shared, sequence));
    }
    serves.join().unwrap();
}

#[test]
fn call_ends_though_both_sides_fall_asleep() {
    holds(UpTo(3), calls::<Fenced>);
    fails(UpTo(3), calls::<PublisherUnfenced>);
    fails(UpTo(3), calls::<SleeperUnfenced>);
}

fn doorbell_beside_a_lane<W: Word + Default + Send + Sync + 'static>() {
    let shared = Shared::<W>::new();
    let mut poster = Poster::new(&shared);
    let posts = thread::spawn(move || poster.post());
    let rings = thread::spawn({
        let shared = shared.clone();
        move || {
            shared.queued.store(1, Ordering::Release);
            // The kernel rings whatever the generation is.
            shared.wake.notify();
        }
    });
    Host::new(&shared).serve(1, 1);
    posts.join().unwrap();
    rings.join().unwrap();
}

#[test]
fn host_that_falls_asleep_is_woken_by_a_post_and_by_a_doorbell_at_once() {
    holds(UpTo(3), doorbell_beside_a_lane::<Fenced>);
    fails(UpTo(3), doorbell_beside_a_lane::<PublisherUnfenced>);
    fails(UpTo(3), doorbell_beside_a_lane::<SleeperUnfenced>);
}

fn two_vcpus_post<W: Word + Default + Send + Sync + 'static>() {
    let shared = Shared::<W>::new();
    let lane = Arc::new(Mutex::new(Poster::new(&shared)));
    let vcpus = [(); 2].map(|()| {
        let lane = lane.clone();
        thread::spawn(move || lane.lock().unwrap().post())
    });
    Host::new(&shared).serve(2, 0);
    vcpus.into_iter().for_each(|vcpu| vcpu.join().unwrap());
}

#[test]
fn host_that_falls_asleep_is_woken_by_either_of_two_vcpus() {
    holds(UpTo(3), two_vcpus_post::<Fenced>);
    fails(UpTo(3), two_vcpus_post::<PublisherUnfenced>);
    fails(UpTo(3), two_vcpus_post::<SleeperUnfenced>);
}

/// A vcpu waits for what nobody commits. `retires` ends that.
fn retirement(retires: fn(&Shared<Fenced>)) {
    let shared = Shared::<Fenced>::new();
    let retires = thread::spawn({
        let shared = shared.clone();
        move || retires(&shared)
    });
    assert!(!wait(&shared, 1));
    retires.join().unwrap();
}

#[test]
fn waiter_that_falls_asleep_is_woken_by_retirement() {
    holds(All, || retirement(|shared| retire(&shared.retired, || shared.reply.notify())));
    fails(All, || {
        retirement(|shared| {
            shared.reply.notify();
            retire(&shared.retired, || {});
        });
    });
}

/// A host is rung, takes the ring, and dies of what it finds. `begins` is what the next one does first.
fn death_asleep<W: Word + Default + Send + Sync + 'static>(begins: fn(&W)) {
    let shared = Shared::<W>::new();
    let mut poster = Poster::new(&shared);
    let posts = thread::spawn(move || {
        poster.post();
        poster.post();
    });
    let mut host = Host::new(&shared);
    host.fall_asleep();
    if host.look().is_none() {
        host.rest();
    }
    begins(&shared.generation);
    Host::new(&shared).serve(2, 0);
    posts.join().unwrap();
}

#[test]
fn next_incarnation_of_a_host_that_died_asleep_is_woken_too() {
    holds(All, || death_asleep::<Fenced>(generation::wake_up));
    fails(All, || death_asleep::<Fenced>(|_| {}));
    fails(All, || death_asleep::<PublisherUnfenced>(generation::wake_up));
    fails(All, || death_asleep::<SleeperUnfenced>(generation::wake_up));
}
