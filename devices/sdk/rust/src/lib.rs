//! A device model: registers in, interrupts out.
//!
//! A device sees offsets, never guest addresses. It has no thread, opens nothing, and cannot tell whether the VMM is in
//! the same process. Its three kinds of data are kept apart:
//!
//! - *configuration*, fixed when it is attached, and the *powers* it was given: fields of the type that implements [`Device`];
//! - *state*, all that a guest could observe: the plain data type [`Device::State`], which lives in memory that outlives
//!   the process and is handed to each call.
//!
//! A call works on a copy of the state. What the guest sees of it, [`Outputs`], is a pure function of the state; both take
//! effect at once, when the caller commits. A process killed at any moment has therefore either done an operation or not.

mod frames;
mod model;
mod options;
mod powers;
mod random;
mod scanout;
mod store;

pub mod virtio;

pub use frames::{Frames, TestFrames};
pub use model::{Attach, Model, Registration};
pub use options::{OptionError, Options};
pub use powers::{Bell, Bulk, DirectMemory, GuestMemory, Powers, Stream, TestStream};
pub use random::{KernelRandom, RandomSource};
pub use scanout::Scanout;
pub use schema::host::{FRAME_MAX, FRAME_SLOTS};
pub use schema::lane::STRING_MAX;
pub use schema::{display, manifest};
pub use store::{BlockStore, RawFile};

use schema::manifest::{Manifest, SHADOW_MAX};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Plain data of fixed size without pointers: what may live in a state region.
pub trait Plain: FromBytes + IntoBytes + Immutable + KnownLayout + Copy + Send + 'static {}
impl<T: FromBytes + IntoBytes + Immutable + KnownLayout + Copy + Send + 'static> Plain for T {}

