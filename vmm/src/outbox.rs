//! What is to be told to the supervisor. Any thread puts in, the hub, which alone has the channel, takes out.

use crate::lock;
use imc::{CallId, Wake};
use schema::host::{Log, Severity};
use schema::play::{Played, Turned};
use schema::vmm::Late;
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex};

/// Most log lines that wait: a guest can cause them at any rate, and the supervisor reads them when it has time.
const LINES_MAX: usize = 64;
/// Longest line in bytes, well within a message and the schema's bound.
const TEXT_MAX: usize = 512;

/// Something for the supervisor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A host was late, broke the rules, or was given up. At most one for each deadline, violation and host.
    Late(Late),
    /// The answer to the drive call that is under way: what was loaded, or `None` for an access that does not exist.
    Driven(Option<u64>),
    /// What came of the steps that were played.
    Played(Played),
    /// A driven machine was reset. At most one for each access that is played.
    Turned(Turned),
    /// The counters are asked for.
    Count(CallId),
    /// A call that asks for nothing was done.
    Done(CallId),
    /// A call is declined.
    Refuse(CallId, &'static str),
    /// The hosts have finished; the end of the run may be told.
    Finished,
    /// A log line.
    Log(Log),
}

/// Events that wait, and the hub's alarm clock.
pub struct Outbox {
    wake: Arc<Wake>,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    events: VecDeque<Event>,
    lines: usize,
    dropped: u64,
}

impl Outbox {
    /// An empty one.
    pub fn create() -> io::Result<Outbox> {
        Ok(Outbox { wake: Arc::new(Wake::create()?), waiting: Mutex::default() })
    }

    /// Puts in an event that must not be lost. There are few: one for each host, and one for each call of the supervisor,
    /// whose credit is limited.
    pub fn push(&self, event: Event) {
        lock(&self.waiting).events.push_back(event);
        self.wake();
    }

    /// Puts in a log line; too many are counted and dropped.
    pub fn log(&self, severity: Severity, mut text: String) {
        let end = text.floor_char_boundary(TEXT_MAX);
        text.truncate(end);
        let mut waiting = lock(&self.waiting);
        if waiting.lines == LINES_MAX {
            waiting.dropped += 1;
            return;
        }
        waiting.lines += 1;
        waiting.events.push_back(Event::Log(Log { severity, text }));
        drop(waiting);
        self.wake();
    }

    /// Takes the oldest event.
    pub fn pop(&self) -> Option<Event> {
        let mut waiting = lock(&self.waiting);
        match waiting.events.pop_front() {
            Some(Event::Log(line)) => {
                waiting.lines -= 1;
                Some(Event::Log(line))
            }
            None if waiting.dropped > 0 => {
                let text = format!("{} log lines dropped", std::mem::take(&mut waiting.dropped));
                Some(Event::Log(Log { severity: Severity::Warning, text }))
            }
            other => other,
        }
    }

    /// Puts back an event that could not be told now; it is the next again.
    pub fn put_back(&self, event: Event) {
        let mut waiting = lock(&self.waiting);
        waiting.lines += usize::from(matches!(event, Event::Log(_)));
        waiting.events.push_front(event);
    }

    /// Wakes the hub. Only threads of this process hold the eventfd, and the hub empties it at each turn: it never fills up.
    pub fn wake(&self) {
        let _ = self.wake.signal(1);
    }

    /// What the hub sleeps on.
    pub fn bell(&self) -> &Arc<Wake> {
        &self.wake
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flood_of_lines_is_bounded_and_said() {
        let outbox = Outbox::create().unwrap();
        for number in 0..LINES_MAX + 3 {
            outbox.log(Severity::Info, format!("line {number}"));
        }
        outbox.push(Event::Finished);
        for number in 0..LINES_MAX {
            let Some(Event::Log(line)) = outbox.pop() else { panic!("line {number} is missing") };
            assert_eq!(line.text, format!("line {number}"));
        }
        assert_eq!(outbox.pop(), Some(Event::Finished), "never dropped");
        let Some(Event::Log(line)) = outbox.pop() else { panic!("nothing said") };
        assert_eq!(line.text, "3 log lines dropped");
        assert_eq!(outbox.pop(), None);
    }

    #[test]
    fn long_line_is_cut_between_characters() {
        let outbox = Outbox::create().unwrap();
        outbox.log(Severity::Info, "ä".repeat(TEXT_MAX));
        let Some(Event::Log(line)) = outbox.pop() else { panic!("nothing") };
        assert_eq!(line.text, "ä".repeat(TEXT_MAX / 2));
    }

    #[test]
    fn event_put_back_is_the_next_again() {
        let outbox = Outbox::create().unwrap();
        outbox.push(Event::Finished);
        outbox.log(Severity::Info, "after".into());
        let first = outbox.pop().unwrap();
        outbox.put_back(first);
        assert_eq!(outbox.pop(), Some(Event::Finished));
    }
}
