//! The 16550 UART with FIFOs, as the serial ports of a PC wire it.
//!
//! Source: National Semiconductor, *PC16550D Universal Asynchronous Receiver/Transmitter with FIFOs*, June 1995, part 8.
//! "OUT2 gates the interrupt" is the PC's wiring, not the chip's.
//!
//! The line is infinitely fast: a byte leaves as soon as the ring to the outside has room, and a byte is received as soon
//! as there is room for it. So a received byte is never overrun, and no clock is needed.

mod fifo;

use crate::declare;
use device::manifest::{Acpi, Class, Line, Manifest, OptionSpec, Power, Register, RegisterKind, Tolerance};
use device::{Access, AttachError, Device, NoRegister, OptionError, Options, Outputs, Powers, Scan, Stream};
use fifo::{DEPTH, Fifo};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

pub(crate) const NAME: &str = "uart16550";

const PORT: u16 = 0x3f8;
const PORTS: u16 = 8;
const INTERRUPT: u8 = 4;

/// Register offsets; the divisor latch lies over the first two while LCR's bit 7 is set.
const DATA: u64 = 0;
const IER: u64 = 1;
const IIR_FCR: u64 = 2;
const LCR: u64 = 3;
const MCR: u64 = 4;
const LSR: u64 = 5;
const MSR: u64 = 6;
const SCR: u64 = 7;

const IER_RECEIVED: u8 = 1 << 0;
const IER_TRANSMITTER: u8 = 1 << 1;
const IER_LINE: u8 = 1 << 2;
const IER_MODEM: u8 = 1 << 3;
const IER_ALL: u8 = 0x0f;

const IIR_NONE: u8 = 0x01;
const IIR_FIFO: u8 = 0xc0;

const FCR_ENABLE: u8 = 1 << 0;
const FCR_CLEAR_RECEIVED: u8 = 1 << 1;
const FCR_CLEAR_TRANSMITTED: u8 = 1 << 2;
const FCR_TRIGGER: u8 = 0xc0;

const LCR_DIVISOR: u8 = 1 << 7;

const MCR_DTR: u8 = 1 << 0;
const MCR_RTS: u8 = 1 << 1;
const MCR_OUT1: u8 = 1 << 2;
const MCR_OUT2: u8 = 1 << 3;
const MCR_LOOP: u8 = 1 << 4;
const MCR_ALL: u8 = 0x1f;

const LSR_RECEIVED: u8 = 1 << 0;
const LSR_OVERRUN: u8 = 1 << 1;
/// The holding register and the shift register are both empty: on an infinitely fast line never one without the other.
const LSR_TRANSMITTER_EMPTY: u8 = 1 << 5 | 1 << 6;

const MSR_CTS: u8 = 1 << 4;
const MSR_DSR: u8 = 1 << 5;
const MSR_RI: u8 = 1 << 6;
const MSR_DCD: u8 = 1 << 7;
const MSR_DELTAS: u8 = 0x0f;
/// What the other end of the cable always says: ready, and there.
const CABLE: u8 = MSR_CTS | MSR_DSR | MSR_DCD;

/// The posted kind: writes to the transmitter holding register.
const POSTED_DATA: u8 = 0;
/// The shadow of LSR.
const SHADOW_LSR: u8 = 0;

/// With this much room in the ring the transmitter is empty after every write, so writes may be posted and LSR may be read
/// from its shadow. It must be more than the posts that can be under way before a new commit is seen; a lane has fewer
/// entries than this.
const AMPLE: usize = 64;

/// The chip and its cable.
pub(crate) struct Uart16550 {
    stream: Box<dyn Stream>,
}

/// The chip's registers and FIFOs, and its place in the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct State {
    /// Bytes put into the stream in all, modulo 2^32.
    out_head: u32,
    /// Bytes taken from the stream in all, modulo 2^32.
    in_tail: u32,
    received: Fifo,
    /// Bytes for which the stream had no room yet.
    transmitted: Fifo,
    divisor: [u8; 2],
    ier: u8,
    lcr: u8,
    mcr: u8,
    scr: u8,
    /// 0 or 1.
    fifos_enabled: u8,
    /// The two trigger bits of FCR.
    trigger: u8,
    /// 0 or 1: the transmitter became empty, and nobody was told.
    empty_untold: u8,
    /// 0 or 1: LSR's overrun bit; only loopback can bring it about.
    overrun: u8,
    /// MSR's delta bits.
    deltas: u8,
    /// 0 or 1: at the last look the stream had [`AMPLE`] room.
    ample: u8,
    unused: [u8; 2],
}

