//! What this crate's tests run in the place of a device host: `probe LEVEL DEVICE ACT` as its name. It confines itself,
//! takes its grants, seals itself, and then does what it should not be able to do.
//!
//! As an ordinary program it plays the supervisor instead, so that a test can be one as another user, or be killed.

#![allow(unsafe_code, missing_docs)] // A program of tests; it makes the system calls that a sandbox must stop.

mod acts;
mod driver;
mod supervisor;

use driver::{DeviceKind, Granted};
use sandbox::{Confined, DescriptorKind, Held, Mode, Recipe, confine};
use std::os::fd::{AsRawFd, BorrowedFd, IntoRawFd};

/// The channel.
const CHANNEL: i32 = 3;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments[0].strip_prefix("probe ") {
        Some(words) => {
            let words: Vec<&str> = words.split(' ').collect();
            host(words[0], words[1], words[2]);
        }
        None => supervisor::main(&arguments[1..]),
    }
}

/// Leaves without the C library's help, which a sealed process could not use.
pub fn leave(code: i32) -> ! {
    // SAFETY: ends this thread, the only one.
    unsafe { libc::syscall(libc::SYS_exit, code) };
    unreachable!("exit returned")
}

fn say(word: &str) {
    // SAFETY: the text is readable; the channel stays open.
    let written = unsafe { libc::write(CHANNEL, word.as_ptr().cast(), word.len()) };
    if written != word.len() as isize {
        leave(250);
    }
}

fn host(level: &str, device: &str, act: &str) {
    let device = DeviceKind::named(device);
    let recipe = Recipe::host(driver::level_named(level), &device.manifests());
    let confined = match confine() {
        Ok(confined) => confined,
        Err(error) => return say(&format!("failed: {error}")),
    };
    acts::while_confined(act);
    say("confined");
    // SAFETY: the channel stays open as long as the process.
    let channel = unsafe { BorrowedFd::borrow_raw(CHANNEL) };
    let granted = driver::receive_grants(channel, device);
    for region in granted.regions() {
        driver::map(region);
    }
    seal(confined, &recipe, &granted, act);
    say("sealed");
    let (wake, irq) = (granted.wake.into_raw_fd(), granted.irq.into_raw_fd());
    let file = granted.file.map_or(-1, IntoRawFd::into_raw_fd);
    let mut value = 0u64;
    // SAFETY: eight bytes of this stack.
    unsafe { libc::read(wake, std::ptr::from_mut(&mut value).cast(), 8) };
    leave(acts::once_sealed(act, &acts::Numbers { wake, irq, file }));
}

fn seal(confined: Confined, recipe: &Recipe, granted: &Granted, act: &str) {
    let mut held = vec![
        Held::new(CHANNEL, DescriptorKind::Channel, Mode::Write),
        Held::new(granted.wake.as_raw_fd(), DescriptorKind::Eventfd, Mode::Read),
        Held::new(granted.irq.as_raw_fd(), DescriptorKind::Eventfd, Mode::Write),
        Held::new(granted.reply.as_raw_fd(), DescriptorKind::Eventfd, Mode::Write),
    ];
    if let Some(file) = &granted.file {
        held.push(Held::new(file.as_raw_fd(), DescriptorKind::File, Mode::Both));
    }
    if let Some(extra) = acts::before_seal(act) {
        held.push(Held::new(extra, DescriptorKind::Eventfd, Mode::Both));
    }
    if act == "stay-unsealed" {
        return std::mem::forget(confined);
    }
    if let Err(error) = confined.seal(recipe, &held) {
        say(&format!("failed: {error}"));
        leave(251);
    }
}
