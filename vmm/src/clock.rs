//! The guest clock: nanoseconds since the machine started.

use schema::play;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Whose time it is.
pub enum Clock {
    /// The outside's, from the machine's start on.
    Real(OnceLock<Instant>),
    /// Nobody's: it stands still until it is told to go on.
    Virtual(AtomicU64),
}

impl Clock {
    /// One that has not started.
    pub fn new(kind: play::Clock) -> Clock {
        match kind {
            play::Clock::Real => Clock::Real(OnceLock::new()),
            play::Clock::Virtual => Clock::Virtual(AtomicU64::new(0)),
        }
    }

    /// The machine runs from now on.
    pub fn start(&self) {
        if let Clock::Real(start) = self {
            let _ = start.set(Instant::now());
        }
    }

    /// Zero before the start.
    pub fn now(&self) -> u64 {
        match self {
            Clock::Real(start) => {
                start.get().map_or(0, |start| u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX))
            }
            Clock::Virtual(now) => now.load(Ordering::SeqCst),
        }
    }

    /// Whether it goes on when it is told to, and not otherwise.
    pub fn is_virtual(&self) -> bool {
        matches!(self, Clock::Virtual(_))
    }

    /// Goes on to `now`, if it is virtual and not further already.
    pub fn advance(&self, to: u64) {
        if let Clock::Virtual(now) = self {
            now.fetch_max(to, Ordering::SeqCst);
        }
    }
}
