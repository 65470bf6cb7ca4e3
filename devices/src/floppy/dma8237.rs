//! The two 8237A DMA controllers of an AT, and the page registers that give them 24 address lines.
//!
//! Source: Intel, *8237A High Performance Programmable DMA Controller* data sheet, "Register Description" and figures 5 and 6;
//! public descriptions of the PC/AT for the page registers and the cascade.
//!
//! The floppy drive is on channel 2 of the first controller. No other device of this machine asks for DMA, so the other
//! channels are registers and nothing else.

use device::{GuestMemory, NoRegister};
use vm_memory::{Bytes, GuestAddress};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

/// The channel that a PC's floppy controller is wired to.
const FLOPPY: usize = 2;
/// Where the first controller's request arrives at the second (channel 4 as a PC counts).
const CASCADE: u8 = 0;
/// The register of the 74LS612 that channel 2 drives the upper address lines from: port 0x81.
const FLOPPY_PAGE: usize = 1;
/// Registers of the 74LS612; those of no channel keep what is written.
pub(super) const PAGES: usize = 16;

const COMMAND_DISABLED: u8 = 1 << 2;

const MODE_CHANNEL: u8 = 0b11;
const MODE_TRANSFER: u8 = 0b1100;
const MODE_VERIFY: u8 = 0b0000;
const MODE_TO_MEMORY: u8 = 0b0100;
const MODE_FROM_MEMORY: u8 = 0b1000;
const MODE_AUTOMATIC: u8 = 1 << 4;
const MODE_DOWN: u8 = 1 << 5;
const MODE_CASCADE: u8 = 0b1100_0000;

/// Bit 2 of a write of a single request or mask bit: set it.
const SET: u8 = 1 << 2;
/// Each register of a controller has a bit for each channel.
const CHANNELS: u8 = 0x0f;

/// Register numbers; below 8 are the channels' addresses and counts.
const STATUS_COMMAND: u8 = 8;
const REQUEST: u8 = 9;
const MASK_ONE: u8 = 10;
const MODE: u8 = 11;
const CLEAR_FLIP_FLOP: u8 = 12;
const TEMPORARY_CLEAR: u8 = 13;
const CLEAR_MASK: u8 = 14;
const MASK_ALL: u8 = 15;

#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Channel {
    base_address: u16,
    base_count: u16,
    address: u16,
    /// Transfers left, less one.
    count: u16,
    mode: u8,
    unused: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Controller {
    channels: [Channel; 4],
    command: u8,
    /// Bit `n`: channel `n` is not served.
    mask: u8,
    /// Bit `n`: channel `n` has reached its terminal count.
    done: u8,
    /// Requests by software. They come to nothing here, since no channel's device waits for them; terminal count clears one.
    requests: u8,
    /// 0 or 1: the next byte of an address or count is the upper one.
    upper: u8,
    unused: u8,
}

/// Both controllers and their pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Dma {
    controllers: [Controller; 2],
    pub(super) pages: [u8; PAGES],
}

/// What became of a device's request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moved {
    /// Bytes that were acknowledged.
    pub(super) bytes: usize,
    /// Terminal count was told with the last of them.
    pub(super) done: bool,
}

impl Controller {
    /// After RESET or master clear: every channel is masked.
    fn clear(&mut self) {
        (self.command, self.mask, self.done, self.requests, self.upper) = (0, CHANNELS, 0, 0, 0);
    }

    fn check(&self) -> bool {
        [self.mask, self.done, self.requests].iter().all(|bits| bits & !CHANNELS == 0)
            && self.upper <= 1
            && self.unused == 0
            && self.channels.iter().all(|channel| channel.unused == 0)
    }

    fn serves(&self, channel: u8) -> bool {
        self.command & COMMAND_DISABLED == 0 && self.mask & 1 << channel == 0
    }

    fn read(&mut self, register: u8, requested: u8) -> Result<u8, NoRegister> {
        match register {
            0..8 => {
                let channel = &self.channels[usize::from(register / 2)];
                let word = if register.is_multiple_of(2) { channel.address } else { channel.count };
                self.upper ^= 1;
                Ok(word.to_le_bytes()[usize::from(self.upper & 1 ^ 1)])
            }
            STATUS_COMMAND => Ok((self.requests | requested) << 4 | std::mem::take(&mut self.done)),
            // Only memory-to-memory transfers would put something there.
            TEMPORARY_CLEAR => Ok(0),
            _ => Err(NoRegister),
        }
    }

