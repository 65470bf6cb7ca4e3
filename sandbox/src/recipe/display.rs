//! The recipe of a display relay, which shows viewers on this machine what a display has drawn, and tells what they do there.

use super::relay::relay;
use super::{Call, Condition, Count, DescriptorKind, Keep, Mode, Named, Permit, Recipe, Share, Stage};
use schema::display::SCANOUT_BYTES;
use schema::host::Level;

/// Viewers that are connected at the same time. Another one waits.
pub const VIEWERS_MAX: u32 = 4;
/// What the rings take by which it says what viewers do.
const RING_BYTES: u64 = 256 << 10;

impl Recipe {
    /// The recipe of the relay of a display that is confined at `level`, with so many listeners.
    #[must_use]
    pub fn display_relay(level: Level, listeners: u32) -> Recipe {
        let held = [
            keep(DescriptorKind::Eventfd, Mode::Read, 3, "placeholder", PLACEHOLDERS),
            keep(DescriptorKind::Channel, Mode::Write, 1, "channel", CHANNEL),
            keep(DescriptorKind::Listener, Mode::Read, listeners, "listener", "where viewers of this machine connect"),
            keep(DescriptorKind::Eventfd, Mode::Write, 1, "bell", "a viewer has done something"),
            keep(DescriptorKind::Eventfd, Mode::Write, 1, "wanted", "a viewer wants a picture"),
        ];
        let files = held.iter().map(|keep| keep.count.most()).sum::<u32>() + VIEWERS_MAX;
        let shared_bytes = SCANOUT_BYTES + RING_BYTES;
        let because = "those that it holds, and a connection for each viewer";
        let mut recipe = relay("display relay", level, shared_bytes, files.into(), because);
        if recipe.level == Level::Off {
            return recipe;
        }
        recipe.descriptors.extend(held);
        let share = |name, mode, bytes, because: &'static str| Share {
            name,
            mode,
            bytes: Some(bytes),
            guest: false,
            because: because.into(),
        };
        recipe.memory = vec![
            share("cofferdam:scanout", Mode::Read, SCANOUT_BYTES, "what the display has drawn"),
            share("cofferdam:stream", Mode::Both, RING_BYTES, "what viewers do with keyboard and mouse"),
        ];
        recipe = recipe.keep(
            DescriptorKind::Connection,
            Mode::Both,
            Count::UpTo(VIEWERS_MAX),
            "viewer",
            "a viewer that it has accepted",
        );
        if recipe.is_filtered() {
            recipe.calls = calls();
        }
        recipe
    }
}

const CHANNEL: &str = "to the supervisor: grants come in until it is sealed, then only log lines go out";
const PLACEHOLDERS: &str = "numbers 0, 1 and 2 stay taken, so that no viewer gets one and is sent a stray print";

fn keep(kind: DescriptorKind, mode: Mode, count: u32, purpose: &'static str, because: &'static str) -> Keep {
    // Its channel is there from its start; the numbers 0 to 2 are then held by what `placeholders` says.
    let at: &[Stage] =
        if kind == DescriptorKind::Channel { &[Stage::Confined, Stage::Sealed] } else { &[Stage::Sealed] };
    Keep { kind, mode, count: Count::Exactly(count), at, purpose, because: because.into() }
}

fn calls() -> Vec<Permit> {
    use DescriptorKind::{Channel, Connection, Eventfd, Listener};
    let permit = |call, when, because: &'static str| Permit { call, when, because: because.into() };
    let on = |kinds, mode| Condition::On(kinds, mode);
    let none = |argument| Condition::OneOf(argument, vec![Named { value: 0, name: "none" }]);
    let flags =
        Named { value: (libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC) as u64, name: "SOCK_NONBLOCK | SOCK_CLOEXEC" };
    let accepted = vec![on(&[Listener], Mode::Read), none(1), none(2), Condition::OneOf(3, vec![flags])];
    let clock = Named { value: libc::CLOCK_MONOTONIC as u64, name: "CLOCK_MONOTONIC" };
    let no_flag = Named { value: 0, name: "no flag" };
    vec![
        permit(Call::POLL, vec![], "sleeping until a viewer says something, or can be shown more"),
        permit(Call::ACCEPT4, accepted, "letting a viewer connect; it connects to nobody itself"),
        permit(Call::READ, vec![on(&[Connection], Mode::Read)], "what a viewer says"),
        permit(
            Call::WRITE,
            vec![on(&[Connection, Eventfd, Channel], Mode::Write)],
            "what a viewer is shown; ringing the supervisor, and log lines",
        ),
        permit(Call::CLOSE, vec![on(&[Connection], Mode::Both)], "the end of a connection"),
        permit(
            Call::CLOCK_GETTIME,
            vec![Condition::OneOf(0, vec![clock])],
            "how long a viewer takes, on machines where telling the time takes a call",
        ),
        permit(Call::GETRANDOM, vec![Condition::OneOf(2, vec![no_flag])], "challenges that no viewer can foresee"),
        permit(Call::EXIT, vec![], "its end"),
        permit(Call::RT_SIGRETURN, vec![], "as in seccomp mode 1: a signal's handler returns"),
    ]
}
