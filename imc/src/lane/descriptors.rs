//! The `socket` and `pipe` carriers: a message is a packet of a socket, or a record of a pipe.
//!
//! Nothing but `read(2)` and `write(2)` is needed, so a device host in any language can be behind one.

use super::host_message::HostTransport;
use super::message::{MessageCarrier, Transport};
use super::wire::{ANSWER_BYTES, Buffer, Message, with_bytes};
use super::{Retirement, SpinBudget};
use crate::ends::{read, write};
use crate::{Packets, PipeReader, PipeWriter, Wake};
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use schema::lane::{Access, Answer, Carrier, STRING_MAX};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

/// A look for a message is a system call: some ten times as long as one at shared memory, of which a budget speaks.
const LOOK_COST: u32 = 10;

/// The VMM's end of a lane over packets.
pub type SocketCarrier = MessageCarrier<Descriptors<Packets>>;
/// The VMM's end of a lane over two pipes.
pub type PipeCarrier = MessageCarrier<Descriptors<Pipes>>;

/// The two pipes of a lane, as one of its sides holds them.
pub struct Pipes {
    from: PipeReader,
    to: PipeWriter,
}

impl SocketCarrier {
    /// The carrier over this end. `waiter` is this process's own, to be woken when the lane is retired; `wake` the host's.
    pub fn new(packets: Packets, waiter: Wake, wake: Wake, spin: SpinBudget) -> io::Result<SocketCarrier> {
        MessageCarrier::over(Descriptors::new(packets), wake, waiter, spin.vmm / LOOK_COST)
    }
}

impl PipeCarrier {
    /// The carrier that writes entries to `asked` and reads answers from `answers`; the rest as in [`SocketCarrier::new`].
    pub fn new(
        asked: PipeWriter,
        answers: PipeReader,
        waiter: Wake,
        wake: Wake,
        spin: SpinBudget,
    ) -> io::Result<PipeCarrier> {
        let pipes = Pipes { from: answers, to: asked };
        MessageCarrier::over(Descriptors::new(pipes), wake, waiter, spin.vmm / LOOK_COST)
    }
}

/// Descriptors of which none ever makes its holder wait.
trait Ends: Send {
    const CARRIER: Carrier;

    fn from(&self) -> BorrowedFd<'_>;
    fn to(&self) -> BorrowedFd<'_>;
    /// How much to read for a message of `bytes` which `most` bytes may follow.
    fn ask(bytes: usize, most: usize) -> usize;
}

impl Ends for Packets {
    const CARRIER: Carrier = Carrier::Socket;

    fn from(&self) -> BorrowedFd<'_> {
        self.as_fd()
    }
    fn to(&self) -> BorrowedFd<'_> {
        self.as_fd()
    }
    fn ask(bytes: usize, most: usize) -> usize {
        // Of a packet that is longer than it may be, one byte more would come.
        bytes + most + 1
    }
}

impl Ends for Pipes {
    const CARRIER: Carrier = Carrier::Pipe;

    fn from(&self) -> BorrowedFd<'_> {
        self.from.as_fd()
    }
    fn to(&self) -> BorrowedFd<'_> {
        self.to.as_fd()
    }
    fn ask(bytes: usize, _: usize) -> usize {
        // Behind it begins what follows, or the next record.
        bytes
    }
}

/// Sends and receives over one side's descriptors.
pub struct Descriptors<E> {
    ends: E,
    buffer: Buffer,
}

#[allow(private_bounds)] // There are two.
impl<E: Ends> Descriptors<E> {
    pub(super) fn new(ends: E) -> Descriptors<E> {
        Descriptors { ends, buffer: Buffer::new() }
    }

    fn take<M: Message>(&mut self) -> Result<Option<M>, String> {
        let Some(length) = self.read(0, E::ask(M::BYTES, 0))? else { return Ok(None) };
        self.buffer.read(length).map(Some)
    }

