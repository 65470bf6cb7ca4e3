//! How long to look before one sleeps, learnt from how long it took before.

/// Looks that are always spent where any are: less than it costs to go to sleep.
const LEAST: u32 = 64;
/// Of this many waits that are not expected to be short, one tries. A conversation that has become quick is noticed soon,
/// and the tries cost a slow one next to nothing.
const TRY_EVERY: u32 = 16;
/// How much of a new measurement is believed: one part in so many.
const WEIGHT: u32 = 8;

/// What one side of a lane has learnt of the other. Counts of looks, not times: a sealed host has no clock.
///
/// Looking is worth it when what is awaited comes sooner than a sleep and a wake-up would take, which is what the most is
/// set to. So one looks for twice as long as it usually takes, and not at all when even that would not be enough.
#[derive(Debug, Clone, Copy, Default)]
pub struct Patience {
    /// Looks that it usually takes.
    expected: u32,
    /// Waits since the last try.
    waits: u32,
}

impl Patience {
    /// How many looks to spend now, of `most`. With none, both sides may share a core, where a look only keeps the other
    /// from running.
    #[must_use]
    pub fn looks(&mut self, most: u32) -> u32 {
        if most == 0 || self.expected <= most / 2 {
            self.waits = 0;
            return self.expected.saturating_mul(2).saturating_add(LEAST).min(most);
        }
        self.waits += 1;
        if self.waits < TRY_EVERY {
            return 0;
        }
        self.waits = 0;
        most
    }

    /// It came after so many looks.
    pub fn came(&mut self, looks: u32) {
        // After a try that succeeded the old expectation means nothing.
        let expected = self.expected.min(looks.saturating_mul(2).saturating_add(LEAST));
        self.expected = expected - expected / WEIGHT + looks / WEIGHT;
    }

    /// It did not come in these looks of `most`.
    pub fn missed(&mut self, looks: u32, most: u32) {
        self.expected = self.expected.max(looks).min(most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: u32 = 2000;

    /// Waits for what takes `takes` looks, `times` times over. Says how many looks the last one spent.
    fn wait(patience: &mut Patience, takes: u32, times: usize) -> u32 {
        let mut spent = 0;
        for _ in 0..times {
            let looks = patience.looks(MOST);
            spent = looks.min(takes);
            if takes < looks { patience.came(takes) } else { patience.missed(looks, MOST) }
        }
        spent
    }

    #[test]
    fn who_may_share_a_core_never_looks() {
        let mut patience = Patience::default();
        for _ in 0..100 {
            assert_eq!(patience.looks(0), 0);
            patience.missed(0, 0);
        }
    }

    #[test]
    fn what_takes_long_is_not_looked_for() {
        let mut patience = Patience::default();
        wait(&mut patience, 50_000, 20);
        let looks: u32 = (0..160).map(|_| wait(&mut patience, 50_000, 1)).sum();
        assert_eq!(looks, 10 * MOST, "one wait in {TRY_EVERY} tries");
    }

    #[test]
    fn what_comes_soon_is_always_awaited() {
        for takes in [0, 5, 60, 300, 900] {
            let mut patience = Patience::default();
            wait(&mut patience, takes, 20);
            for _ in 0..100 {
                assert!(patience.looks(MOST) > takes, "{takes}: {patience:?}");
                patience.came(takes);
            }
        }
    }

    #[test]
    fn conversation_that_becomes_quick_is_noticed() {
        let mut patience = Patience::default();
        wait(&mut patience, 50_000, 100);
        wait(&mut patience, 10, TRY_EVERY as usize);
        assert_eq!(wait(&mut patience, 10, 1), 10);
    }

    #[test]
    fn one_slow_answer_among_quick_ones_costs_one_sleep() {
        let mut patience = Patience::default();
        wait(&mut patience, 10, 50);
        wait(&mut patience, 50_000, 1);
        assert_eq!(wait(&mut patience, 10, 1), 10);
    }

    #[test]
    fn no_count_overflows() {
        let mut patience = Patience::default();
        for _ in 0..100 {
            let looks = patience.looks(u32::MAX);
            patience.missed(looks, u32::MAX);
        }
        patience.came(u32::MAX);
        assert!((0..TRY_EVERY).any(|_| patience.looks(u32::MAX) > 0));
    }
}
