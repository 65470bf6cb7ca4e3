//! A toy device behind every kind of lane, and under kill -9.
#![allow(unsafe_code)] // A child process is made by fork and leaves without destructors; a fuse lies in shared memory.

#[path = "../probe/objects.rs"]
mod objects;
#[path = "../probe/toy.rs"]
mod toy;

mod conformance;
mod order;

use crate::grants::{DeviceGrants, HostGrants, bulk};
use crate::{Engine, Host, Linked, link};
use device::Options;
use device::manifest::Power;
use imc::lane::{Header, Lane, LaneError, Rest, SpinBudget, StateWriter, state_region_bytes};
use imc::{Capability, Mapping, Region};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{ForkResult, Pid, fork};
use objects::Objects;
use schema::host::{Grant, Purpose};
use schema::lane::{Carrier, Operation};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use toy::{CATALOGUE, fold, manifest, register};

const LONG: Duration = Duration::from_secs(20);
const SOON: Duration = Duration::from_millis(5);

/// Shared with forked hosts: how many more steps one lives, for each carrier.
static FUSES: OnceLock<Mapping> = OnceLock::new();
/// Which of them is this process's. None is where it serves in a thread.
static ARMED: AtomicUsize = AtomicUsize::new(UNARMED);
const UNARMED: usize = usize::MAX;

/// A point between two steps at which a host may die.
fn fuse() {
    let armed = ARMED.load(Ordering::Relaxed);
    if armed != UNARMED && fuse_of(armed).fetch_sub(1, Ordering::Relaxed) == 1 {
        kill(Pid::this(), Signal::SIGKILL).unwrap();
    }
}

fn fuse_of(carrier: usize) -> &'static AtomicU64 {
    assert!(carrier <= Carrier::ALL.len());
    let mapping = FUSES.get_or_init(|| Region::create("cofferdam:test", 4096).unwrap().map().unwrap());
    // SAFETY: a word of a page that is mapped for ever and only touched atomically.
    unsafe { AtomicU64::from_ptr(mapping.as_ptr().cast::<u64>().add(carrier)) }
}

impl Objects {
    fn host(&self) -> Host {
        let (mut whole, mut own, manifest) = (HostGrants::default(), DeviceGrants::default(), manifest());
        for (grant, descriptor) in self.grants() {
            if let Some((grant, descriptor)) = whole.add(grant, descriptor).unwrap() {
                own.add(&manifest, self.carrier, &grant, descriptor).unwrap();
            }
        }
        let ends = if self.carrier == Carrier::Pipe { 2 } else { 1 };
        assert_eq!(whole.held().len() + own.held().len(), 4 + ends, "all but regions");
        let state = own.state(&manifest).unwrap();
        let irq = Arc::new(whole.take_irq().unwrap());
        let rest = Rest::new(whole.take_wake().unwrap(), irq.clone());
        let lane = own.lane(self.carrier, &rest, state.committed().sequence()).unwrap();
        let mut powers = own.powers(&manifest, 0, None).unwrap();
        let doorbells = powers.doorbells.clone();
        let model = (CATALOGUE[0].attach)(&Options::default(), &mut powers).unwrap();
        Host::new(vec![Engine::new(model, &manifest, state, lane, irq, doorbells)], rest)
    }

    fn link(&self) -> (Lane, Box<dyn FnMut() + Send>) {
        let Linked { carrier, pump } = link(CATALOGUE, "toy", &[], self.grants()).unwrap();
        (Lane::new(carrier, self.view(), &manifest(), LONG), pump)
    }

    /// A process that serves until it is killed or told to leave.
    fn fork(&self) -> Pid {
        let mut host = self.host();
        // SAFETY: the child serves what was made above, and leaves without destructors.
        match unsafe { fork() }.unwrap() {
            ForkResult::Parent { child } => child,
            ForkResult::Child => {
                ARMED.store(self.carrier as usize, Ordering::Relaxed);
                toy::BETWEEN_STEPS.get_or_init(|| fuse);
                let served = host.start().and_then(|()| host.until_all_left());
                // SAFETY: ends the child at once.
                unsafe { libc::_exit(i32::from(served.is_err())) }
            }
        }
    }
}

