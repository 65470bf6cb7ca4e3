//! At least one value of each message. Together they give every field of the schema a value that is not its default, and
//! choose every member of every union.

use super::*;

/// What a message looks like when each of its fields says something.
pub(super) trait Example: Sized {
    fn examples() -> Vec<Self>;
}

macro_rules! examples {
    ($($message:ty = [$($example:expr),+ $(,)?]),+ $(,)?) => {
        $(impl Example for $message {
            fn examples() -> Vec<Self> {
                vec![$($example),+]
            }
        })+
    };
}

examples! {
    Refusal = [Refusal { reason: "There is no such device: größer.".into() }],
    Empty = [Empty],
    Connection = [Connection { end: Handle { slot: 0, kind: Kind::Channel, rights: Rights::READ.and(Rights::WRITE), size: 0 } }],
    Hello = [Hello { protocol: 0x1234 }],
    Assign = [Assign {
        level: Level::Strict,
        devices: vec![
            Assignment { device: "virtio-block".into(), options: vec![setting("serial", "disk"), setting("x", "")], carrier: Carrier::Socket, poisoned: true, exchanged: Some(Exchanged { bay: 2, forced: true }) },
            Assignment { device: "uart16550".into(), options: vec![], carrier: Carrier::Memory, poisoned: false, exchanged: None },
        ],
        threaded: true,
    }],
    Manifests = [Manifests { manifests: vec![manifest(), bare_manifest()] }],
    Grants = [
        Grants { grants: vec![grant(0, Purpose::Wake), grant(1, Purpose::Request), grant(2, Purpose::Memory)] },
    ],
    Attach = [Attach],
    Seal = [Seal],
    Log = [Log { severity: Severity::Warning, text: "It takes long.".into() }],
    Machine = [
        machine(
            Boot::Kernel { kernel: handle(1), initrd: Some(handle(2)), cmdline: "console=ttyS0".into() },
            Some(Handle { slot: 0, kind: Kind::Kvm, rights: Rights::READ.and(Rights::WRITE), size: 0 }),
        ),
        machine(Boot::Flat { image: handle(1), base: 0x10_0000 }, None),
        machine(Boot::None, None),
        machine(Boot::Firmware { rom: handle(0) }, None),
        machine(Boot::Driven(Clock::Virtual, Some(handle(0))), None),
    ],
    Memory = [Memory {
        regions: vec![
            GuestRegion { base: 1 << 24, handle: handle(0) },
            GuestRegion { base: 1 << 32, handle: handle(1) },
        ],
    }],
    AttachDevice = [AttachDevice { id: 3, host: 2, manifest: manifest(), options: vec![setting("port", "0x2f8")], carrier: Carrier::Virtio, slot: 4 }],
    Start = [Start],
    Retire = [Retire { host: 9, why: "It died young.".into() }],
    Button = [Button],
    Refresh = [Refresh],
    Stopped = [Stopped { reason: Reason::Failed, code: 0x1234_5678, text: "There is no memory.".into() }],
    Late = [Late {
        host: 9,
        violation: true,
        text: "A wrong sequence.".into(),
        device: 7,
        issued: 0x0403_0201,
        gave_up: true,
    }],
    Counters = [Counters],
    Counted = [Counted {
        devices: vec![
            DeviceCounters { id: 1, shadow: 2, posted: 3, lane: 4, doorbell: 5, ones: 6, interrupts: u64::MAX, carrier: Carrier::Pipe },
            DeviceCounters::default(),
        ],
        exits: 1 << 60,
    }],
    Drive = [Drive { write: true, port: true, address: 0xfee0_0000, width: 4, value: 0x1234 }],
    Driven = [Driven { value: 0x8877_6655_4433_2211 }],
    Renew = [Renew { host: 9 }],
    Play = [Play {
        steps: vec![
            Step::Access(Drive { write: true, port: true, address: 0x3f8, width: 1, value: 0x1234 }),
            Step::Read { address: 1 << 32, count: 4096 },
            Step::Write { address: 1 << 20, bytes: (0..=255).collect() },
            Step::Fill { address: 1 << 20, count: 7, byte: 0xa5 },
            Step::Pass(1 << 40),
            Step::Wire { input: 23, level: true },
        ],
    }],
    Played = [
        Played { steps: vec![Outcome { value: 7, bytes: vec![1, 2, 3], changes: vec![change(true)] }, Outcome::default()], now: 1 << 41, deadline: Some(1 << 42) },
    ],
    Changes = [Changes { changes: vec![change(true), change(false)] }],
    Turned = [Turned { device: 3, switch: Switch::Exit, value: 1 << 32 }],
    Command = [Command { order: Order::Reset }],
    Status = [Status { audit: true, first: 12 }],
    StatusReport = [StatusReport { name: "vm".into(), total: 3, hosts: vec![host(), HostStatus::default()] }],
    Logs = [Logs { after: 1 << 40 }],
    LogLines = [LogLines { next: 4, lines: texts(3) }],
    Console = [Console { input: b"ls\r".to_vec() }],
    ConsoleOutput = [ConsoleOutput { output: (0..=255).collect() }],
    Screenshot = [Screenshot],
    Picture = [Picture {
        scanout: Handle { slot: 0, kind: Kind::Region, rights: Rights::READ.and(Rights::MAP), size: 1 << 24 },
        after: 1 << 33,
    }],
    Press = [Press {
        inputs: vec![
            Input::Press { key: 0xe0 },
            Input::Release { key: 0x04 },
            Input::Pointer(Pointer { dx: -3, dy: 5, wheel: -1, buttons: 6 }),
        ],
    }],
    Exchange = [Exchange { drive: "floppy0".into(), image: "/a.img".into(), readonly: true, forced: true }],
    Access = [Access {
        sequence: 0x0403_0201,
        operation: Operation::Post,
        range: 0x17,
        width: 8,
        offset: 0x2827_2625_2423_2221,
        value: 0x3837_3635_3433_3231,
        now: 0x4847_4645_4443_4241,
    }],
    Answer = [Answer {
        value: u64::MAX - 1,
        sequence: 0x0403_0201,
        levels: 0x0807_0605,
        deadline: Some(0x4847_4645_4443_4241),
        postable: 0x0c0b_0a09,
        shadow: std::array::from_fn(|slot| Some(100 + slot as u64)),
        now: 0x5857_5655_5453_5251,
        doorbells: 3,
        unknown: 4,
        bytes: 0x0102,
        started: true,
    }],
    Share = [Share { memory: handle(1), bell: handle(0) }],
    Shared = [Shared { region: 0x1_0002 }],
    Add = [Add { bytes: Lease { region: 0x1_0002, offset: 1 << 33, length: 1 << 34, rights: Rights::READ } }],
    Sum = [Sum { sum: u64::MAX - 2 }],
    Door = [Door { connect: Handle { slot: 0, kind: Kind::Connect, rights: Rights::WRITE, size: 0 } }],
}

