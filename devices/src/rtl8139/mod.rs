//! RTL8139: a PCI network card of 1999, with the C+ mode of its successor.
//!
//! Source: Realtek, *RTL8139C(L) Single Chip Fast Ethernet Controller with Power Management*, and *RTL8139C+* for the C+ mode;
//! names are those of the data sheets.

mod checksum;
mod eeprom;
mod large;
mod receive;
mod registers;
mod ring;
mod state;
#[cfg(test)]
mod tests;
mod transmit;

use crate::declare;
use crate::ethernet::{ADDRESS_BYTES, mac_option, mac_spec};
use device::manifest::{
    self, Class, Line, Manifest, OptionKind, OptionSpec, Pci, Power, Range, RegisterKind, SHADOW_MAX, Space, Tolerance,
};
use device::{
    Access, AttachError, Device, FRAME_MAX, Frames, GuestMemory, NoRegister, OptionError, Options, Outputs, Powers,
    Scan,
};
use eeprom::Eeprom;
use registers::{Part, RANGE_BYTES, Register, cpcr, cr, eecr, isr, overlaps, place, poll, rcr, tcr, tsd};
use ring::Return;
use state::State;
use vm_memory::{Bytes, GuestAddress};

pub(crate) const NAME: &str = "rtl8139";

const VENDOR: u16 = 0x10ec;
const DEVICE: u16 = 0x8139;
/// By its revision a driver knows the C+.
const REVISION_C: u8 = 0x10;
const REVISION_CPLUS: u8 = 0x20;

/// Indices of the wishes.
const FRAMES: u32 = 1;

/// Frames received in one look: between looks, accesses that vcpus wait for are answered.
const RECEIVES_MAX: usize = 64;

/// The link: up, 100 Mbit/s, full duplex, negotiated with a partner that can all (BMSR, ANLPAR, ANER).
const BASIC_STATUS: u16 = 0x782d;
const PARTNER: u16 = 0x41e1;
const EXPANSION: u16 = 0x0001;
/// Reset and restart of the negotiation take no time (BMCR).
const BASIC_CONTROL: u16 = 0x3100;
/// The bit of BMCR that brings the registers of the physical layer back to what they are after power on.
const BASIC_RESET: u16 = 1 << 15;
/// Bits of the configuration registers that a driver may change: leds, driver loaded, and wake-up in 1, and all that has no
/// effect here in 3, 4 and 5.
const CONFIG_WRITABLE: [u8; 6] = [0x00, 0xf1, 0x00, 0x70, 0xf5, 0x7f];
/// The one that may be written at any time (CONFIG5).
const CONFIG_UNLOCKED: u8 = 5;

/// The ranges: the same registers, at ports and in memory.
const RANGES: [&str; 2] = ["ports", "registers"];

/// What a load of a register that has nothing to do with time is given for it.
const NOT_TIMED: u64 = 0;

/// Registers that a driver loads for each frame, or loads back to know that a store has arrived. No load changes anything, so these
/// wait for nobody: what is committed is what they are.
const SHADOWS: [Register; SHADOW_MAX] = [
    Register::Command,
    Register::ReadPointer,
    Register::InterruptMask,
    Register::InterruptStatus,
    Register::TransmitStatus(0),
    Register::TransmitStatus(1),
    Register::TransmitStatus(2),
    Register::TransmitStatus(3),
];

/// Posted writes: to TPPoll, which asks the card to look at its rings and waits for nothing. What it sends by that it sends then.
const LOOK: u8 = 0;
/// Looks that may be under way while a shadow is served: a driver asks for one with each frame, and loads registers in between.
const LOOKS_MAX: u16 = 8;

/// The registers that need no wait.
fn registers(cplus: bool) -> Vec<manifest::Register> {
    let looks = RegisterKind::PostedValue { posted: LOOK, mask: poll::SOFTWARE.into(), value: 0 };
    let tolerates = vec![Tolerance { posted: LOOK, count: LOOKS_MAX }];
    let shadow = |(slot, register)| {
        let tolerates = if cplus { tolerates.clone() } else { Vec::new() };
        (register, RegisterKind::Shadow { slot, tolerates })
    };
    let kinds = (0..).zip(SHADOWS).map(shadow).chain(cplus.then_some((Register::Poll, looks)));
    let places = kinds.filter_map(|(register, kind)| Some((place(register)?, kind))).collect::<Vec<_>>();
    let in_range = |range| {
        let register = move |((offset, width), kind)| manifest::Register { range, offset, width: width as u8, kind };
        places.clone().into_iter().map(register)
    };
    (0..RANGES.len() as u8).flat_map(in_range).collect()
}

