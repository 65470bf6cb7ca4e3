//! The firmware configuration device of virtual machines: firmware reads from it what the machine is.
//!
//! Source: QEMU's specification of it, *QEMU Firmware Configuration (fw_cfg) Device* (docs/specs/fw_cfg.rst). Section names below
//! are its.

mod items;

#[cfg(test)]
mod tests;

use crate::declare;
use device::manifest::{Acpi, Class, Manifest, Power};
use device::{
    Access, AttachError, BlockStore, Device, GuestMemory, NoRegister, OptionError, Options, Outputs, Powers, Scan,
};
use items::find;
pub use items::{BOOT_MENU, CPUS, CPUS_MAX, HEADLESS, ID, ITEM_MAX, ItemError, Items, RAM_SIZE, SIGNATURE, UUID};
use vm_memory::{Bytes, GuestAddress};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

pub(crate) const NAME: &str = "fw-cfg";

/// Offsets ("Register Locations", x86): the selector, a byte of data beside it, and the address of a DMA request in two halves.
const PORT: u16 = 0x510;
const LENGTH: u16 = 12;
const SELECTOR: u64 = 0;
const DATA: u64 = 1;
const DMA_HIGH: u64 = 4;
const DMA_LOW: u64 = 8;
/// What the address register reads as, in the order of its bytes ("Guest-side DMA Interface").
const DMA_SIGNATURE: &[u8; 8] = b"QEMU CFG";

/// Bits of a request's control word ("Guest-side DMA Interface").
const ERROR: u32 = 1 << 0;
const READ: u32 = 1 << 1;
const SKIP: u32 = 1 << 2;
const SELECT: u32 = 1 << 3;
const WRITE: u32 = 1 << 4;
/// A request: control, length, address.
const REQUEST_BYTES: usize = 16;

/// Bytes moved in one call: a request may ask for 4 GiB, and the device must answer others in between.
const STEP_BYTES: u32 = 256 << 10;
/// Bytes moved at once.
const PIECE_BYTES: usize = 4096;

const MEMORY: &str = "items are written to where the guest wants them";
const FILE: &str = "the items";

/// The device.
pub(crate) struct FwCfg {
    memory: GuestMemory,
    store: Box<dyn BlockStore>,
}

/// What is selected, and a transfer that goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct State {
    /// Where the request is whose transfer goes on, or that is to be answered.
    request: u64,
    /// Where its next byte goes.
    to: u64,
    /// Bytes of it that are left.
    left: u32,
    /// The next byte of the item.
    offset: u32,
    /// The upper half of the next request's address.
    address_high: u32,
    selector: u16,
    /// 0 or 1: a transfer goes on.
    transfers: u8,
    /// An answer that the guest is told once this is committed.
    answer: u8,
}

/// Kinds of [`State::answer`]: none, and what the control word becomes.
const NO_ANSWER: u8 = 0;
const DONE: u8 = 1;
const FAILED: u8 = 2;

/// The number of an item: bit 14 beside it says that it is to be written, and is none of it (specification, "Selector Register").
const fn item_of(selector: u16) -> u16 {
    const WRITES: u16 = 1 << 14;
    selector & !WRITES
}

impl FwCfg {
    /// The next byte of the selected item.
    fn next_byte(&mut self, state: &mut State) -> u8 {
        let mut byte = [0];
        find(&mut *self.store, state.selector).read(&mut *self.store, state.offset, &mut byte);
        state.offset = state.offset.saturating_add(1);
        byte[0]
    }

    /// Takes the request at `at`.
    fn request(&mut self, state: &mut State, at: u64) {
        let mut request = [0; REQUEST_BYTES];
        // A request that is nowhere has no place for an answer either.
        if self.memory.read_slice(&mut request, GuestAddress(at)).is_err() {
            return;
        }
        let word = |at: usize| u32::from_be_bytes([request[at], request[at + 1], request[at + 2], request[at + 3]]);
        let (control, length) = (word(0), word(4));
        let to = u64::from(word(8)) << 32 | u64::from(word(12));
        if control & SELECT != 0 {
            (state.selector, state.offset) = (item_of((control >> 16) as u16), 0);
        }
        (state.request, state.transfers, state.answer) = (at, 0, NO_ANSWER);
        if control & READ != 0 {
            (state.to, state.left, state.transfers) = (to, length, 1);
            self.step(state);
        } else if control & WRITE != 0 && length > 0 {
            // No item can be written: not a byte of it.
            state.answer = FAILED;
        } else {
            if control & SKIP != 0 {
                state.offset = state.offset.saturating_add(length);
            }
            state.answer = DONE;
        }
    }

