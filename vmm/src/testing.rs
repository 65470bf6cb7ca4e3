//! What tests need of the outside: a toy device, its host, and a supervisor's end of the VMM's channel.

use crate::link::{Linked, Linker};
use crate::{lock, memory, serve};
use imc::lane::{Header, HostLane, InProcess, REQUEST_BYTES, Serve, StateWriter, state_region_bytes};
use imc::{BlockFile, Capability, Channel, Packet, ReadWrite, Region, Wake};
use schema::Handle;
use schema::host::{Empty, Grant, Grants, Hello, Level, Log, Purpose, Setting};
use schema::lane::{Access, Carrier, Operation, STRING_MAX};
use schema::manifest::{Class, Line, Manifest, Pci, Power, Range, Space, Switch, Wish};
use schema::play::{Play, Played, Step};
use schema::vmm::{
    AttachDevice, Boot, Counted, Counters, Drive, Driven, GuestRegion, Late, Machine, Memory, Start, Stopped,
};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Long for a test, short for who waits for it.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// The toy's registers, four bytes each. Loads give what was stored, plus one.
pub const SCRATCH: u64 = 0;
/// Stores set the irq levels.
pub const LEVELS: u64 = 4;
/// A store turns the switch, with that number.
pub const EXIT: u64 = 8;
/// A store sets the alarm, so many milliseconds from now; it raises line 0. Loads give the number of alarms.
pub const ALARM_MS: u64 = 12;
/// A store signals vector 0.
pub const VECTOR: u64 = 16;
/// A store is never answered.
pub const HANG: u64 = 20;
/// A store has the levels change some time after it was answered.
pub const LATER: u64 = 24;
/// A store is answered, and nothing after it.
pub const DEAF: u64 = 28;
/// Bytes of the range.
pub const TOY_BYTES: u64 = 32;

/// A manifest with a name and nothing else.
pub fn manifest(name: &str) -> Manifest {
    Manifest {
        name: name.to_owned(),
        summary: "A toy.".to_owned(),
        class: Class::System,
        ranges: Vec::new(),
        registers: Vec::new(),
        lines: Vec::new(),
        vectors: 0,
        doorbells: Vec::new(),
        wishes: Vec::new(),
        state_bytes: 8,
        bulk_bytes: 0,
        pci: None,
        acpi: None,
        with: Vec::new(),
        options: Vec::new(),
        remembered: 0,
    }
}

/// A toy with its registers there, its line 0 on ISA interrupt 5, and a switch that ends the run with a number.
pub fn toy(name: &str, space: Space) -> Manifest {
    Manifest {
        ranges: vec![Range { name: "registers".to_owned(), length: TOY_BYTES, space }],
        lines: vec![Line::Isa(5)],
        wishes: vec![wish(Power::Switch, Some(Switch::Exit), 0)],
        ..manifest(name)
    }
}

/// A toy that is a PCI function with one vector: its registers are BAR 0, its MSI-X table BAR 1.
pub fn pci_toy(name: &str) -> Manifest {
    let pci = Pci {
        vendor: 0x1b36,
        device: 1,
        subsystem_vendor: 0,
        subsystem: 0,
        class: 0xff_0000,
        revision: 0,
        capabilities: Vec::new(),
        vector_bar: 1,
        registers: Vec::new(),
        bridge_function: 0,
    };
    Manifest { lines: vec![Line::Pin(1)], vectors: 1, pci: Some(pci), ..toy(name, Space::Bar(0)) }
}

/// A wish for one thing.
pub fn wish(power: Power, switch: Option<Switch>, bytes: u64) -> Wish {
    Wish { power, name: "it".to_owned(), switch, bytes, range: 0, because: "the test needs it".to_owned() }
}

/// The device's side of a toy.
pub struct Toy {
    state: StateWriter,
    header: Header,
    scratch: u64,
    alarms: u64,
    switch: Option<Wake>,
    vector: Option<Wake>,
}

impl Toy {
    fn new(state: StateWriter, switch: Option<Wake>, vector: Option<Wake>) -> Toy {
        let mut toy = Toy { state, header: Header::default(), scratch: 0, alarms: 0, switch, vector };
        toy.state.begin();
        toy.state.commit(toy.header, None);
        toy
    }

