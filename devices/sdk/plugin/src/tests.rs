//! What is said by hand, held to the schema; and a device as a plain struct.

use crate::kernel::Shared;
use crate::lane::{Header, StateRegion};
use crate::messages::{self, Grant, Name};
use crate::wire::{Malformed, Reader};
use crate::*;
use schema::host as peer;
use schema::{Body, Handle, Kind, Rights, Scratch, decode};

fn encoded<B: Body>(body: &B) -> Vec<u8> {
    let mut bytes = Vec::new();
    Scratch::default().encode(body, &mut bytes).unwrap();
    bytes
}

fn assignment() -> peer::Assign {
    let options = [("base", "0x440"), ("empty", "")];
    let options = options.map(|(name, value)| peer::Setting { name: name.into(), value: value.into() });
    peer::Assign {
        level: peer::Level::Seccomp,
        devices: vec![peer::Assignment {
            device: String::new(),
            options: options.to_vec(),
            carrier: schema::lane::Carrier::Socket,
            poisoned: true,
            exchanged: None,
        }],
        threaded: false,
    }
}

#[test]
fn a_message_that_was_tampered_with_is_refused_or_read_but_never_ends_the_process() {
    let whole = encoded(&assignment());
    for length in 0..whole.len() {
        let _ = messages::assign(whole[..length].to_vec());
    }
    for at in 0..whole.len() {
        for bits in [0x01, 0x80, 0xff] {
            let mut bytes = whole.clone();
            bytes[at] ^= bits;
            let _ = messages::assign(bytes.clone());
            let _ = messages::grants(bytes);
        }
    }
    assert_eq!(messages::assign(vec![0; 7]), Err(Malformed));
    assert!(Reader::new(vec![0xff; 8]).unwrap().root().is_err());
    assert_eq!(messages::assign(Vec::new()), Ok(vec![]), "a message of nothing names no device");
}

#[test]
fn names_of_messages_are_those_of_the_schema() {
    fn name<B: Body>() -> Name {
        Name(B::ORDINAL, B::SCHEMA_ID)
    }
    assert_eq!(messages::REFUSAL, name::<peer::Refusal>());
    assert_eq!(messages::EMPTY, name::<peer::Empty>());
    assert_eq!(messages::HELLO, name::<peer::Hello>());
    assert_eq!(messages::ASSIGN, name::<peer::Assign>());
    assert_eq!(messages::MANIFESTS, name::<peer::Manifests>());
    assert_eq!(messages::GRANTS, name::<peer::Grants>());
    assert_eq!(messages::ATTACH, name::<peer::Attach>());
    assert_eq!(messages::SEAL, name::<peer::Seal>());
    assert_eq!(messages::LOG, name::<peer::Log>());
}

#[test]
fn an_assignment_after_an_exchange_of_media_is_read_as_one() {
    let mut assign = assignment();
    assign.devices[0].exchanged = Some(peer::Exchanged { bay: 0, forced: false });
    assert!(messages::assign(encoded(&assign)).unwrap()[0].exchanged);
}

#[test]
fn an_assignment_is_read_as_it_was_meant() {
    let read = messages::assign(encoded(&assignment())).unwrap();
    let options = vec![("base".to_owned(), "0x440".to_owned()), ("empty".to_owned(), String::new())];
    let wanted = messages::Assignment { options, carrier: messages::SOCKET, poisoned: true, exchanged: false };
    assert_eq!(read, [wanted]);
}

#[test]
fn grants_are_read_as_they_were_meant() {
    let handle = |slot| Handle { slot, kind: Kind::Wake, rights: Rights::SIGNAL, size: 0 };
    let grant = |purpose, number, base, slot| peer::Grant { device: 0, purpose, number, base, handle: handle(slot) };
    let grants = peer::Grants {
        grants: vec![
            grant(peer::Purpose::Switch, 7, 0, 0),
            grant(peer::Purpose::Memory, 0, 0x1_0000_0000, 1),
            grant(peer::Purpose::Packets, 0, 0, 2),
        ],
    };
    let read = messages::grants(encoded(&grants)).unwrap();
    assert_eq!(read[0], Grant { purpose: messages::purpose::SWITCH, number: 7, base: 0, slot: 0 });
    assert_eq!(read[1], Grant { purpose: messages::purpose::MEMORY, number: 0, base: 0x1_0000_0000, slot: 1 });
    assert_eq!(read[2], Grant { purpose: messages::purpose::PACKETS, number: 0, base: 0, slot: 2 });
}

