//! The host's side of both queues.

use super::{
    ANSWER_BASE, ANSWER_REGION_BYTES, ANSWERS_AVAILABLE, ANSWERS_DESCRIPTORS, ANSWERS_USED, ASKED_AVAILABLE,
    ASKED_DESCRIPTORS, ASKED_USED, REQUEST_BASE, SIZE, SPIN, STRING, word,
};
use crate::lane::host_message::HostTransport;
use crate::lane::layout::REQUEST_BYTES;
use crate::lane::wire::{ACCESS_BYTES, ANSWER_BYTES, Buffer, with_bytes};
use crate::{Mapping, Wake};
use schema::lane::{Access, Answer};
use std::io;
use std::sync::atomic::Ordering;
use virtio_queue::desc::split::Descriptor;
use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap, GuestRegionMmap, MmapRegion};

/// The device's side of the queues of one lane.
///
/// Whatever its VMM writes, a host reads only the request region and writes only the answer region.
pub(in crate::lane) struct VirtioDevice {
    memory: GuestMemoryMmap,
    asked: Queue,
    answers: Queue,
    reply: Wake,
    buffer: Buffer,
    /// It is to be rung for the next message, whichever that will be.
    is_asleep: bool,
    /// What `memory` lies over.
    request: Mapping,
    _answers: Mapping,
}

impl VirtioDevice {
    /// Goes on where an earlier incarnation stopped: what it had returned is returned.
    pub(in crate::lane) fn new(request: Mapping, answers: Mapping, reply: Wake) -> Result<VirtioDevice, String> {
        if (request.len() as u64) < REQUEST_BYTES || (answers.len() as u64) < ANSWER_REGION_BYTES || !answers.writable()
        {
            return Err("the regions of a lane are not fit for virtqueues".into());
        }
        let memory = [place(&request, REQUEST_BASE)?, place(&answers, ANSWER_BASE)?];
        let memory = GuestMemoryMmap::from_regions(Vec::from(memory)).map_err(|error| error.to_string())?;
        let queue = |descriptors, available, used| -> Result<Queue, virtio_queue::Error> {
            let mut queue = Queue::new(SIZE)?;
            queue.try_set_desc_table_address(GuestAddress(REQUEST_BASE + descriptors as u64))?;
            queue.try_set_avail_ring_address(GuestAddress(REQUEST_BASE + available as u64))?;
            queue.try_set_used_ring_address(GuestAddress(ANSWER_BASE + used as u64))?;
            queue.set_event_idx(true);
            queue.set_ready(true);
            let returned = queue.used_idx(&memory, Ordering::Acquire)?.0;
            queue.set_next_used(returned);
            queue.set_next_avail(returned);
            Ok(queue)
        };
        let asked = queue(ASKED_DESCRIPTORS, ASKED_AVAILABLE, ASKED_USED).map_err(|error| error.to_string())?;
        let told = queue(ANSWERS_DESCRIPTORS, ANSWERS_AVAILABLE, ANSWERS_USED).map_err(|error| error.to_string())?;
        Ok(VirtioDevice {
            memory,
            asked,
            answers: told,
            reply,
            buffer: Buffer::new(),
            is_asleep: false,
            request,
            _answers: answers,
        })
    }
}

impl HostTransport for VirtioDevice {
    const IS_POLLED: bool = true;

    fn take(&mut self) -> Result<Option<Access>, String> {
        // What was taken since it was to be rung is not what it is to be rung for.
        if self.is_asleep && !self.has_next() {
            self.fall_asleep();
        }
        let Some(mut chain) = self.asked.pop_descriptor_chain(&self.memory) else { return Ok(None) };
        let buffer = chain.next().filter(|buffer| !buffer.is_write_only() && buffer.len() as usize == ACCESS_BYTES);
        let buffer = buffer.ok_or("it made a buffer available that holds no message")?;
        let place = &mut self.buffer.bytes()[..ACCESS_BYTES];
        self.memory.read_slice(place, buffer.addr()).map_err(|error| format!("a buffer of its queue: {error}"))?;
        let head = chain.head_index();
        self.asked.add_used(&self.memory, head, 0).map_err(|error| format!("its queue: {error}"))?;
        self.buffer.read(ACCESS_BYTES).map(Some)
    }

    fn has_next(&self) -> bool {
        let available = self.asked.avail_idx(&self.memory, Ordering::Acquire);
        available.is_ok_and(|index| index.0 != self.asked.next_avail())
    }

    fn tell(&mut self, answer: &Answer, string: &[u8]) -> io::Result<bool> {
        let Some(mut chain) = self.answers.pop_descriptor_chain(&self.memory) else { return Ok(false) };
        let buffer = chain.next().filter(may_hold_an_answer);
        let buffer = buffer.ok_or_else(|| io::Error::other("a buffer for answers is none"))?;
        with_bytes(answer, |bytes| self.memory.write_slice(bytes, buffer.addr())).map_err(io::Error::other)?;
        let place = GuestAddress(ANSWER_BASE + STRING as u64);
        self.memory.write_slice(string, place).map_err(io::Error::other)?;
        let head = chain.head_index();
        self.answers.add_used(&self.memory, head, ANSWER_BYTES as u32).map_err(io::Error::other)?;
        Ok(true)
    }

    fn told(&mut self, always: bool) -> io::Result<()> {
        // Asked in any case: it remembers how far it was asked.
        let wanted = self.answers.needs_notification(&self.memory).map_err(io::Error::other)?;
        if wanted || always { self.reply.signal(1) } else { Ok(()) }
    }

    fn spin(&self) -> u32 {
        word(&self.request, SPIN).load(Ordering::Relaxed) as u32
    }

    fn fall_asleep(&mut self) {
        self.is_asleep = true;
        // The caller looks once more in any case. That it cannot be said shows then.
        let _ = self.asked.enable_notification(&self.memory);
    }

    fn wake_up(&mut self) {
        self.is_asleep = false;
    }
}

/// Whether an answer may be written there: within the region that this process may write.
fn may_hold_an_answer(buffer: &Descriptor) -> bool {
    let offset = buffer.addr().0.checked_sub(ANSWER_BASE);
    let inside = offset.is_some_and(|offset| offset <= ANSWER_REGION_BYTES - ANSWER_BYTES as u64);
    inside && buffer.is_write_only() && buffer.len() as usize == ANSWER_BYTES
}

/// A region where the queues have it.
fn place(mapping: &Mapping, base: u64) -> Result<GuestRegionMmap, String> {
    let protection = libc::PROT_READ | if mapping.writable() { libc::PROT_WRITE } else { 0 };
    // SAFETY: the mapping has this start, length and protection, and whoever owns the result owns the mapping too and drops
    // it last. It is memory that the other side writes, and is reached by copies and atomic operations alone.
    let raw = unsafe { MmapRegion::build_raw(mapping.as_ptr(), mapping.len(), protection, libc::MAP_SHARED) };
    let raw = raw.map_err(|error| error.to_string())?;
    GuestRegionMmap::new(raw, GuestAddress(base)).ok_or_else(|| "a region reaches beyond the last address".into())
}
