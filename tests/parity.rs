//! One device in three languages, and in Rust twice, answers alike: every reply, and all that a guest sees without asking, over made-up
//! accesses with deaths and restarts in between. What these agree on is what the wire means.

#[path = "harness/cpp.rs"]
mod cpp;
#[path = "harness/drive.rs"]
mod drive;
mod harness;
#[path = "harness/python.rs"]
mod python;
#[path = "harness/rust.rs"]
mod rust;

use drive::drive;
use harness::Place;
use std::path::{Path, PathBuf};

/// Accesses of a sequence.
const ACCESSES: usize = 300;

/// A script that looks random and is the same in each run: accesses of every width, in and beside the ranges, alarms when they
/// may be due, resets and deaths.
fn script(seed: u64) -> String {
    let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = |bound: u64| {
        random ^= random >> 12;
        random ^= random << 25;
        random ^= random >> 27;
        random.wrapping_mul(0x2545_f491_4f6c_dd1d) % bound
    };
    let mut now = 0;
    let mut lines = Vec::new();
    for _ in 0..ACCESSES {
        now += next(4_000_000_000);
        let (range, offset, width) = (next(3), next(2) * next(2), 1 << (next(6) / 2));
        lines.push(match next(24) {
            0 => "restart".to_owned(),
            1 => format!("reset {now}"),
            2 => format!("button {now}"),
            3..=7 => format!("alarm {now}"),
            8..=11 => format!("read {range} {offset} {width} {now}"),
            _ => format!("write {range} {offset} {width} {} {now}", next(1 << 40)),
        });
    }
    lines.join("\n") + "\n"
}

#[test]
fn the_watchdogs_in_rust_python_and_cpp_answer_alike_over_each_carrier() {
    let place = Place::new();
    let name = |path: PathBuf| path.to_string_lossy().into_owned();
    let mut devices = vec!["ib700".to_owned(), name(rust::example("ib700", &place.path("")))];
    devices.extend(python::interpreter().map(|found| name(python::example("ib700", found, &place.path("")))));
    devices.extend(cpp::example("ib700", &place.path("")).map(name));
    for seed in [1, 2] {
        let script = script(seed);
        let wanted = drive(&place, "ib700", "memory", &script);
        assert_eq!(wanted.len(), ACCESSES + 1, "each line has an answer");
        assert_eq!(wanted[ACCESSES], "switches turned: expired", "the watchdog has gone off");
        for device in &devices {
            for carrier in ["memory", "socket"] {
                let found = drive(&place, device, carrier, &script);
                let lines = script.lines().chain(["the end"]).zip(wanted.iter().zip(&found));
                for (number, (asked, (wanted, found))) in lines.enumerate() {
                    assert_eq!(found, wanted, "{device} over {carrier}, line {number} of {seed}: {asked}");
                }
                assert_eq!(found.len(), wanted.len());
            }
        }
    }
}

#[test]
fn a_device_that_differs_is_noticed() {
    let Some(interpreter) = python::interpreter() else { return };
    let place = Place::new();
    let text = std::fs::read_to_string(harness::root().join("devices/sdk/python/examples/ib700.py")).unwrap();
    let slower = text.replace("value % 16 * 2", "value % 16");
    assert_ne!(text, slower);
    let plugin = python::script(&slower, "ib700", interpreter, &place.path(""));
    let plugin = plugin.to_str().unwrap();
    assert!(Path::new(plugin).exists());
    assert_ne!(drive(&place, "ib700", "memory", &script(1)), drive(&place, plugin, "memory", &script(1)));
}