/// A host that serves in a thread, until the lane is told to shut down.
fn spawn(objects: &Objects) -> std::thread::JoinHandle<()> {
    let mut host = objects.host();
    host.start().unwrap();
    std::thread::spawn(move || host.until_all_left().unwrap())
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < LONG, "waited in vain until {what}");
        std::thread::yield_now();
    }
}

#[test]
fn posts_share_a_commit_except_after_a_restart() {
    let objects = Objects::new();
    let lane = objects.lane(SpinBudget::NONE, LONG);
    let mut host = objects.host();
    host.start().unwrap();
    let post_seven = || (0..7).for_each(|value| lane.write(0, register::POSTED, 8, value, 0).unwrap());
    let before = objects.view().committed();
    post_seven();
    host.work().unwrap();
    let after = objects.view().committed();
    assert_eq!(after.sequence(), before.sequence() + 7);
    assert_ne!(after.copy(), before.copy(), "one commit");
    drop(host);

    let mut host = objects.host();
    host.start().unwrap();
    let before = objects.view().committed();
    for _ in 0..2 {
        post_seven();
    }
    host.work().unwrap();
    let after = objects.view().committed();
    assert_eq!((after.sequence(), after.copy()), (before.sequence() + 14, before.copy()), "an even number of commits");
}

#[test]
fn alarm_that_a_batch_makes_due_runs_within_it_in_its_place() {
    let objects = Objects::new();
    let lane = objects.lane(SpinBudget::NONE, SOON);
    let mut host = objects.host();
    host.start().unwrap();
    lane.write(0, register::POSTED, 8, 1, 10).unwrap();
    assert_eq!(lane.write(0, register::DEADLINE, 8, 20, 11), Err(LaneError::Late), "there is no host to answer");
    lane.write(0, register::POSTED, 8, 2, 12).unwrap();
    lane.write(0, register::POSTED, 8, 3, 30).unwrap();
    while host.work().unwrap() {}
    let served = std::thread::spawn(move || host.until_all_left().unwrap());
    let lane_now = |offset| lane.read(0, offset, 8, 40);
    wait_until("the host serves", || lane_now(register::DEADLINE) == Ok(1));
    assert_eq!(lane_now(register::LEVEL), Ok(30));
    lane.operate(Operation::Shutdown, 40).unwrap();
    served.join().unwrap();
}

#[test]
fn next_incarnation_goes_on_and_tells_again() {
    let objects = Objects::new();
    let host = spawn(&objects);
    let lane = objects.lane(SpinBudget::NONE, LONG);
    lane.write(0, register::FOLD, 8, 5, 7).unwrap();
    assert!(lane.notify(Operation::Button, 8));
    lane.operate(Operation::Shutdown, 9).unwrap();
    host.join().unwrap();
    while objects.irq.drain().is_some() || objects.switch.drain().is_some() {}

    let host = spawn(&objects);
    assert!(objects.irq.drain().is_some(), "levels are told again");
    assert!(objects.switch.drain().is_some(), "what was committed may not have happened");
    assert_eq!(lane.read(0, register::FOLD, 8, 9), Ok(fold(0, 5)));
    assert_eq!(lane.levels().high, 1);
    lane.operate(Operation::Shutdown, 9).unwrap();
    host.join().unwrap();
}

#[test]
fn state_that_the_device_could_not_have_left_is_a_reset() {
    let objects = Objects::new();
    let lane = objects.lane(SpinBudget::NONE, LONG);
    let host = spawn(&objects);
    lane.write(0, register::FOLD, 8, 5, 7).unwrap();
    lane.write(0, register::LEVEL, 8, 7, 7).unwrap();
    lane.operate(Operation::Shutdown, 9).unwrap();
    host.join().unwrap();
    let host = spawn(&objects);
    assert_eq!((lane.read(0, register::FOLD, 8, 9), lane.levels().high), (Ok(0), 0));
    lane.operate(Operation::Shutdown, 9).unwrap();
    host.join().unwrap();
}

