//! What people do with keyboard and mouse, on its way to the device that takes it.

use super::grants::StreamObjects;
use anyhow::{Result, ensure};
use imc::{RelayEnd, Wake};
use schema::display::Input;
use std::os::fd::{AsFd, BorrowedFd};

/// Bytes that wait for a guest to take them: what a person types in some minutes.
const WAITING_MAX: usize = 64 << 10;

/// The way of one stream inwards; nothing comes out of it.
pub struct InputRelay {
    end: RelayEnd,
    bell: Wake,
    host_wake: Wake,
    waiting: Vec<u8>,
}

impl InputRelay {
    /// The way into `stream`, whose device lives in the host with `host_wake`.
    pub fn new(stream: &StreamObjects, host_wake: &Wake) -> Result<InputRelay> {
        Ok(InputRelay {
            end: RelayEnd::new(stream.region.map()?),
            bell: stream.bell.try_clone()?,
            host_wake: host_wake.try_clone()?,
            waiting: Vec::new(),
        })
    }

    /// Rung when the device has taken something.
    #[must_use]
    pub fn bell(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    /// Whether what people do is taken now.
    #[must_use]
    pub fn accepts(&self) -> bool {
        self.waiting.len() < WAITING_MAX
    }

    /// Takes what a person did.
    pub fn press(&mut self, inputs: &[Input]) -> Result<()> {
        ensure!(self.accepts(), "the guest does not take what is typed; try again later");
        self.waiting.extend(inputs.iter().flat_map(|input| input.to_bytes()));
        self.push();
        Ok(())
    }

    /// Takes the bell, and moves what waits.
    pub fn turn(&mut self) {
        self.bell.drain();
        self.push();
    }

    fn push(&mut self) {
        let count = self.end.offer(&self.waiting);
        self.waiting.drain(..count);
        // A wake stuffed full by its host is not waited for: the host has then enough to wake up for.
        if count > 0 && self.host_wake.has_room() {
            let _ = self.host_wake.signal(1);
        }
    }
}