/// Why the interrupt is requested, the most urgent first; the value is that of IIR.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    Line = 0x06,
    Received = 0x04,
    Timeout = 0x0c,
    Transmitter = 0x02,
    Modem = 0x00,
}

impl State {
    fn divisor_access(&self) -> bool {
        self.lcr & LCR_DIVISOR != 0
    }

    fn loopback(&self) -> bool {
        self.mcr & MCR_LOOP != 0
    }

    /// Bytes that each direction holds: without FIFOs, one register.
    fn depth(&self) -> usize {
        if self.fifos_enabled != 0 { DEPTH } else { 1 }
    }

    fn trigger_level(&self) -> usize {
        match self.trigger >> 6 {
            _ if self.fifos_enabled == 0 => 1,
            0 => 1,
            1 => 4,
            2 => 8,
            _ => 14,
        }
    }

    fn line_status(&self) -> u8 {
        let mut lsr = 0;
        if !self.received.is_empty() {
            lsr |= LSR_RECEIVED;
        }
        if self.overrun != 0 {
            lsr |= LSR_OVERRUN;
        }
        if self.transmitted.is_empty() {
            lsr |= LSR_TRANSMITTER_EMPTY;
        }
        lsr
    }

    /// The modem's lines: the cable's, or in loopback the chip's own outputs (8.8, bit 4).
    fn modem_lines(&self) -> u8 {
        if !self.loopback() {
            return CABLE;
        }
        [(MCR_DTR, MSR_DSR), (MCR_RTS, MSR_CTS), (MCR_OUT1, MSR_RI), (MCR_OUT2, MSR_DCD)]
            .into_iter()
            .fold(0, |lines, (output, input)| if self.mcr & output != 0 { lines | input } else { lines })
    }

    fn set_modem_control(&mut self, mcr: u8) {
        let before = self.modem_lines();
        self.mcr = mcr & MCR_ALL;
        let after = self.modem_lines();
        // Each delta bit stands four below its line. The ring indicator counts only when it ends, the others at each change.
        let changed = (before ^ after) & !MSR_RI | before & !after & MSR_RI;
        self.deltas |= changed >> 4;
    }

    /// The most urgent cause that is enabled. A byte below the trigger level is announced at once as timed out: on an
    /// infinitely fast line, no further byte is on its way.
    fn cause(&self) -> Option<Cause> {
        let enabled = |bit| self.ier & bit != 0;
        if enabled(IER_LINE) && self.overrun != 0 {
            Some(Cause::Line)
        } else if enabled(IER_RECEIVED) && self.received.len() >= self.trigger_level() {
            Some(Cause::Received)
        } else if enabled(IER_RECEIVED) && !self.received.is_empty() {
            Some(Cause::Timeout)
        } else if enabled(IER_TRANSMITTER) && self.empty_untold != 0 {
            Some(Cause::Transmitter)
        } else if enabled(IER_MODEM) && self.deltas != 0 {
            Some(Cause::Modem)
        } else {
            None
        }
    }

    /// Reading IIR tells of an empty transmitter, and so ends that cause (table IV).
    fn identify(&mut self) -> u8 {
        let cause = self.cause();
        if cause == Some(Cause::Transmitter) {
            self.empty_untold = 0;
        }
        let fifos = if self.fifos_enabled != 0 { IIR_FIFO } else { 0 };
        fifos | cause.map_or(IIR_NONE, |cause| cause as u8)
    }

    fn set_interrupt_enable(&mut self, ier: u8) {
        let enabled = ier & !self.ier;
        self.ier = ier & IER_ALL;
        // Enabling the transmitter's interrupt while it is empty requests one, as drivers rely on.
        if enabled & IER_TRANSMITTER != 0 && self.transmitted.is_empty() {
            self.empty_untold = 1;
        }
    }

    fn set_fifo_control(&mut self, fcr: u8) {
        let enabled = fcr & FCR_ENABLE;
        let switched = enabled != self.fifos_enabled;
        self.fifos_enabled = enabled;
        // The other bits hold only in a write that has the enable bit set (8.5, bit 0).
        if enabled != 0 {
            self.trigger = fcr & FCR_TRIGGER;
        }
        if switched || enabled != 0 && fcr & FCR_CLEAR_RECEIVED != 0 {
            self.received = Fifo::EMPTY;
        }
        if (switched || enabled != 0 && fcr & FCR_CLEAR_TRANSMITTED != 0) && !self.transmitted.is_empty() {
            self.transmitted = Fifo::EMPTY;
            self.empty_untold = 1;
        }
    }

