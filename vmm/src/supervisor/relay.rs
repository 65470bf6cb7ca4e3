//! Pumps a stream's rings to and from the console, or to the log or a file, outside every device host.

use super::console::{Console, ConsolePlan, Typed};
use super::grants::StreamObjects;
use super::plan::Outlet;
use anyhow::Result;
use imc::{RelayEnd, Wake};
use std::os::fd::{AsFd, BorrowedFd};

/// Bytes moved at a turn, so that a flood of output does not starve the rest of the loop.
const TURN_BYTES: usize = 16 * 1024;
/// Bytes of a log line; a longer one is cut in several.
const LINE_BYTES: usize = 256;

/// One stream's relay.
pub struct Relay {
    end: RelayEnd,
    bell: Wake,
    host_wake: Wake,
    typed: Vec<u8>,
    outlet: Out,
}

/// Where the output of a stream goes.
enum Out {
    Console,
    /// The beginning of a line, without its end.
    Log(Vec<u8>),
    File(Box<Console>),
}

impl Relay {
    /// The relay of `stream` to `outlet`; its device lives in the host with `host_wake`.
    pub fn new(stream: &StreamObjects, outlet: &Outlet, host_wake: &Wake) -> Result<Relay> {
        Ok(Relay {
            end: RelayEnd::new(stream.region.map()?),
            bell: stream.bell.try_clone()?,
            host_wake: host_wake.try_clone()?,
            typed: Vec::new(),
            outlet: match outlet {
                Outlet::Console => Out::Console,
                Outlet::Log => Out::Log(Vec::new()),
                Outlet::File(path) => Out::File(Box::new(Console::open(&ConsolePlan::File(path.clone()))?)),
            },
        })
    }

    /// Whether it is one of the console's.
    #[must_use]
    pub fn is_of_console(&self) -> bool {
        matches!(self.outlet, Out::Console)
    }

    /// Whether there is room for what it relays.
    #[must_use]
    pub fn hungry(&self, console: &Console) -> bool {
        match &self.outlet {
            Out::Console => console.hungry(),
            Out::Log(_) => true,
            Out::File(file) => file.hungry(),
        }
    }

    /// What to poll for room, while output of its own waits.
    #[must_use]
    pub fn blocked_output(&self) -> Option<BorrowedFd<'_>> {
        match &self.outlet {
            Out::File(file) => file.blocked_output(),
            _ => None,
        }
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

    /// Takes the bell and moves bytes both ways; says whether there is more, and room for it. Whole lines for the log are added
    /// to `lines`.
    pub fn turn(&mut self, console: &mut Console, lines: &mut Vec<String>) -> bool {
        self.bell.drain();
        self.push();
        if let Out::File(file) = &mut self.outlet {
            file.flush();
        }
        if !self.hungry(console) {
            return false;
        }
        let mut bytes = Vec::new();
        if self.end.take(&mut bytes, TURN_BYTES) {
            self.wake_host();
        }
        match &mut self.outlet {
            Out::Console => console.write(&bytes),
            Out::File(file) => file.write(&bytes),
            Out::Log(line) => {
                for byte in &bytes {
                    if *byte != b'\n' {
                        line.push(*byte);
                    }
                    if *byte == b'\n' || line.len() == LINE_BYTES {
                        lines.push(String::from_utf8_lossy(line).into_owned());
                        line.clear();
                    }
                }
            }
        }
        bytes.len() == TURN_BYTES && self.hungry(console)
    }

    /// Reads the console's input.
    pub fn read(&mut self, console: &mut Console) -> Typed {
        let mut bytes = Vec::new();
        let typed = console.read(self.end.room(), &mut bytes);
        self.typed(&bytes);
        typed
    }
}
