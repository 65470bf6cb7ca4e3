//! A device for tests: each of its registers is there to show one rule.

#![allow(missing_docs, dead_code)] // Part of several programs, each of which uses its own share.

use device::manifest::{Class, Line, Manifest, Power, Range, Register, RegisterKind, Space, Switch, Tolerance, Wish};
use device::{
    Access, AttachError, Bell, Device, DirectMemory, NoRegister, OptionError, Options, Outputs, Powers, Registration,
    Scan, Scanout, Stream,
};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use vm_memory::{Bytes, GuestAddress};

pub const CATALOGUE: &[Registration] = &[Registration::of::<Toy>("toy")];

pub fn manifest() -> Manifest {
    Toy::manifest(&Options::default()).expect("it has no options")
}

/// Called between any two steps of what the toy does.
pub static BETWEEN_STEPS: OnceLock<fn()> = OnceLock::new();

fn fuse() {
    if let Some(hook) = BETWEEN_STEPS.get() {
        hook();
    }
}

/// Registers of the toy, in its one range of 72 bytes. Reads of each tell the part of the state that it is about.
pub mod register {
    /// Folds what is written into a number.
    pub const FOLD: u64 = 0;
    /// As `FOLD`, posted.
    pub const POSTED: u64 = 8;
    /// Each read counts, and gives the count; so do the elements of a string.
    pub const COUNT: u64 = 16;
    /// Sets the deadline, in nanoseconds of the guest clock; 0: none. Reads: alarms so far.
    pub const DEADLINE: u64 = 24;
    /// Prints the byte that is written. Reads: the fold of all bytes typed so far.
    pub const STREAM: u64 = 32;
    /// Sets the level. Reads: when the last alarm ran.
    pub const LEVEL: u64 = 40;
    /// Reads: buttons, each of which sets the level. Writes: panic.
    pub const BUTTON: u64 = 48;
    /// Reads: how many bytes were typed. Served from the committed header.
    pub const TYPED: u64 = 56;
    /// The last one is none.
    pub const NONE: u64 = 64;
}

/// Bytes of an element of string loads, which the registers `COUNT` and `NONE` join.
pub const STRING_WIDTH: u8 = 4;

/// Bytes of the toy's own memory, which is its second range.
pub const DIRECT_BYTES: u64 = 4096;

pub struct Toy {
    stream: Option<Box<dyn Stream>>,
    /// A picture of it is its first word, as the one pixel.
    direct: Option<DirectMemory>,
    scanout: Option<Scanout>,
    switch: Option<Box<dyn Bell>>,
    doorbells: Arc<AtomicU64>,
}

/// What is where in the toy's state.
mod cell {
    pub const FOLD: usize = 0;
    pub const COUNT: usize = 1;
    pub const DEADLINE: usize = 2;
    pub const ALARMS: usize = 3;
    pub const ALARMED: usize = 4;
    pub const TYPED: usize = 5;
    pub const LEVEL: usize = 6;
    pub const BUTTONS: usize = 7;
    pub const OUT_HEAD: usize = 8;
    pub const IN_TAIL: usize = 9;
    pub const MARKER: usize = 10;
    pub const CELLS: usize = 11;
}

type State = [u64; cell::CELLS];

const MARKER: u64 = 0x746f_795f_746f_7921;

pub fn fold(number: u64, value: u64) -> u64 {
    number.wrapping_mul(31).wrapping_add(value).wrapping_add(1)
}

impl Device for Toy {
    type State = State;

    fn manifest(options: &Options) -> Result<Manifest, OptionError> {
        options.check(&[])?;
        let at = |offset, kind| Register { range: 0, offset, width: 8, kind };
        let wish = |power, switch| Wish {
            power,
            name: "toy".into(),
            switch,
            bytes: if power == Power::Direct { DIRECT_BYTES } else { 0 },
            range: 1,
            because: "a test looks at it".into(),
        };
        Ok(Manifest {
            name: "toy".into(),
            summary: "a device for tests".into(),
            class: Class::System,
            ranges: vec![
                Range { name: "registers".into(), length: 72, space: Space::Port(0x100) },
                Range { name: "direct".into(), length: DIRECT_BYTES, space: Space::Memory(0xd000_0000) },
            ],
            registers: vec![
                at(register::POSTED, RegisterKind::Posted(0)),
                at(
                    register::FOLD,
                    RegisterKind::Shadow { slot: 0, tolerates: vec![Tolerance { posted: 0, count: 0 }] },
                ),
                at(register::TYPED, RegisterKind::Shadow { slot: 1, tolerates: vec![] }),
                Register { width: STRING_WIDTH, ..at(register::COUNT, RegisterKind::Strings) },
                Register { width: STRING_WIDTH, ..at(register::NONE, RegisterKind::Strings) },
            ],
            lines: vec![Line::Isa(5)],
            vectors: 0,
            doorbells: vec![],
            wishes: vec![
                wish(Power::Stream, None),
                wish(Power::Switch, Some(Switch::Exit)),
                wish(Power::Direct, None),
                wish(Power::Scanout, None),
            ],
            state_bytes: size_of::<State>() as u32,
            bulk_bytes: 0,
            pci: None,
            acpi: None,
            with: vec![],
            options: vec![],
            remembered: 0,
        })
    }

