//! A device host as a process of its own: from hello to its end, without a sandbox and sealed.

#![allow(missing_docs, unsafe_code)] // An entry is written as a broken VMM would.

#[path = "../probe/objects.rs"]
mod objects;
#[path = "../probe/toy.rs"]
mod toy;

use imc::lane::{LaneError, Request, SpinBudget, look_at_remains};
use imc::{CallError, Channel};
use objects::Objects;
use sandbox::{Child, End, Program, Recipe, Stage};
use schema::host::{
    Assign, Assignment, Attach, Empty, Grants, HOST_WIDE, Hello, Level, Log, Manifests, PROTOCOL, Purpose, Seal,
};
use schema::lane::{Carrier, Operation};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use toy::{fold, manifest, register};

const LONG: Duration = Duration::from_secs(20);
const SOON: Duration = Duration::from_millis(20);

/// A host that has said hello.
struct Host {
    child: Child,
    channel: Channel,
    recipe: Recipe,
    carrier: Carrier,
}

impl Host {
    fn start(level: Level, carrier: Carrier) -> Host {
        let (ours, theirs) = Channel::pair().unwrap();
        let program = Program::open(Path::new(env!("CARGO_BIN_EXE_toy_host"))).unwrap();
        let recipe = Recipe::host_over(level, &[manifest()], &[carrier]);
        let child = sandbox::spawn(&program, "cofferdam: host", theirs.into(), &recipe).unwrap();
        let mut host = Host { child, channel: ours, recipe, carrier };
        let hello = host.channel.receive(Some(LONG)).unwrap().expect("it says hello");
        assert_eq!(hello.decode::<Hello>().unwrap().0.protocol, PROTOCOL);
        host
    }

    /// A host of one toy, serving.
    fn serving(level: Level, objects: &Objects) -> Host {
        Host::serving_poisoned(level, objects, false)
    }

    /// The same, told whether its next operation ended two of its kind.
    fn serving_poisoned(level: Level, objects: &Objects, poisoned: bool) -> Host {
        let mut host = Host::start(level, objects.carrier);
        assert_eq!(host.assign_poisoned("toy", poisoned).unwrap().manifests, [manifest()]);
        for (mut grant, descriptor) in objects.grants() {
            if matches!(grant.purpose, Purpose::Wake | Purpose::Irq) {
                grant.device = HOST_WIDE;
            }
            let grants = Grants { grants: vec![grant] };
            let (Empty, _) = host.channel.call(&grants, &[descriptor.as_fd()], LONG).unwrap();
        }
        let (Empty, _) = host.channel.call(&Attach, &[], LONG).unwrap();
        let (Empty, _) = host.channel.call(&Seal, &[], LONG).unwrap();
        host
    }

    fn assign(&mut self, device: &str) -> Result<Manifests, CallError> {
        self.assign_poisoned(device, false)
    }

    fn assign_poisoned(&mut self, device: &str, poisoned: bool) -> Result<Manifests, CallError> {
        let devices = vec![Assignment {
            device: device.into(),
            options: vec![],
            carrier: self.carrier,
            poisoned,
            exchanged: None,
        }];
        let assign = Assign { level: self.recipe.level, devices, threaded: false };
        self.channel.call(&assign, &[], LONG).map(|(manifests, _)| manifests)
    }

    fn log_line(&mut self) -> String {
        self.channel.receive(Some(LONG)).unwrap().expect("a log line").decode::<Log>().unwrap().0.text
    }

    fn end(&mut self) -> Option<End> {
        self.child.reap(LONG)
    }
}

const LEVELS: [Level; 4] = [Level::Off, Level::Process, Level::Seccomp, Level::Strict];
/// Those with a host.
const CARRIERS: [Carrier; 4] = [Carrier::Memory, Carrier::Socket, Carrier::Pipe, Carrier::Virtio];

/// Every level with every carrier.
fn each() -> impl Iterator<Item = (Level, Carrier)> {
    LEVELS.into_iter().flat_map(|level| CARRIERS.into_iter().map(move |carrier| (level, carrier)))
}

#[test]
fn host_serves_at_every_level_over_every_carrier_and_leaves_when_told() {
    for (level, carrier) in each() {
        let objects = Objects::over(carrier);
        let mut host = Host::serving(level, &objects);
        let lane = objects.lane(SpinBudget { vmm: 100, host: 100 }, LONG);
        let mut relay = objects.relay();
        let mut folded = 0;
        for value in 0..1000 {
            lane.write(0, register::POSTED, 8, value, 0).unwrap();
            lane.write(0, register::STREAM, 8, value & 0xff, 0).unwrap();
            folded = fold(folded, value);
        }
        assert_eq!(lane.read(0, register::FOLD, 8, 0), Ok(folded));
        // Its next deadline and levels: it rings, sealed as it is.
        assert!(lane.notify(Operation::Button, 0));
        assert_eq!(lane.read(0, register::COUNT, 8, 0), Ok(1));
        assert_eq!(lane.levels().high, 1);
        objects.direct.map().unwrap().write(0, &[7]);
        assert!(lane.notify(Operation::Refresh, 0));
        assert_eq!(lane.read(0, register::COUNT, 8, 0), Ok(2));
        assert_eq!(objects.picture().map(|(header, pixel)| (header.generation, pixel)), Some((2, 7)));
        let mut printed = Vec::new();
        relay.take(&mut printed, usize::MAX);
        assert_eq!(printed.len(), 1000);
        if level != Level::Off {
            let audit = sandbox::audit(host.child.pid, &host.recipe, Stage::Sealed).unwrap();
            assert_eq!(audit.differences, Vec::<String>::new(), "{level:?} {carrier:?}");
        }
        lane.operate(Operation::Shutdown, 0).unwrap();
        assert_eq!(host.end(), Some(End::Exited(0)), "{level:?} {carrier:?}");
    }
}

