//! A plugin that does wrong what it is called after: `never-seals`, `two-devices`. For tests of what is refused.

#![allow(unsafe_code)] // The calls that a plugin should not make.

use imc::{Channel, Packet};
use schema::Body;
use schema::host::{Assign, Attach, Empty, Grants, Hello, Log, Manifests, PROTOCOL, Seal, Severity};
use schema::manifest::{Class, Manifest, Power, Range, Space, Wish};
use std::os::fd::{AsRawFd, IntoRawFd};

/// How it ends when it is told to die.
const DIED: i32 = 3;

fn main() {
    let name = std::env::args().next().unwrap_or_default();
    let how = name.rsplit('/').next().unwrap_or_default().to_owned();
    let is = |what: &str| how == what;
    if is("dies-at-once") {
        std::process::exit(DIED);
    }
    let mut channel = Channel::inherit(3).expect("the channel");
    if is("starts-a-program") {
        // SAFETY: of no effect here but its own end.
        unsafe { libc::fork() };
    }
    if is("opens-a-socket") {
        // SAFETY: no memory is passed.
        let refused = unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0) } < 0;
        let text = if refused { "the socket was refused" } else { "it has a socket" };
        let _ = channel.tell(&Log { severity: Severity::Error, text: text.into() }, &[]);
    }
    if is("another-schema") {
        say_hello_of_another_schema();
    }
    if is("never-says-hello") {
        std::thread::park();
    }
    while is("waits-while-writable") && is_writable() {
        std::thread::park_timeout(std::time::Duration::from_millis(10));
    }
    if is("prints") {
        // SAFETY: the bytes are there, as many as is said; nobody cares what becomes of them, as in printf(3).
        unsafe { libc::write(1, b"to whom it may concern\n".as_ptr().cast(), 23) };
    }
    let protocol = if is("another-protocol") { 9 } else { PROTOCOL };
    if !is("stays-dumpable") {
        // SAFETY: no memory is passed.
        unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0) };
    }
    channel.tell(&Hello { protocol }, &[]).expect("hello");
    if is("unknown-power") {
        wish_for_an_unknown_power();
    }
    let mut held: Vec<i32> = vec![3];
    loop {
        let packet: Packet = channel.receive(None).expect("a call").expect("a call");
        let call = packet.call.expect("a call");
        if packet.is::<Assign>() {
            if is("dies-when-assigned") {
                std::process::exit(DIED);
            }
            channel.reply(call, &Manifests { manifests: declared(&how) }, &[]).expect("a reply");
        } else if packet.is::<Grants>() {
            if is("dies-when-granted") {
                std::process::exit(DIED);
            }
            let (grants, mut descriptors) = packet.decode::<Grants>().expect("grants");
            for grant in grants.grants {
                let descriptor = descriptors.take(grant.handle.slot).expect("a descriptor");
                let is_region = matches!(grant.purpose, schema::host::Purpose::State | schema::host::Purpose::Request);
                if is_region && !is("keeps-a-memfd") {
                    continue;
                }
                held.push(descriptor.as_raw_fd());
                let _ = descriptor.into_raw_fd();
            }
            channel.reply(call, &Empty, &[]).expect("a reply");
        } else if packet.is::<Attach>() {
            if is("dies-when-attached") {
                std::process::exit(DIED);
            }
            channel.reply(call, &Empty, &[]).expect("a reply");
        } else if packet.is::<Seal>() {
            if is("never-seals") {
                std::thread::park();
            }
            if is("dies-when-sealed") {
                std::process::exit(DIED);
            }
            for number in (0..64).filter(|number| !held.contains(number)) {
                // SAFETY: nobody uses what is closed here.
                unsafe { libc::close(number) };
            }
            channel.reply_by_write(call, &Empty).expect("a reply");
            sealed(&how);
        }
    }
}

/// Whether everybody may write this program: the one thing that a test can tell it while it loads.
fn is_writable() -> bool {
    use std::os::unix::fs::PermissionsExt;
    let program = std::env::args().next().expect("its own name");
    std::fs::metadata(program).is_ok_and(|file| file.permissions().mode() & 0o2 != 0)
}