/// Emulated hardware with registers.
///
/// Calls never overlap. Order: `attach`; then `power_on`, or `check` of state found from an earlier incarnation; then any of
/// `read`, `write`, `alarm`, `button`, `refresh` and `scan`, each followed by `outputs` and, once committed, by `settle`. `power_on` may
/// come again at any time: it is the reset. A device host that dies takes its devices with it without further calls.
pub trait Device: Sized + Send + 'static {
    /// All that a guest could observe, and nothing else.
    type State: Plain;

    /// What this device declares when it has these options.
    fn manifest(options: &Options) -> Result<Manifest, OptionError>;

    /// Takes its powers. What is not taken from `powers` here it will never have.
    fn attach(options: &Options, powers: &mut Powers) -> Result<Self, AttachError>;

    /// The state after power on or reset.
    fn power_on(&mut self) -> Self::State;

    /// Whether state found in the region is one this device could have left. It comes from a process that may have been
    /// under an attacker's control. The answer `false` means a reset.
    fn check(&self, state: &Self::State) -> bool;

    /// Whether the guest holds the medium that is in this bay: then it is not to be exchanged. The state is one that was found, and
    /// may be anything. A device without bays is never asked.
    fn holds(&self, state: &Self::State, bay: u8) -> bool {
        let _ = (state, bay);
        false
    }

    /// The medium in this bay, or that there is none, is another than when the state was left. Comes before `check`, so the state may
    /// be anything; what it says of a transfer from or to the old medium must not go on with the new one. May be told again. A device
    /// without bays is never told.
    fn exchanged(&mut self, state: &mut Self::State, bay: u8) {
        let _ = (state, bay);
    }

    /// Answers a guest load. The caller masks the value to the width of the access.
    fn read(&mut self, state: &mut Self::State, at: Access) -> Result<u64, NoRegister>;

    /// Answers loads that one string instruction makes of a register whose manifest says [`RegisterKind::Strings`]: fills
    /// `into`, which holds whole elements of the access's width, or its first part, one element at least. Says how many bytes
    /// that is. For a device that moves blocks of data; whatever it does must be what single loads would do.
    ///
    /// [`RegisterKind::Strings`]: schema::manifest::RegisterKind::Strings
    fn read_string(&mut self, state: &mut Self::State, at: Access, into: &mut [u8]) -> Result<usize, NoRegister> {
        let width = usize::from(at.width);
        let mut bytes = 0;
        for element in into.chunks_exact_mut(width) {
            match self.read(state, at) {
                Ok(value) => element.copy_from_slice(&value.to_le_bytes()[..width]),
                // That there is no register any more is for the next string to say.
                Err(NoRegister) if bytes > 0 => break,
                Err(NoRegister) => return Err(NoRegister),
            }
            bytes += width;
        }
        Ok(bytes)
    }

    /// What the loads of that register which follow would give, of elements of the access's width, as far as they would change
    /// nothing but how far the guest has come: no output, and not the bytes, which are in bulk state. None, for a device that
    /// does not say.
    fn ahead(&self, state: &Self::State, at: Access) -> Option<Ahead> {
        let _ = (state, at);
        None
    }

    /// Takes a guest store. The caller has masked `value` to the width of the access.
    fn write(&mut self, state: &mut Self::State, at: Access, value: u64) -> Result<(), NoRegister>;

    /// The deadline in the committed outputs has passed.
    fn alarm(&mut self, state: &mut Self::State, now: u64);

    /// The operator pressed the power button.
    fn button(&mut self, state: &mut Self::State, now: u64);

    /// Somebody wants to see what a display shows: it is drawn into the scanout. Does a bounded amount of work.
    fn refresh(&mut self, state: &mut Self::State, now: u64);

    /// Looks at queues and rings: after each wake and before each synchronous operation. Does a bounded amount of work.
    fn scan(&mut self, state: &mut Self::State, now: u64) -> Scan;

    /// Whether `scan` would find work: a cheap look, made often while the host waits by polling.
    fn pending(&self, state: &Self::State) -> bool;

    /// What the guest sees of this state.
    fn outputs(&self, state: &Self::State) -> Outputs;

    /// The state is committed: make its effects happen outside (publish ring indices, signal vectors, turn switches). Must
    /// bear being called again for the same state, as after a restart.
    fn settle(&mut self, state: &Self::State);
}

/// Bytes of bulk state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ahead {
    /// Where they begin.
    pub offset: u32,
    /// How many there are.
    pub bytes: u32,
}

/// Where an access landed. The caller has checked that it lies inside the range and that its width is 1, 2, 4 or 8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    /// Index into the manifest's ranges.
    pub range: u8,
    /// Bytes from the start of the range.
    pub offset: u64,
    /// Bytes.
    pub width: u8,
    /// Guest clock: nanoseconds since power on. The only clock a device has.
    pub now: u64,
}

/// No such register, or not at this width. Reads return all ones, writes vanish, both are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoRegister;

/// What became of a look at queues and rings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scan {
    /// Nothing to do; the state is unchanged.
    Idle,
    /// Something was done; the state must be committed.
    Changed,
    /// As `Changed`, and there is more: look again.
    More,
}

/// What the guest sees of a state without asking the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Outputs {
    /// Bit `n`: the level of line `n` of the manifest.
    pub levels: u32,
    /// When `alarm` is due, in nanoseconds of the guest clock.
    pub deadline: Option<u64>,
    /// Bit `n`: writes of posted kind `n` could now change no irq level and start no DMA.
    pub postable: u32,
    /// Values of the shadow registers; `None` while the next read would have a side effect or is not known.
    pub shadow: [Option<u64>; SHADOW_MAX],
}

/// Why a device cannot be attached.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AttachError {
    /// A power it needs was not granted.
    #[error("the power `{0}` was not granted")]
    Missing(&'static str),
    /// An option's value is not possible.
    #[error(transparent)]
    Option(#[from] OptionError),
    /// A granted object is not fit for use.
    #[error("{0}")]
    Unfit(String),
}
