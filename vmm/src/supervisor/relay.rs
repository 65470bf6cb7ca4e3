//! Pumps a stream's rings to and from the console, outside every device host.

use super::console::{Console, Typed};
use super::grants::StreamObjects;
use anyhow::Result;
use imc::{RelayEnd, Wake};
use std::os::fd::{AsFd, BorrowedFd};

/// Bytes moved at a turn, so that a flood of output does not starve the rest of the loop.
const TURN_BYTES: usize = 16 * 1024;

/// One stream's relay.
pub struct Relay {
    end: RelayEnd,
    bell: Wake,
    host_wake: Wake,
    typed: Vec<u8>,
}

impl Relay {
    /// The relay of `stream`, whose device lives in the host with `host_wake`.
    pub fn new(stream: &StreamObjects, host_wake: &Wake) -> Result<Relay> {
        Ok(Relay {
            end: RelayEnd::new(stream.region.map()?),
            bell: stream.bell.try_clone()?,
            host_wake: host_wake.try_clone()?,
            typed: Vec::new(),
        })
    }

    /// Rung when there is something to do.
    #[must_use]
    pub fn bell(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    /// Whether input can be taken: nothing typed waits for room.
    #[must_use]
    pub fn accepts(&self) -> bool {
        self.typed.is_empty() && self.end.room() > 0
    }

    /// Types bytes at the guest.
    pub fn typed(&mut self, bytes: &[u8]) {
        self.typed.extend_from_slice(bytes);
        self.push();
    }

    fn push(&mut self) {
        if self.typed.is_empty() {
            return;
        }
        let count = self.end.offer(&self.typed);
        self.typed.drain(..count);
        if count > 0 {
            self.wake_host();
        }
    }

    /// A wake stuffed full by its host is not waited for: the host has then enough to wake up for.
    fn wake_host(&self) {
        if self.host_wake.has_room() {
            let _ = self.host_wake.signal(1);
        }
    }

    /// Takes the bell and moves bytes both ways; says whether there is more.
    pub fn turn(&mut self, console: &mut Console) -> bool {
        self.bell.drain();
        self.push();
        if !console.hungry() {
            return false;
        }
        let mut bytes = Vec::new();
        if self.end.take(&mut bytes, TURN_BYTES) {
            self.wake_host();
        }
        console.write(&bytes);
        bytes.len() == TURN_BYTES
    }

    /// Reads the console's input.
    pub fn read(&mut self, console: &mut Console) -> Typed {
        let mut bytes = Vec::new();
        let typed = console.read(self.end.room(), &mut bytes);
        self.typed(&bytes);
        typed
    }
}