/// The card.
pub(crate) struct Rtl8139 {
    memory: GuestMemory,
    frames: Box<dyn Frames>,
    address: [u8; ADDRESS_BYTES],
    cplus: bool,
    /// The frame in hand.
    frame: Box<[u8; FRAME_MAX]>,
    /// Descriptors that this incarnation has given back for the committed state.
    returned: [Return; 2],
}

fn specs() -> Vec<OptionSpec> {
    let cplus = OptionSpec {
        name: "cplus".into(),
        kind: OptionKind::Flag,
        default: "off".into(),
        summary: "it is an RTL8139C+, with rings of descriptors".into(),
    };
    vec![mac_spec(), cplus]
}

/// Whether the card is a C+.
fn is_cplus(options: &Options) -> Result<bool, OptionError> {
    Ok(options.flag("cplus")?.unwrap_or(false))
}

impl Rtl8139 {
    fn load(&self, state: &State, register: Register, now: u64) -> u64 {
        match register {
            Register::Id => u64::from_le_bytes(state.id),
            Register::Multicast => state.multicast,
            Register::TransmitStatus(number @ (0 | 1)) if state.is_cplus() => half(state.tally, number),
            Register::TransmitStatus(number) => state.status[usize::from(number)].into(),
            Register::TransmitStart(number) => state.start[usize::from(number)].into(),
            Register::ReceiveStart => state.receive_start.into(),
            // Packets come whole: there is none of which only the beginning is there (ERBCR, ERSR).
            Register::EarlyCount | Register::EarlyStatus => 0,
            Register::Command => state.command().into(),
            Register::ReadPointer => state.read.into(),
            Register::WritePointer => u64::from(state.written as u16),
            Register::InterruptMask => state.mask.into(),
            Register::InterruptStatus => state.interrupts.into(),
            Register::TransmitConfig => {
                let version = if self.cplus { tcr::VERSION_CPLUS } else { tcr::VERSION_C };
                (version | state.transmit_config).into()
            }
            Register::ReceiveConfig => state.receive_config.into(),
            Register::Timer => state.timer(now).into(),
            Register::Missed => u64::from(state.counters.missed & 0xff_ffff),
            Register::Eeprom => {
                let wires = if state.eeprom_mode == eecr::PROGRAM { state.eeprom.register() } else { 0 };
                (state.eeprom_mode | wires).into()
            }
            Register::Config(number) => state.config[usize::from(number)].into(),
            Register::TimerInterrupt => state.timer_interrupt.into(),
            // The link is up, at 100 Mbit/s: both bits are of the contrary.
            Register::MediaStatus => 0,
            Register::MultipleInterrupt => state.multiple.into(),
            Register::Revision => if self.cplus { REVISION_CPLUS } else { REVISION_C }.into(),
            Register::TransmitSummary => state.transmit_summary().into(),
            Register::BasicControl => state.basic_control.into(),
            Register::BasicStatus => BASIC_STATUS.into(),
            Register::Advertised => state.advertised.into(),
            Register::Partner => PARTNER.into(),
            Register::Expansion => EXPANSION.into(),
            Register::Disconnects | Register::FalseCarriers => 0,
            // Only the C+ has these.
            Register::Poll | Register::CplusCommand | Register::ReceiveRing | Register::EarlyTransmit
                if !self.cplus =>
            {
                0
            }
            Register::Poll => state.poll.into(),
            Register::CplusCommand => state.cplus.into(),
            Register::ReceiveRing => state.ring,
            Register::EarlyTransmit => state.early_transmit.into(),
        }
    }

