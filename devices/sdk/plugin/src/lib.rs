//! Write devices for Cofferdam virtual machines in Rust, with std alone.
//!
//! A device is registers in, interrupts out. It opens nothing, has no thread, and no clock but the `now` of each access. All
//! that a guest could observe of it is its *state*: plain fields in memory that outlives the process. What the guest sees of a
//! state without asking, its [`Outputs`], is a function of the state; both take effect at once, when a call returns. A process
//! that is killed at any moment has done an operation or it has not.
//!
//! A device is a plain struct: a test calls its methods with a state of its own. [`run()`] makes a plugin of it.

mod declare;
mod engine;
mod host;
mod kernel;
mod lane;
mod messages;
mod options;
mod powers;
mod register;
mod scanout;
mod state;
mod stream;
#[cfg(test)]
mod tests;
pub mod virtio;
mod wire;

pub use declare::{Class, Doorbell, Line, Manifest, Pci, Power, Range, Space, Switch, Wish};
pub use host::{Severity, log, run};
pub use options::{OptionSpec, Options, Refusal, Value};
pub use powers::{Bell, File, GuestMemory, Latch, OutsideGrant, Powers, Random};
pub use register::Register;
pub use scanout::{Drawing, Scanout};
pub use state::{Number, Plain};
pub use stream::Stream;

/// Shadow values of a device.
pub const SHADOW_MAX: usize = 8;

/// Emulated hardware with registers.
///
/// Calls never overlap. Order: `attach`; then `power_on`, or `check` of state found from an earlier incarnation; then any of
/// `read`, `write`, `alarm`, `button`, `refresh` and `scan`, each followed by `outputs` and, once committed, by `settle`.
/// `power_on` may come again at any time: it is the reset.
pub trait Device: Sized + 'static {
    /// All that a guest could observe, and nothing else: see [`state!`](macro@crate::state).
    type State: Plain;

    /// Options that a person may set.
    const OPTIONS: &'static [OptionSpec] = &[];

    /// Its registers, where `read` and `write` are left as they are; and those that are not plain synchronous ones.
    const REGISTERS: &'static [Register<Self>] = &[];

    /// What this device declares when it has these options.
    fn manifest(options: &Options) -> Result<Manifest, Refusal>;

    /// Takes its powers. What is not taken from `powers` here it will never have.
    fn attach(options: &Options, powers: &mut Powers) -> Result<Self, Refusal>;

    /// The state after power on or reset: what the state says of itself, where a device says nothing else.
    fn power_on(&mut self) -> Self::State {
        Self::State::initial()
    }

    /// Whether state found in memory is one that this device could have left. It comes from a process that may have been
    /// under an attacker's control; `false` means a reset.
    fn check(&self, _state: &Self::State) -> bool {
        true
    }

    /// Answers a guest load, from the registers that are declared. The caller masks the value to the width of the access.
    fn read(&mut self, state: &mut Self::State, at: Access) -> Result<u64, NoRegister> {
        Register::load(self, state, at)
    }

    /// Takes a guest store, by the registers that are declared. The caller has masked `value` to the width of the access.
    fn write(&mut self, state: &mut Self::State, at: Access, value: u64) -> Result<(), NoRegister> {
        Register::store(self, state, at, value)
    }

    /// The deadline in the committed outputs has passed.
    fn alarm(&mut self, _state: &mut Self::State, _now: u64) {}

    /// The operator pressed the power button.
    fn button(&mut self, _state: &mut Self::State, _now: u64) {}

    /// Somebody wants to see what a display shows: it is drawn into the [`Scanout`]. A bounded amount of work.
    fn refresh(&mut self, _state: &mut Self::State, _now: u64) {}

    /// Looks at queues and rings, after each wake and before each synchronous operation; a bounded amount of work. Says
    /// whether something was done.
    fn scan(&mut self, _state: &mut Self::State, _now: u64) -> bool {
        false
    }

    /// What the guest sees of this state.
    fn outputs(&self, _state: &Self::State) -> Outputs {
        Outputs::default()
    }

    /// The state is committed: make its effects happen outside. Must bear being called again for the same state.
    fn settle(&mut self, _state: &Self::State) {}
}

/// Makes the program: its `main` is [`run()`] of this device.
#[macro_export]
macro_rules! run {
    ($device:ty) => {
        fn main() {
            $crate::run::<$device>()
        }
    };
}

/// Where an access landed: inside the range, at a width of 1, 2, 4 or 8 bytes.
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

/// What the guest sees of a state without asking the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Outputs {
    /// Bit `n`: the level of line `n`.
    pub levels: u32,
    /// When `alarm` is due, in nanoseconds of the guest clock.
    pub deadline: Option<u64>,
    /// Bit `n`: writes of posted kind `n` could now change no level and start no DMA.
    pub postable: u32,
    /// Values of the shadow registers; `None` while the next read would have a side effect or is not known.
    pub shadow: [Option<u64>; SHADOW_MAX],
}
