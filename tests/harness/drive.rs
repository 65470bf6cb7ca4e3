//! Devices without a machine: `cofferdam device drive`.

use crate::harness::{Place, text};
use std::io::Write;
use std::process::Stdio;

/// What a device answers to each line of a script.
pub fn drive(place: &Place, device: &str, carrier: &str, script: &str) -> Vec<String> {
    let mut child = place
        .cofferdam()
        .args(["device", "drive", device, "--carrier", carrier])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut input, script) = (child.stdin.take().unwrap(), script.to_owned());
    // What it says may be more than a pipe holds, before it has read all.
    let asking = std::thread::spawn(move || input.write_all(script.as_bytes()));
    let output = child.wait_with_output().unwrap();
    asking.join().unwrap().unwrap_or_else(|error| panic!("{device}: {error}: {}", text(&output.stderr)));
    assert!(output.status.success(), "{device}: {}", text(&output.stderr));
    text(&output.stdout).lines().map(str::to_owned).collect()
}