    fn attach(_: &Options, powers: &mut Powers) -> Result<Toy, AttachError> {
        let doorbells = powers.doorbells.clone();
        Ok(Toy {
            stream: powers.stream(0).ok(),
            switch: powers.switch(1).ok(),
            direct: powers.direct(2).ok(),
            scanout: powers.scanout(3).ok(),
            doorbells,
        })
    }

    fn power_on(&mut self) -> State {
        let mut state = [0; cell::CELLS];
        state[cell::MARKER] = MARKER;
        state
    }

    fn check(&self, state: &State) -> bool {
        state[cell::MARKER] == MARKER && state[cell::LEVEL] <= 1
    }

    fn read(&mut self, state: &mut State, at: Access) -> Result<u64, NoRegister> {
        fuse();
        let value = match at.offset {
            register::FOLD | register::POSTED => state[cell::FOLD],
            register::COUNT => {
                state[cell::COUNT] += 1;
                fuse();
                state[cell::COUNT]
            }
            register::DEADLINE => state[cell::ALARMS],
            register::STREAM => state[cell::TYPED],
            register::LEVEL => state[cell::ALARMED],
            register::BUTTON => state[cell::BUTTONS],
            register::TYPED => state[cell::IN_TAIL],
            _ => return Err(NoRegister),
        };
        Ok(value)
    }

    fn write(&mut self, state: &mut State, at: Access, value: u64) -> Result<(), NoRegister> {
        match at.offset {
            register::FOLD | register::POSTED => {
                // Torn on purpose: a kill in between leaves neither the old nor the new number.
                let folded = fold(state[cell::FOLD], value);
                state[cell::FOLD] = !folded;
                fuse();
                state[cell::FOLD] = folded;
            }
            register::DEADLINE => state[cell::DEADLINE] = value,
            register::STREAM => {
                if let Some(stream) = &self.stream
                    && stream.room(state[cell::OUT_HEAD] as u32) > 0
                {
                    stream.put(state[cell::OUT_HEAD] as u32, value as u8);
                    fuse();
                    state[cell::OUT_HEAD] += 1;
                }
            }
            register::LEVEL => state[cell::LEVEL] = value,
            register::BUTTON => panic!("a device that panics"),
            _ => return Err(NoRegister),
        }
        Ok(())
    }

    fn alarm(&mut self, state: &mut State, now: u64) {
        state[cell::ALARMS] += 1;
        state[cell::ALARMED] = now;
        state[cell::DEADLINE] = 0;
    }

    fn button(&mut self, state: &mut State, _: u64) {
        state[cell::BUTTONS] += 1;
        state[cell::LEVEL] = 1;
    }

    fn refresh(&mut self, _: &mut State, _: u64) {
        if let (Some(direct), Some(scanout)) = (&self.direct, &self.scanout) {
            let pixel = direct.read_obj(GuestAddress(0)).unwrap_or(0);
            let drawing = scanout.begin(1, 1);
            fuse();
            drawing.row(0, &[pixel]);
            drawing.finish();
        }
    }

    fn scan(&mut self, state: &mut State, _: u64) -> Scan {
        let Some(byte) = self.stream.as_ref().and_then(|stream| stream.get(state[cell::IN_TAIL] as u32)) else {
            return Scan::Idle;
        };
        state[cell::TYPED] = fold(state[cell::TYPED], u64::from(byte));
        fuse();
        state[cell::IN_TAIL] += 1;
        self.doorbells.fetch_add(1, Ordering::Relaxed);
        Scan::More
    }

    fn pending(&self, state: &State) -> bool {
        self.stream.as_ref().is_some_and(|stream| stream.get(state[cell::IN_TAIL] as u32).is_some())
    }

    fn outputs(&self, state: &State) -> Outputs {
        fuse();
        Outputs {
            levels: state[cell::LEVEL] as u32,
            deadline: Some(state[cell::DEADLINE]).filter(|deadline| *deadline != 0),
            postable: 1,
            shadow: [Some(state[cell::FOLD]), Some(state[cell::IN_TAIL]), None, None, None, None, None, None],
        }
    }

    fn settle(&mut self, state: &State) {
        fuse();
        if let Some(stream) = &self.stream {
            stream.publish(state[cell::OUT_HEAD] as u32, state[cell::IN_TAIL] as u32);
        }
        if let Some(switch) = &self.switch
            && state[cell::BUTTONS] > 0
        {
            switch.ring(1);
        }
        fuse();
    }
}