    /// Does one operation. The second is whether the levels are to change later.
    fn act(&mut self, access: &Access) -> (u64, bool) {
        let (mut reply, mut later) = (0, false);
        match (access.operation, access.offset) {
            (Operation::Read, SCRATCH) => reply = self.scratch + 1,
            (Operation::Read, ALARM_MS) => reply = self.alarms,
            (Operation::Write, SCRATCH) => self.scratch = access.value,
            (Operation::Write, LEVELS) => self.header.levels = access.value as u32,
            (Operation::Write, ALARM_MS) => self.header.deadline = Some(access.now + access.value * 1_000_000),
            (Operation::Write, EXIT) => self.switch.iter().for_each(|switch| switch.signal(access.value + 1).unwrap()),
            (Operation::Write, VECTOR) => self.vector.iter().for_each(|vector| vector.signal(1).unwrap()),
            (Operation::Write, LATER) => later = true,
            (Operation::Alarm, _) => {
                self.alarms += 1;
                self.header.deadline = None;
                self.header.levels |= 1;
            }
            _ => {}
        }
        self.state.begin();
        self.state.commit(self.header, Some((access.sequence, reply)));
        (reply, later)
    }

    fn rise(&mut self) {
        self.header.levels = 1;
        self.state.begin();
        self.state.commit(self.header, None);
    }
}

impl Serve for Toy {
    fn serve(&mut self, access: &Access) -> u64 {
        self.act(access).0
    }

    fn string(&self, into: &mut [u8; STRING_MAX]) {
        self.state.string(into);
    }
}

/// Makes toys in the VMM itself.
pub struct ToyLinker;

impl Linker for ToyLinker {
    fn link(&self, _: &str, _: &[Setting], grants: Vec<(Grant, OwnedFd)>) -> Result<Linked, String> {
        let (mut state, mut wake, mut switch) = (None, None, None);
        for (grant, descriptor) in grants {
            let fault = |fault: imc::Fault| fault.to_string();
            match grant.purpose {
                Purpose::State => {
                    state = Some(Region::<ReadWrite>::receive(descriptor, &grant.handle).map_err(fault)?);
                }
                Purpose::Wake => wake = Some(Wake::receive(descriptor, &grant.handle).map_err(fault)?),
                Purpose::Switch => switch = Some(Wake::receive(descriptor, &grant.handle).map_err(fault)?),
                _ => {}
            }
        }
        let (Some(state), Some(wake)) = (state, wake) else { return Err("too little was granted".to_owned()) };
        let state = StateWriter::new(state.map().unwrap(), 8, 0).unwrap();
        let toy = Arc::new(Mutex::new(Toy::new(state, switch, None)));
        let device: Arc<Mutex<dyn Serve>> = toy.clone();
        let pump = move || {
            wake.sleep().unwrap();
            lock(&toy).scratch += 100;
        };
        Ok(Linked { carrier: Box::new(InProcess::new(device)), pump: Box::new(pump) })
    }
}

/// The objects of a toy, as a supervisor makes them.
pub struct Objects {
    /// The host's wake.
    pub wake: Wake,
    irq: Wake,
    request: Region<ReadWrite>,
    /// Its state.
    pub state: Region<ReadWrite>,
    reply: Wake,
    vector: Wake,
    switch: Wake,
    direct: Region<ReadWrite>,
}

impl Objects {
    fn create(manifest: &Manifest) -> Objects {
        let state_bytes = state_region_bytes(manifest.state_bytes, manifest.bulk_bytes);
        let region = |bytes| Region::create("cofferdam:test", bytes).unwrap();
        let wake = || Wake::create().unwrap();
        Objects {
            wake: wake(),
            irq: wake(),
            request: region(REQUEST_BYTES),
            state: region(state_bytes),
            reply: wake(),
            vector: wake(),
            switch: wake(),
            direct: region(4096),
        }
    }

    /// A thread that is the toy's host. It ends with the test.
    pub fn host(&self) {
        let request = self.request.read_only().unwrap().map().unwrap();
        let state = StateWriter::new(self.state.map().unwrap(), 8, 0).unwrap();
        let [wake, irq, reply, switch, vector] =
            [&self.wake, &self.irq, &self.reply, &self.switch, &self.vector].map(|wake| wake.try_clone().unwrap());
        let mut lane = HostLane::memory(request, reply, state.committed().sequence());
        // The first commit is made before the VMM looks.
        let mut toy = Toy::new(state, Some(switch), Some(vector));
        std::thread::spawn(move || {
            loop {
                while let Some(access) = lane.take().unwrap() {
                    if (access.operation, access.offset) == (Operation::Write, HANG) {
                        loop {
                            std::thread::park();
                        }
                    }
                    let (_, later) = toy.act(&access);
                    lane.tell(&toy.state).unwrap();
                    if access.operation == Operation::Alarm {
                        irq.signal(1).unwrap();
                    }
                    if (access.operation, access.offset) == (Operation::Write, DEAF) {
                        loop {
                            std::thread::park();
                        }
                    }
                    if later {
                        std::thread::sleep(Duration::from_millis(20));
                        toy.rise();
                        irq.signal(1).unwrap();
                    }
                }
                toy.state.fall_asleep();
                if !lane.has_next() {
                    wake.sleep().unwrap();
                }
                toy.state.wake_up();
            }
        });
    }
}

