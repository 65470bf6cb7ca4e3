//! What is done when a guest does something that ends a machine, in the words of the machine protocol.

/// For each of those things.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Actions {
    /// It resets the machine: `true`, the run ends.
    pub reset_ends: bool,
    /// It powers the machine off.
    pub power_off: After,
    /// It says that it panicked.
    pub panic: After,
    /// Its watchdog expires.
    pub watchdog: Watchdog,
}

impl Default for Actions {
    fn default() -> Actions {
        Actions { reset_ends: false, power_off: After::PowerOff, panic: After::PowerOff, watchdog: Watchdog::Reset }
    }
}

impl Actions {
    /// What is done after a panic: a machine that is not to end pauses.
    pub fn after_panic(&self) -> After {
        match (self.panic, self.power_off) {
            (After::PowerOff, After::Pause) => After::Pause,
            (panic, _) => panic,
        }
    }
}

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// Nothing.
    Nothing,
    /// The machine pauses.
    Pause,
    /// It begins anew.
    Reset,
    /// It is powered off.
    PowerOff,
}

impl After {
    /// What a word asks for. What this machine cannot do is nothing.
    pub fn of(word: &str) -> After {
        match word {
            "pause" => After::Pause,
            "reset" => After::Reset,
            "shutdown" | "poweroff" | "exit-failure" => After::PowerOff,
            _ => After::Nothing,
        }
    }

    /// As the event of a panic has it.
    pub fn word(self) -> &'static str {
        match self {
            After::Nothing => "run",
            After::Pause => "pause",
            After::Reset => "reset",
            After::PowerOff => "poweroff",
        }
    }
}

/// What is done when a watchdog expires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watchdog {
    /// The machine begins anew.
    Reset,
    /// Its power button is pressed.
    Shutdown,
    /// It is powered off.
    PowerOff,
    /// It pauses.
    Pause,
    /// It is told, and no more.
    Debug,
    /// The same.
    Nothing,
    /// The same: there is no processor that would take an NMI.
    InjectNmi,
}

impl Watchdog {
    /// All words, each of the action in the same place of [`Watchdog::ALL`].
    pub const WORDS: &[&str] = &["reset", "shutdown", "poweroff", "pause", "debug", "none", "inject-nmi"];
    const ALL: [Watchdog; 7] = [
        Watchdog::Reset,
        Watchdog::Shutdown,
        Watchdog::PowerOff,
        Watchdog::Pause,
        Watchdog::Debug,
        Watchdog::Nothing,
        Watchdog::InjectNmi,
    ];

    /// The one that a word asks for.
    pub fn of(word: &str) -> Option<Watchdog> {
        let place = Watchdog::WORDS.iter().position(|known| *known == word)?;
        Watchdog::ALL.get(place).copied()
    }

    /// Its word.
    pub fn word(self) -> &'static str {
        let place = Watchdog::ALL.iter().position(|known| *known == self);
        place.and_then(|place| Watchdog::WORDS.get(place)).unwrap_or(&"none")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_that_is_none_asks_for_nothing_and_each_other_for_its_own() {
        assert_eq!((Watchdog::of("dance"), After::of("dance")), (None, After::Nothing));
        assert_eq!(Watchdog::ALL.map(Watchdog::word).to_vec(), Watchdog::WORDS);
        assert!(Watchdog::WORDS.iter().all(|word| Watchdog::of(word).is_some_and(|action| action.word() == *word)));
    }
}
