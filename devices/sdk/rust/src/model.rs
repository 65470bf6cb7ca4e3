//! The erased device: what a host drives without knowing which device it is.

use crate::{Access, Ahead, AttachError, Device, NoRegister, OptionError, Options, Outputs, Plain, Powers, Scan};
use schema::manifest::Manifest;
use zerocopy::IntoBytes;

/// A device whose type has been erased. State is passed as bytes of exactly `state_bytes`, aligned to 8.
///
/// Each method is the one of the same name of [`Device`].
#[allow(missing_docs)]
pub trait Model: Send {
    fn power_on(&mut self, state: &mut [u8]);
    fn check(&self, state: &[u8]) -> bool;
    fn holds(&self, state: &[u8], bay: u8) -> bool;
    fn exchanged(&mut self, state: &mut [u8], bay: u8);
    fn read(&mut self, state: &mut [u8], at: Access) -> Result<u64, NoRegister>;
    fn read_string(&mut self, state: &mut [u8], at: Access, into: &mut [u8]) -> Result<usize, NoRegister>;
    fn ahead(&self, state: &[u8], at: Access) -> Option<Ahead>;
    fn write(&mut self, state: &mut [u8], at: Access, value: u64) -> Result<(), NoRegister>;
    fn alarm(&mut self, state: &mut [u8], now: u64);
    fn button(&mut self, state: &mut [u8], now: u64);
    fn refresh(&mut self, state: &mut [u8], now: u64);
    fn scan(&mut self, state: &mut [u8], now: u64) -> Scan;
    fn pending(&self, state: &[u8]) -> bool;
    fn outputs(&self, state: &[u8]) -> Outputs;
    fn settle(&mut self, state: &[u8]);
}

/// How to make one kind of device: an entry of the catalogue.
#[derive(Clone, Copy)]
pub struct Registration {
    /// Named by the hardware.
    pub name: &'static str,
    /// [`Device::manifest`].
    pub manifest: fn(&Options) -> Result<Manifest, OptionError>,
    /// [`Device::attach`].
    pub attach: Attach,
}

/// Makes a device of its options and powers.
pub type Attach = fn(&Options, &mut Powers) -> Result<Box<dyn Model>, AttachError>;

impl Registration {
    /// The entry for `D`.
    #[must_use]
    pub const fn of<D: Device>(name: &'static str) -> Registration {
        Registration {
            name,
            manifest: D::manifest,
            attach: |options, powers| Ok(Box::new(Erased(D::attach(options, powers)?))),
        }
    }
}

struct Erased<D>(D);

/// The caller hands over exactly the bytes that the manifest asked for, aligned to 8: a mismatch is a bug of the host.
fn view<S: Plain>(state: &[u8]) -> &S {
    S::ref_from_bytes(state).expect("the host allots the state's size and alignment")
}

fn view_mut<S: Plain>(state: &mut [u8]) -> &mut S {
    S::mut_from_bytes(state).expect("the host allots the state's size and alignment")
}

impl<D: Device> Model for Erased<D> {
    fn power_on(&mut self, state: &mut [u8]) {
        state.copy_from_slice(self.0.power_on().as_bytes());
    }
    fn check(&self, state: &[u8]) -> bool {
        self.0.check(view(state))
    }
    fn holds(&self, state: &[u8], bay: u8) -> bool {
        self.0.holds(view(state), bay)
    }
    fn exchanged(&mut self, state: &mut [u8], bay: u8) {
        self.0.exchanged(view_mut(state), bay);
    }
    fn read(&mut self, state: &mut [u8], at: Access) -> Result<u64, NoRegister> {
        self.0.read(view_mut(state), at)
    }
    fn read_string(&mut self, state: &mut [u8], at: Access, into: &mut [u8]) -> Result<usize, NoRegister> {
        self.0.read_string(view_mut(state), at, into)
    }
    fn ahead(&self, state: &[u8], at: Access) -> Option<Ahead> {
        self.0.ahead(view(state), at)
    }
    fn write(&mut self, state: &mut [u8], at: Access, value: u64) -> Result<(), NoRegister> {
        self.0.write(view_mut(state), at, value)
    }
    fn alarm(&mut self, state: &mut [u8], now: u64) {
        self.0.alarm(view_mut(state), now);
    }
    fn button(&mut self, state: &mut [u8], now: u64) {
        self.0.button(view_mut(state), now);
    }
    fn refresh(&mut self, state: &mut [u8], now: u64) {
        self.0.refresh(view_mut(state), now);
    }
    fn scan(&mut self, state: &mut [u8], now: u64) -> Scan {
        self.0.scan(view_mut(state), now)
    }
    fn pending(&self, state: &[u8]) -> bool {
        self.0.pending(view(state))
    }
    fn outputs(&self, state: &[u8]) -> Outputs {
        self.0.outputs(view(state))
    }
    fn settle(&mut self, state: &[u8]) {
        self.0.settle(view(state));
    }
}
