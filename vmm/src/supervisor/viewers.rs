//! What viewers of a display do and want, as their relay says it: believed as far as it is something that a person can do.

use super::display::Display;
use super::grants::{DisplayGrants, Objects};
use crate::quota::Quota;
use anyhow::{Context, Result};
use imc::{Channel, Frozen, ReadWrite, Region, RelayEnd, STREAM_BYTES, Wake};
use schema::display::{INPUT_BYTES, Input, Pointer};
use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

/// Records that are taken at once: what is beyond has its turn later.
const RECORDS_MAX: usize = 512;
/// The display draws for viewers once in this time, however often their relay asks.
const DRAWS_EVERY: Duration = Duration::from_millis(20);

/// The supervisor's side of a display relay.
pub struct Viewers {
    device: usize,
    display: Display,
    /// Of the relay's incarnation of now: what it says begins with it.
    ends: Option<Ends>,
    /// Keys and buttons that are down: a relay that is gone lets go of none.
    keys: BTreeSet<u16>,
    buttons: u8,
    drawn: Quota,
}

struct Ends {
    ring: RelayEnd,
    bell: Wake,
    wanted: Wake,
    /// There may be more than was taken.
    more: bool,
}

/// What a relay says that no honest one does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nonsense;

impl Viewers {
    /// Those of what device number `device` draws.
    pub fn new(device: usize, display: &Display) -> Viewers {
        let drawn = Quota::new(1, DRAWS_EVERY, Instant::now());
        Viewers { device, display: display.clone(), ends: None, keys: BTreeSet::new(), buttons: 0, drawn }
    }

    /// The number of the display's device.
    pub fn device(&self) -> usize {
        self.device
    }

    /// How many listeners there are.
    pub fn listeners(&self) -> Result<u32> {
        Ok(self.display.open()?.listeners.len() as u32)
    }

    /// Grants to the next incarnation of their relay what it needs, with a ring that no other one has written to.
    pub fn grant(&mut self, objects: &Objects, channel: &mut Channel, deadline: Duration) -> Result<()> {
        let opened = self.display.open()?;
        let ring = Region::<ReadWrite>::create("cofferdam:stream", STREAM_BYTES)?;
        let password = Region::<Frozen>::freeze("cofferdam:password", &opened.password)?;
        for region in [ring.as_fd(), password.as_fd()] {
            objects.mac.claim_region(region)?;
        }
        let (bell, wanted) = (Wake::create()?, Wake::create()?);
        let (_, screen) = objects.devices[self.device].scanouts.first().context("a display without a scanout")?;
        let grants = DisplayGrants {
            listeners: &opened.listeners,
            screen: screen.read_only()?,
            password,
            ring: &ring,
            bell: &bell,
            wanted: &wanted,
        };
        objects.grant_display_relay(channel, &grants, deadline)?;
        self.ends = Some(Ends { ring: RelayEnd::new(ring.map()?), bell, wanted, more: false });
        Ok(())
    }