#[test]
fn grant_that_was_not_asked_for_is_refused() {
    let objects = Objects::new();
    let refused = |change: fn(&mut Grant)| {
        let mut own = DeviceGrants::default();
        let (mut grant, descriptor) =
            objects.grants().into_iter().find(|(grant, _)| grant.purpose == Purpose::Switch).unwrap();
        change(&mut grant);
        own.add(&manifest(), Carrier::Memory, &grant, descriptor).unwrap_err()
    };
    assert!(refused(|grant| grant.number = 0).contains("was not asked for"), "wish 0 is a stream");
    assert!(refused(|grant| grant.number = 9).contains("was not asked for"));
    assert!(refused(|grant| grant.purpose = Purpose::Memory).contains("was not asked for"));
    assert!(refused(|grant| grant.purpose = Purpose::File).contains("was not asked for"));
    let late = |grant: &mut Grant| (grant.purpose, grant.number) = (Purpose::Vector, 0);
    assert!(refused(late).contains("was not asked for"));
    assert!(refused(|grant| grant.purpose = Purpose::State).contains("State"), "an eventfd is no region");
}

#[test]
fn grant_that_comes_twice_or_not_at_all_is_refused() {
    let objects = Objects::new();
    let mut grants = objects.grants();
    grants.extend(objects.grants());
    let error = link(CATALOGUE, "toy", &[], grants).err().unwrap();
    assert_eq!(error, "toy: `wake` was granted twice");
    let without = |purpose| {
        let grants = objects.grants().into_iter().filter(|(grant, _)| grant.purpose != purpose).collect();
        link(CATALOGUE, "toy", &[], grants).err().unwrap()
    };
    assert_eq!(without(Purpose::Bell), "toy: `bell` was not granted");
    assert_eq!(without(Purpose::State), "toy: `state` was not granted");
    let small = |grant: &mut (Grant, OwnedFd)| {
        if grant.0.purpose == Purpose::Scanout {
            let region = Region::create("cofferdam:scanout", 4096).unwrap();
            *grant = (Grant { handle: region.handle(0), ..grant.0.clone() }, region.into());
        }
    };
    let mut grants = objects.grants();
    grants.iter_mut().for_each(small);
    let error = link(CATALOGUE, "toy", &[], grants).err().unwrap();
    assert_eq!(error, "toy: the region of a scanout is too small");
    assert_eq!(link(CATALOGUE, "other", &[], vec![]).err().unwrap(), "there is no device `other`");
}

#[test]
fn bulk_state_is_beside_the_copies_and_outlives_an_incarnation() {
    const STATE: u32 = 72;
    const BULK: usize = 3000;
    let region = Region::create("cofferdam:test", state_region_bytes(STATE, BULK as u32)).unwrap();
    let incarnation = || {
        let mut writer = StateWriter::new(region.map().unwrap(), STATE, BULK as u32).unwrap();
        let bulk = bulk(&writer).unwrap().unwrap();
        writer.begin();
        (writer, bulk)
    };
    let (mut writer, first) = incarnation();
    first.slice(0, BULK).unwrap().copy_from(&[0xa5_u8; BULK]);
    writer.working().fill(0x11);
    writer.commit(Header::default(), None);
    writer.begin().fill(0x22);
    drop((writer, first));
    let (writer, second) = incarnation();
    assert_eq!(writer.current(), [0x11; STATE as usize]);
    let mut found = [0_u8; BULK];
    second.slice(0, BULK).unwrap().copy_to(&mut found);
    assert_eq!(found, [0xa5; BULK]);
    for (offset, bytes) in [(1, BULK), (BULK, 1), (usize::MAX, 1), (0, usize::MAX)] {
        assert!(second.slice(offset, bytes).is_none(), "{bytes} bytes at {offset}");
    }
}

