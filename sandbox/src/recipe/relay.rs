//! The recipe of a net relay, which has a network to speak to and hands its frames to and from a device host, which has none.

use super::common::{CPU_SLACK_PERCENT, KERNEL_BYTES, common_limits, layers, limits_with_files, placeholders};
use super::{
    Call, Condition, Count, DescriptorKind, GroupLimits, Keep, Mode, Named, Permit, Recipe, Resource, Share, Stage,
    Value,
};
use schema::host::{FRAMES_REGION_BYTES, Level};

/// Private memory of a relay: its program, and room for the largest frame, or for a picture of the largest size and what waits for
/// each viewer.
const RELAY_DATA_BYTES: u64 = 64 << 20;

/// Descriptors that it sleeps on at once: its bell and its network.
const POLLED: u64 = 2;

/// What a net relay speaks to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Network {
    /// A tap network interface: a frame a call.
    Tap,
    /// A unix stream socket to a program such as passt: frames with their lengths.
    Socket,
}

impl Network {
    /// What is behind its descriptor.
    #[must_use]
    pub const fn kind(self) -> DescriptorKind {
        match self {
            Network::Tap => DescriptorKind::Tap,
            Network::Socket => DescriptorKind::Channel,
        }
    }
}

impl Recipe {
    /// The recipe of the relay between a device that is confined at `level` and `network`.
    #[must_use]
    pub fn net_relay(level: Level, network: Network) -> Recipe {
        let mut recipe = relay(
            "net relay",
            level,
            FRAMES_REGION_BYTES,
            POLLED,
            "poll(2) asks for it; the calls below make no descriptor",
        );
        if recipe.level == Level::Off {
            return recipe;
        }
        recipe.descriptors.push(Keep {
            kind: DescriptorKind::Channel,
            mode: Mode::Write,
            count: Count::Exactly(1),
            at: &[Stage::Confined, Stage::Sealed],
            purpose: "channel",
            because: "to the supervisor: grants come in until it is sealed, then only log lines go out".into(),
        });
        recipe.memory.push(Share {
            name: "cofferdam:frames",
            mode: Mode::Both,
            bytes: Some(FRAMES_REGION_BYTES),
            guest: false,
            because: "frames that the device sends and receives".into(),
        });
        let one = Count::Exactly(1);
        recipe = recipe
            .keep(
                network.kind(),
                Mode::Both,
                one,
                "network",
                "where frames go and come from; all that it has of the world",
            )
            .keep(DescriptorKind::Eventfd, Mode::Read, one, "bell", "the device has sent or received frames")
            .keep(
                DescriptorKind::Eventfd,
                Mode::Write,
                one,
                "wake",
                "the host's wake: there is a frame, or room again",
            );
        if recipe.is_filtered() {
            recipe.calls = calls(network);
        }
        recipe
    }
}

/// What all relays have: one process with its layers and limits, which shares so many bytes and holds `files` descriptors at most.
/// Level `strict` is for device hosts: a relay, which sleeps on several things, is under a filter then.
pub(super) fn relay(name: &str, level: Level, shared_bytes: u64, files: u64, because: &'static str) -> Recipe {
    let level = level.min(Level::Seccomp);
    let mut recipe = Recipe::empty(name.into(), level);
    recipe.layers = layers(level);
    if level == Level::Off {
        return recipe;
    }
    common_limits(&mut recipe);
    limits_with_files(&mut recipe, 1, files, because);
    recipe.set_group(GroupLimits {
        memory_bytes: RELAY_DATA_BYTES + KERNEL_BYTES + shared_bytes,
        processes: 1,
        cpu_percent: 100 + CPU_SLACK_PERCENT,
        because: "what it eats it takes from nobody, whatever user it is".into(),
    });
    placeholders(&mut recipe);
    recipe.limit(Resource::FileBytes, Value::Exactly(0), Stage::Sealed, "it writes no file, and makes no memfd larger")
}

fn calls(network: Network) -> Vec<Permit> {
    use DescriptorKind::{Channel, Eventfd, Tap};
    let permit = |call, when, because: &'static str| Permit { call, when, because: because.into() };
    let on = |kinds, mode| vec![Condition::On(kinds, mode)];
    let mut calls = vec![permit(Call::POLL, vec![], "sleeping until the network or the device has frames")];
    match network {
        Network::Tap => {
            calls.push(permit(Call::READ, on(&[Eventfd, Tap], Mode::Read), "taking the bell's count; taking a frame"));
            let because = "giving a frame; ringing the host, and log lines";
            calls.push(permit(Call::WRITE, on(&[Eventfd, Channel, Tap], Mode::Write), because));
        }
        Network::Socket => {
            calls.push(permit(Call::READ, on(&[Eventfd], Mode::Read), "taking the bell's count"));
            calls.push(permit(Call::WRITE, on(&[Eventfd, Channel], Mode::Write), "ringing the host, and log lines"));
            // Its own channel is a socket as well, but one that it only writes.
            let flags = |values: &[(i32, &'static str)]| {
                let named = values.iter().map(|(value, name)| Named { value: *value as u64, name });
                vec![Condition::On(&[Channel], Mode::Both), Condition::OneOf(3, named.collect())]
            };
            let looked = [
                (libc::MSG_DONTWAIT | libc::MSG_PEEK, "MSG_DONTWAIT | MSG_PEEK"),
                (libc::MSG_DONTWAIT, "MSG_DONTWAIT"),
            ];
            calls.push(permit(
                Call::RECVFROM,
                flags(&looked),
                "looking at frames, then taking them; never descriptors",
            ));
            let given = [(libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL, "MSG_DONTWAIT | MSG_NOSIGNAL")];
            calls.push(permit(Call::SENDTO, flags(&given), "giving a frame; it sends nobody a descriptor"));
        }
    }
    calls.push(permit(Call::EXIT, vec![], "its end, when the network is gone"));
    calls.push(permit(Call::RT_SIGRETURN, vec![], "as in seccomp mode 1: a signal's handler returns"));
    calls
}