    /// Rung when a viewer has done something.
    pub fn bell(&self) -> Option<BorrowedFd<'_>> {
        self.ends.as_ref().map(|ends| ends.bell.as_fd())
    }

    /// Rung when a viewer wants a picture; unless the display has just drawn one.
    pub fn wanted(&self, now: Instant) -> Option<BorrowedFd<'_>> {
        self.ends.as_ref().filter(|_| self.drawn.used_up(now).is_none()).map(|ends| ends.wanted.as_fd())
    }

    /// When it is listened to again, if the display has just drawn.
    pub fn used_up(&self, now: Instant) -> Option<Duration> {
        self.drawn.used_up(now)
    }

    /// Whether there may be more that viewers did, without another ring of the bell.
    pub fn has_more(&self) -> bool {
        self.ends.as_ref().is_some_and(|ends| ends.more)
    }

    /// Takes what they did.
    pub fn did(&mut self) -> Result<Vec<Input>, Nonsense> {
        let Some(ends) = &mut self.ends else { return Ok(Vec::new()) };
        ends.bell.drain();
        let mut bytes = Vec::new();
        ends.ring.take(&mut bytes, RECORDS_MAX * INPUT_BYTES);
        ends.more = bytes.len() == RECORDS_MAX * INPUT_BYTES;
        let (records, rest) = bytes.as_chunks::<INPUT_BYTES>();
        let inputs: Option<Vec<Input>> = records.iter().map(Input::from_bytes).collect();
        let inputs = inputs.filter(|_| rest.is_empty()).ok_or(Nonsense)?;
        for input in &inputs {
            match input {
                Input::Press { key } => drop(self.keys.insert(*key)),
                Input::Release { key } => drop(self.keys.remove(key)),
                Input::Pointer(pointer) => self.buttons = pointer.buttons,
            }
        }
        Ok(inputs)
    }

    /// Their relay is gone: what lets go of all that they held.
    pub fn let_go(&mut self) -> Vec<Input> {
        let keys = std::mem::take(&mut self.keys).into_iter().map(|key| Input::Release { key });
        let held = std::mem::take(&mut self.buttons) != 0;
        keys.chain(held.then_some(Input::Pointer(Pointer::default()))).collect()
    }

    /// Takes that they want a picture. Says whether they do.
    pub fn want(&mut self) -> bool {
        let wants = self.ends.as_ref().is_some_and(|ends| ends.wanted.drain().is_some());
        if wants {
            self.drawn.count(1, Instant::now());
        }
        wants
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervisor::display::Display;
    use imc::DeviceEnd;

    fn viewers() -> (Viewers, DeviceEnd, Wake) {
        let mut viewers = Viewers::new(0, &Display::new("/nowhere".into(), None));
        let region = Region::<ReadWrite>::create("cofferdam:stream", STREAM_BYTES).unwrap();
        let (bell, wanted) = (Wake::create().unwrap(), Wake::create().unwrap());
        let relay = DeviceEnd::new(region.map().unwrap(), bell.try_clone().unwrap());
        let another = wanted.try_clone().unwrap();
        viewers.ends = Some(Ends { ring: RelayEnd::new(region.map().unwrap()), bell, wanted, more: false });
        (viewers, relay, another)
    }

    fn say(relay: &DeviceEnd, from: u32, bytes: &[u8]) -> u32 {
        let mut head = from;
        for byte in bytes {
            relay.put(head, *byte);
            head = head.wrapping_add(1);
        }
        relay.publish(head, 0);
        head
    }

    #[test]
    fn what_nobody_can_do_is_nonsense() {
        let press = Input::Press { key: 4 }.to_bytes();
        for bytes in [&[9; 8][..], &press[..7], &[&press[..], &[1, 1, 0, 0, 0, 0, 0, 0]].concat()] {
            let (mut viewers, relay, _) = viewers();
            say(&relay, 0, bytes);
            assert_eq!(viewers.did(), Err(Nonsense), "{bytes:?}");
        }
    }

    #[test]
    fn what_a_relay_held_that_is_gone_is_let_go() {
        let (mut viewers, relay, _) = viewers();
        let pointer = Input::Pointer(Pointer { buttons: 1, ..Pointer::default() });
        let did = [Input::Press { key: 4 }, Input::Press { key: 5 }, Input::Release { key: 4 }, pointer];
        say(&relay, 0, did.map(Input::to_bytes).as_flattened());
        assert_eq!(viewers.did().unwrap(), did);
        assert_eq!(viewers.let_go(), [Input::Release { key: 5 }, Input::Pointer(Pointer::default())]);
        assert_eq!(viewers.let_go(), []);
    }

    #[test]
    fn much_that_is_done_is_taken_in_turns() {
        let (mut viewers, relay, _) = viewers();
        let press = Input::Press { key: 4 }.to_bytes();
        say(&relay, 0, &press.repeat(RECORDS_MAX + 1));
        assert_eq!((viewers.did().unwrap().len(), viewers.has_more()), (RECORDS_MAX, true));
        assert_eq!((viewers.did().unwrap().len(), viewers.has_more()), (1, false));
        assert_eq!(viewers.did(), Ok(vec![]));
    }

    #[test]
    fn display_draws_no_more_often_than_it_should_however_often_it_is_asked() {
        let (mut viewers, _, wanted) = viewers();
        let start = Instant::now();
        wanted.signal(7).unwrap();
        assert!(viewers.wanted(start).is_some() && viewers.want());
        assert!(!viewers.want());
        let now = Instant::now();
        if let Some(wait) = viewers.used_up(now) {
            assert!(viewers.wanted(now).is_none() && viewers.wanted(now + wait).is_some());
        }
    }
}
