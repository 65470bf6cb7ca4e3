//! Whether to look for a while before one sleeps, learnt from how long it took before.

/// Of this many waits that are not expected to be short, one tries. A conversation that has become quick is noticed soon,
/// and the tries cost a slow one next to nothing.
const TRY_EVERY: u32 = 16;
/// How much of a new measurement is believed: one part in so many. One interruption of a quick conversation must not end it.
const WEIGHT: u64 = 8;

/// What one side of a lane has learnt of the other. Counts of looks, not times: a sealed host has no clock.
///
/// The most that is spent is what a sleep and a wake-up would cost. So looking never costs more than twice what the better
/// choice would have, and it is not tried at all where it usually takes more than half of that.
#[derive(Debug, Clone, Copy, Default)]
pub struct Patience {
    /// Looks that it usually takes.
    expected: u64,
    /// Waits since the last look.
    waits: u32,
}

impl Patience {
    /// How many looks to spend now: `most`, or none. With a most of none, both sides may share a core, where a look only
    /// keeps the other from running.
    #[must_use]
    pub fn looks(&mut self, most: u32) -> u32 {
        self.waits += 1;
        if self.expected <= u64::from(most / 2) || self.waits >= TRY_EVERY {
            self.waits = 0;
            return most;
        }
        0
    }

    /// It came after so many looks.
    pub fn came(&mut self, looks: u32, most: u32) {
        // After a try that succeeded the old expectation means nothing.
        self.expected = self.expected.min(u64::from(most / 2));
        self.learn(u64::from(looks));
    }

    /// It did not come in this many looks: it takes some more.
    pub fn missed(&mut self, looks: u32) {
        if looks > 0 {
            self.learn(2 * u64::from(looks));
        }
    }

    fn learn(&mut self, looks: u64) {
        self.expected = (self.expected * (WEIGHT - 1) + looks) / WEIGHT;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: u32 = 2000;

    /// Waits for what takes `takes` looks, `times` times over. Says how many looks all of them spent.
    fn wait(patience: &mut Patience, takes: u32, times: u32) -> u32 {
        (0..times)
            .map(|_| {
                let looks = patience.looks(MOST);
                if takes < looks {
                    patience.came(takes, MOST)
                } else {
                    patience.missed(looks)
                }
                looks.min(takes)
            })
            .sum()
    }

    #[test]
    fn who_may_share_a_core_never_looks() {
        let mut patience = Patience::default();
        for _ in 0..100 {
            assert_eq!(patience.looks(0), 0);
            patience.missed(0);
        }
    }

    #[test]
    fn what_takes_long_is_not_looked_for() {
        let mut patience = Patience::default();
        wait(&mut patience, 50_000, 20);
        assert_eq!(wait(&mut patience, 50_000, 10 * TRY_EVERY), 10 * MOST, "one wait in {TRY_EVERY} tries");
    }

    #[test]
    fn what_comes_soon_is_always_awaited() {
        for takes in [0, 5, 60, 300, 900] {
            let mut patience = Patience::default();
            assert_eq!(wait(&mut patience, takes, 100), 100 * takes);
        }
    }

    #[test]
    fn conversation_that_becomes_quick_is_noticed() {
        let mut patience = Patience::default();
        wait(&mut patience, 50_000, 100);
        wait(&mut patience, 10, TRY_EVERY);
        assert_eq!(wait(&mut patience, 10, 10), 100);
    }

    #[test]
    fn one_interruption_does_not_end_a_quick_conversation() {
        let mut patience = Patience::default();
        wait(&mut patience, 200, 50);
        for _ in 0..10 {
            wait(&mut patience, 50_000, 1);
            assert_eq!(wait(&mut patience, 200, 20), 20 * 200);
        }
    }

    #[test]
    fn no_count_overflows() {
        let mut patience = Patience::default();
        for _ in 0..100 {
            let looks = patience.looks(u32::MAX);
            patience.missed(looks);
        }
        patience.came(u32::MAX, u32::MAX);
        assert!((0..TRY_EVERY).any(|_| patience.looks(u32::MAX) > 0));
    }
}
