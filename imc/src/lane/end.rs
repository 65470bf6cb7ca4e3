//! The device host's end of a lane, over any carrier: what is asked, and who is told.

use super::descriptors::{Descriptors, Pipes};
use super::host::{BadEntry, MemoryHost, StateWriter};
use super::host_message::{Messages, Rest};
use super::virtio::VirtioDevice;
use crate::{Mapping, Packets, PipeReader, PipeWriter, Wake};
use schema::lane::Access;
use std::io;
use std::sync::Arc;

/// What a device is asked, and the way to tell what it committed.
pub struct HostLane(End);

enum End {
    Memory(MemoryHost),
    Socket(Messages<Descriptors<Packets>>),
    Pipe(Messages<Descriptors<Pipes>>),
    Virtio(Messages<VirtioDevice>),
    /// Asked by function calls, and nobody sleeps on an answer.
    InProcess,
}

macro_rules! each {
    ($self:expr, $end:ident => $do:expr, in process: $none:expr) => {
        match $self {
            End::Memory($end) => $do,
            End::Socket($end) => $do,
            End::Pipe($end) => $do,
            End::Virtio($end) => $do,
            End::InProcess => $none,
        }
    };
}

/// Each for a device that has committed operation `committed` last.
impl HostLane {
    /// Over shared memory: the request region, and what wakes the VMM's waiter.
    #[must_use]
    pub fn memory(request: Mapping, reply: Wake, committed: u32) -> HostLane {
        HostLane(End::Memory(MemoryHost::new(request, reply, committed)))
    }

    /// Over packets.
    #[must_use]
    pub fn socket(packets: Packets, rest: Arc<Rest>, committed: u32) -> HostLane {
        HostLane(End::Socket(Messages::new(Descriptors::new(packets), rest, committed)))
    }

    /// Over two pipes.
    #[must_use]
    pub fn pipe(asked: PipeReader, answers: PipeWriter, rest: Arc<Rest>, committed: u32) -> HostLane {
        HostLane(End::Pipe(Messages::new(Descriptors::of_host(asked, answers), rest, committed)))
    }

    /// Over virtqueues: what the VMM writes, what the host writes, and what wakes the VMM's waiter. A sentence says why not.
    pub fn virtio(
        request: Mapping,
        answers: Mapping,
        reply: Wake,
        rest: Arc<Rest>,
        committed: u32,
    ) -> Result<HostLane, String> {
        let device = VirtioDevice::new(request, answers, reply)?;
        Ok(HostLane(End::Virtio(Messages::new(device, rest, committed))))
    }

    /// Of a device in the VMM's own process.
    #[must_use]
    pub fn in_process() -> HostLane {
        HostLane(End::InProcess)
    }

    /// Whether there may be an entry to take.
    pub fn has_next(&mut self) -> bool {
        match &mut self.0 {
            End::Memory(memory) => memory.has_next(),
            End::Socket(messages) => messages.has_next(),
            End::Pipe(messages) => messages.has_next(),
            End::Virtio(messages) => messages.has_next(),
            End::InProcess => false,
        }
    }

    /// Takes the next entry, if there is one: a copy, so what the VMM writes later changes nothing.
    pub fn take(&mut self) -> Result<Option<Access>, BadEntry> {
        each!(&mut self.0, end => end.take(), in process: Ok(None))
    }

    /// Tells the VMM what was committed. Call it after each commit, and before anything of it happens outside.
    pub fn tell(&mut self, state: &StateWriter) -> io::Result<()> {
        each!(&mut self.0, end => end.tell(state), in process: Ok(()))
    }

    /// How many times the VMM wants an idle host to look again before it sleeps.
    #[must_use]
    pub fn spin(&self) -> u32 {
        each!(&self.0, end => end.spin(), in process: 0)
    }

    /// Says that the host is about to sleep. On return that is ordered before its last look for work.
    pub fn fall_asleep(&mut self) {
        match &mut self.0 {
            // Its sleep generation is in the state region.
            End::Memory(_) | End::InProcess => {}
            End::Socket(messages) => messages.fall_asleep(),
            End::Pipe(messages) => messages.fall_asleep(),
            End::Virtio(messages) => messages.fall_asleep(),
        }
    }

    /// Says that it is awake.
    pub fn wake_up(&mut self) {
        match &mut self.0 {
            End::Memory(_) | End::InProcess => {}
            End::Socket(messages) => messages.wake_up(),
            End::Pipe(messages) => messages.wake_up(),
            End::Virtio(messages) => messages.wake_up(),
        }
    }
}
