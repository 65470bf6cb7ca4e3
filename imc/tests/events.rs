//! A memory word and a wake: the word is the truth, the wake a hint.

use imc::{EventCount, Mapping, PAGE_BYTES, Region, Wake};
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(5);

fn pair() -> (EventCount, EventCount, Wake) {
    let region = Region::create("test", PAGE_BYTES).unwrap();
    let wake = Wake::create().unwrap();
    let side = |mapping: Mapping| EventCount::new(mapping, 64, wake.try_clone().unwrap()).unwrap();
    (side(region.map().unwrap()), side(region.read_only().unwrap().map().unwrap()), wake)
}

#[test]
fn word_outside_of_the_mapping_or_across_words_is_refused() {
    let region = Region::create("test", PAGE_BYTES).unwrap();
    for offset in [1, 2, 4094, 4096, usize::MAX] {
        assert!(EventCount::new(region.map().unwrap(), offset, Wake::create().unwrap()).is_err(), "{offset}");
    }
    assert!(EventCount::new(region.map().unwrap(), 4092, Wake::create().unwrap()).is_ok());
}

#[test]
#[should_panic = "who only looks"]
fn who_may_only_look_cannot_advance() {
    let (_writer, reader, _wake) = pair();
    let _ = reader.advance();
}

#[test]
fn ring_without_an_event_is_nothing() {
    let (_writer, reader, wake) = pair();
    wake.signal(9).unwrap();
    let begun = Instant::now();
    assert_eq!(reader.wait_past(0, Duration::from_millis(20)).unwrap(), None);
    assert!(begun.elapsed() >= Duration::from_millis(20));
}

#[test]
fn event_without_a_ring_is_seen_all_the_same() {
    let (writer, reader, wake) = pair();
    wake.signal(u64::MAX - 1).unwrap();
    assert!(!writer.advance().unwrap(), "its wake is stuffed");
    assert_eq!(reader.wait_past(0, Duration::ZERO).unwrap(), Some(1));
    wake.drain();
    assert!(writer.advance().unwrap());
    wake.drain();
    assert_eq!(reader.wait_past(1, Duration::ZERO).unwrap(), Some(2));
}

#[test]
fn waiter_sees_what_was_stored_before_the_event() {
    let (writer, reader, _wake) = pair();
    let waiter = std::thread::spawn(move || {
        let mut bytes = [0; 5];
        assert_eq!(reader.wait_past(0, SOON).unwrap(), Some(1));
        reader.mapping().read(128, &mut bytes);
        bytes
    });
    writer.mapping().write(128, b"ready");
    writer.advance().unwrap();
    assert_eq!(&waiter.join().unwrap(), b"ready");
}
