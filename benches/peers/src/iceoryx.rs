//! iceoryx2: samples in shared memory, of which the other side learns by an event or by looking without pause.

use crate::{Answerer, Trip, check, clock};
use anyhow::{Context, Result, anyhow};
use iceoryx2::port::listener::Listener;
use iceoryx2::port::notifier::Notifier;
use iceoryx2::port::publisher::Publisher;
use iceoryx2::port::subscriber::Subscriber;
use iceoryx2::prelude::*;
use std::process::Stdio;

/// A message of this length, which no trip has, ends the other side.
const LEAVE: usize = 1;

pub fn ask_by_event(trip: Trip, answerer: &Answerer) -> Result<Vec<f64>> {
    ask(trip, answerer, true)
}

pub fn ask_by_polling(trip: Trip, answerer: &Answerer) -> Result<Vec<f64>> {
    ask(trip, answerer, false)
}

pub fn answer_by_event(trip: Trip, place: &str) -> Result<()> {
    answer(trip, place, true)
}

pub fn answer_by_polling(trip: Trip, place: &str) -> Result<()> {
    answer(trip, place, false)
}

fn ask(trip: Trip, answerer: &Answerer, by_event: bool) -> Result<Vec<f64>> {
    let folder = std::env::temp_dir().join(format!("cofferdam-peers-{}", std::process::id()));
    let place = Place(folder.to_str().context("the folder for temporary files has no name in UTF-8")?.to_owned());
    let node = node(&place.0)?;
    let end = End::new(&node, ["back", "there"], trip, by_event)?;
    let running = answerer.start(Stdio::null(), &place.0)?;
    // The other side's first word, once all is connected.
    end.receive(|_| Ok(()))?;
    let payload = vec![1; trip.there];
    let samples = clock::samples(|count| {
        for _ in 0..count {
            end.send(&payload)?;
            end.receive(|back| check(back, trip.back))?;
        }
        anyhow::Ok(())
    })?;
    end.send(&[0; LEAVE])?;
    running.join()?;
    Ok(samples)
}

fn answer(trip: Trip, place: &str, by_event: bool) -> Result<()> {
    let node = node(place)?;
    let end = End::new(&node, ["there", "back"], trip, by_event)?;
    let payload = vec![1; trip.back];
    end.send(&payload)?;
    loop {
        let leave = end.receive(|there| {
            if there.len() == LEAVE {
                return Ok(true);
            }
            check(there, trip.there)?;
            Ok(false)
        })?;
        if leave {
            return Ok(());
        }
        end.send(&payload)?;
    }
}

/// Where iceoryx2 keeps its files: a folder of this run's own, so two runs never meet. What it leaves behind goes with it.
struct Place(String);

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
        for entry in std::fs::read_dir("/dev/shm").into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(&prefix(&self.0)) {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }
}

/// How the names of shared memory begin that belong to this place.
fn prefix(place: &str) -> String {
    let name = place.rsplit('/').next().unwrap_or_default();
    format!("{name}_")
}

fn node(place: &str) -> Result<Node<ipc::Service>> {
    set_log_level(LogLevel::Fatal);
    let mut config = Config::default();
    config.global.set_root_path(&failed(Path::new(place.as_bytes()))?);
    config.global.prefix = failed(FileName::new(prefix(place).as_bytes()))?;
    failed(NodeBuilder::new().config(&config).signal_handling_mode(SignalHandlingMode::Disabled).create())
}

/// One end of two services, one for each direction.
struct End {
    from: Subscriber<ipc::Service, [u8], ()>,
    to: Publisher<ipc::Service, [u8], ()>,
    events: Option<(Listener<ipc::Service>, Notifier<ipc::Service>)>,
}

impl End {
    fn new(node: &Node<ipc::Service>, [from, to]: [&str; 2], trip: Trip, by_event: bool) -> Result<End> {
        let samples = |name: &str| {
            let name = failed(ServiceName::new(name))?;
            failed(node.service_builder(&name).publish_subscribe::<[u8]>().open_or_create())
        };
        let events = |name: &str| {
            let name = failed(ServiceName::new(name))?;
            failed(node.service_builder(&name).event().open_or_create())
        };
        let longest = trip.there.max(trip.back);
        Ok(End {
            from: failed(samples(from)?.subscriber_builder().create())?,
            to: failed(samples(to)?.publisher_builder().initial_max_slice_len(longest).create())?,
            events: if by_event {
                let listener = failed(events(from)?.listener_builder().create())?;
                Some((listener, failed(events(to)?.notifier_builder().create())?))
            } else {
                None
            },
        })
    }

    fn send(&self, bytes: &[u8]) -> Result<()> {
        let sample = failed(self.to.loan_slice_uninit(bytes.len()))?;
        failed(sample.write_from_slice(bytes).send())?;
        if let Some((_, notifier)) = &self.events {
            failed(notifier.notify())?;
        }
        Ok(())
    }

    fn receive<T>(&self, take: impl FnOnce(&[u8]) -> Result<T>) -> Result<T> {
        loop {
            if let Some(sample) = failed(self.from.receive())? {
                return take(sample.payload());
            }
            match &self.events {
                Some((listener, _)) => drop(failed(listener.blocking_wait(|_| {}))?),
                None => std::hint::spin_loop(),
            }
        }
    }
}

/// Its errors are many types that do nothing but print.
fn failed<T, E: std::fmt::Debug>(result: Result<T, E>) -> Result<T> {
    result.map_err(|error| anyhow!("iceoryx2: {error:?}"))
}