#[test]
fn what_a_plugin_says_is_read_as_it_was_meant() {
    assert_eq!(decode::<peer::Hello>(&messages::hello(1)).unwrap(), peer::Hello { protocol: 1 });
    assert_eq!(decode::<peer::Empty>(&messages::empty()).unwrap(), peer::Empty);
    let reason = "it is not to be".to_owned();
    assert_eq!(decode::<peer::Refusal>(&messages::refusal(&reason)).unwrap(), peer::Refusal { reason });
    let log = decode::<peer::Log>(&messages::log(Severity::Warning as u16, "hot")).unwrap();
    assert_eq!((log.severity, log.text.as_str()), (peer::Severity::Warning, "hot"));
}

#[test]
fn a_manifest_is_read_as_it_was_meant() {
    use schema::manifest as peer;
    let own = Manifest {
        class: Class::Timer,
        ranges: vec![
            Range::ports("ports", 0x440, 4),
            Range::memory("memory", 0xfed0_0000, 0x1000),
            Range::memory_bar("bar", 2, 0x4000),
            Range::port_bar("port bar", 0, 32),
        ],
        lines: vec![Line::Isa(5), Line::Pin(1)],
        vectors: 3,
        doorbells: vec![Doorbell { range: 2, offset: 0x10, width: 2 }],
        wishes: vec![
            Wish::switch(Switch::Panicked, "expired", "because"),
            Wish::new(Power::FileWrite, "disk", "sectors lie in it"),
            Wish::direct(2, "picture", "the guest draws there"),
        ],
        pci: Some(Pci {
            vendor: 0x1af4,
            device: 0x1042,
            subsystem_vendor: 1,
            subsystem: 2,
            class: 0x01_8000,
            revision: 9,
            capabilities: vec![vec![9, 0, 16, 1], vec![9; 20]],
            vector_bar: 4,
        }),
        ..Manifest::new("thermo", "Temperature sensor")
    };
    let read = decode::<schema::host::Manifests>(&messages::manifests::<Thermo>(&own, 24)).unwrap().manifests;
    let [read] = <[peer::Manifest; 1]>::try_from(read).unwrap();
    let range = |name: &str, space, length| peer::Range { name: name.into(), length, space };
    assert_eq!(
        read.ranges,
        [
            range("ports", peer::Space::Port(0x440), 4),
            range("memory", peer::Space::Memory(0xfed0_0000), 0x1000),
            range("bar", peer::Space::Bar(2), 0x4000),
            range("port bar", peer::Space::PortBar(0), 32),
        ]
    );
    let shadow = peer::RegisterKind::Shadow { slot: 5, tolerates: vec![] };
    assert_eq!(
        read.registers,
        [
            peer::Register { range: 0, offset: 2, width: 2, kind: peer::RegisterKind::Posted(3) },
            peer::Register { range: 1, offset: 8, width: 4, kind: shadow },
        ]
    );
    assert_eq!(read.lines, [peer::Line::Isa(5), peer::Line::Pin(1)]);
    assert_eq!(read.doorbells, [peer::Doorbell { range: 2, offset: 0x10, width: 2 }]);
    assert_eq!((read.vectors, read.state_bytes, read.bulk_bytes), (3, 24, 0));
    assert_eq!((read.name.as_str(), read.summary.as_str()), ("thermo", "Temperature sensor"));
    assert_eq!(read.class, peer::Class::Timer);
    let [expired, disk, picture] = <[peer::Wish; 3]>::try_from(read.wishes).unwrap();
    assert_eq!((expired.power, expired.switch), (peer::Power::Switch, Some(peer::Switch::Panicked)));
    assert_eq!((expired.name.as_str(), expired.because.as_str()), ("expired", "because"));
    assert_eq!((disk.power, disk.switch, disk.name.as_str()), (peer::Power::FileWrite, None, "disk"));
    assert_eq!((picture.power, picture.range, picture.bytes), (peer::Power::Direct, 2, 0x4000));
    let pci = read.pci.unwrap();
    assert_eq!((pci.vendor, pci.device, pci.subsystem_vendor, pci.subsystem), (0x1af4, 0x1042, 1, 2));
    assert_eq!((pci.class, pci.revision, pci.vector_bar), (0x01_8000, 9, 4));
    assert_eq!(pci.capabilities, [vec![9, 0, 16, 1], vec![9; 20]]);
    let [base, loud] = <[peer::OptionSpec; 2]>::try_from(read.options).unwrap();
    assert_eq!((base.name.as_str(), base.kind), ("base", peer::OptionKind::Number));
    assert_eq!((base.default.as_str(), base.summary.as_str()), ("0x440", "first port"));
    assert_eq!((loud.default.as_str(), loud.kind), ("off", peer::OptionKind::Flag));
}

