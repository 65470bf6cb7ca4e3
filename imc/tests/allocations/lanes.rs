//! Neither side of an access allocates anything, over any carrier.

use super::{ALLOCATIONS, SOON, counted};
use imc::lane::{
    ANSWER_REGION_BYTES, Carrier, Header, HostLane, InProcess, Lane, MemoryCarrier, PipeCarrier, REQUEST_BYTES, Rest,
    Serve, SocketCarrier, SpinBudget, StateView, StateWriter, VirtioCarrier, prepare_virtqueues, state_region_bytes,
};
use imc::{Packets, ReadWrite, Region, Wake, pipe};
use schema::lane::{Access, Operation, STRING_MAX};
use schema::manifest::{Class, Manifest, Register, RegisterKind};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

const STATE_BYTES: u32 = 8;
/// Operations after which a host counts what it allocates.
const WARM: u32 = 20;

/// A posted register at 0 and a shadow register at 1; all else is asked.
fn manifest() -> Manifest {
    let register = |offset, kind| Register { range: 0, offset, width: 1, kind };
    Manifest {
        name: "toy".into(),
        summary: "a device for tests".into(),
        class: Class::System,
        ranges: vec![],
        registers: vec![
            register(0, RegisterKind::Posted(0)),
            register(1, RegisterKind::Shadow { slot: 0, tolerates: vec![] }),
        ],
        lines: vec![],
        vectors: 0,
        doorbells: vec![],
        wishes: vec![],
        state_bytes: STATE_BYTES,
        bulk_bytes: 0,
        pci: None,
        acpi: None,
        with: vec![],
        options: vec![],
        remembered: 0,
    }
}

struct Host {
    lane: HostLane,
    state: StateWriter,
    rest: Arc<Rest>,
}

impl Host {
    fn commit(&mut self, reply: Option<(u32, u64)>) {
        self.state.begin();
        let shadow = [Some(7), None, None, None, None, None, None, None];
        self.state.commit(Header { postable: 1, shadow, ..Header::default() }, reply);
        self.lane.tell(&self.state).unwrap();
    }

    /// Serves until it is told to leave. Says how much it allocated once it was warm.
    fn serve(mut self) -> usize {
        let (mut served, mut before) = (0, 0);
        loop {
            self.state.fall_asleep();
            self.lane.fall_asleep();
            let mut found = false;
            while let Some(access) = self.lane.take().unwrap() {
                found = true;
                self.commit(Some((access.sequence, access.value)));
                served += 1;
                if served == WARM {
                    before = ALLOCATIONS.get();
                }
                if access.operation == Operation::Shutdown {
                    return ALLOCATIONS.get() - before;
                }
            }
            if !found {
                self.rest.sleep().unwrap();
            }
            self.state.wake_up();
            self.lane.wake_up();
        }
    }
}

struct Objects {
    state: Region<ReadWrite>,
    wake: Wake,
    reply: Wake,
}

impl Objects {
    fn new() -> Objects {
        let state = Region::create("cofferdam:state", state_region_bytes(STATE_BYTES, 0)).unwrap();
        Objects { state, wake: Wake::create().unwrap(), reply: Wake::create().unwrap() }
    }

    fn wake(&self) -> Wake {
        self.wake.try_clone().unwrap()
    }

    fn reply(&self) -> Wake {
        self.reply.try_clone().unwrap()
    }

    fn view(&self) -> StateView {
        StateView::new(self.state.read_only().unwrap().map().unwrap())
    }

    fn host(&self, lane: impl FnOnce(Arc<Rest>) -> HostLane) -> JoinHandle<usize> {
        let state = StateWriter::new(self.state.map().unwrap(), STATE_BYTES, 0).unwrap();
        let rest = Rest::new(self.wake(), Arc::new(Wake::create().unwrap()));
        let mut host = Host { lane: lane(rest.clone()), state, rest };
        host.commit(None);
        std::thread::spawn(move || host.serve())
    }
}

