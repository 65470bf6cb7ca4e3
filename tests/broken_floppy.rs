//! A device host whose device is broken on purpose: a floppy controller with the mistake of CVE-2015-3456 (VENOM).
//!
//! Test-only; it stands in for `debug-exit`, at the ports of a floppy controller's status and data registers. The mistake, by
//! its public description: the position in the 512-byte FIFO is put back at the end of commands, but not of all, so a guest
//! that begins one of the others goes on writing, and reading, behind the FIFO. What lies there is what lay there in many
//! device models: the callback of an interrupt line, and what it is called with.
//!
//! Run as an ordinary program it prints what everybody who has the file can know: how far the C library's `syscall` is from the
//! callback.

// The mistake that is re-enacted is one of memory.
#![allow(unsafe_code)]

use device::manifest::Manifest;
use device::{
    Access, AttachError, Bell, Device, NoRegister, OptionError, Options, Outputs, Powers, Registration, Scan,
};
use std::mem::offset_of;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

/// Whose place it takes: four ports and nothing else.
const STANDS_IN_FOR: &str = "debug-exit";
/// Bytes of the FIFO, which are those of a sector.
const FIFO_BYTES: usize = 512;
/// Data rate select: bit 7 is a reset. Read, it is the main status register.
const RATE_SELECT: u64 = 0;
const RESET: u64 = 0x80;
/// The FIFO.
const DATA: u64 = 1;
/// Ready for the host, and for its next byte one way or the other.
const READY: u64 = 0x80;
const READY_TO_BE_READ: u64 = 0xc0;
/// DUMPREG, whose result is read from the FIFO.
const DUMP_REGISTERS: u8 = 0x0e;

fn main() {
    let name = std::env::args().next().unwrap_or_default();
    if name == "cofferdam: host" {
        device_host::run(&[Registration::of::<Floppy>(STANDS_IN_FOR)]);
    }
    let (call, callback) = (libc::syscall as *const (), lower as *const ());
    println!("{}", (call as usize).wrapping_sub(callback as usize) as i64);
}

/// The controller, as C code lays it out. The guest counts on this order.
#[repr(C)]
struct Controller {
    position: usize,
    is_read: usize,
    fifo: [u8; FIFO_BYTES],
    /// Called with `arguments` when the interrupt line is lowered.
    callback: usize,
    arguments: [usize; 6],
    answer: usize,
}

/// What is called as long as nobody interferes.
extern "C" fn lower(_controller: usize, _: usize, _: usize, _: usize, _: usize, _: usize) -> usize {
    0
}

/// The second is the switch of the device that it stands in for, which the audit looks for and nobody turns.
struct Floppy(Box<Controller>, #[allow(dead_code)] Box<dyn Bell>);

impl Floppy {
    /// The place in the FIFO, and the mistake: it may be behind it.
    fn place(&mut self) -> *mut u8 {
        let at = offset_of!(Controller, fifo) + self.0.position;
        self.0.position += 1;
        // SAFETY: there is none; that is the point. What a guest of the tests reaches is inside the controller.
        unsafe { (&raw mut *self.0).cast::<u8>().add(at) }
    }

    fn reset(&mut self) {
        let controller = &mut *self.0;
        type Callback = extern "C" fn(usize, usize, usize, usize, usize, usize) -> usize;
        // SAFETY: as long as the guest keeps to the FIFO this is `lower`; when it does not, this is what it wants.
        let callback = unsafe { std::mem::transmute::<usize, Callback>(controller.callback) };
        let [a, b, c, d, e, f] = controller.arguments;
        controller.answer = callback(a, b, c, d, e, f);
        (controller.position, controller.is_read) = (0, 0);
    }
}

/// As large as that of the device that it stands in for.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct State(u64);

impl Device for Floppy {
    type State = State;

    fn manifest(options: &Options) -> Result<Manifest, OptionError> {
        let entry = devices::catalogue().iter().find(|entry| entry.name == STANDS_IN_FOR).expect("in the catalogue");
        (entry.manifest)(options)
    }

    fn attach(_: &Options, powers: &mut Powers) -> Result<Floppy, AttachError> {
        let mut controller = Box::new(Controller {
            position: 0,
            is_read: 0,
            fifo: [0; FIFO_BYTES],
            callback: lower as *const () as usize,
            arguments: [0; 6],
            answer: 0,
        });
        // The callback's first argument says whose line it is, as C code does it.
        controller.arguments[0] = (&raw const *controller).expose_provenance();
        Ok(Floppy(controller, powers.switch(0)?))
    }

    fn power_on(&mut self) -> State {
        State::new_zeroed()
    }

    fn check(&self, _: &State) -> bool {
        true
    }

    fn read(&mut self, _: &mut State, at: Access) -> Result<u64, NoRegister> {
        match at.offset {
            RATE_SELECT if self.0.is_read != 0 => Ok(READY_TO_BE_READ),
            RATE_SELECT => Ok(READY),
            // SAFETY: see `place`.
            DATA => Ok(u64::from(unsafe { self.place().read_volatile() })),
            _ => Err(NoRegister),
        }
    }

    fn write(&mut self, _: &mut State, at: Access, value: u64) -> Result<(), NoRegister> {
        // Whoever writes has read what it wanted: a new command begins.
        if at.offset == DATA && self.0.is_read != 0 {
            (self.0.position, self.0.is_read) = (0, 0);
        }
        match (at.offset, value as u8) {
            (RATE_SELECT, _) if value & RESET != 0 => self.reset(),
            (DATA, DUMP_REGISTERS) if self.0.position == 0 => self.0.is_read = 1,
            // SAFETY: see `place`.
            (DATA, byte) => unsafe { self.place().write_volatile(byte) },
            _ => return Err(NoRegister),
        }
        Ok(())
    }

    fn alarm(&mut self, _: &mut State, _: u64) {}

    fn button(&mut self, _: &mut State, _: u64) {}

    fn refresh(&mut self, _: &mut State, _: u64) {}

    fn scan(&mut self, _: &mut State, _: u64) -> Scan {
        Scan::Idle
    }

    fn pending(&self, _: &State) -> bool {
        false
    }

    fn outputs(&self, _: &State) -> Outputs {
        Outputs::default()
    }

    fn settle(&mut self, _: &State) {}
}
