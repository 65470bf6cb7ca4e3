//! The host's side: a disk, and a source of random bytes, that a helper has.

use super::mailbox::{DATA_MAX, Kind, Listed, Mailbox, Question};
use device::{BlockStore, RandomSource};
use imc::Wake;
use imc::lane::Rest;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use vm_memory::VolatileSlice;

/// The way to a helper: all devices of a host ask by it, one at a time.
#[derive(Clone)]
pub(crate) struct Asking(Arc<Mutex<Way>>);

struct Way {
    mailbox: Mailbox,
    /// Wakes the helper.
    bell: Wake,
    /// How the host sleeps: the helper rings its wake, like everybody.
    rest: Arc<Rest>,
    sequence: u32,
}

impl Asking {
    /// The way to the helper behind `mailbox`, which sleeps on `bell`.
    pub(crate) fn new(mailbox: Mailbox, bell: Wake, rest: Arc<Rest>) -> Asking {
        mailbox.fault_in();
        Asking(Arc::new(Mutex::new(Way { mailbox, bell, rest, sequence: 0 })))
    }

    /// The helper's disk for this wish of this device.
    pub(crate) fn disk(&self, device: u8, wish: u32) -> Option<Box<dyn BlockStore>> {
        let (number, listed) = self.with(|way| way.mailbox.find(device, wish))?;
        Some(Box::new(Helped { asking: self.clone(), number, listed }))
    }

    /// The helper's random bytes.
    pub(crate) fn random(&self) -> Box<dyn RandomSource> {
        Box::new(self.clone())
    }

    /// There is one thread, so this never waits.
    fn with<T>(&self, act: impl FnOnce(&mut Way) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Way {
    fn ask(&mut self, question: Question) -> io::Result<()> {
        // Number 0 is what the region says before anything was asked.
        self.sequence = self.sequence.checked_add(1).unwrap_or(1);
        self.mailbox.ask(self.sequence, &question);
        self.bell.signal(1)?;
        loop {
            if let Some(answer) = self.mailbox.answered(self.sequence) {
                return answer;
            }
            // Whatever else rings meanwhile is looked at when the device is done: a loop that did something looks again.
            self.rest.sleep()?;
        }
    }
}

/// A disk of the helper's.
struct Helped {
    asking: Asking,
    number: u64,
    listed: Listed,
}

impl Helped {
    fn question(&self, kind: Kind, offset: u64, bytes: usize) -> Question {
        Question { kind: kind as u32, disk: self.number, offset, bytes: bytes as u64 }
    }
}

impl BlockStore for Helped {
    fn bytes(&self) -> u64 {
        self.listed.bytes
    }

    fn readonly(&self) -> bool {
        self.listed.readonly
    }

    fn read_at(&mut self, offset: u64, into: &[VolatileSlice<'_>]) -> io::Result<()> {
        self.asking.with(|way| {
            in_portions(into, |done, portion, bytes| {
                way.ask(self.question(Kind::Read, offset + done, bytes))?;
                let data = way.mailbox.data(bytes);
                portion.each(|at, slice| {
                    data.offset(at).map_err(io::Error::other)?.copy_to_volatile_slice(slice);
                    Ok(())
                })
            })
        })
    }

    fn write_at(&mut self, offset: u64, from: &[VolatileSlice<'_>]) -> io::Result<()> {
        self.asking.with(|way| {
            in_portions(from, |done, portion, bytes| {
                let data = way.mailbox.data(bytes);
                portion.each(|at, slice| {
                    slice.copy_to_volatile_slice(data.offset(at).map_err(io::Error::other)?);
                    Ok(())
                })?;
                way.ask(self.question(Kind::Write, offset + done, bytes))
            })
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        self.asking.with(|way| way.ask(self.question(Kind::Flush, 0, 0)))
    }
}

impl RandomSource for Asking {
    fn fill(&mut self, into: &VolatileSlice<'_>) -> io::Result<()> {
        self.with(|way| {
            in_portions(&[*into], |_, portion, bytes| {
                way.ask(Question { kind: Kind::Random as u32, disk: 0, offset: 0, bytes: bytes as u64 })?;
                let data = way.mailbox.data(bytes);
                portion.each(|at, slice| {
                    data.offset(at).map_err(io::Error::other)?.copy_to_volatile_slice(slice);
                    Ok(())
                })
            })
        })
    }
}

/// As many bytes of some slices as one question may move.
struct Portion<'s, 'm> {
    slices: &'s [VolatileSlice<'m>],
    /// Bytes of the first slice that belong to an earlier portion.
    skip: usize,
    bytes: usize,
}

impl<'m> Portion<'_, 'm> {
    /// Hands over its pieces, each with its place in the portion.
    fn each(&self, mut act: impl FnMut(usize, VolatileSlice<'m>) -> io::Result<()>) -> io::Result<()> {
        let (mut at, mut skip) = (0, self.skip);
        for slice in self.slices {
            if at == self.bytes {
                break;
            }
            let take = (slice.len() - skip).min(self.bytes - at);
            act(at, slice.subslice(skip, take).map_err(io::Error::other)?)?;
            at += take;
            skip = 0;
        }
        Ok(())
    }
}

/// Cuts `slices` into portions, and hands each over with the bytes before it and its own.
fn in_portions<'m>(
    slices: &[VolatileSlice<'m>],
    mut act: impl FnMut(u64, &Portion<'_, 'm>, usize) -> io::Result<()>,
) -> io::Result<()> {
    let (mut left, mut skip, mut done) = (slices, 0, 0);
    while !left.is_empty() {
        let rest: usize = left.iter().map(|slice| slice.len()).sum::<usize>() - skip;
        let bytes = rest.min(DATA_MAX);
        act(done, &Portion { slices: left, skip, bytes }, bytes)?;
        done += bytes as u64;
        skip += bytes;
        while let Some((first, behind)) = left.split_first()
            && skip >= first.len()
        {
            skip -= first.len();
            left = behind;
        }
    }
    Ok(())
}
