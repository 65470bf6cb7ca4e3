//! A plugin from its first message to its last: confined, hello, assign, grants, attach, seal, serve.
//!
//! It was confined before its first instruction, and is sealed from outside. What is left to do here is to close what is not
//! needed.

use crate::declare::{Manifest, Power};
use crate::engine::{Engine, state_bytes};
use crate::kernel::{self, Shared};
use crate::lane::{Lane, MemoryLane, Patience, SocketLane, StateRegion};
use crate::messages::{self, Assignment, Grant, Name, purpose};
use crate::{Bell, Device, File, GuestMemory, Options, Powers, Random, Refusal, Scanout, Stream};
use std::io;
use std::os::fd::RawFd;

const CHANNEL: RawFd = 3;
const PROTOCOL: u16 = 1;
const DESCRIPTORS_MAX: RawFd = 1024;
const BODY_MAX: usize = 16 << 10;
const SENTENCE_MAX: usize = 400;

const HEADER_BYTES: usize = 32;
const MAGIC: &[u8; 4] = b"IMC1";
const VERSION: u16 = 1;
const CALL: u8 = 1;
const REPLY: u8 = 2;
const ERROR: u8 = 3;
const EVENT: u8 = 4;

/// How it ends that could not go on; it has said why. And how it ends whose code panicked.
const FAILED: i32 = 1;
/// As other programs end that were called in a wrong way.
const BY_HAND: i32 = 2;
const PANICKED: i32 = 101;

/// For log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
#[allow(missing_docs)]
pub enum Severity {
    Error = 1,
    Warning = 2,
    Info = 3,
    Debug = 4,
}

/// One line for the people who run the machine.
pub fn log(severity: Severity, text: &str) {
    send(EVENT, 0, messages::LOG, messages::log(severity as u16, cut(text)));
}

/// Serves the device until it is told to leave.
pub fn run<D: Device>() -> ! {
    if !kernel::is_socket(CHANNEL) {
        // A person has started it.
        eprintln!(
            "this program is a device of a virtual machine: `cofferdam device check` tries it, `cofferdam run --device` has it in a \
             machine"
        );
        kernel::leave(BY_HAND)
    }
    std::panic::set_hook(Box::new(|panic| {
        log(Severity::Error, &panic.to_string().replace('\n', " "));
        kernel::leave(PANICKED)
    }));
    match serve::<D>() {
        Ok(()) => kernel::leave(0),
        Err(why) => {
            log(Severity::Error, &why.to_string());
            kernel::leave(FAILED)
        }
    }
}

fn serve<D: Device>() -> io::Result<()> {
    kernel::hide();
    close_all_but(&[0, 1, 2, CHANNEL]);
    send(EVENT, 0, messages::HELLO, messages::hello(PROTOCOL));
    let assign = Call::receive()?;
    let (options, assignment, manifest) = assign.or_refuse(assigned::<D>(&assign));
    assign.reply(messages::MANIFESTS, messages::manifests::<D>(&manifest, state_bytes::<D>() as u32));
    let mut grants = Grants::default();
    let (mut engine, wake) = loop {
        let call = Call::receive()?;
        if call.name == messages::ATTACH {
            let attached = call.or_refuse(attach::<D>(&options, &assignment, &manifest, &mut grants));
            call.reply(messages::EMPTY, messages::empty());
            break attached;
        }
        call.or_refuse(grants.add(&call));
        call.reply(messages::EMPTY, messages::empty());
    };
    let seal = Call::receive()?;
    if seal.name != messages::SEAL {
        return Err(io::Error::other("a call came where the seal should"));
    }
    close_all_but(&grants.held);
    engine.start()?;
    seal.reply(messages::EMPTY, messages::empty());
    until_told_to_leave(&mut engine, wake)
}

fn assigned<D: Device>(call: &Call) -> Result<(Options, Assignment, Manifest), Refusal> {
    if call.name != messages::ASSIGN {
        return Err("a call came where the assignment should".into());
    }
    let devices = messages::assign(call.body.clone()).map_err(|_| Refusal::from("the assignment is malformed"))?;
    let [assignment] = <[Assignment; 1]>::try_from(devices).map_err(|_| Refusal::from("a plugin is one device"))?;
    if assignment.exchanged {
        return Err("a medium was exchanged, and a plugin has no drives".into());
    }
    let options = Options::parse(D::OPTIONS, &assignment.options)?;
    let manifest = D::manifest(&options)?;
    manifest.check()?;
    Ok((options, assignment, manifest))
}