state! {
    struct Limits { limit: u16 = 0xffff, seen: u64 }
}

/// A device that has one of each kind of register.
struct Thermo;

impl Device for Thermo {
    type State = Limits;
    const OPTIONS: &'static [OptionSpec] =
        &[OptionSpec::number("base", 0x440, "first port"), OptionSpec::flag("loud", false, "rings")];
    const REGISTERS: &'static [Register<Self>] = &[
        Register::<Self>::at(0, 2).read(|_, state, at| {
            state.seen = at.now;
            300
        }),
        Register::<Self>::at(2, 2).field(|state| &mut state.limit).writable().posted(3),
        Register::<Self>::at(8, 4).of(1).field(|state| &mut state.seen).shadow(5),
        Register::<Self>::at(12, 1).write(|_, state, _, value| state.limit = value as u16 * 2),
    ];
    fn manifest(_: &Options) -> Result<Manifest, Refusal> {
        Ok(Manifest::new("thermo", "Temperature sensor"))
    }
    fn attach(_: &Options, _: &mut Powers) -> Result<Thermo, Refusal> {
        Ok(Thermo)
    }
}

#[test]
fn what_is_no_register_or_not_at_this_width_or_in_this_way_is_refused() {
    let mut state = Thermo.power_on();
    let at = |range, offset, width| Access { range, offset, width, now: 7 };
    for access in [at(0, 0, 1), at(0, 1, 2), at(1, 0, 2), at(1, 8, 8), at(0, 12, 1)] {
        assert_eq!(Thermo.read(&mut state, access), Err(NoRegister), "{access:?}");
    }
    for access in [at(0, 0, 2), at(0, 2, 4), at(1, 8, 4)] {
        assert_eq!(Thermo.write(&mut state, access, 1), Err(NoRegister), "{access:?}");
    }
    assert_eq!(state, Limits { limit: 0xffff, seen: 0 });
}

#[test]
fn registers_do_what_they_declare() {
    let mut state = Thermo.power_on();
    let at = |range, offset, width| Access { range, offset, width, now: 7 };
    assert_eq!(Thermo.read(&mut state, at(0, 0, 2)), Ok(300));
    assert_eq!(Thermo.read(&mut state, at(1, 8, 4)), Ok(7));
    assert_eq!(Thermo.write(&mut state, at(0, 2, 2), 0x1_0012), Ok(()), "what does not fit is cut");
    assert_eq!(Thermo.read(&mut state, at(0, 2, 2)), Ok(0x12));
    assert_eq!(Thermo.write(&mut state, at(0, 12, 1), 5), Ok(()));
    assert_eq!(state.limit, 10);
}

#[test]
fn ports_that_there_are_not_are_refused_with_a_sentence() {
    let manifest = |first| Manifest::new("", "").range(Range::ports("registers", first, 4));
    assert_eq!(manifest(0xffff).check(), Ok(()));
    assert_eq!(manifest(0x1_0000).check(), Err("range `registers`: there is no port 0x10000".into()));
}

#[test]
fn options_that_cannot_be_are_refused_with_a_sentence() {
    let specs = [
        OptionSpec::number("base", 0, "a port"),
        OptionSpec::flag("loud", false, "rings"),
        OptionSpec::text("action", "reset", "what it does"),
    ];
    let said = |settings: &[(&str, &str)]| Options::parse(&specs, settings).unwrap_err().to_string();
    assert_eq!(said(&[("bass", "1")]), "there is no option `bass`; there are: base, loud, action");
    for bad in ["-1", "+1", "0x", "", " 1", "0x+1", "18446744073709551616"] {
        assert_eq!(said(&[("base", bad)]), format!("option `base`: `{bad}` is not a number"));
    }
    assert_eq!(said(&[("base", "1"), ("base", "1")]), "option `base` is given twice");
    assert_eq!(said(&[("loud", "very")]), "option `loud`: `very` is not `on` or `off`");
    let good = Options::parse(&specs, &[("base", "0x440"), ("loud", "")]).unwrap();
    assert_eq!((good.number("base"), good.flag("loud"), good.text("action")), (0x440, true, "reset"));
    assert_eq!(good.choice("action", &[("halt", 1), ("reset", 2)]), Ok(2));
    let refused = good.choice("action", &[("halt", 1), ("turn", 2), ("stop", 3)]);
    assert_eq!(refused, Err("option `action`: `reset` is not halt, turn or stop".into()));
}

