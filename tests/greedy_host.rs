//! A device host that is set up and sealed as an honest one, and whose device then takes all that it can get.
//!
//! Test-only. It stands in for `debug-exit`, whose port says what it does, and for the clock, whose interrupt it uses.

// It makes system calls that a device has no need of.
#![allow(unsafe_code)]

use device::manifest::Manifest;
use device::{
    Access, AttachError, Bell, Device, NoRegister, OptionError, Options, Outputs, Powers, Registration, Scan,
};
use schema::host::{Log, Severity};
use std::os::fd::BorrowedFd;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

/// The first port of those that say what it does; each is four wide.
const FIRST_PORT: u64 = 0x5000;
/// With a port one higher, it does so not when the guest reads, but of its own accord.
const OWN_ACCORD: u64 = 1;
/// How often then, in guest time.
const EVERY_NS: u64 = 200_000_000;
/// Log lines at a turn.
const LINES: u32 = 16;
/// Memory that it takes at a time.
const BITE_BYTES: usize = 1 << 20;

/// What it does.
#[derive(Clone, Copy)]
enum Vice {
    /// Logs as fast as it can, and never sleeps.
    Flood,
    /// Never answers.
    Hang,
    /// Ends at every access.
    Crash,
    /// Takes memory until it gets no more, and keeps it.
    Hog,
    /// Starts processes that start processes.
    Fork,
    /// Raises and lowers its interrupt as fast as it can, and never sleeps.
    Storm,
}

/// By port.
const VICES: [Vice; 5] = [Vice::Flood, Vice::Hang, Vice::Crash, Vice::Hog, Vice::Fork];

fn main() {
    device_host::run(&[
        Registration::of::<Greedy<DEBUG_EXIT_WORDS>>("debug-exit"),
        Registration::of::<Greedy<CLOCK_WORDS>>("mc146818"),
    ]);
}

/// Sizes of the states of the two devices; the supervisor compares the manifests.
const DEBUG_EXIT_WORDS: usize = 1;
const CLOCK_WORDS: usize = 18;

struct Greedy<const WORDS: usize> {
    vice: Vice,
    own_accord: bool,
    taken: Vec<Vec<u8>>,
    /// A switch that it was granted: the audit looks for it.
    _switch: Option<Box<dyn Bell>>,
}

/// The first word counts.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
struct State<const WORDS: usize>([u64; WORDS]);

impl<const WORDS: usize> Greedy<WORDS> {
    const NAME: &str = if WORDS == DEBUG_EXIT_WORDS { "debug-exit" } else { "mc146818" };

    fn touched(&mut self) {
        match self.vice {
            Vice::Flood | Vice::Storm => {}
            Vice::Hang => loop {
                std::hint::spin_loop();
            },
            // SAFETY: ends this process, which is what it is for.
            Vice::Crash => unsafe {
                libc::syscall(libc::SYS_exit, 7);
            },
            Vice::Hog => self.take(),
            // SAFETY: parent and child go on with what they were doing.
            Vice::Fork => unsafe {
                libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0);
            },
        }
    }

    fn take(&mut self) {
        loop {
            let mut bite = Vec::new();
            if self.taken.try_reserve(1).is_err() || bite.try_reserve_exact(BITE_BYTES).is_err() {
                return;
            }
            bite.resize(BITE_BYTES, 1);
            self.taken.push(bite);
        }
    }
}

fn log() {
    // SAFETY: every device host has its channel at this number, for as long as it lives.
    let channel = unsafe { BorrowedFd::borrow_raw(3) };
    let line = Log { severity: Severity::Warning, text: "spam".into() };
    for _ in 0..LINES {
        // Where it is full there is nothing more to take.
        let _ = imc::Channel::tell_over(channel, &line);
    }
}

impl<const WORDS: usize> Device for Greedy<WORDS> {
    type State = State<WORDS>;

    fn manifest(options: &Options) -> Result<Manifest, OptionError> {
        let entry = devices::catalogue().iter().find(|entry| entry.name == Self::NAME).expect("in the catalogue");
        let manifest = (entry.manifest)(options)?;
        assert_eq!(manifest.state_bytes as usize, WORDS * 8, "the state of {}", Self::NAME);
        Ok(manifest)
    }

    fn attach(options: &Options, powers: &mut Powers) -> Result<Self, AttachError> {
        let (vice, own_accord) = match options.number("port") {
            Ok(Some(port)) => (VICES[(port - FIRST_PORT) as usize / 4], (port - FIRST_PORT) % 4 == OWN_ACCORD),
            _ => (Vice::Storm, false),
        };
        Ok(Greedy { vice, own_accord, taken: Vec::new(), _switch: powers.switch(0).ok() })
    }

    fn power_on(&mut self) -> State<WORDS> {
        State::new_zeroed()
    }

    fn check(&self, _: &State<WORDS>) -> bool {
        true
    }

    fn read(&mut self, _: &mut State<WORDS>, _: Access) -> Result<u64, NoRegister> {
        self.touched();
        Ok(0)
    }

    fn write(&mut self, _: &mut State<WORDS>, _: Access, _: u64) -> Result<(), NoRegister> {
        self.touched();
        Ok(())
    }

    fn alarm(&mut self, state: &mut State<WORDS>, now: u64) {
        state.0[0] = now + EVERY_NS;
        self.touched();
    }

    fn button(&mut self, _: &mut State<WORDS>, _: u64) {}

    fn refresh(&mut self, _: &mut State<WORDS>, _: u64) {}

    fn scan(&mut self, state: &mut State<WORDS>, _: u64) -> Scan {
        match self.vice {
            Vice::Flood => log(),
            Vice::Storm => {}
            _ => return Scan::Idle,
        }
        state.0[0] = state.0[0].wrapping_add(1);
        Scan::More
    }

    fn pending(&self, _: &State<WORDS>) -> bool {
        matches!(self.vice, Vice::Flood | Vice::Storm)
    }

    fn outputs(&self, state: &State<WORDS>) -> Outputs {
        let levels = if matches!(self.vice, Vice::Storm) { state.0[0] as u32 & 1 } else { 0 };
        Outputs { levels, deadline: self.own_accord.then_some(state.0[0]), ..Outputs::default() }
    }

    fn settle(&mut self, _: &State<WORDS>) {}
}