fn attach<D: Device>(
    options: &Options,
    assignment: &Assignment,
    manifest: &Manifest,
    grants: &mut Grants,
) -> Result<(Engine<D>, RawFd), Refusal> {
    let (wake, irq) = (grants.take(purpose::WAKE, 0, "wake")?, grants.take(purpose::IRQ, 0, "irq")?);
    let state = StateRegion::new(grants.map(purpose::STATE, 0, true, "state")?, state_bytes::<D>());
    let state = state.ok_or("the state region is too small")?;
    let lane = match assignment.carrier {
        messages::MEMORY => {
            let request = grants.map(purpose::REQUEST, 0, false, "request")?;
            let lane = MemoryLane::new(request, grants.take(purpose::REPLY, 0, "reply")?, state.sequence());
            Lane::Memory(lane.ok_or("the request region is too small")?)
        }
        messages::SOCKET => {
            let packets = grants.take(purpose::PACKETS, 0, "packets")?;
            Lane::Socket(SocketLane::new(packets, irq, wake, state.sequence()))
        }
        _ => return Err("a device in Rust is reached over `memory` or `socket`".into()),
    };
    let mut powers = powers(manifest, grants, &state)?;
    let device = D::attach(options, &mut powers)?;
    let lengths = manifest.ranges.iter().map(|range| range.length).collect();
    let ring = Box::new(move || kernel::ring(irq, 1));
    Ok((Engine::new(device, lengths, state, lane, ring, assignment.poisoned), wake))
}

fn powers(manifest: &Manifest, grants: &mut Grants, state: &StateRegion) -> Result<Powers, Refusal> {
    let mut powers = Powers::default();
    for (number, wish) in (0..).zip(&manifest.wishes) {
        let name = wish.name.clone();
        match wish.power {
            Power::Switch => {
                powers.switches.insert(name, Bell::of(grants.take(purpose::SWITCH, number, "switch")?));
            }
            Power::FileRead | Power::FileWrite => {
                let file = File::of(grants.take(purpose::FILE, number, "file")?);
                powers.files.insert(name, file.map_err(|error| format!("a file cannot be looked at: {error}"))?);
            }
            Power::Stream => {
                let rings = grants.map(purpose::STREAM, number, true, "stream")?;
                let bell = Bell::of(grants.take(purpose::BELL, number, "bell")?);
                powers.streams.insert(name, Stream::new(rings, bell).ok_or("the region of a stream is too small")?);
            }
            Power::Direct => {
                let mut memory = GuestMemory::default();
                memory.add(0, grants.map(purpose::DIRECT, number, true, "direct")?);
                powers.directs.insert(name, memory);
            }
            Power::Scanout => {
                let region = grants.map(purpose::SCANOUT, number, true, "scanout")?;
                powers.scanouts.insert(name, Scanout::new(region).ok_or("the region of a scanout is too small")?);
            }
            Power::Entropy => powers.random = Some(Random),
            Power::Memory | Power::LowMemory => {}
        }
    }
    for vector in 0..manifest.vectors.into() {
        powers.vectors.push(Bell::of(grants.take(purpose::VECTOR, vector, "vector")?));
    }
    let mut memory = GuestMemory::default();
    for base in grants.bases() {
        memory.add(base, grants.map_at(purpose::MEMORY, base)?);
    }
    powers.memory = Some(memory).filter(|memory| !memory.is_empty());
    powers.doorbell = state.doorbell();
    Ok(powers)
}

fn until_told_to_leave<D: Device>(engine: &mut Engine<D>, wake: RawFd) -> io::Result<()> {
    let mut patience = Patience::default();
    loop {
        while engine.work()? {}
        if engine.left() {
            return Ok(());
        }
        let most = engine.lane().spin();
        let looks = patience.looks(most);
        let came = (0..looks).find(|_| {
            std::hint::spin_loop();
            engine.lane().has_next()
        });
        if let Some(look) = came {
            patience.came(look, most);
            continue;
        }
        patience.missed(looks);
        engine.state().fall_asleep();
        // From here on who publishes rings. What was published before is seen by this look.
        while !engine.work()? {
            kernel::sleep(wake);
        }
        engine.state().wake_up();
    }
}

/// What was granted.
#[derive(Default)]
struct Grants {
    granted: Vec<(Grant, RawFd)>,
    held: Vec<RawFd>,
}

impl Grants {
    fn add(&mut self, call: &Call) -> Result<(), Refusal> {
        if call.name != messages::GRANTS {
            return Err("a call came where a grant should".into());
        }
        for grant in messages::grants(call.body.clone()).map_err(|_| Refusal::from("the grants are malformed"))? {
            let descriptor = call.descriptors.get(usize::from(grant.slot));
            self.granted.push((grant, *descriptor.ok_or("a grant names no descriptor of its own")?));
        }
        Ok(())
    }

