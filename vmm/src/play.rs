//! A machine that is driven: steps made one after the other, in place of vcpus and time.
//!
//! With the virtual clock nothing happens between steps. After an access the device that it went to comes to rest before
//! the next step, and so does every other that has an alarm in it; only what comes from outside (typed bytes, frames) is
//! not of this order. So the same steps have the same outcomes, at any speed.

use crate::bus::{Space, Target};
use crate::machine::{Device, Machine, ones};
use schema::lane::Operation;
use schema::manifest::Power;
use schema::play::{OUTCOME_WORDS, Outcome, Played, Step};
use schema::vmm::Drive;

/// Alarms of one call, after which it is answered although the time asked for has not passed: who asked looks at other
/// things before it asks again. A timer of a kilohertz has as many in four seconds.
const ALARMS_MAX: usize = 4096;
/// Rounds of alarms that are due at once. Each puts its device's next one later, unless the device is broken.
const ROUNDS_MAX: usize = 16;

impl Machine {
    /// Makes steps, as many as an answer has room for. The last may be time that has not all passed, as `now` tells.
    pub fn play(&self, steps: &[Step]) -> Played {
        let (mut outcomes, mut words) = (Vec::new(), 0);
        for step in steps {
            let mut outcome = Outcome::default();
            let whole = self.make(step, &mut outcome);
            outcome.changes = self.pins.changes();
            // An outcome, and two lists.
            words += 3 + outcome.bytes.len().div_ceil(8) + outcome.changes.len() + 1;
            outcomes.push(outcome);
            if !whole || words > OUTCOME_WORDS {
                break;
            }
        }
        Played { steps: outcomes, now: self.now(), deadline: self.next_alarm() }
    }

    /// Makes one step. False: time has not passed as far as it was to.
    fn make(&self, step: &Step, outcome: &mut Outcome) -> bool {
        match step {
            Step::Access(access) => outcome.value = self.access(access),
            Step::Read { address, count } => {
                outcome.bytes = vec![0; (*count).into()];
                self.read_block(*address, &mut outcome.bytes);
            }
            Step::Write { address, bytes } => self.write_block(*address, bytes),
            Step::Fill { address, count, byte } => self.write_block(*address, &vec![*byte; (*count).into()]),
            Step::Pass(until) => return self.pass(*until),
            Step::Wire { input, level } => self.pins.wire((*input).into(), *level),
        }
        true
    }

    /// An access that is not possible loads as one that nobody answers.
    fn access(&self, access: &Drive) -> u64 {
        let value = self.drive(access).unwrap_or(ones(access.width));
        if self.clock().is_virtual() {
            let space = if access.port { Space::Port } else { Space::Memory };
            if let Some(Target::Device { device, .. }) =
                self.route(space, access.address, access.width).map(|route| route.target)
                && let Some(device) = self.device(device)
            {
                self.bring_to_rest(device);
            }
            self.alarms_due_now();
        }
        self.send_messages();
        value
    }

    /// Memory at once, anything else in accesses as wide as they can be.
    fn read_block(&self, address: u64, bytes: &mut [u8]) {
        if self.read_ram(address, bytes) {
            return;
        }
        let mut at = 0;
        while at < bytes.len() {
            let place = address.wrapping_add(at as u64);
            let width = widest(place, bytes.len() - at);
            let value = self.access(&Drive { write: false, port: false, address: place, width, value: 0 });
            bytes[at..at + usize::from(width)].copy_from_slice(&value.to_le_bytes()[..usize::from(width)]);
            at += usize::from(width);
        }
    }

    fn write_block(&self, address: u64, bytes: &[u8]) {
        if self.write_ram(address, bytes) {
            return;
        }
        let mut at = 0;
        while at < bytes.len() {
            let place = address.wrapping_add(at as u64);
            let width = widest(place, bytes.len() - at);
            let mut value = [0; 8];
            value[..usize::from(width)].copy_from_slice(&bytes[at..at + usize::from(width)]);
            let value = u64::from_le_bytes(value);
            self.access(&Drive { write: true, port: false, address: place, width, value });
            at += usize::from(width);
        }
    }

    /// Goes on until `until`, with each alarm on the way at its own time. False: not that far yet.
    fn pass(&self, until: u64) -> bool {
        if !self.clock().is_virtual() {
            return true;
        }
        for _ in 0..ALARMS_MAX {
            if self.pins.record_is_full() {
                return false;
            }
            let Some(due) = self.next_alarm().filter(|due| *due <= until) else {
                self.clock().advance(until);
                // What came from outside meanwhile is taken now.
                self.devices.iter().for_each(|device| self.bring_to_rest(device));
                self.send_messages();
                return true;
            };
            self.clock().advance(due);
            self.alarms_due_now();
            self.send_messages();
        }
        false
    }

    fn next_alarm(&self) -> Option<u64> {
        // A device whose alarm was due and is due still is broken, or late: time does not wait for it.
        let now = self.now();
        let deadline = |device: &Device| device.lane.deadline().map(|due| if due <= now { now + 1 } else { due });
        self.devices.iter().filter(|device| !device.lane.is_retired()).filter_map(deadline).min()
    }

    fn alarms_due_now(&self) {
        let now = self.now();
        let is_due = |device: &&Device| {
            !device.lane.is_retired() && device.lane.deadline().is_some_and(|deadline| deadline <= now)
        };
        for _ in 0..ROUNDS_MAX {
            let mut any = false;
            for device in self.devices.iter().filter(is_due) {
                any = true;
                self.operate(device, Operation::Alarm);
                self.bring_to_rest(device);
            }
            if !any {
                return;
            }
        }
    }

    /// A device that works by itself finishes what it was asked for.
    fn bring_to_rest(&self, device: &Device) {
        let works = |power: Power| !matches!(power, Power::Switch | Power::Stream | Power::Direct | Power::Scanout);
        if !device.lane.is_retired() && device.manifest.wishes.iter().any(|wish| works(wish.power)) {
            self.operate(device, Operation::Quiesce);
        }
    }
}

/// The widest access that begins at `address`, aligned, and has `left` bytes or fewer.
fn widest(address: u64, left: usize) -> u8 {
    [8, 4, 2]
        .into_iter()
        .find(|width| address.is_multiple_of(u64::from(*width)) && usize::from(*width) <= left)
        .unwrap_or(1)
}

#[cfg(test)]
mod tests;
