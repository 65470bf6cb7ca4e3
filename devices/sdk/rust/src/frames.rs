//! Network frames, as a device sends and receives them.

use crate::{FRAME_MAX, FRAME_SLOTS};
use std::sync::{Arc, Mutex};

/// A device's end of a pair of rings of network frames to the outside.
///
/// A frame is what lies between preamble and checksum: destination, source, type and content. As with a
/// [`Stream`](crate::Stream) the device's two indices are part of its *state* and published only once committed. Frames beyond
/// a published index mean nothing: one that was put there and not committed is put there again, and one that was read is
/// there still. Indices count frames, modulo 2^32.
pub trait Frames: Send {
    /// Whether there is a frame at `received` of the in ring: a cheap look.
    fn has(&self, received: u32) -> bool;
    /// Copies the frame at `received`, if there is one, and says how long it is. Nothing is promised of its content, and it
    /// may be too short to be a frame.
    fn receive(&self, received: u32, into: &mut [u8; FRAME_MAX]) -> Option<usize>;
    /// Whether the out ring has room for one more frame when `sent` have been put in all.
    fn has_room(&self, sent: u32) -> bool;
    /// Puts a frame of at most [`FRAME_MAX`] bytes at `sent` of the out ring, which has room. It means nothing until
    /// [`Frames::publish`].
    fn send(&self, sent: u32, frame: &[u8]);
    /// Publishes the committed indices, and wakes the other side if they changed.
    fn publish(&self, sent: u32, received: u32);
    /// The indices published last: where a device goes on whose state is gone.
    fn published(&self) -> (u32, u32);
}

/// Frames in private memory, for tests: what was published is in [`TestFrames::sent`], what arrives is received.
#[derive(Clone, Default)]
pub struct TestFrames(Arc<Mutex<TestRings>>);

#[derive(Default)]
struct TestRings {
    /// All frames ever put, of which the first `sent` are published.
    out: Vec<Vec<u8>>,
    /// All frames that ever arrived, of which the first `received` are taken.
    input: Vec<Vec<u8>>,
    sent: u32,
    received: u32,
    /// How many of the published ones the other side has taken, where it does not take all at once.
    taken: Option<u32>,
}

#[allow(clippy::unwrap_used, clippy::missing_panics_doc)] // A test that panicked with the lock is over.
impl TestFrames {
    /// What was sent and published so far.
    #[must_use]
    pub fn sent(&self) -> Vec<Vec<u8>> {
        let rings = self.0.lock().unwrap();
        rings.out[..rings.sent as usize].to_vec()
    }
    /// A frame arrives.
    pub fn arrive(&self, frame: &[u8]) {
        self.0.lock().unwrap().input.push(frame.to_vec());
    }
    /// Frames that arrived and are not taken.
    #[must_use]
    pub fn waiting(&self) -> usize {
        let rings = self.0.lock().unwrap();
        rings.input.len() - rings.received as usize
    }
    /// From now on the other side takes nothing, or all again.
    pub fn set_stalled(&self, stalled: bool) {
        let mut rings = self.0.lock().unwrap();
        rings.taken = stalled.then_some(rings.sent);
    }
}

#[allow(clippy::unwrap_used)]
impl Frames for TestFrames {
    fn has(&self, received: u32) -> bool {
        (received as usize) < self.0.lock().unwrap().input.len()
    }
    fn receive(&self, received: u32, into: &mut [u8; FRAME_MAX]) -> Option<usize> {
        let rings = self.0.lock().unwrap();
        let frame = rings.input.get(received as usize)?;
        into[..frame.len()].copy_from_slice(frame);
        Some(frame.len())
    }
    fn has_room(&self, sent: u32) -> bool {
        let rings = self.0.lock().unwrap();
        let taken = rings.taken.unwrap_or(rings.sent);
        sent as usize <= rings.out.len() && sent.wrapping_sub(taken) < FRAME_SLOTS
    }
    fn send(&self, sent: u32, frame: &[u8]) {
        let mut rings = self.0.lock().unwrap();
        rings.out.truncate(sent as usize);
        rings.out.push(frame.to_vec());
    }
    fn publish(&self, sent: u32, received: u32) {
        let mut rings = self.0.lock().unwrap();
        // A device in a state that was made up may claim anything.
        rings.sent = sent.min(rings.out.len() as u32);
        rings.received = received.min(rings.input.len() as u32);
    }
    fn published(&self) -> (u32, u32) {
        let rings = self.0.lock().unwrap();
        (rings.sent, rings.received)
    }
}