    /// Moves the next bytes of a transfer. The answer comes only when they are committed, for it takes the request's place: a
    /// process that dies before moves them again, of the same request.
    fn step(&mut self, state: &mut State) {
        let item = find(&mut *self.store, state.selector);
        let mut step = state.left.min(STEP_BYTES);
        let mut piece = [0; PIECE_BYTES];
        while step > 0 {
            let count = step.min(PIECE_BYTES as u32);
            let bytes = &mut piece[..count as usize];
            item.read(&mut *self.store, state.offset, bytes);
            if self.memory.write_slice(bytes, GuestAddress(state.to)).is_err() {
                (state.transfers, state.answer) = (0, FAILED);
                return;
            }
            // What was written is memory, which ends before the last address.
            state.to = state.to.saturating_add(count.into());
            state.offset = state.offset.saturating_add(count);
            state.left -= count;
            step -= count;
        }
        if state.left == 0 {
            (state.transfers, state.answer) = (0, DONE);
        }
    }
}

impl Device for FwCfg {
    type State = State;

    fn manifest(options: &Options) -> Result<Manifest, OptionError> {
        options.check(&[])?;
        Ok(Manifest {
            ranges: vec![declare::ports("registers", PORT, LENGTH)],
            wishes: vec![declare::wish(Power::Memory, "dma", MEMORY), declare::wish(Power::FileRead, "items", FILE)],
            acpi: Some(Acpi { name: "FWCF".into(), hid: "QEMU0002".into(), ..Acpi::default() }),
            ..declare::nothing::<State>(NAME, "Firmware configuration: what the machine is", Class::System)
        })
    }

    fn attach(_: &Options, powers: &mut Powers) -> Result<FwCfg, AttachError> {
        Ok(FwCfg { memory: powers.memory()?, store: powers.store(1)? })
    }

    fn power_on(&mut self) -> State {
        State::new_zeroed()
    }

    fn check(&self, state: &State) -> bool {
        state.transfers <= 1 && state.answer <= FAILED && (state.transfers == 0 || state.answer == NO_ANSWER)
    }

    fn read(&mut self, state: &mut State, at: Access) -> Result<u64, NoRegister> {
        match (at.offset, at.width) {
            (DATA, 1) => Ok(self.next_byte(state).into()),
            (offset @ DMA_HIGH.., width @ (1 | 2 | 4)) => {
                let from = (offset - DMA_HIGH) as usize;
                let bytes = &DMA_SIGNATURE[from..from + usize::from(width)];
                Ok(bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
            }
            _ => Err(NoRegister),
        }
    }

    fn write(&mut self, state: &mut State, at: Access, value: u64) -> Result<(), NoRegister> {
        match (at.offset, at.width) {
            (SELECTOR, 2) => (state.selector, state.offset) = (item_of(value as u16), 0),
            // Items could be written here once; no longer ("Data Register").
            (DATA, 1) => {}
            // The register is big-endian.
            (DMA_HIGH, 4) => state.address_high = (value as u32).swap_bytes(),
            (DMA_LOW, 4) => {
                let high = u64::from(std::mem::take(&mut state.address_high)) << 32;
                self.request(state, high | u64::from((value as u32).swap_bytes()));
            }
            _ => return Err(NoRegister),
        }
        Ok(())
    }

    fn alarm(&mut self, _: &mut State, _: u64) {}

    fn button(&mut self, _: &mut State, _: u64) {}

    fn refresh(&mut self, _: &mut State, _: u64) {}

    fn scan(&mut self, state: &mut State, _: u64) -> Scan {
        // The guest was told.
        let told = std::mem::replace(&mut state.answer, NO_ANSWER) != NO_ANSWER;
        if state.transfers == 0 {
            return if told { Scan::Changed } else { Scan::Idle };
        }
        self.step(state);
        // What is left, or the answer to forget.
        Scan::More
    }

    fn pending(&self, state: &State) -> bool {
        state.transfers != 0 || state.answer != NO_ANSWER
    }

    fn outputs(&self, _: &State) -> Outputs {
        Outputs::default()
    }

    fn settle(&mut self, state: &State) {
        let control = match state.answer {
            DONE => 0,
            FAILED => ERROR,
            _ => return,
        };
        // The request was read from there.
        let _ = self.memory.write_slice(&u32::to_be_bytes(control), GuestAddress(state.request));
    }
}