    /// A byte that goes from the transmitter straight to the receiver.
    fn loop_back(&mut self, byte: u8) {
        let full = self.received.len() >= self.depth();
        self.overrun |= u8::from(full);
        // A register loses the byte that it has, a FIFO the one that comes (8.4, bit 1).
        if self.fifos_enabled == 0 {
            self.received = Fifo::EMPTY;
        }
        if self.received.len() < self.depth() {
            self.received.push(byte);
        }
        self.empty_untold = 1;
    }

    /// A byte to be sent; it vanishes when the guest did not wait for room.
    fn hold(&mut self, byte: u8) {
        self.empty_untold = 0;
        if self.transmitted.len() < self.depth() {
            self.transmitted.push(byte);
        }
    }
}

impl Uart16550 {
    fn is_ample(&self, state: &State) -> bool {
        self.stream.room(state.out_head) >= AMPLE
    }

    /// Moves held bytes into the stream.
    fn send(&mut self, state: &mut State) -> bool {
        let mut sent = false;
        while let Some(byte) = state.transmitted.first() {
            if self.stream.room(state.out_head) == 0 {
                break;
            }
            self.stream.put(state.out_head, byte);
            state.out_head = state.out_head.wrapping_add(1);
            state.transmitted.pop();
            sent = true;
        }
        if sent && state.transmitted.is_empty() {
            state.empty_untold = 1;
        }
        state.ample = u8::from(self.is_ample(state));
        sent
    }

    /// The next byte that could be received now.
    fn incoming(&self, state: &State) -> Option<u8> {
        // In loopback the receiver's input is disconnected from the cable.
        if state.loopback() || state.received.len() >= state.depth() { None } else { self.stream.get(state.in_tail) }
    }
}

struct Wiring {
    port: u16,
    interrupt: u8,
}

fn specs() -> Vec<OptionSpec> {
    vec![declare::number("port", "0x3f8", "first I/O port"), declare::number("irq", "4", "ISA interrupt number")]
}

fn wiring(options: &Options) -> Result<Wiring, OptionError> {
    options.check(&specs())?;
    Ok(Wiring {
        port: declare::port_option(options, "port", PORT, PORTS)?,
        interrupt: declare::isa_option(options, "irq", INTERRUPT)?,
    })
}

/// The name that a PC's tables give a serial port at `port`. Elsewhere it is not described: the guest must be told.
fn acpi(port: u16) -> Option<Acpi> {
    /// FADT IAPC_BOOT_ARCH bit 0: there are devices on the ISA bus that a user can see.
    const LEGACY_DEVICES: u16 = 1 << 0;
    let (uid, name) = [(0x3f8, "COM1"), (0x2f8, "COM2"), (0x3e8, "COM3"), (0x2e8, "COM4")]
        .into_iter()
        .zip(1..)
        .find_map(|((base, name), uid)| (base == port).then_some((uid, name)))?;
    Some(Acpi { name: name.into(), hid: "PNP0501".into(), uid, boot_arch: LEGACY_DEVICES, ..Acpi::default() })
}

impl Device for Uart16550 {
    type State = State;

    fn manifest(options: &Options) -> Result<Manifest, OptionError> {
        let wiring = wiring(options)?;
        let register = |offset, kind| Register { range: 0, offset, width: 1, kind };
        Ok(Manifest {
            ranges: vec![declare::ports("registers", wiring.port, PORTS)],
            registers: vec![
                register(DATA, RegisterKind::Posted(POSTED_DATA)),
                register(
                    LSR,
                    RegisterKind::Shadow {
                        slot: SHADOW_LSR,
                        tolerates: vec![Tolerance { posted: POSTED_DATA, count: DEPTH as u16 }],
                    },
                ),
            ],
            lines: vec![Line::Isa(wiring.interrupt)],
            wishes: vec![declare::wish(Power::Stream, "serial", "the other end of the cable")],
            acpi: acpi(wiring.port),
            options: specs(),
            ..declare::nothing::<State>(NAME, "16550 UART: a serial port with FIFOs", Class::Char)
        })
    }

    fn attach(options: &Options, powers: &mut Powers) -> Result<Uart16550, AttachError> {
        wiring(options)?;
        Ok(Uart16550 { stream: powers.stream(0)? })
    }

