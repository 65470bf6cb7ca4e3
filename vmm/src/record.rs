//! What is kept for whoever drives the machine.

use crate::lock;
use schema::play::{CHANGES_MAX, Change};
use std::collections::VecDeque;
use std::sync::Mutex;

/// Changes of interrupt inputs that were not told of yet.
#[derive(Default)]
pub struct Record(Mutex<VecDeque<Change>>);

impl Record {
    /// Keeps a change. Beyond the bound the oldest is lost: only a host that changes its lines of its own accord, faster than
    /// the supervisor reads, comes there.
    pub fn push(&self, change: Change) {
        let mut changes = lock(&self.0);
        if changes.len() == CHANGES_MAX {
            changes.pop_front();
        }
        changes.push_back(change);
    }

    /// Takes all that there are.
    pub fn take(&self) -> Vec<Change> {
        lock(&self.0).drain(..).collect()
    }

    /// Whether there are as many as the last step of a long pass of time should add to.
    pub fn is_full(&self) -> bool {
        // What the alarms of one moment add: two changes of each of 64 devices.
        lock(&self.0).len() >= CHANGES_MAX - 2 * 64
    }
}
