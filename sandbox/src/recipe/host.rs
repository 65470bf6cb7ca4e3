//! The recipe of a device host, from what its devices declare.

use super::common::{
    CPU_SLACK_PERCENT, HOST_DATA_BYTES, HOST_STACK_BYTES, KERNEL_BYTES, common_limits, layers, placeholders,
    process_limits,
};
use super::powers::{NO_FILE, add_power_calls, file, file_bytes, keep_for, shared_bytes, shares};
use super::{
    Call, Condition, Count, DescriptorKind, GroupLimits, Helper, HelperForm, Keep, Mode, Permit, Recipe, Resource,
    Share, Stage, helper,
};
use schema::host::{HELPER_REGION_BYTES, Level};
use schema::lane::Carrier;
use schema::manifest::Manifest;

impl Recipe {
    /// The recipe of a device host that runs `devices`, each over the `memory` carrier. What [`super::super::spawn()`] uses
    /// of it depends on `level` alone.
    #[must_use]
    pub fn host(level: Level, devices: &[Manifest]) -> Recipe {
        Recipe::host_over(level, devices, &vec![Carrier::Memory; devices.len()])
    }

    /// The recipe of a device host that runs `devices`, each over the carrier at its place in `carriers`.
    #[must_use]
    pub fn host_over(level: Level, devices: &[Manifest], carriers: &[Carrier]) -> Recipe {
        Recipe::host_with(level, devices, carriers, HelperForm::default())
    }

    /// As [`Recipe::host_over`], with a helper of this form where the host needs one.
    #[must_use]
    pub fn host_with(level: Level, devices: &[Manifest], carriers: &[Carrier], form: HelperForm) -> Recipe {
        let name = devices.iter().map(|device| device.name.as_str()).collect::<Vec<_>>().join(" + ");
        let mut recipe = Recipe::empty(if name.is_empty() { "device host".into() } else { name }, level);
        recipe.layers = layers(level);
        if level == Level::Off {
            return recipe;
        }
        recipe.helper = Helper::of(level, devices, form);
        let threaded = recipe.helper_of(HelperForm::Thread).is_some();
        recipe.threads = if threaded { 2 } else { 1 };
        common_limits(&mut recipe);
        let threads = recipe.threads;
        process_limits(&mut recipe, threads);
        // Where a thread of it is the helper, that one's limit is the process's.
        if !threaded {
            let (bytes, because) = if recipe.helper.is_none() { file_bytes(devices) } else { NO_FILE };
            recipe = recipe.limit(Resource::FileBytes, bytes, Stage::Sealed, because);
        }
        recipe.set_group(GroupLimits {
            memory_bytes: recipe.processes() * (HOST_DATA_BYTES + HOST_STACK_BYTES + KERNEL_BYTES)
                + shared_bytes(devices)
                + recipe.helper.as_ref().map_or(0, |_| HELPER_REGION_BYTES),
            processes: recipe.tasks(),
            cpu_percent: 100 * recipe.tasks() + CPU_SLACK_PERCENT,
            because: "what it eats it takes from nobody, whatever user it is".into(),
        });
        placeholders(&mut recipe);
        recipe.descriptors.push(Keep {
            kind: DescriptorKind::Channel,
            mode: Mode::Write,
            count: Count::Exactly(1),
            at: &[Stage::Confined, Stage::Sealed],
            purpose: "channel",
            because: "to the supervisor: grants come in until it is sealed, then only log lines go out".into(),
        });
        let mut recipe = recipe
            .keep(
                DescriptorKind::Eventfd,
                Mode::Read,
                Count::Exactly(1),
                "wake",
                "all that concerns it rings this; the one thing it sleeps on",
            )
            .keep(
                DescriptorKind::Eventfd,
                Mode::Write,
                Count::Exactly(1),
                "irq",
                "tells the VMM that interrupt levels or a deadline changed",
            );
        for (device, carrier) in devices.iter().zip(carriers) {
            recipe = keep_lane(recipe, device, *carrier);
            recipe =
                if level == Level::Strict { keep_for(recipe, device) } else { file(keep_for(recipe, device), device) };
        }
        recipe.memory = lane_shares(carriers);
        recipe.memory.extend(shares(devices));
        if recipe.helper.is_some() {
            let one = Count::Exactly(1);
            recipe = recipe.keep(DescriptorKind::Eventfd, Mode::Write, one, "helper", "asks its helper for something");
            recipe.memory.push(helper::region());
        }
        if recipe.is_filtered() {
            recipe.calls = register_calls(carriers);
            // At level `strict` its helper makes them.
            if level != Level::Strict {
                add_power_calls(&mut recipe.calls, devices);
            }
        }
        recipe
    }
}