    fn power_on(&mut self) -> State {
        // The rings are not reset with the chip: bytes already handed over stay so.
        let (out_head, in_tail) = self.stream.published();
        let mut state = State { out_head, in_tail, ..State::new_zeroed() };
        state.ample = u8::from(self.is_ample(&state));
        state
    }

    fn check(&self, state: &State) -> bool {
        let flags = [state.fifos_enabled, state.empty_untold, state.overrun, state.ample];
        flags.iter().all(|flag| *flag <= 1)
            && state.received.is_sound(state.depth())
            && state.transmitted.is_sound(state.depth())
            && state.ier & !IER_ALL == 0
            && state.mcr & !MCR_ALL == 0
            && state.trigger & !FCR_TRIGGER == 0
            && state.deltas & !MSR_DELTAS == 0
            && state.unused == [0; 2]
    }

    fn read(&mut self, state: &mut State, at: Access) -> Result<u64, NoRegister> {
        if at.width != 1 {
            return Err(NoRegister);
        }
        let value = match at.offset {
            DATA if state.divisor_access() => state.divisor[0],
            DATA => state.received.pop().unwrap_or(0),
            IER if state.divisor_access() => state.divisor[1],
            IER => state.ier,
            IIR_FCR => state.identify(),
            LCR => state.lcr,
            MCR => state.mcr,
            LSR => {
                let lsr = state.line_status();
                state.overrun = 0;
                lsr
            }
            MSR => state.modem_lines() | std::mem::take(&mut state.deltas),
            SCR => state.scr,
            _ => return Err(NoRegister),
        };
        Ok(value.into())
    }

    fn write(&mut self, state: &mut State, at: Access, value: u64) -> Result<(), NoRegister> {
        let (1, Ok(value)) = (at.width, u8::try_from(value)) else { return Err(NoRegister) };
        match at.offset {
            DATA if state.divisor_access() => state.divisor[0] = value,
            DATA if state.loopback() => state.loop_back(value),
            DATA => {
                // What waits goes first: it may have room by now, and then nothing is lost.
                self.send(state);
                state.hold(value);
                self.send(state);
            }
            IER if state.divisor_access() => state.divisor[1] = value,
            IER => state.set_interrupt_enable(value),
            IIR_FCR => state.set_fifo_control(value),
            LCR => state.lcr = value,
            MCR => state.set_modem_control(value),
            // Written only to test the chip in its factory (8.4).
            LSR | MSR => {}
            SCR => state.scr = value,
            _ => return Err(NoRegister),
        }
        Ok(())
    }

    fn alarm(&mut self, _: &mut State, _: u64) {}

    fn button(&mut self, _: &mut State, _: u64) {}

    fn refresh(&mut self, _: &mut State, _: u64) {}

    fn scan(&mut self, state: &mut State, _: u64) -> Scan {
        let ample_before = state.ample;
        let mut changed = self.send(state);
        changed |= state.ample != ample_before;
        while let Some(byte) = self.incoming(state) {
            state.received.push(byte);
            state.in_tail = state.in_tail.wrapping_add(1);
            changed = true;
        }
        if changed { Scan::Changed } else { Scan::Idle }
    }

    fn pending(&self, state: &State) -> bool {
        let room = self.stream.room(state.out_head);
        !state.transmitted.is_empty() && room > 0
            || (room >= AMPLE) != (state.ample != 0)
            || self.incoming(state).is_some()
    }

    fn outputs(&self, state: &State) -> Outputs {
        // In loopback the chip's outputs are idle, OUT2 with them, and so the PC's interrupt line is off.
        let connected = state.mcr & (MCR_OUT2 | MCR_LOOP) == MCR_OUT2;
        let mut outputs = Outputs { levels: u32::from(connected && state.cause().is_some()), ..Outputs::default() };
        let empties_at_once = state.ample != 0 && state.transmitted.is_empty();
        // A write makes the transmitter's interrupt pending, unless it is disabled or pending anyway.
        let same_level = state.ier & IER_TRANSMITTER == 0 || state.empty_untold != 0;
        if empties_at_once && same_level && !state.divisor_access() && !state.loopback() {
            outputs.postable = 1 << POSTED_DATA;
        }
        if empties_at_once && state.overrun == 0 {
            outputs.shadow[usize::from(SHADOW_LSR)] = Some(state.line_status().into());
        }
        outputs
    }

    fn settle(&mut self, state: &State) {
        self.stream.publish(state.out_head, state.in_tail);
    }
}

#[cfg(test)]
mod tests;