#[test]
fn granted_memory_is_read_across_windows_and_nothing_beside_it() {
    let memory = GuestMemory::private(&[(0x2000, 0x1000), (0, 0x1000), (0x1000, 0x1000)]);
    memory.write(0xffe, b"across").unwrap();
    let mut bytes = [0; 6];
    memory.read(0xffe, &mut bytes).unwrap();
    assert_eq!((&bytes, memory.load(0x1000)), (b"across", Ok(u16::from_le_bytes(*b"ro"))));
    for (address, length) in [(0x2fff, 2), (0x3000, 1), (u64::MAX, 2)] {
        assert!(!memory.contains(address, length));
        assert_eq!(memory.write(address, &vec![1; length as usize]), Err(OutsideGrant));
    }
    assert_eq!(
        (memory.load(0x2fff), memory.load(1), memory.store(0x3000, 1)),
        (Err(OutsideGrant), Err(OutsideGrant), Err(OutsideGrant))
    );
    assert_eq!(memory.read(0x2fff, &mut bytes[..1]).map(|()| bytes[0]), Ok(0), "nothing of a refused write was done");
}

#[test]
fn a_picture_is_cut_to_its_room_and_shown_when_it_is_whole() {
    let scanout = Scanout::private();
    let drawing = scanout.begin(u32::MAX, u32::MAX);
    assert_eq!((drawing.width(), drawing.height(), scanout.picture()), (2560, 1600, None));
    drawing.row(usize::MAX, &[1]);
    drawing.row(1599, &vec![1; 2561]);
    drawing.finish();
    let drawing = scanout.begin(2, 1);
    drawing.row(0, &[0x11_2233, 0x44_5566, 0x77_8899]);
    drawing.finish();
    assert_eq!(scanout.picture(), Some((2, 1, vec![0x11_2233, 0x44_5566])));
}

state! {
    /// All kinds of fields.
    struct Mixed {
        byte: u8,
        /// Not aligned, and need not be.
        word: u64,
        many: [u16; 3],
    }
}

#[test]
fn a_state_is_stored_and_loaded_and_zero_after_power_on() {
    assert_eq!((Mixed::BYTES, Mixed::default().many), (15, [0; 3]));
    let state = Mixed { byte: 1, word: u64::MAX - 1, many: [2, 3, 4] };
    let mut bytes = [0; 15];
    state.store(&mut bytes);
    assert_eq!(Mixed::load(&bytes), state);
}

#[test]
fn state_in_a_region_too_small_for_it_is_refused() {
    assert!(StateRegion::new(Shared::private(512 + 2 * 64 - 8), 16).is_none());
}

#[test]
fn a_commit_is_found_by_the_next_incarnation() {
    let memory = Shared::private(4096);
    let mut region = StateRegion::new(memory, 16).unwrap();
    assert!(!region.has_state());
    let mut outputs = Outputs { levels: 3, ..Outputs::default() };
    for sequence in 1..=3 {
        outputs.levels ^= 1;
        region.commit(&[sequence as u8; 16], Header { outputs, now: 70 }, Some((sequence, 9)));
    }
    region.commit(&[8; 16], Header { outputs, now: 80 }, None);
    let found = StateRegion::new(memory, 16).unwrap();
    let mut bytes = [0; 16];
    found.current(&mut bytes);
    assert!(found.has_state());
    assert_eq!((found.sequence(), found.header().now, bytes), (3, 80, [8; 16]));
    assert_eq!((found.header().outputs.levels, found.falls()), (2, 1));
    assert!(!StateRegion::new(memory, 24).unwrap().has_state(), "state of another size is not this device's");
}