    /// Takes a store that touches the bits `part` of a register.
    fn store(&mut self, state: &mut State, part: Part, value: u64, now: u64) {
        let written = part.written(value);
        let whole = self.load(state, part.register, now) & !part.mask() | written;
        let unlocked = state.eeprom_mode == eecr::UNLOCK;
        match part.register {
            // The two bytes behind the address are reserved.
            Register::Id => state.id[..ADDRESS_BYTES].copy_from_slice(&whole.to_le_bytes()[..ADDRESS_BYTES]),
            Register::Multicast => state.multicast = whole,
            Register::TransmitStatus(number @ (0 | 1)) if state.is_cplus() => {
                self.set_tally(state, number, whole as u32)
            }
            Register::TransmitStatus(number) => {
                // What the last frame came to goes when the next one is given.
                state.status[usize::from(number)] = whole as u32 & tsd::WRITABLE;
            }
            Register::TransmitStart(number) => {
                state.start[usize::from(number)] = whole as u32;
                state.begin_ring(usize::from(number / 2));
            }
            Register::ReceiveStart => state.receive_start = whole as u32,
            Register::Command => state.set_command(whole as u8),
            Register::ReadPointer => state.read = whole as u16,
            Register::InterruptMask => state.mask = whole as u16 & isr::ALL,
            // A one clears.
            Register::InterruptStatus => state.interrupts &= !(written as u16),
            // It can be changed once the transmitter is on, and no sooner (TCR).
            Register::TransmitConfig if state.command & cr::TRANSMIT != 0 => {
                state.transmit_config = whole as u32 & tcr::WRITABLE;
            }
            Register::ReceiveConfig => {
                state.receive_config = whole as u32 & rcr::WRITABLE;
                state.written %= state.buffer_bytes();
            }
            // Whatever is written, it begins at 0.
            Register::Timer => {
                state.timer_start = now;
                state.arm_timer(now);
            }
            Register::TimerInterrupt => {
                state.timer_interrupt = whole as u32;
                state.arm_timer(now);
            }
            Register::Missed => state.counters.missed = 0,
            Register::Eeprom => set_eeprom(state, whole as u8),
            Register::Config(number) if unlocked || number == CONFIG_UNLOCKED => {
                let writable = CONFIG_WRITABLE[usize::from(number)];
                let config = &mut state.config[usize::from(number)];
                *config = *config & !writable | whole as u8 & writable;
            }
            Register::MultipleInterrupt => state.multiple = whole as u16 & 0x0fff,
            Register::BasicControl if whole as u16 & BASIC_RESET != 0 => state.reset_link(),
            // All three bits are of those that are locked (9346CR).
            Register::BasicControl if unlocked => state.basic_control = whole as u16 & BASIC_CONTROL,
            Register::Advertised => state.advertised = whole as u16,
            Register::Poll | Register::CplusCommand | Register::ReceiveRing | Register::EarlyTransmit
                if !self.cplus => {}
            Register::Poll => {
                state.poll |= written as u8 & (poll::NORMAL | poll::HIGH);
                state.interrupts |= if written as u8 & poll::SOFTWARE != 0 { isr::SOFTWARE } else { 0 };
            }
            Register::CplusCommand => state.cplus = whole as u16 & cpcr::WRITABLE,
            Register::ReceiveRing => {
                state.ring = whole;
                (state.receive_index, state.stalled) = (0, 0);
            }
            Register::EarlyTransmit => state.early_transmit = whole as u8,
            // What is read only, and what is locked.
            _ => {}
        }
    }

    /// Takes half of DTCCR; with its command bit the counters go to memory, and the bit is clear again when they are there.
    fn set_tally(&mut self, state: &mut State, number: u8, value: u32) {
        const DUMP: u32 = 1 << 3;
        /// Counters begin at a multiple of this.
        const ALIGNMENT: u64 = 64;
        let shift = 32 * u32::from(number);
        let kept = if number == 0 { value & !DUMP } else { value };
        state.tally = state.tally & !(u64::from(u32::MAX) << shift) | u64::from(kept) << shift;
        if number == 0 && value & DUMP != 0 {
            let at = GuestAddress(state.tally & !(ALIGNMENT - 1));
            if self.memory.write_slice(&state.counters.dump(), at).is_err() {
                state.interrupts |= isr::SYSTEM_ERROR;
            }
        }
    }

    /// Notes that what was given back is given back. Says whether anything was.
    fn forget_returned(&self, state: &mut State) -> bool {
        let mut any = false;
        for (returning, returned) in state.returning.iter_mut().zip(&self.returned) {
            if !returning.is_nothing() && returning == returned {
                *returning = Return::nothing();
                any = true;
            }
        }
        any
    }
}

/// Takes a write to 9346CR.
fn set_eeprom(state: &mut State, value: u8) {
    state.eeprom_mode = value & eecr::MODE;
    match state.eeprom_mode {
        eecr::PROGRAM => state.eeprom.drive(value),
        eecr::LOAD => {
            // It is done before anybody could look.
            state.load_address();
            state.eeprom_mode = 0;
        }
        _ => {}
    }
}

/// One of the two halves of a register of eight bytes.
fn half(whole: u64, number: u8) -> u64 {
    whole >> (32 * number) & u64::from(u32::MAX)
}

