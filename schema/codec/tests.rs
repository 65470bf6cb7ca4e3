mod examples;
mod golden;
mod walk;

use crate::control::{
    self, Command, Console, ConsoleOutput, Exchange, HostStatus, LogLines, Logs, Order, Picture, Press,
};
use crate::control::{Screenshot, Status, StatusReport};
use crate::display::{INPUT_BYTES, Input, Pointer};
use crate::host::{
    self, Assign, Assignment, Attach, Empty, Exchanged, Grant, Grants, Hello, Level, Log, Manifests, Purpose, Refusal,
};
use crate::host::{Seal, Setting, Severity};
use crate::lane::{Access, Answer, Carrier, Operation, STRING_MAX};
use crate::manifest::{
    self, Acpi, AcpiNode, Class, Doorbell, Fixed, Line, Manifest, OptionKind, OptionSpec, Pci, Range,
};
use crate::manifest::{PciRegister, Power, Register, RegisterKind, Space, Switch, Tolerance, Wish};
use crate::play::{
    BLOCK_MAX, CHANGES_MAX, Change, Changes, Clock, OUTCOME_WORDS, OUTSIDE, Outcome, Play, Played, STEPS_MAX, Step,
    Turned,
};
use crate::sample::{Add, Door, Share, Shared, Sum};
use crate::vmm::{
    self, AttachDevice, Boot, Button, Counted, Counters, DeviceCounters, Drive, Driven, GuestRegion, Late,
};
use crate::vmm::{Machine, Memory, Reason, Refresh, Renew, Retire, Start, Stopped};
use crate::wire::{control_capnp, display_capnp, host_capnp, imc_capnp, lane_capnp, manifest_capnp, vmm_capnp};
use crate::{BODY_MAX, BadBody, Body, Connection, Handle, Kind, Lease, NESTING_MAX, Rights, Scratch, decode};
use capnp::Word;
use capnp::message::SingleSegmentAllocator;
use std::fmt::Debug;

/// A segment at an address that Cap'n Proto can read from.
struct Segment {
    words: Vec<Word>,
    length: usize,
}

impl Segment {
    fn new(bytes: &[u8]) -> Segment {
        let mut words = vec![capnp::word(0, 0, 0, 0, 0, 0, 0, 0); bytes.len().div_ceil(8)];
        Word::words_to_bytes_mut(&mut words)[..bytes.len()].copy_from_slice(bytes);
        Segment { words, length: bytes.len() }
    }
    fn bytes(&self) -> &[u8] {
        &Word::words_to_bytes(&self.words)[..self.length]
    }
}

fn encode<B: Body>(body: &B) -> Result<Vec<u8>, BadBody> {
    let mut bytes = Vec::new();
    Scratch::default().encode(body, &mut bytes)?;
    Ok(bytes)
}