/// The VMM in a thread, and the supervisor's end of its channel.
pub struct Rig {
    /// To the VMM.
    pub channel: Channel,
    /// By device.
    pub objects: Vec<Objects>,
    vmm: JoinHandle<Result<(), String>>,
    linked: bool,
    /// Events that came while something else was waited for.
    late: Vec<Late>,
    log: Vec<String>,
    /// What was told and not asked for yet.
    told: Vec<Packet>,
}

impl Rig {
    /// A VMM that has said hello.
    pub fn greeted() -> Rig {
        let (mut channel, theirs) = Channel::pair().unwrap();
        let vmm = std::thread::spawn(|| serve::serve_unsealed(theirs, &ToyLinker));
        let packet = channel.receive(Some(PATIENCE)).unwrap().expect("a hello");
        packet.decode::<Hello>().unwrap();
        Rig { channel, objects: Vec::new(), vmm, linked: false, late: Vec::new(), log: Vec::new(), told: Vec::new() }
    }

    /// A machine that boots nothing and has no KVM.
    pub fn without_kvm() -> Machine {
        Machine {
            cpus: 1,
            memory_bytes: 2 << 20,
            deadline_ms: 200,
            in_process: false,
            spin: false,
            boot: Boot::None,
            kvm: None,
            level: Level::Off,
            restarts: false,
        }
    }

    /// A machine without KVM that runs, with these devices, each in a host of its own.
    pub fn running(devices: &[Manifest]) -> Rig {
        Rig::started(Rig::without_kvm(), &[], devices)
    }