#[test]
fn next_host_goes_on_where_the_killed_one_was() {
    for carrier in CARRIERS {
        let objects = Objects::over(carrier);
        let lane = objects.lane(SpinBudget::NONE, LONG);
        let mut folded = 0;
        for round in 0..3 {
            let mut host = Host::serving(Level::Seccomp, &objects);
            assert_eq!(lane.read(0, register::COUNT, 8, 0), Ok(round + 1));
            lane.write(0, register::FOLD, 8, round, 0).unwrap();
            folded = fold(folded, round);
            host.child.kill().unwrap();
            assert!(matches!(host.end(), Some(End::Killed(9))));
            lane.write(0, register::POSTED, 8, 77, 0).unwrap();
            folded = fold(folded, 77);
        }
        let _host = Host::serving(Level::Seccomp, &objects);
        assert_eq!(lane.read(0, register::FOLD, 8, 0), Ok(folded), "{carrier:?}");
    }
}

#[test]
fn operation_that_ended_two_hosts_is_answered_by_the_third_which_resets_its_device() {
    for carrier in CARRIERS {
        let objects = Objects::over(carrier);
        let lane = objects.lane(SpinBudget::NONE, LONG);
        let mut host = Host::serving(Level::Seccomp, &objects);
        assert_eq!(lane.read(0, register::COUNT, 8, 0), Ok(1));
        lane.write(0, register::FOLD, 8, 5, 0).unwrap();
        std::thread::scope(|scope| {
            let poison = scope.spawn(|| lane.write(0, register::BUTTON, 8, 0, 0));
            assert_eq!(host.end(), Some(End::Exited(101)));
            let remains = look_at_remains(&objects.state).unwrap();
            assert_eq!((remains.committed, remains.attempted), (2, Some(3)), "{carrier:?}");
            assert_eq!(look_at_remains(&objects.state).unwrap().attempted, None, "it is told once");
            host = Host::serving(Level::Seccomp, &objects);
            assert_eq!(host.end(), Some(End::Exited(101)));
            assert_eq!(look_at_remains(&objects.state).unwrap(), remains);
            host = Host::serving_poisoned(Level::Seccomp, &objects, true);
            assert_eq!(poison.join().unwrap(), Ok(()), "{carrier:?}");
        });
        assert_eq!(lane.read(0, register::COUNT, 8, 0), Ok(1), "{carrier:?}");
        assert_eq!(lane.read(0, register::COUNT, 8, 0), Ok(2), "one operation is poison, not the next");
    }
}

#[test]
fn host_whose_device_panics_says_so_and_ends() {
    for level in LEVELS {
        let objects = Objects::new();
        let mut host = Host::serving(level, &objects);
        let lane = objects.lane(SpinBudget::NONE, SOON);
        assert_eq!(lane.write(0, register::BUTTON, 8, 0, 0), Err(LaneError::Late));
        let log = host.log_line();
        assert!(log.contains("a device that panics") && !log.contains('\n'), "{log}");
        assert_eq!(host.end(), Some(End::Exited(101)), "{level:?}");
    }
}

#[test]
fn host_whose_vmm_breaks_the_rules_says_so_and_ends() {
    for (level, carrier) in each() {
        let objects = Objects::over(carrier);
        let mut host = Host::serving(level, &objects);
        if carrier == Carrier::Memory {
            let request = objects.request.map().unwrap();
            // Sequence 1 asks for operation 99.
            // SAFETY: inside the mapping, aligned; the host reads it atomically.
            let entry = unsafe { AtomicU64::from_ptr(request.as_ptr().add(2048 + 64).cast()) };
            entry.store(99 << 32 | 1, Ordering::Release);
            objects.wake.signal(1).unwrap();
            assert!(host.log_line().contains("operation 99"));
        } else {
            let (mut lane, _) = objects.carrier(SpinBudget::NONE);
            let odd = Request { operation: Operation::Read, range: 0, width: 3, offset: 0, value: 0, now: 0 };
            lane.post(&odd).unwrap();
            assert!(host.log_line().contains("`width` is out of range"));
        }
        assert_eq!(host.end(), Some(End::Exited(1)), "{level:?} {carrier:?}");
    }
}

#[test]
fn host_refuses_what_it_cannot_be() {
    let mut host = Host::start(Level::Process, Carrier::Memory);
    assert_eq!(host.assign("toaster"), Err(CallError::Refused("there is no device `toaster`".into())));
    assert_eq!(host.log_line(), "there is no device `toaster`");
    assert_eq!(host.end(), Some(End::Exited(1)));
}

#[test]
fn host_ends_over_a_message_that_comes_out_of_order() {
    let mut host = Host::start(Level::Process, Carrier::Memory);
    assert_eq!(host.channel.call::<_, Empty>(&Seal, &[], LONG).err(), Some(CallError::Gone));
    assert_eq!(host.end(), Some(End::Exited(1)));
}

#[test]
fn host_that_was_granted_nothing_says_what_is_missing() {
    let mut host = Host::start(Level::Process, Carrier::Memory);
    host.assign("toy").unwrap();
    let refused = host.channel.call::<_, Empty>(&Attach, &[], LONG);
    assert_eq!(refused.err(), Some(CallError::Refused("`wake` was not granted".into())));
    assert_eq!(host.end(), Some(End::Exited(1)));
}