fn allocates_nothing(carrier: Box<dyn Carrier>, view: StateView, host: Option<JoinHandle<usize>>) {
    let lane = Lane::new(carrier, view, &manifest(), SOON);
    let caller = counted(|| {
        for _ in 0..40 {
            lane.write(0, 0, 1, 1, 0).unwrap();
        }
        lane.read(0, 9, 1, 0).unwrap();
        lane.read(0, 1, 1, 0).unwrap();
        lane.write(0, 9, 1, 1, 0).unwrap();
        assert!(lane.notify(Operation::Alarm, 0));
        lane.refresh().unwrap();
    });
    assert_eq!(caller, 0, "of the VMM");
    let counters = lane.counters();
    assert!(counters.posted > 0 && counters.shadow > 0 && counters.lane > 0, "{counters:?}");
    if let Some(host) = host {
        lane.operate(Operation::Shutdown, 0).unwrap();
        assert_eq!(host.join().unwrap(), 0, "of the host");
    }
}

const SPIN: SpinBudget = SpinBudget { vmm: 100, host: 0 };

#[test]
fn access_over_memory_allocates_nothing_on_either_side() {
    let objects = Objects::new();
    let request = Region::create("cofferdam:request", REQUEST_BYTES).unwrap();
    let theirs = request.read_only().unwrap().map().unwrap();
    let host = objects.host(|_| HostLane::memory(theirs, objects.reply(), 0));
    let carrier = MemoryCarrier::new(request.map().unwrap(), objects.view(), objects.reply(), objects.wake(), SPIN);
    allocates_nothing(Box::new(carrier), objects.view(), Some(host));
}

#[test]
fn access_over_a_socket_allocates_nothing_on_either_side() {
    let objects = Objects::new();
    let (ours, theirs) = Packets::pair().unwrap();
    // As a supervisor does: an end outlives its host.
    let _kept = theirs.try_clone().unwrap();
    let host = objects.host(|rest| HostLane::socket(theirs, rest, 0));
    let carrier = SocketCarrier::new(ours, objects.reply(), objects.wake(), SPIN).unwrap();
    let view = carrier.view();
    allocates_nothing(Box::new(carrier), view, Some(host));
}

#[test]
fn access_over_pipes_allocates_nothing_on_either_side() {
    let objects = Objects::new();
    let (asked, answers) = (pipe().unwrap(), pipe().unwrap());
    let _kept = (asked.0.try_clone().unwrap(), answers.1.try_clone().unwrap());
    let host = objects.host(|rest| HostLane::pipe(asked.0, answers.1, rest, 0));
    let carrier = PipeCarrier::new(asked.1, answers.0, objects.reply(), objects.wake(), SPIN).unwrap();
    let view = carrier.view();
    allocates_nothing(Box::new(carrier), view, Some(host));
}

#[test]
fn access_over_virtqueues_allocates_nothing_on_either_side() {
    let objects = Objects::new();
    let request = Region::create("cofferdam:request", REQUEST_BYTES).unwrap();
    prepare_virtqueues(&request).unwrap();
    let answers = Region::create("cofferdam:answers", ANSWER_REGION_BYTES).unwrap();
    let theirs = (request.read_only().unwrap().map().unwrap(), answers.map().unwrap());
    let host = objects.host(|rest| HostLane::virtio(theirs.0, theirs.1, objects.reply(), rest, 0).unwrap());
    let seen = answers.read_only().unwrap().map().unwrap();
    let carrier = VirtioCarrier::new(request.map().unwrap(), seen, objects.reply(), objects.wake(), SPIN).unwrap();
    let view = carrier.view();
    allocates_nothing(Box::new(carrier), view, Some(host));
}

#[test]
fn access_by_a_call_allocates_nothing() {
    struct Device(StateWriter);
    impl Serve for Device {
        fn serve(&mut self, access: &Access) -> u64 {
            self.0.begin();
            let shadow = [Some(7), None, None, None, None, None, None, None];
            self.0.commit(Header { postable: 1, shadow, ..Header::default() }, Some((access.sequence, access.value)));
            access.value
        }

        fn string(&self, into: &mut [u8; STRING_MAX]) {
            self.0.string(into);
        }
    }
    let objects = Objects::new();
    let state = StateWriter::new(objects.state.map().unwrap(), STATE_BYTES, 0).unwrap();
    let carrier = InProcess::new(Arc::new(Mutex::new(Device(state))));
    allocates_nothing(Box::new(carrier), objects.view(), None);
}