/// Tries what a sealed plugin should not be able to do, again and again; the first tries may come before the seal.
fn sealed(how: &str) -> ! {
    if how == "opens-files-once-sealed" {
        let program = std::env::args().next().expect("its own name");
        // Asking opens nothing: a file that it had open as it is sealed it could not close, and would be refused for.
        while std::fs::metadata(&program).is_ok() {}
        let error = std::fs::File::open(&program).expect_err("it is sealed");
        let text = format!("tried to open its own program: os error {}", error.raw_os_error().unwrap_or(0));
        // SAFETY: the channel is open until this process ends.
        let channel = unsafe { std::os::fd::BorrowedFd::borrow_raw(3) };
        let _ = Channel::tell_over(channel, &Log { severity: Severity::Info, text });
    }
    loop {
        std::hint::spin_loop();
        let mut byte = 0u64;
        // SAFETY: reads into a variable of this size; from a descriptor that is never readable, it waits.
        unsafe { libc::read(4, std::ptr::from_mut(&mut byte).cast(), 8) };
    }
}

/// A message that is made by hand: what no type of the schema says.
fn say(kind: u8, ordinal: u16, call: u64, schema: u64, body: &[u8]) {
    let mut datagram = b"IMC1\x01\0".to_vec();
    datagram.extend(ordinal.to_le_bytes());
    datagram.extend(call.to_le_bytes());
    datagram.extend([kind, 0, 0, 0]);
    datagram.extend((body.len() as u32).to_le_bytes());
    datagram.extend(schema.to_le_bytes());
    datagram.extend(body);
    // SAFETY: the bytes are there, as many as is said.
    unsafe { libc::write(3, datagram.as_ptr().cast(), datagram.len()) };
}

fn say_hello_of_another_schema() {
    let mut body = Vec::new();
    schema::Scratch::default().encode(&Hello { protocol: PROTOCOL }, &mut body).expect("a hello");
    say(4, Hello::ORDINAL, 0, Hello::SCHEMA_ID ^ 1, &body);
}

/// Answers the assignment, a call whose number it reads by itself. The manifests of two powers differ where the power is.
fn wish_for_an_unknown_power() {
    let mut assign = [0u8; 1024];
    // SAFETY: the memory is there, as much as is said.
    unsafe { libc::recv(3, assign.as_mut_ptr().cast(), assign.len(), 0) };
    let call = u64::from_le_bytes(assign[8..16].try_into().expect("eight bytes"));
    let with = |power| {
        let mut manifests = declared("wishes-for-memory");
        manifests[0].wishes[0].power = power;
        let mut body = Vec::new();
        schema::Scratch::default().encode(&Manifests { manifests }, &mut body).expect("manifests");
        body
    };
    let (mut body, other) = (with(Power::Memory), with(Power::Entropy));
    let at = body.iter().zip(&other).position(|(one, other)| one != other).expect("a difference");
    body[at] = 99;
    say(2, Manifests::ORDINAL, call, Manifests::SCHEMA_ID, &body);
}

fn ports(first: u16, length: u64) -> Range {
    Range { name: "registers".into(), length, space: Space::Port(first) }
}

fn declared(how: &str) -> Vec<Manifest> {
    let mut manifest = Manifest {
        name: "crooked".into(),
        summary: "does wrong what it is called after".into(),
        class: Class::System,
        ranges: vec![ports(0x5000, 1)],
        registers: vec![],
        lines: vec![],
        vectors: 0,
        doorbells: vec![],
        wishes: vec![],
        state_bytes: 8,
        bulk_bytes: 0,
        pci: None,
        acpi: None,
        with: vec![],
        options: vec![],
        remembered: 0,
    };
    match how {
        "no-device" => return vec![],
        "two-devices" => return vec![manifest.clone(), manifest],
        "range-of-no-length" => manifest.ranges[0].length = 0,
        "huge-state" => manifest.state_bytes = u32::MAX,
        "huge-bulk" => manifest.bulk_bytes = u32::MAX,
        "huge-range" => manifest.ranges[0].length = u64::MAX,
        "range-beyond-the-last-port" => manifest.ranges[0] = ports(0xfff0, 0x20),
        "ranges-that-overlap" => manifest.ranges = vec![ports(0x5000, 4), ports(0x5002, 4)],
        "a-range-of-the-uarts" => manifest.ranges[0] = ports(0x3fa, 1),
        "wishes-for-memory" => manifest.wishes.push(Wish {
            power: Power::Memory,
            name: "all".into(),
            switch: None,
            bytes: 0,
            range: 0,
            because: "to look at everything".into(),
        }),
        "wishes-for-frames" => manifest.wishes.push(Wish {
            power: Power::Frames,
            name: "network".into(),
            switch: None,
            bytes: 0,
            range: 0,
            because: "it would be a network card".into(),
        }),
        _ => {}
    }
    vec![manifest]
}