fn change(level: bool) -> Change {
    Change { input: 4, level, device: OUTSIDE, hidden: level }
}

fn grant(slot: u8, purpose: Purpose) -> Grant {
    Grant { device: 255, purpose, number: 7, base: 1 << 32, handle: handle(slot) }
}

pub(super) fn machine(boot: Boot, kvm: Option<Handle>) -> Machine {
    Machine {
        cpus: 16,
        memory_bytes: 1 << 40,
        deadline_ms: 50,
        in_process: true,
        spin: true,
        boot,
        kvm,
        level: Level::Process,
        restarts: true,
    }
}

fn host() -> HostStatus {
    HostStatus {
        name: "uart16550".into(),
        class: "char".into(),
        pid: 77,
        level: "seccomp".into(),
        seccomp_mode: 2,
        no_new_privs: true,
        syscalls_allowed: 4,
        descriptors: texts(2),
        guest_memory_bytes: 1 << 24,
        pss_bytes: 1 << 20,
        restarts: 1,
        state: "running".into(),
        differences: texts(1),
        notes: texts(3),
        shadow: 5,
        posted: 6,
        lane: 7,
        doorbell: 8,
        carriers: texts(2),
        missing: texts(2),
        required: texts(1),
        allowed_missing: texts(1),
        label: "system_u:system_r:cofferdam_char_t:s0:c1,c2".into(),
    }
}

fn texts(count: u32) -> Vec<String> {
    (1..=count).map(|number| format!("entry {number}")).collect()
}