impl Device for Rtl8139 {
    type State = State;

    fn manifest(options: &Options) -> Result<Manifest, OptionError> {
        options.check(&specs())?;
        mac_option(options)?;
        let range = |name: &str, space| Range { name: name.into(), length: RANGE_BYTES, space };
        let [ports, memory] = RANGES;
        Ok(Manifest {
            ranges: vec![range(ports, Space::PortBar(0)), range(memory, Space::Bar(1))],
            registers: registers(is_cplus(options)?),
            lines: vec![Line::Pin(1)],
            wishes: vec![
                declare::wish(
                    Power::Memory,
                    "memory",
                    "the guest puts its buffers and frames wherever it likes in memory",
                ),
                declare::wish(Power::Frames, "cable", "frames that the guest sends and receives"),
            ],
            pci: Some(Pci {
                vendor: VENDOR,
                device: DEVICE,
                subsystem_vendor: VENDOR,
                subsystem: DEVICE,
                // Network controller, Ethernet.
                class: 0x02_00_00,
                revision: if is_cplus(options)? { REVISION_CPLUS } else { REVISION_C },
                capabilities: Vec::new(),
                vector_bar: 2,
                registers: Vec::new(),
                bridge_function: 0,
            }),
            options: specs(),
            ..declare::nothing::<State>(NAME, "RTL8139 network card", Class::Net)
        })
    }

    fn attach(options: &Options, powers: &mut Powers) -> Result<Rtl8139, AttachError> {
        options.check(&specs())?;
        Ok(Rtl8139 {
            memory: powers.memory()?,
            frames: powers.frames(FRAMES)?,
            address: mac_option(options)?,
            cplus: is_cplus(options)?,
            frame: Box::new([0; FRAME_MAX]),
            returned: [Return::nothing(); 2],
        })
    }

    fn power_on(&mut self) -> State {
        State::new(Eeprom::new(self.address, [VENDOR, DEVICE, VENDOR, DEVICE]), self.frames.published())
    }

    fn check(&self, state: &State) -> bool {
        state.is_sound() && (self.cplus || state.cplus == 0 && state.poll == 0)
    }

    fn read(&mut self, state: &mut State, at: Access) -> Result<u64, NoRegister> {
        let parts = overlaps(at.offset, at.width.into());
        Ok(parts.fold(0, |value, part| value | part.of(self.load(state, part.register, at.now))))
    }

    fn write(&mut self, state: &mut State, at: Access, value: u64) -> Result<(), NoRegister> {
        let mut only_looks = true;
        for part in overlaps(at.offset, at.width.into()) {
            only_looks &= part.register == Register::Poll;
            self.store(state, part, value, at.now);
        }
        // A driver that has just given a frame looks whether it is sent; who has posted a write does not.
        if !only_looks {
            self.transmit(state);
        }
        Ok(())
    }

    fn alarm(&mut self, state: &mut State, now: u64) {
        state.expire_timer(now);
    }

    fn button(&mut self, _: &mut State, _: u64) {}

    fn refresh(&mut self, _: &mut State, _: u64) {}

    fn scan(&mut self, state: &mut State, _: u64) -> Scan {
        let mut changed = self.forget_returned(state);
        changed |= self.transmit(state);
        for _ in 0..RECEIVES_MAX {
            if !self.receive(state) {
                break;
            }
            changed = true;
        }
        match changed {
            true if self.pending(state) => Scan::More,
            true => Scan::Changed,
            false => Scan::Idle,
        }
    }

    fn pending(&self, state: &State) -> bool {
        state.returning.iter().any(|returning| !returning.is_nothing())
            || self.could_transmit(state)
            || (self.frames.has(state.received) && self.could_receive(state))
            || self.must_tell(state)
    }

    fn outputs(&self, state: &State) -> Outputs {
        let deadline = Some(state.timer_due).filter(|due| *due != state::NEVER);
        let shadow = SHADOWS.map(|register| Some(self.load(state, register, NOT_TIMED)));
        let postable = u32::from(self.cplus) << LOOK;
        Outputs { levels: state.level().into(), deadline, postable, shadow }
    }

    fn settle(&mut self, state: &State) {
        self.frames.publish(state.sent, state.received);
        for (returning, returned) in state.returning.iter().zip(&mut self.returned) {
            if returning != returned {
                returning.give(&self.memory);
                *returned = *returning;
            }
        }
    }
}