    /// Reads at most `most` bytes into the buffer, from `first` on.
    fn read(&mut self, first: usize, most: usize) -> Result<Option<usize>, String> {
        match read(self.ends.from(), &mut self.buffer.bytes()[first..first + most]) {
            // An empty packet reads like the end.
            Ok(Some(0)) => Err("it closed its end, or sent nothing as a message".into()),
            Ok(length) => Ok(length),
            Err(error) => Err(format!("its end cannot be read: {error}")),
        }
    }

    fn give<M: Message>(&mut self, message: &M) -> nix::Result<bool> {
        with_bytes(message, |bytes| write(self.ends.to(), bytes))
    }
}

impl Descriptors<Pipes> {
    /// A host's side.
    pub(super) fn of_host(asked: PipeReader, answers: PipeWriter) -> Descriptors<Pipes> {
        Descriptors::new(Pipes { from: asked, to: answers })
    }
}

impl<E: Ends> Transport for Descriptors<E> {
    const KIND: Carrier = E::CARRIER;

    fn send(&mut self, access: &Access) -> Result<bool, String> {
        self.give(access).map_err(|error| format!("its end cannot be written: {error}"))
    }

    fn must_ring(&mut self) -> bool {
        true
    }

    fn receive(&mut self, string: &mut [u8; STRING_MAX]) -> Result<Option<Answer>, String> {
        let Some(length) = self.read(0, E::ask(ANSWER_BYTES, STRING_MAX))? else { return Ok(None) };
        let answer: Answer = self.buffer.read(length.min(ANSWER_BYTES))?;
        let bytes = usize::from(answer.bytes);
        let mut behind = length.saturating_sub(ANSWER_BYTES);
        if behind == 0 && bytes > 0 {
            // They were written together, so they are there together.
            behind = self.read(ANSWER_BYTES, bytes)?.unwrap_or(0);
        }
        if behind != bytes {
            return Err(format!("it sent {behind} bytes behind a message that says {bytes}"));
        }
        string[..bytes].copy_from_slice(&self.buffer.bytes()[ANSWER_BYTES..ANSWER_BYTES + bytes]);
        Ok(Some(answer))
    }

    fn renew(&mut self) -> Result<(), String> {
        // It is gone, so there is no more than its queue holds.
        loop {
            match read(self.ends.from(), self.buffer.bytes()) {
                Ok(None) => return Ok(()),
                Ok(Some(_)) => {}
                Err(error) => return Err(format!("its end cannot be read: {error}")),
            }
        }
    }

    fn wait(&mut self, retirement: &Retirement, room: bool, most: Duration) {
        let from = PollFd::new(self.ends.from(), PollFlags::POLLIN);
        let to = PollFd::new(self.ends.to(), PollFlags::POLLOUT);
        let waiter = retirement.waiter().map_or(self.ends.from(), AsFd::as_fd);
        let mut polled = [from, PollFd::new(waiter, PollFlags::POLLIN), to];
        // Poll tells of a far end that is closed whatever it is asked; so this one is shown to it only for room.
        let count = if room { 3 } else { 2 };
        // Whatever ends it, and be it an error: the caller looks for itself.
        let _ = ppoll(&mut polled[..count], Some(TimeSpec::from_duration(most)), None);
    }
}

impl<E: Ends> HostTransport for Descriptors<E> {
    const IS_POLLED: bool = false;

    fn take(&mut self) -> Result<Option<Access>, String> {
        Descriptors::take(self)
    }

    fn has_next(&self) -> bool {
        true
    }

    fn tell(&mut self, answer: &Answer, string: &[u8]) -> io::Result<bool> {
        if string.is_empty() {
            return Ok(self.give(answer)?);
        }
        // In one piece, so that they are there together.
        let mut whole = [0; ANSWER_BYTES + STRING_MAX];
        with_bytes(answer, |bytes| whole[..ANSWER_BYTES].copy_from_slice(bytes));
        let end = ANSWER_BYTES + string.len();
        whole[ANSWER_BYTES..end].copy_from_slice(string);
        Ok(write(self.ends.to(), &whole[..end])?)
    }

    fn told(&mut self, _: bool) -> io::Result<()> {
        Ok(())
    }

    fn spin(&self) -> u32 {
        0
    }

    fn fall_asleep(&mut self) {}

    fn wake_up(&mut self) {}
}