/// Decodes what a peer builds that keeps to no bounds.
fn decode_built<B: Body>(build: impl FnOnce(&mut crate::Builder<'_>)) -> Result<B, BadBody> {
    decode(Segment::new(&built_bytes(build)).bytes())
}

/// The segment of what is built.
fn built_bytes(build: impl FnOnce(&mut crate::Builder<'_>)) -> Vec<u8> {
    let mut memory = vec![capnp::word(0, 0, 0, 0, 0, 0, 0, 0); 1 << 17];
    let mut message = capnp::message::Builder::new(SingleSegmentAllocator::new(Word::words_to_bytes_mut(&mut memory)));
    build(&mut message);
    message.get_segments_for_output()[0].to_vec()
}

/// Every word of the schema in both directions, then what damage does: it is refused or read as something else, and
/// nothing worse.
fn travels<B: Body + PartialEq + Debug>(body: B) {
    let bytes = encode(&body).unwrap();
    assert_eq!(bytes.len(), body.measure().unwrap() * 8, "measured exactly: {body:?}");
    assert_eq!(decode::<B>(Segment::new(&bytes).bytes()).as_ref(), Ok(&body));

    for length in 0..bytes.len() {
        let cut = decode::<B>(Segment::new(&bytes[..length]).bytes());
        assert!(length % 8 == 0 || cut.is_err(), "half a word is no segment: {body:?}");
        assert_ne!(cut.as_ref(), Ok(&body), "all of it was needed, so none of it is padding");
    }
    for at in 0..bytes.len() {
        for flip in [1, 0x80, 0xff] {
            let mut damaged = bytes.clone();
            damaged[at] ^= flip;
            let _ = decode::<B>(Segment::new(&damaged).bytes());
        }
    }
}

fn handle(slot: u8) -> Handle {
    Handle { slot, kind: Kind::Region, rights: Rights::READ.and(Rights::MAP), size: 0x1234_5000 }
}

fn setting(name: &str, value: &str) -> Setting {
    Setting { name: name.into(), value: value.into() }
}

/// A manifest in which no field has its default.
fn manifest() -> Manifest {
    Manifest {
        name: "uart16550".into(),
        summary: "A serial port.".into(),
        class: Class::Char,
        ranges: vec![
            Range { name: "ports".into(), length: 8, space: Space::Port(0x3f8) },
            Range { name: "memory".into(), length: 0x1000, space: Space::Memory(0xfed0_0000) },
            Range { name: "bar".into(), length: 0x2000, space: Space::Bar(1) },
            Range { name: "port bar".into(), length: 0x20, space: Space::PortBar(2) },
        ],
        registers: vec![
            Register { range: 0, offset: 0, width: 1, kind: RegisterKind::Posted(31) },
            Register {
                range: 1,
                offset: 0xff8,
                width: 8,
                kind: RegisterKind::Shadow {
                    slot: 7,
                    tolerates: vec![Tolerance { posted: 0, count: 16 }, Tolerance { posted: 31, count: 65535 }],
                },
            },
            Register { range: 2, offset: 0x100, width: 4, kind: RegisterKind::Area { posted: 3, length: 0x200 } },
            Register { range: 0, offset: 4, width: 2, kind: RegisterKind::Strings },
            Register {
                range: 0,
                offset: 6,
                width: 1,
                kind: RegisterKind::PostedValue { posted: 4, mask: 0x11, value: 0x10 },
            },
        ],
        lines: vec![Line::Isa(4), Line::Pin(1)],
        vectors: 3,
        doorbells: vec![Doorbell { range: 2, offset: 0x1000, width: 2 }, Doorbell { range: 3, offset: 31, width: 0 }],
        wishes: vec![
            Wish {
                power: Power::Switch,
                name: "off".into(),
                switch: Some(Switch::PowerOff),
                bytes: 0,
                range: 0,
                because: "the guest asks for it here".into(),
            },
            Wish {
                power: Power::Direct,
                name: "frame".into(),
                switch: None,
                bytes: 4096,
                range: 2,
                because: "pixels".into(),
            },
        ],
        state_bytes: 64,
        bulk_bytes: 512,
        pci: Some(Pci {
            vendor: 0x1af4,
            device: 0x1042,
            subsystem_vendor: 0x1af4,
            subsystem: 2,
            class: 0x01_8000,
            revision: 1,
            capabilities: vec![vec![9, 0, 16, 1], vec![0x10, 0, 1]],
            vector_bar: 4,
            registers: vec![PciRegister { offset: 0x40, value: vec![0, 0x80], writable: vec![0xff, 0xb3] }],
            bridge_function: 3,
        }),
        acpi: Some(Acpi {
            name: "COM1".into(),
            hid: "PNP0501".into(),
            uid: 1,
            boot_arch: 2,
            century: 0x32,
            fixed: Some(Fixed { event: 1, control: 4, timer: 8, sci: 9, sleep_type: 5 }),
            also: vec![AcpiNode { name: "PS2M".into(), hid: "PNP0F13".into(), line: 1 }],
        }),
        with: vec!["dma8237".into(), "floppy82077".into()],
        options: vec![OptionSpec {
            name: "port".into(),
            kind: OptionKind::Number,
            default: "0x3f8".into(),
            summary: "Where it is.".into(),
        }],
        remembered: 1 << 3,
    }
}

fn bare_manifest() -> Manifest {
    Manifest {
        name: "x".into(),
        summary: String::new(),
        class: Class::System,
        ranges: vec![],
        registers: vec![],
        lines: vec![],
        vectors: 0,
        doorbells: vec![],
        wishes: vec![],
        state_bytes: 0,
        bulk_bytes: 0,
        pci: None,
        acpi: None,
        with: vec![],
        options: vec![],
        remembered: 0,
    }
}

#[test]
fn messages_of_a_host_travel_unchanged() {
    travels(Refusal { reason: "no such device".into() });
    travels(Empty);
    travels(Hello { protocol: host::PROTOCOL });
    for level in [Level::Off, Level::Process, Level::Seccomp, Level::Strict] {
        travels(Assign { level, devices: vec![], threaded: false });
    }
    travels(Assign {
        level: Level::Strict,
        devices: vec![
            Assignment {
                device: "virtio-block".into(),
                options: vec![setting("serial", "disk"), setting("x", "")],
                carrier: Carrier::Memory,
                poisoned: false,
                exchanged: None,
            },
            Assignment {
                device: "uart16550".into(),
                options: vec![],
                carrier: Carrier::Pipe,
                poisoned: true,
                exchanged: None,
            },
        ],
        threaded: true,
    });
    travels(Manifests { manifests: vec![manifest(), bare_manifest()] });
    let grant = |slot, purpose| Grant { device: 255, purpose, number: 7, base: 1 << 32, handle: handle(slot) };
    use Purpose::*;
    let sets = [
        &[Wake, Irq, Request, State, Reply, Vector, Memory, File][..],
        &[Stream, Bell, Switch, Direct, Packets, Asked, Answers, AnswerRegion],
        &[HelperRegion, HelperWake, Scanout, Frames, Network, Screen, Listener, Wanted],
        &[Password],
    ];
    for purposes in sets {
        travels(Grants { grants: (0..).zip(purposes).map(|(slot, purpose)| grant(slot, *purpose)).collect() });
    }
    travels(Attach);
    travels(Seal);
    for severity in [Severity::Error, Severity::Warning, Severity::Info, Severity::Debug] {
        travels(Log { severity, text: "größer als Null".into() });
    }
}

#[test]
fn messages_of_the_vmm_travel_unchanged() {
    let boots = [
        Boot::None,
        Boot::Kernel { kernel: handle(1), initrd: Some(handle(2)), cmdline: "console=ttyS0".into() },
        Boot::Kernel { kernel: handle(1), initrd: None, cmdline: String::new() },
        Boot::Flat { image: handle(1), base: 0x10_0000 },
        Boot::Firmware { rom: handle(1) },
    ];
    for (boot, kvm) in boots.into_iter().zip([None, Some(handle(0)), Some(handle(0)), None, Some(handle(0))]) {
        let level = Level::Strict;
        travels(Machine {
            cpus: 16,
            memory_bytes: 1 << 40,
            deadline_ms: 50,
            in_process: true,
            spin: true,
            boot,
            kvm,
            level,
            restarts: true,
        });
    }
    travels(Memory { regions: vec![GuestRegion { base: 1 << 24, handle: handle(0) }; vmm::REGIONS_MAX] });
    for carrier in Carrier::ALL {
        travels(AttachDevice {
            id: 3,
            host: 2,
            manifest: manifest(),
            options: vec![setting("port", "0x2f8")],
            carrier,
            slot: 31,
        });
    }
    travels(Start);
    travels(Retire { host: 9, why: "it died young".into() });
    travels(Button);
    travels(Refresh);
    for reason in [Reason::PoweredOff, Reason::Reset, Reason::Panicked, Reason::Exit, Reason::Failed] {
        travels(Stopped { reason, code: 3, text: "why".into() });
    }
    travels(Late { host: 9, violation: true, text: "wrong sequence".into(), device: 3, issued: 77, gave_up: true });
    travels(Renew { host: 3 });
    for clock in [Clock::Real, Clock::Virtual] {
        for rom in [None, Some(handle(0))] {
            travels(examples::machine(Boot::Driven(clock, rom), None));
        }
    }
    for step in [
        Step::Access(Drive { write: true, port: false, address: u64::MAX, width: 8, value: 3 }),
        Step::Read { address: 5, count: BLOCK_MAX as u16 },
        Step::Write { address: 5, bytes: vec![9; BLOCK_MAX] },
        Step::Fill { address: 5, count: 0, byte: 0 },
        Step::Pass(u64::MAX),
        Step::Wire { input: 0, level: false },
    ] {
        travels(Play { steps: vec![step] });
    }
    let load = Drive { write: false, port: true, address: 1, width: 1, value: 0 };
    travels(Play { steps: vec![Step::Access(load); STEPS_MAX] });
    let change = Change { input: 23, level: true, device: OUTSIDE, hidden: true };
    let full = Outcome { value: 1, bytes: vec![7; BLOCK_MAX], changes: vec![change; CHANGES_MAX] };
    let few = OUTCOME_WORDS / 3;
    let steps = [vec![Outcome::default(); few.min(STEPS_MAX - 1)], vec![full]].concat();
    travels(Played { steps, now: 4, deadline: Some(5) });
    travels(Played { steps: vec![], now: 1, deadline: None });
    travels(Changes { changes: vec![change; CHANGES_MAX] });
    travels(Turned { device: 63, switch: Switch::Panicked, value: u64::MAX });
    travels(Counters);
    let counters = DeviceCounters {
        id: 1,
        shadow: 2,
        posted: 3,
        lane: 4,
        doorbell: 5,
        ones: 6,
        interrupts: u64::MAX,
        carrier: Carrier::Pipe,
    };
    travels(Counted { devices: vec![counters, DeviceCounters::default()], exits: 7 });
    travels(Drive { write: true, port: false, address: 0xfee0_0000, width: 4, value: 0x1234 });
    travels(Driven { value: u64::MAX });
}

#[test]
fn messages_of_an_operator_travel_unchanged() {
    for order in [Order::Powerdown, Order::Stop, Order::Reset] {
        travels(Command { order });
    }
    travels(Status { audit: true, first: 12 });
    let texts = |count: u32| (0..count).map(|number| format!("entry {number}")).collect();
    let host = HostStatus {
        name: "uart16550".into(),
        class: "char".into(),
        pid: 77,
        level: "seccomp".into(),
        seccomp_mode: 2,
        no_new_privs: true,
        syscalls_allowed: 4,
        descriptors: texts(9),
        guest_memory_bytes: 1 << 24,
        pss_bytes: 1 << 20,
        restarts: 1,
        state: "running".into(),
        differences: texts(2),
        notes: texts(3),
        shadow: 5,
        posted: 6,
        lane: 7,
        doorbell: 8,
        carriers: texts(1),
        missing: texts(2),
        required: texts(1),
        allowed_missing: texts(1),
        label: "system_u:system_r:cofferdam_char_t:s0:c1,c2".into(),
    };
    travels(StatusReport { name: "vm".into(), total: 3, hosts: vec![host, HostStatus::default()] });
    travels(Logs { after: 1 << 40 });
    travels(LogLines { next: 4, lines: texts(control::LINES_MAX as u32) });
    travels(Console { input: b"ls\r".to_vec() });
    travels(ConsoleOutput { output: vec![0xff; control::CONSOLE_MAX] });
}

const ANSWER: Answer = Answer {
    value: 0x0807_0605_0403_0201,
    sequence: u32::MAX,
    levels: 0x2423_2221,
    deadline: Some(0x3837_3635_3433_3231),
    postable: 0x4443_4241,
    shadow: [Some(0), Some(1), None, Some(u64::MAX), None, None, None, Some(7)],
    now: 0x5857_5655_5453_5251,
    doorbells: 8,
    unknown: 9,
    bytes: STRING_MAX as u16,
    started: true,
};

#[test]
fn accesses_travel_unchanged() {
    use Operation::*;
    for operation in [Read, Write, Post, Alarm, Reset, Quiesce, Shutdown, Button, Refresh, ReadString] {
        assert_eq!(Operation::from_raw(operation as u16), Some(operation));
        travels(Access { sequence: u32::MAX, operation, range: 3, width: 8, offset: 1, value: u64::MAX, now: 5 });
    }
    travels(ANSWER);
    travels(Answer { deadline: None, shadow: [None; 8], started: false, ..ANSWER });
}

/// The `memory` carrier stores these bytes without Cap'n Proto.
#[test]
fn entry_of_a_lane_is_the_data_section_of_access() {
    let access = Access {
        sequence: 0x0403_0201,
        operation: Operation::Post,
        range: 0x17,
        width: 8,
        offset: 0x2827_2625_2423_2221,
        value: 0x3837_3635_3433_3231,
        now: 0x4847_4645_4443_4241,
    };
    let bytes = encode(&access).unwrap();
    let (root, entry) = bytes.split_at(8);
    // A struct pointer (encoding specification, "Structs"): offset 0, eight words of data, no pointers.
    assert_eq!(root, [0, 0, 0, 0, 8, 0, 0, 0]);
    assert_eq!(entry.len(), 64);
    assert_eq!(entry[0..4], access.sequence.to_le_bytes());
    assert_eq!(entry[4..6], (Operation::Post as u16).to_le_bytes());
    assert_eq!((entry[6], entry[7]), (access.range, access.width));
    assert_eq!(entry[8..16], access.offset.to_le_bytes());
    assert_eq!(entry[16..24], access.value.to_le_bytes());
    assert_eq!(entry[24..32], access.now.to_le_bytes());
    assert_eq!(entry[32..], [0; 32]);
}

/// An answer is copied word by word into the header of a state that only its receiver keeps.
#[test]
fn answer_has_a_fixed_size_and_no_pointers() {
    for answer in [ANSWER, Answer::default()] {
        let bytes = encode(&answer).unwrap();
        let (root, words) = bytes.split_at(8);
        assert_eq!(root, [0, 0, 0, 0, 20, 0, 0, 0]);
        assert_eq!(words.len(), 160);
        assert_eq!(words[128..], [0; 32], "the reserved words");
    }
}

#[test]
fn answer_with_a_shadow_value_that_no_manifest_can_name_is_refused() {
    let answer = decode_built::<Answer>(|message| {
        message.init_root::<lane_capnp::answer::Builder<'_>>().set_valid(1 << 8);
    });
    assert_eq!(answer, Err(BadBody::OutOfRange("valid")));
}

#[test]
fn answer_followed_by_more_than_a_string_is_refused() {
    let answer = decode_built::<Answer>(|message| {
        message.init_root::<lane_capnp::answer::Builder<'_>>().set_bytes(STRING_MAX as u16 + 1);
    });
    assert_eq!(answer, Err(BadBody::OutOfRange("bytes")));
}

#[test]
fn record_of_an_input_is_the_data_of_its_struct() {
    let inputs = vec![
        Input::Press { key: 0x1234 },
        Input::Release { key: 0xe7 },
        Input::Pointer(Pointer { dx: -128, dy: 127, wheel: -1, buttons: 5 }),
    ];
    let records: Vec<u8> = inputs.iter().flat_map(|input| input.to_bytes()).collect();
    let bytes = encode(&Press { inputs }).unwrap();
    assert_eq!(bytes[bytes.len() - 3 * INPUT_BYTES..], records);
}

#[test]
fn header_of_a_scanout_is_the_data_of_its_struct() {
    let header = crate::display::Scanout { generation: 1 << 40 | 2, width: 3, height: 4, stride: 20 };
    let bytes = header.to_bytes();
    let built = built_bytes(|message| {
        let mut scanout = message.init_root::<display_capnp::scanout::Builder<'_>>();
        scanout.set_generation(header.generation);
        scanout.set_width(header.width);
        scanout.set_height(header.height);
        scanout.set_stride(header.stride);
        scanout.set_format(display_capnp::Format::Xrgb8888);
    });
    assert_eq!(built[8..], bytes);
}

#[test]
fn numbers_of_plain_enums_are_those_of_the_schema() {
    assert_eq!(Kind::Listener as u16, u16::from(imc_capnp::Kind::Listener));
    assert_eq!(Level::Strict as u16, u16::from(host_capnp::Level::Strict));
    assert_eq!(Purpose::Password as u16, u16::from(host_capnp::Purpose::Password));
    assert_eq!(Severity::Debug as u16, u16::from(host_capnp::Severity::Debug));
    assert_eq!(Reason::Failed as u16, u16::from(vmm_capnp::Reason::Failed));
    assert_eq!(Order::Reset as u16, u16::from(control_capnp::Order::Reset));
    assert_eq!(Operation::ReadString as u16, u16::from(lane_capnp::Operation::ReadString));
    assert_eq!(Class::System as u16, u16::from(manifest_capnp::Class::System));
    assert_eq!(Power::Frames as u16, u16::from(manifest_capnp::Power::Frames));
    assert_eq!(Switch::Exit as u16, u16::from(manifest_capnp::Switch::Exit));
    assert_eq!(OptionKind::Flag as u16, u16::from(manifest_capnp::OptionKind::Flag));
}

#[test]
fn no_two_messages_share_a_number_or_a_type() {
    struct Identities(Vec<(u16, u64)>);
    impl crate::ForEach for Identities {
        fn message<B: Body>(&mut self, _: &'static str) {
            self.0.push((B::ORDINAL, B::SCHEMA_ID));
        }
    }
    let mut all = Identities(Vec::new());
    crate::for_each_message(&mut all);
    let ordinals: std::collections::BTreeSet<_> = all.0.iter().map(|(ordinal, _)| ordinal).collect();
    let types: std::collections::BTreeSet<_> = all.0.iter().map(|(_, id)| id).collect();
    assert_eq!((ordinals.len(), types.len()), (all.0.len(), all.0.len()));
    assert!(!ordinals.contains(&0));
}

#[test]
fn zero_of_an_enum_or_union_is_refused_everywhere() {
    fn of_nothing<B: Body + Debug>() -> BadBody {
        // A struct of no words at all: every field has its default.
        decode::<B>(Segment::new(&[0, 0, 0, 0, 0, 0, 0, 0]).bytes()).unwrap_err()
    }
    assert_eq!(of_nothing::<Machine>(), BadBody::Unknown("boot"));
    assert_eq!(of_nothing::<Assign>(), BadBody::Unknown("level"));
    assert_eq!(of_nothing::<Log>(), BadBody::Unknown("severity"));
    assert_eq!(of_nothing::<Stopped>(), BadBody::Unknown("reason"));
    assert_eq!(of_nothing::<Command>(), BadBody::Unknown("order"));
    assert_eq!(of_nothing::<Access>(), BadBody::Unknown("operation"));

    let grants = decode_built::<Grants>(|message| {
        message.init_root::<host_capnp::grants::Builder<'_>>().init_grants(1);
    });
    assert_eq!(grants, Err(BadBody::Unknown("purpose")));
    let memory = decode_built::<Memory>(|message| {
        message.init_root::<vmm_capnp::memory::Builder<'_>>().init_regions(1);
    });
    assert_eq!(memory, Err(BadBody::Unknown("kind")));

    type Build = fn(manifest_capnp::manifest::Builder<'_>);
    let parts: [(&str, Build); 6] = [
        ("class", |mut to| to.set_class(manifest_capnp::Class::Invalid)),
        ("space", |to| _ = to.init_ranges(1)),
        ("kind", |to| _ = to.init_registers(1)),
        ("line", |to| _ = to.init_lines(1)),
        ("power", |to| _ = to.init_wishes(1)),
        ("kind", |to| _ = to.init_options(1)),
    ];
    for (field, build) in parts {
        let attach = decode_built::<AttachDevice>(|message| {
            let mut to = message.init_root::<vmm_capnp::attach_device::Builder<'_>>().init_manifest();
            to.set_name("x");
            to.set_class(manifest_capnp::Class::Char);
            build(to);
        });
        assert_eq!(attach, Err(BadBody::Unknown(field)));
    }
}

#[test]
fn values_from_the_future_are_refused() {
    let mut bytes = encode(&Command { order: Order::Stop }).unwrap();
    bytes[8] = 200;
    assert_eq!(decode::<Command>(Segment::new(&bytes).bytes()), Err(BadBody::Unknown("order")));

    let mut wrong = handle(0);
    wrong.rights = Rights(64);
    let grant = Grant { device: 0, purpose: Purpose::State, number: 0, base: 0, handle: wrong };
    let bytes = encode(&Grants { grants: vec![grant] }).unwrap();
    assert_eq!(decode::<Grants>(Segment::new(&bytes).bytes()), Err(BadBody::Unknown("rights")));
}

#[test]
fn values_out_of_range_are_refused() {
    fn refused<B: Body + Debug>(body: &B) -> &'static str {
        match decode::<B>(Segment::new(&encode(body).unwrap()).bytes()) {
            Err(BadBody::OutOfRange(field)) => field,
            other => panic!("{body:?} became {other:?}"),
        }
    }
    let access = Access { sequence: 1, operation: Operation::Read, range: 0, width: 3, offset: 0, value: 0, now: 0 };
    assert_eq!(refused(&access), "width");
    assert_eq!(refused(&Drive { write: false, port: true, address: 0, width: 0, value: 0 }), "width");
    assert_eq!(refused(&Play { steps: vec![Step::Read { address: 0, count: BLOCK_MAX as u16 + 1 }] }), "count");
    let machine = Machine {
        cpus: 1,
        memory_bytes: 1,
        deadline_ms: 1,
        in_process: false,
        spin: false,
        boot: Boot::None,
        kvm: None,
        level: Level::Off,
        restarts: false,
    };
    assert_eq!(refused(&Machine { cpus: 0, ..machine.clone() }), "cpus");
    assert_eq!(refused(&Machine { cpus: 17, ..machine.clone() }), "cpus");
    assert_eq!(refused(&Machine { memory_bytes: 0, ..machine.clone() }), "memoryBytes");
    assert_eq!(refused(&Machine { deadline_ms: 0, ..machine.clone() }), "deadlineMs");
    assert_eq!(refused(&Machine { kvm: Some(handle(8)), ..machine }), "slot");
}

#[test]
fn manifest_whose_parts_do_not_fit_is_refused() {
    type Change = fn(&mut Manifest);
    let changes: [(&str, Change); 35] = [
        ("name", |m| m.name.clear()),
        ("name", |m| m.name = "../disk".into()),
        ("ranges.length", |m| m.ranges[0].length = 0),
        ("there is no room for ports", |m| m.ranges[0].length = 0x1_0000),
        ("there is no room for 0x1000 bytes at 0xffffffffffffffff", |m| m.ranges[1].space = Space::Memory(u64::MAX)),
        ("BAR 6", |m| m.ranges[2].space = Space::Bar(6)),
        ("ranges.space", |m| m.pci = None),
        ("registers.width", |m| m.registers[0].width = 3),
        ("registers.offset", |m| m.registers[0].offset = 8),
        ("registers.offset", |m| m.registers[0].offset = u64::MAX),
        ("registers.offset", |m| m.registers[0].range = 4),
        ("registers.posted", |m| m.registers[0].kind = RegisterKind::Posted(32)),
        ("registers.slot", |m| m.registers[1].kind = RegisterKind::Shadow { slot: 8, tolerates: vec![] }),
        ("registers.length", |m| m.registers[2].kind = RegisterKind::Area { posted: 3, length: 3 }),
        ("registers.length", |m| m.registers[2].kind = RegisterKind::Area { posted: 3, length: 0x1f01 }),
        ("registers.strings", |m| m.registers[3].range = 1),
        ("registers.posted", |m| {
            m.registers[4].kind = RegisterKind::PostedValue { posted: 32, mask: 1, value: 0 };
        }),
        ("registers.value", |m| m.registers[4].kind = RegisterKind::PostedValue { posted: 4, mask: 1, value: 2 }),
        ("registers.strings", |m| (m.registers[3].width, m.registers[3].offset) = (8, 0)),
        ("lines.isa", |m| m.lines[0] = Line::Isa(16)),
        ("lines.pin", |m| m.lines[0] = Line::Pin(0)),
        ("doorbells.width", |m| m.doorbells[0].width = 16),
        ("doorbells.offset", |m| m.doorbells[1].offset = 32),
        ("wishes.switch", |m| m.wishes[1].power = Power::Switch),
        ("wishes.range", |m| m.wishes[1].range = 4),
        ("wishes.bytes", |m| m.wishes[1].bytes = manifest::DIRECT_MAX + 1),
        ("vectors", |m| m.vectors = manifest::VECTORS_MAX + 1),
        ("stateBytes", |m| m.state_bytes = manifest::STATE_MAX + 1),
        ("pci.vectorBar", |m| m.pci.as_mut().unwrap().vector_bar = 1),
        ("pci.registers.value", |m| m.pci.as_mut().unwrap().registers[0].offset = 0x3f),
        ("pci.registers.value", |m| m.pci.as_mut().unwrap().registers[0].offset = 0xff),
        ("pci.registers.value", |m| m.pci.as_mut().unwrap().registers[0].value = vec![]),
        ("pci.registers.writable", |m| m.pci.as_mut().unwrap().registers[0].writable = vec![1]),
        ("acpi.also", |m| m.acpi.as_mut().unwrap().also[0].line = 2),
        ("acpi.name", |m| m.acpi.as_mut().unwrap().name = "com1".into()),
    ];
    assert_eq!(manifest().check(), Ok(()));
    for (field, change) in changes {
        let mut changed = manifest();
        change(&mut changed);
        let refused = changed.check().expect_err(field);
        assert!(refused.to_string().contains(field), "{refused}");
        if changed.wishes[1].power != Power::Switch {
            let bytes = encode(&Manifests { manifests: vec![changed] }).unwrap();
            assert_eq!(decode::<Manifests>(Segment::new(&bytes).bytes()), Err(refused));
        }
    }
}

#[test]
fn sender_is_told_which_field_is_too_long() {
    let name = "x".repeat(manifest::NAME_MAX + 1);
    let assign = Assign {
        level: Level::Off,
        devices: vec![Assignment {
            device: "d".into(),
            options: vec![setting(&name, "")],
            carrier: Carrier::Memory,
            poisoned: false,
            exchanged: None,
        }],
        threaded: false,
    };
    let bound = manifest::NAME_MAX;
    assert_eq!(encode(&assign), Err(BadBody::TooLong { field: "name", length: bound + 1, bound }));

    let grant = Grant { device: 0, purpose: Purpose::State, number: 0, base: 0, handle: handle(0) };
    let grants = Grants { grants: vec![grant; 9] };
    assert_eq!(encode(&grants), Err(BadBody::TooLong { field: "grants", length: 9, bound: 8 }));

    let report = HostStatus { descriptors: vec!["x".repeat(200); 100], ..HostStatus::default() };
    let report = StatusReport { name: "vm".into(), total: 1, hosts: vec![report] };
    assert!(matches!(encode(&report), Err(BadBody::TooLong { field: "body", .. })));
}

#[test]
fn receiver_counts_before_it_walks() {
    let hosts = decode_built::<Manifests>(|message| {
        message.init_root::<host_capnp::manifests::Builder<'_>>().init_manifests(65);
    });
    assert_eq!(hosts, Err(BadBody::TooLong { field: "manifests", length: 65, bound: 64 }));
    let text = decode_built::<Log>(|message| {
        let mut log = message.init_root::<host_capnp::log::Builder<'_>>();
        log.set_severity(host_capnp::Severity::Info);
        log.set_text("x".repeat(host::SENTENCE_MAX + 1).as_str());
    });
    assert_eq!(text, Err(BadBody::TooLong { field: "text", length: 401, bound: 400 }));
    let data = decode_built::<Console>(|message| {
        message.init_root::<control_capnp::console::Builder<'_>>().set_input(&[0; control::CONSOLE_MAX + 1]);
    });
    assert_eq!(data, Err(BadBody::TooLong { field: "input", length: 4097, bound: 4096 }));
}

#[test]
fn text_that_is_not_utf8_is_refused() {
    let mut bytes = encode(&Refusal { reason: "abcdefg".into() }).unwrap();
    let at = bytes.len() - 8;
    bytes[at] = 0xff;
    assert_eq!(decode::<Refusal>(Segment::new(&bytes).bytes()), Err(BadBody::NotText("reason")));
}

#[test]
fn long_sentence_is_cut_where_a_character_ends() {
    let log = Log { severity: Severity::Error, text: "ü".repeat(300) };
    let read: Log = decode(Segment::new(&encode(&log).unwrap()).bytes()).unwrap();
    assert_eq!(read.text, "ü".repeat(host::SENTENCE_MAX / 2));
    let odd = Log { severity: Severity::Error, text: format!("x{}", "ü".repeat(300)) };
    let read: Log = decode(Segment::new(&encode(&odd).unwrap()).bytes()).unwrap();
    assert_eq!(read.text.len(), host::SENTENCE_MAX - 1);
}

#[test]
fn reply_full_of_log_lines_fits_in_a_message() {
    let lines = LogLines { next: 1, lines: vec!["x".repeat(1000); control::LINES_MAX] };
    let bytes = encode(&lines).unwrap();
    assert!(bytes.len() <= BODY_MAX);
    let read: LogLines = decode(Segment::new(&bytes).bytes()).unwrap();
    assert!(read.lines.iter().all(|line| line.len() == control::LINE_MAX));
}

#[test]
fn list_of_nothing_cannot_keep_the_reader_busy() {
    // A list of 2^28 structs of no words takes one word (encoding specification, "Security considerations").
    let root = [0u8, 0, 0, 0, 0, 0, 1, 0];
    let list = (1u64 | 7 << 32).to_le_bytes();
    let tag = (((1u64 << 28) - 1) << 2).to_le_bytes();
    let bytes = [root, list, tag].concat();
    assert!(matches!(decode::<Manifests>(Segment::new(&bytes).bytes()), Err(BadBody::Malformed(_))));
}

#[test]
fn deepest_message_of_the_schema_nests_as_the_limit_expects() {
    let bytes = encode(&Manifests { manifests: vec![manifest()] }).unwrap();
    let segment = Segment::new(&bytes);
    let with = |nesting_limit| {
        let limits = capnp::message::ReaderOptions { traversal_limit_in_words: Some(1 << 20), nesting_limit };
        Manifests::decode(&crate::Reader::new(capnp::message::SegmentArray::new(&[segment.bytes()]), limits))
    };
    let depth = (1..).find(|limit| with(*limit).is_ok()).unwrap();
    assert_eq!(NESTING_MAX, depth + 1);
}

/// The build reads `compiled/`, so an edit of the sources alone would change nothing.
#[test]
fn compiled_schema_is_of_these_sources() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("schema");
    let mut sources: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    sources.retain(|path| path.extension().is_some_and(|extension| extension == "capnp"));
    sources.sort();
    let text: Vec<u8> = sources.iter().flat_map(|path| std::fs::read(path).unwrap()).collect();
    let kept = std::fs::read_to_string(folder.join("compiled/sources.cksum")).unwrap();
    let found = format!("{} {}", cksum(&text), text.len());
    assert_eq!(kept.trim(), found, "schema/README.md says how to compile the schema anew");
}

/// POSIX `cksum`: its CRC covers the text, then its length in as few bytes as needed, least significant first.
fn cksum(text: &[u8]) -> u32 {
    let length: Vec<u8> = std::iter::successors(Some(text.len()), |rest| Some(rest >> 8))
        .take_while(|rest| *rest != 0)
        .map(|rest| rest as u8)
        .collect();
    !text.iter().chain(&length).fold(0u32, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte) << 24, |sum, _| sum << 1 ^ if sum >> 31 == 1 { 0x04c1_1db7 } else { 0 })
    })
}