    /// A machine that runs.
    pub fn started(machine: Machine, descriptors: &[BorrowedFd<'_>], devices: &[Manifest]) -> Rig {
        let mut rig = Rig::greeted();
        rig.linked = machine.in_process;
        rig.ask::<_, Empty>(&machine, descriptors).unwrap();
        rig.give_memory(machine.memory_bytes).unwrap();
        for manifest in devices {
            rig.attach(manifest).unwrap();
        }
        rig.ask::<_, Empty>(&Start, &[]).unwrap();
        rig
    }

    /// One call; the refusal's sentence if it is refused.
    pub fn ask<C: schema::Body, R: schema::Body>(&mut self, body: &C, with: &[BorrowedFd<'_>]) -> Result<R, String> {
        self.channel.call(body, with, PATIENCE).map(|(reply, _)| reply).map_err(|error| error.to_string())
    }

    /// Gives it so much memory.
    pub fn give_memory(&mut self, bytes: u64) -> Result<Empty, String> {
        let regions: Vec<(u64, Region<ReadWrite>)> = memory::layout(bytes)
            .iter()
            .map(|extent| (extent.base, Region::create("cofferdam:ram", extent.bytes).unwrap()))
            .collect();
        let handles = regions.iter().enumerate();
        let regions_body = handles
            .map(|(slot, (base, region))| GuestRegion { base: *base, handle: region.handle(slot as u8) })
            .collect();
        let descriptors: Vec<BorrowedFd<'_>> = regions.iter().map(|(_, region)| region.as_fd()).collect();
        self.ask(&Memory { regions: regions_body }, &descriptors)
    }

    /// Starts the toy's host, unless it is linked, and attaches it.
    pub fn attach(&mut self, manifest: &Manifest) -> Result<Empty, String> {
        let id = self.objects.len() as u8;
        let objects = Objects::create(manifest);
        if !self.linked {
            objects.host();
        }
        let mut grants = Vec::new();
        let mut descriptors: Vec<BorrowedFd<'_>> = Vec::new();
        let mut add = |purpose, number, handle: Handle, descriptor| {
            grants.push(Grant { device: id, purpose, number, base: 0, handle });
            descriptors.push(descriptor);
        };
        let state_view = objects.state.read_only().unwrap();
        add(Purpose::Wake, 0, objects.wake.handle(0), objects.wake.as_fd());
        add(Purpose::Irq, 0, objects.irq.handle(1), objects.irq.as_fd());
        add(Purpose::Request, 0, objects.request.handle(2), objects.request.as_fd());
        add(Purpose::Reply, 0, objects.reply.handle(3), objects.reply.as_fd());
        match self.linked {
            true => add(Purpose::State, 0, objects.state.handle(4), objects.state.as_fd()),
            false => add(Purpose::State, 0, state_view.handle(4), state_view.as_fd()),
        }
        let mut slot = 5;
        for (number, wish) in manifest.wishes.iter().enumerate() {
            match wish.power {
                Power::Switch => {
                    add(Purpose::Switch, number as u32, objects.switch.handle(slot), objects.switch.as_fd());
                }
                Power::Direct => {
                    add(Purpose::Direct, number as u32, objects.direct.handle(slot), objects.direct.as_fd());
                }
                _ => continue,
            }
            slot += 1;
        }
        if manifest.vectors > 0 {
            add(Purpose::Vector, 0, objects.vector.handle(slot), objects.vector.as_fd());
        }
        self.ask::<_, Empty>(&Grants { grants }, &descriptors)?;
        self.objects.push(objects);
        let attach = AttachDevice {
            id,
            host: if self.linked { 0 } else { id },
            manifest: manifest.clone(),
            options: Vec::new(),
            carrier: if self.linked { Carrier::InProcess } else { Carrier::Memory },
            slot: 0,
        };
        self.ask(&attach, &[])
    }

    /// A load by the supervisor.
    pub fn load(&mut self, port: bool, address: u64, width: u8) -> u64 {
        let access = Drive { write: false, port, address, width, value: 0 };
        self.ask::<_, Driven>(&access, &[]).unwrap().value
    }

    /// A store by the supervisor.
    pub fn store(&mut self, port: bool, address: u64, width: u8, value: u64) {
        let access = Drive { write: true, port, address, width, value };
        self.ask::<_, Driven>(&access, &[]).unwrap();
    }

    /// Plays steps of a machine that is driven.
    pub fn play(&mut self, steps: Vec<Step>) -> Played {
        self.channel.tell(&Play { steps }, &[]).unwrap();
        self.told()
    }

    /// Waits for something that the VMM tells of its own accord.
    pub fn told<B: schema::Body>(&mut self) -> B {
        if let Some(at) = self.told.iter().position(Packet::is::<B>) {
            return self.told.remove(at).decode::<B>().unwrap().0;
        }
        loop {
            let packet = self.channel.receive(Some(PATIENCE)).unwrap().expect("something told");
            if packet.is::<B>() {
                return packet.decode::<B>().unwrap().0;
            }
            self.told.push(packet);
        }
    }

    /// How accesses were served.
    pub fn counted(&mut self) -> Counted {
        self.ask(&Counters, &[]).unwrap()
    }

    /// Waits until `holds`.
    pub fn until(&mut self, what: &str, mut holds: impl FnMut(&mut Rig) -> bool) {
        let start = Instant::now();
        while !holds(self) {
            assert!(start.elapsed() < PATIENCE, "waiting for: {what}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits until the VMM gives a host up.
    pub fn late(&mut self) -> Late {
        loop {
            if let Some(late) = self.late.pop() {
                return late;
            }
            let stopped = self.hear();
            assert_eq!(stopped, None, "it stopped");
        }
    }

    /// Waits until the machine has stopped.
    pub fn stopped(&mut self) -> Stopped {
        loop {
            if let Some(stopped) = self.hear() {
                return stopped;
            }
        }
    }

    fn hear(&mut self) -> Option<Stopped> {
        let packet = self.channel.receive(Some(PATIENCE)).unwrap().unwrap_or_else(|| panic!("silence; {:?}", self.log));
        if packet.is::<Log>() {
            self.log.push(packet.decode::<Log>().unwrap().0.text);
        } else if packet.is::<Late>() {
            self.late.push(packet.decode::<Late>().unwrap().0);
        } else {
            return Some(packet.decode::<Stopped>().unwrap().0);
        }
        None
    }

    /// How it ended, once the supervisor has gone.
    pub fn end(self) -> Result<(), String> {
        drop(self.channel);
        self.vmm.join().unwrap()
    }
}

/// A file for the VMM to load.
pub fn file(content: &[u8]) -> BlockFile {
    use std::io::Write;
    let memory = nix::sys::memfd::memfd_create(c"cofferdam:test", nix::sys::memfd::MFdFlags::MFD_CLOEXEC).unwrap();
    let mut file = std::fs::File::from(memory);
    file.write_all(content).unwrap();
    BlockFile::new(file).unwrap()
}