    /// Takes the one descriptor that `is` says it is, which is held from now on.
    fn take_that(&mut self, what: &str, is: impl Fn(&Grant) -> bool) -> Result<RawFd, Refusal> {
        let at = self.granted.iter().position(|(grant, _)| is(grant));
        let (_, descriptor) = self.granted.swap_remove(at.ok_or_else(|| format!("`{what}` was not granted"))?);
        self.held.push(descriptor);
        Ok(descriptor)
    }

    fn take(&mut self, purpose: u16, number: u32, what: &str) -> Result<RawFd, Refusal> {
        self.take_that(what, |grant| grant.purpose == purpose && grant.number == number)
    }

    fn map(&mut self, purpose: u16, number: u32, writable: bool, what: &str) -> Result<Shared, Refusal> {
        let descriptor = self.take(purpose, number, what)?;
        self.mapped(descriptor, writable, what)
    }

    fn map_at(&mut self, purpose: u16, base: u64) -> Result<Shared, Refusal> {
        let descriptor = self.take_that("memory", |grant| grant.purpose == purpose && grant.base == base)?;
        self.mapped(descriptor, true, "memory")
    }

    /// Maps all of what was just taken; its descriptor is not held then, and is closed.
    fn mapped(&mut self, descriptor: RawFd, writable: bool, what: &str) -> Result<Shared, Refusal> {
        self.held.pop();
        let region = File::of(descriptor).map_err(|error| format!("`{what}` cannot be looked at: {error}"))?;
        let mapped = Shared::map(descriptor, region.size() as usize, writable);
        mapped.map_err(|error| Refusal(format!("`{what}` cannot be mapped: {error}")))
    }

    /// Where windows of guest memory are.
    fn bases(&self) -> Vec<u64> {
        let memory = self.granted.iter().filter(|(grant, _)| grant.purpose == purpose::MEMORY);
        memory.map(|(grant, _)| grant.base).collect()
    }
}

/// A call that was received.
struct Call {
    name: Name,
    number: u64,
    body: Vec<u8>,
    descriptors: Vec<RawFd>,
}

impl Call {
    fn receive() -> io::Result<Call> {
        let mut datagram = vec![0; HEADER_BYTES + BODY_MAX + 8];
        let (length, descriptors) = kernel::receive(CHANNEL, &mut datagram)?;
        if length == 0 {
            kernel::leave(0);
        }
        let malformed = || io::Error::other("the supervisor sent a message that is no call");
        let (header, body) = datagram[..length].split_at_checked(HEADER_BYTES).ok_or_else(malformed)?;
        let half = |at: usize| <u16 as crate::Plain>::load(&header[at..]);
        let word = |at: usize| <u64 as crate::Plain>::load(&header[at..]);
        let said = <u32 as crate::Plain>::load(&header[20..]) as usize;
        if &header[..4] != MAGIC || half(4) != VERSION || header[16] != CALL || said != body.len() {
            return Err(malformed());
        }
        Ok(Call { name: Name(half(6), word(24)), number: word(8), body: body.to_vec(), descriptors })
    }

    fn reply(&self, name: Name, body: Vec<u8>) {
        send(REPLY, self.number, name, body);
    }

    /// What came of it; a refusal is the answer to the call, and the end.
    fn or_refuse<T>(&self, result: Result<T, Refusal>) -> T {
        result.unwrap_or_else(|Refusal(reason)| {
            send(ERROR, self.number, messages::REFUSAL, messages::refusal(cut(&reason)));
            kernel::leave(FAILED)
        })
    }
}

/// Sends one message by a plain write(2).
fn send(kind: u8, call: u64, name: Name, body: Vec<u8>) {
    let mut datagram = Vec::with_capacity(HEADER_BYTES + body.len());
    datagram.extend(MAGIC);
    datagram.extend(VERSION.to_le_bytes());
    datagram.extend(name.0.to_le_bytes());
    datagram.extend(call.to_le_bytes());
    datagram.extend([kind, 0, 0, 0]);
    datagram.extend((body.len() as u32).to_le_bytes());
    datagram.extend(name.1.to_le_bytes());
    datagram.extend(body);
    // Nobody is left to be told that nobody listens.
    let _ = kernel::write_once(CHANNEL, &datagram);
}

/// As much of a sentence as may be sent.
fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(SENTENCE_MAX)]
}

fn close_all_but(held: &[RawFd]) {
    for number in (0..DESCRIPTORS_MAX).filter(|number| *number != CHANNEL && !held.contains(number)) {
        kernel::close(number);
    }
}