#[test]
fn guest_memory_is_where_the_guest_has_it() {
    use vm_memory::{Bytes, GuestAddress};
    let regions = [Region::create("cofferdam:ram", 8192).unwrap(), Region::create("cofferdam:ram", 4096).unwrap()];
    let mut manifest = manifest();
    manifest.wishes[0].power = Power::Memory;
    let mut own = DeviceGrants::default();
    for (region, base) in regions.iter().zip([1 << 32, 0]) {
        let grant = Grant { device: 0, purpose: Purpose::Memory, number: 0, base, handle: region.handle(0) };
        own.add(&manifest, Carrier::Memory, &grant, region.as_fd().try_clone_to_owned().unwrap()).unwrap();
    }
    assert!(own.held().is_empty(), "regions are closed once they are mapped");
    let memory = own.powers(&manifest, 0, None).unwrap().memory().unwrap();
    memory.write_obj(77u32, GuestAddress((1 << 32) + 4096)).unwrap();
    // SAFETY: inside the mapping, aligned, and nobody writes meanwhile.
    let seen = unsafe { regions[0].map().unwrap().as_ptr().add(4096).cast::<u32>().read_volatile() };
    assert_eq!(seen, 77);
    assert!(memory.read_obj::<u8>(GuestAddress(4096)).is_err(), "the guest has nothing there");
}

/// Kills the host of `objects` again and again, and starts the next one. None is left when this is dropped.
struct Killing {
    host: Arc<Mutex<Pid>>,
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<u64>>,
}

impl Killing {
    fn start(objects: Arc<Objects>, kills: u64) -> Killing {
        let fuse = fuse_of(objects.carrier as usize);
        fuse.store(u64::MAX, Ordering::Relaxed);
        let host = Arc::new(Mutex::new(objects.fork()));
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let (host, stop) = (host.clone(), stop.clone());
            let mut random = Random(0x2545_f491_4f6c_dd1d);
            move || {
                let mut by_fuse = 0;
                for round in 0..kills {
                    if stop.load(Ordering::SeqCst) {
                        break;
                    }
                    let mut host = host.lock().unwrap();
                    by_fuse += u64::from(Killing::kill(*host, (round % 2 == 0).then_some(fuse), &mut random));
                    *host = objects.fork();
                }
                by_fuse
            }
        });
        Killing { host, stop, thread: Some(thread) }
    }

    /// Kills at a point between two steps, or at any moment. Says whether it was the first.
    fn kill(host: Pid, fuse: Option<&AtomicU64>, random: &mut Random) -> bool {
        if let Some(fuse) = fuse {
            fuse.store(1 + random.next() % 150, Ordering::Relaxed);
            let start = Instant::now();
            while start.elapsed() < Duration::from_millis(100) {
                std::thread::sleep(Duration::from_micros(100));
                if waitpid(host, Some(WaitPidFlag::WNOHANG)).unwrap().pid().is_some() {
                    fuse.store(u64::MAX, Ordering::Relaxed);
                    return true;
                }
            }
            fuse.store(u64::MAX, Ordering::Relaxed);
        } else {
            std::thread::sleep(Duration::from_micros(random.next() % 1000));
        }
        kill(host, Signal::SIGKILL).unwrap();
        waitpid(host, None).unwrap();
        false
    }

    fn is_done(&self) -> bool {
        self.thread.as_ref().is_none_or(|thread| thread.is_finished())
    }

    /// How many were killed at a point between two steps. The last host lives on.
    fn join(&mut self) -> u64 {
        self.thread.take().map_or(0, |thread| thread.join().unwrap())
    }
}

impl Drop for Killing {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        self.join();
        let host = *self.host.lock().unwrap();
        kill(host, Signal::SIGKILL).unwrap();
        waitpid(host, None).unwrap();
    }
}

/// Random numbers; Marsaglia's xorshift64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}
