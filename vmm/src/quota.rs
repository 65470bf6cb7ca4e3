//! How often somebody who may have no measure is heard.

use std::time::{Duration, Instant};

/// So much in a period; what is beyond waits for the next one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Quota {
    most: u32,
    period: Duration,
    since: Instant,
    count: u32,
}

impl Quota {
    /// `most` in each `period`, of which nothing is used up at `now`.
    pub(crate) fn new(most: u32, period: Duration, now: Instant) -> Quota {
        Quota { most, period, since: now, count: 0 }
    }

    /// It was heard `times` more.
    pub(crate) fn count(&mut self, times: u32, now: Instant) {
        if now.duration_since(self.since) >= self.period {
            (self.since, self.count) = (now, 0);
        }
        self.count = self.count.saturating_add(times);
    }

    /// How long it is not to be heard, if its quota is used up.
    pub(crate) fn used_up(&self, now: Instant) -> Option<Duration> {
        let left = self.period.checked_sub(now.duration_since(self.since)).filter(|left| !left.is_zero());
        left.filter(|_| self.count >= self.most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: u32 = 16;
    const PERIOD: Duration = Duration::from_millis(1);

    #[test]
    fn who_goes_on_without_end_is_heard_a_bounded_number_of_times() {
        let start = Instant::now();
        let mut quota = Quota::new(MOST, PERIOD, start);
        let step = Duration::from_micros(1);
        let (mut heard, mut last) = (0, 0);
        for tick in 0..100_000 {
            let now = start + step * tick;
            if quota.used_up(now).is_none() {
                quota.count(1, now);
                (heard, last) = (heard + 1, tick);
            }
        }
        assert_eq!(heard, 100 * MOST, "in a tenth of a second");
        assert!(last > 99_000, "and it is heard to the end");
    }

    #[test]
    fn who_keeps_below_it_never_waits() {
        let start = Instant::now();
        let mut quota = Quota::new(MOST, PERIOD, start);
        for tick in 0..10_000 {
            let now = start + Duration::from_secs(1) / 8192 * tick;
            assert!(quota.used_up(now).is_none(), "{tick}");
            quota.count(1, now);
        }
    }

    #[test]
    fn who_waits_is_heard_again_when_it_was_said() {
        let start = Instant::now();
        let mut quota = Quota::new(MOST, PERIOD, start);
        quota.count(2 * MOST, start);
        let wait = quota.used_up(start).expect("more than enough at once");
        assert!(quota.used_up(start + wait - Duration::from_nanos(1)).is_some());
        assert!(quota.used_up(start + wait).is_none());
    }
}