/// A host's end of a device's lane.
fn keep_lane(recipe: Recipe, device: &Manifest, carrier: Carrier) -> Recipe {
    let name = &device.name;
    let one = Count::Exactly(1);
    match carrier {
        Carrier::Memory | Carrier::Virtio => {
            let because = format!("{name}: wakes the vcpu that waits for an answer");
            recipe.keep(DescriptorKind::Eventfd, Mode::Write, one, "reply", because)
        }
        Carrier::Socket => {
            let because = format!("{name}: its lane, by which accesses come and answers go");
            recipe.keep(DescriptorKind::Channel, Mode::Both, one, "packets", because)
        }
        Carrier::Pipe => recipe
            .keep(DescriptorKind::Pipe, Mode::Read, one, "asked", format!("{name}: its lane, by which accesses come"))
            .keep(DescriptorKind::Pipe, Mode::Write, one, "answers", format!("{name}: its lane, by which answers go")),
        Carrier::InProcess => recipe,
    }
}

/// Whether lanes over this carrier are read and written, not mapped.
pub(super) fn is_descriptors(carrier: &Carrier) -> bool {
    matches!(carrier, Carrier::Socket | Carrier::Pipe)
}

/// Shared memory of lanes and state, as a host has it.
fn lane_shares(carriers: &[Carrier]) -> Vec<Share> {
    let share =
        |name, mode, because: &'static str| Share { name, mode, bytes: None, guest: false, because: because.into() };
    let mut shares = Vec::new();
    if carriers.iter().any(|carrier| matches!(carrier, Carrier::Memory | Carrier::Virtio)) {
        shares.push(share("cofferdam:request", Mode::Read, "lane entries, written by the VMM"));
    }
    if carriers.contains(&Carrier::Virtio) {
        shares.push(share("cofferdam:answers", Mode::Both, "a lane's answers, for the VMM to read"));
    }
    shares.push(share("cofferdam:state", Mode::Both, "device state, which outlives the process"));
    shares
}

/// What is left to a device of registers and rings: no more than seccomp mode 1 leaves.
fn register_calls(carriers: &[Carrier]) -> Vec<Permit> {
    use DescriptorKind::{Channel, Eventfd, Pipe};
    let over_descriptors = carriers.iter().any(is_descriptors);
    let (read, written): (&[_], &[_]) = if over_descriptors {
        (&[Eventfd, Channel, Pipe], &[Eventfd, Channel, Pipe])
    } else {
        (&[Eventfd], &[Eventfd, Channel])
    };
    vec![
        Permit {
            call: Call::READ,
            when: vec![Condition::On(read, Mode::Read)],
            because: if over_descriptors { "sleeping on its wake, and accesses" } else { "sleeping on its wake" }
                .into(),
        },
        Permit {
            call: Call::WRITE,
            when: vec![Condition::On(written, Mode::Write)],
            because: if over_descriptors {
                "ringing who waits for it, answers, and log lines"
            } else {
                "ringing who waits for it, and log lines"
            }
            .into(),
        },
        Permit { call: Call::EXIT, when: vec![], because: "its end, when told to shut down".into() },
        Permit {
            call: Call::RT_SIGRETURN,
            when: vec![],
            because: "as in seccomp mode 1: a signal's handler returns".into(),
        },
    ]
}