    fn write(&mut self, register: u8, value: u8) {
        let one = |bits: u8| if value & SET != 0 { bits | 1 << (value & 3) } else { bits & !(1 << (value & 3)) };
        match register {
            0..8 => {
                let channel = &mut self.channels[usize::from(register / 2)];
                self.upper ^= 1;
                let (base, current) = match register % 2 {
                    0 => (&mut channel.base_address, &mut channel.address),
                    _ => (&mut channel.base_count, &mut channel.count),
                };
                // Both are loaded, byte by byte: what the other byte of the current one has come to stays.
                for word in [base, current] {
                    let mut bytes = word.to_le_bytes();
                    bytes[usize::from(self.upper & 1 ^ 1)] = value;
                    *word = u16::from_le_bytes(bytes);
                }
            }
            STATUS_COMMAND => self.command = value,
            REQUEST => self.requests = one(self.requests),
            MASK_ONE => self.mask = one(self.mask),
            MODE => self.channels[usize::from(value & MODE_CHANNEL)].mode = value,
            CLEAR_FLIP_FLOP => self.upper = 0,
            TEMPORARY_CLEAR => self.clear(),
            CLEAR_MASK => self.mask = 0,
            MASK_ALL => self.mask = value & CHANNELS,
            _ => {}
        }
    }
}

impl Dma {
    /// As firmware leaves it: the first controller's requests pass through the second, and no channel is open.
    pub(super) fn power_on() -> Dma {
        let mut dma = Dma::new_zeroed();
        dma.controllers.iter_mut().for_each(Controller::clear);
        dma.controllers[1].channels[usize::from(CASCADE)].mode = MODE_CASCADE | CASCADE;
        dma.controllers[1].mask &= !(1 << CASCADE);
        dma
    }

    pub(super) fn check(&self) -> bool {
        self.controllers.iter().all(Controller::check)
    }

    /// Reads a register of a controller. `requested`: the floppy controller holds its request line up.
    pub(super) fn read(&mut self, controller: usize, register: u8, requested: bool) -> Result<u8, NoRegister> {
        let lines = if controller == 0 { u8::from(requested) << FLOPPY } else { 0 };
        self.controllers.get_mut(controller).ok_or(NoRegister)?.read(register, lines)
    }

    pub(super) fn write(&mut self, controller: usize, register: u8, value: u8) {
        if let Some(controller) = self.controllers.get_mut(controller) {
            controller.write(register, value);
        }
    }

    /// The floppy controller has `bytes` for memory.
    pub(super) fn put(&mut self, memory: &GuestMemory, bytes: &[u8]) -> Moved {
        self.transfer(MODE_TO_MEMORY, bytes.len(), |address, at, length, moves| {
            if moves && let Some(bytes) = bytes.get(at..at + length) {
                // Where no memory answers, what is written is lost.
                let _ = memory.write_slice(bytes, GuestAddress(address));
            }
        })
    }

    /// The floppy controller wants `bytes` from memory.
    pub(super) fn get(&mut self, memory: &GuestMemory, bytes: &mut [u8]) -> Moved {
        self.transfer(MODE_FROM_MEMORY, bytes.len(), |address, at, length, moves| {
            let Some(bytes) = bytes.get_mut(at..at + length) else { return };
            // Where nothing drives the data lines they are ones.
            if !moves || memory.read_slice(bytes, GuestAddress(address)).is_err() {
                bytes.fill(0xff);
            }
        })
    }

    /// Acknowledges up to `wanted` bytes, in runs of neighbouring addresses. Channel 2 drives sixteen lines of the address,
    /// the page register the rest, so a run ends where these sixteen wrap.
    fn transfer(&mut self, direction: u8, wanted: usize, mut act: impl FnMut(u64, usize, usize, bool)) -> Moved {
        let mut moved = Moved { bytes: 0, done: false };
        let [first, second] = &mut self.controllers;
        let (mode, transfer) = (first.channels[FLOPPY].mode, first.channels[FLOPPY].mode & MODE_TRANSFER);
        if !first.serves(FLOPPY as u8)
            || !second.serves(CASCADE)
            || mode & MODE_CASCADE == MODE_CASCADE
            || transfer != direction && transfer != MODE_VERIFY
        {
            return moved;
        }
        let channel = &mut first.channels[FLOPPY];
        let page = u64::from(self.pages[FLOPPY_PAGE]) << 16;
        while moved.bytes < wanted && !moved.done {
            let left = usize::from(channel.count) + 1;
            let down = mode & MODE_DOWN != 0;
            let to_wrap = (1 << 16) - usize::from(channel.address);
            let run = if down { 1 } else { left.min(wanted - moved.bytes).min(to_wrap) };
            act(page | u64::from(channel.address), moved.bytes, run, transfer == direction);
            channel.address = match down {
                true => channel.address.wrapping_sub(1),
                false => channel.address.wrapping_add(run as u16),
            };
            channel.count = channel.count.wrapping_sub(run as u16);
            moved.bytes += run;
            moved.done = run == left;
        }
        if moved.done {
            first.done |= 1 << FLOPPY;
            first.requests &= !(1 << FLOPPY);
            if mode & MODE_AUTOMATIC != 0 {
                (channel.address, channel.count) = (channel.base_address, channel.base_count);
            } else {
                first.mask |= 1 << FLOPPY;
            }
        }
        moved
    }
}
