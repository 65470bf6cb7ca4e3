//! The recipe of a device host, from what its devices declare.

use super::{
    Because, Call, Condition, Count, DescriptorKind, GroupLimits, Helper, HelperForm, Keep, Layer, LayerName, Limit,
    Mode, Named, Permit, Recipe, Resource, Share, Stage, Value, helper,
};
use schema::display::SCANOUT_BYTES;
use schema::host::{FRAMES_REGION_BYTES, HELPER_REGION_BYTES, Level};
use schema::lane::Carrier;
use schema::manifest::{Manifest, Power};

/// Guest memory of [`Power::LowMemory`]: what an ISA device can reach with its 24 address lines.
const LOW_MEMORY_BYTES: u64 = 16 << 20;
/// Private memory of a host: its program, heap and device state. Real hosts use less than 4 MiB; bulk state is shared
/// memory.
const HOST_DATA_BYTES: u64 = 64 << 20;
/// Stack of a host: its one thread calls no deeper than a few KiB.
const HOST_STACK_BYTES: u64 = 1 << 20;
/// What the kernel keeps for a process, page tables and buffers of files among it, beside its own memory.
pub(super) const KERNEL_BYTES: u64 = 32 << 20;
/// Processor time beyond that of the threads a process is said to have: a limit that were met exactly would hold honest
/// threads up.
pub(super) const CPU_SLACK_PERCENT: u32 = 25;
/// Descriptors while a host is set up: grants come in before regions are mapped and closed. Enough for a group of 64
/// devices, the most in one host, of which some have a vector for each queue.
const SETUP_DESCRIPTORS: u64 = 1024;

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
            file_limit(&mut recipe, devices);
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

/// Shared memory that devices have beside guest memory.
pub(super) fn shared_bytes(devices: &[Manifest]) -> u64 {
    /// Each of the two copies of a state is put on pages of its own, and a lane has some more.
    const LANE_BYTES: u64 = 64 << 10;
    let direct = |device: &Manifest| {
        let bytes = device.wishes.iter().map(|wish| match wish.power {
            Power::Direct => wish.bytes,
            Power::Scanout => SCANOUT_BYTES,
            _ => 0,
        });
        bytes.sum::<u64>()
    };
    let frames = |device: &Manifest| {
        device.wishes.iter().filter(|wish| wish.power == Power::Frames).count() as u64 * FRAMES_REGION_BYTES
    };
    let each = |device: &Manifest| {
        2 * u64::from(device.state_bytes) + u64::from(device.bulk_bytes) + direct(device) + frames(device)
    };
    devices.iter().map(|device| each(device) + LANE_BYTES).sum()
}

pub(super) fn has(devices: &[Manifest], powers: &[Power]) -> bool {
    devices.iter().flat_map(|device| &device.wishes).any(|wish| powers.contains(&wish.power))
}

/// The means of confinement of `level`.
pub(super) fn layers(level: Level) -> Vec<Layer> {
    let required = |name, because: &'static str| Layer { name, required: true, asked: false, because: because.into() };
    let conditional =
        |name, because: &'static str| Layer { name, required: false, asked: false, because: because.into() };
    if level == Level::Off {
        return Vec::new();
    }
    let mut layers = vec![
        required(
            LayerName::User,
            "its user 0 is the supervisor's user: no rights over anything outside, and the supervisor may look at it",
        ),
        required(LayerName::Mount, "no file system of the host is mounted"),
        required(LayerName::Pid, "it sees no other process, and so can signal none; its death takes all of its own"),
        required(LayerName::Net, "no network, no abstract sockets of the host"),
        required(LayerName::Ipc, "no System V memory, semaphores or queues of the host"),
        required(LayerName::Uts, "the host's name is not told, nor changed"),
        required(LayerName::CgroupNamespace, "the host's control groups are not told"),
        required(LayerName::Nesting, "no user namespace inside its own, where it would have all capabilities again"),
        conditional(
            LayerName::Cgroup,
            "memory, processor and process limits of its own, also where a limit of the user does not bind",
        ),
        conditional(
            LayerName::OwnUser,
            "it shares no user number with other processes, whose files and signals it would have rights over",
        ),
        required(LayerName::Root, "an empty, read-only root directory: there is nothing to open"),
        required(
            LayerName::Capabilities,
            "none, none to be had, not even in its own namespaces: no mount, no raw socket, no trace",
        ),
        conditional(LayerName::Label, "the system's own policy, should everything here have a hole"),
        required(LayerName::NoNewPrivs, "no program that it could start would have more rights"),
        required(
            LayerName::Undumpable,
            "another process of the same user cannot trace it or take its descriptors; no core with guest memory",
        ),
        conditional(LayerName::Mdwe, "memory once writable is never executable"),
        conditional(LayerName::Mseal, "its code cannot be unmapped or replaced"),
        conditional(LayerName::Landlock, "every file, network and scoped right denied, should it leave its root"),
    ];
    if matches!(level, Level::Seccomp | Level::Strict) {
        layers.push(required(LayerName::Filter, "any system call but those below ends the process"));
    }
    layers
}

/// Limits that every confined process has.
pub(super) fn common_limits(recipe: &mut Recipe) {
    let mut at_start = |resource, value, because: &'static str| {
        recipe.limits.push(Limit {
            resource,
            value: Value::Exactly(value),
            from: Stage::Confined,
            because: because.into(),
        });
    };
    at_start(Resource::CoreBytes, 0, "a core would hold guest memory");
    at_start(Resource::LockedBytes, 0, "it locks no memory");
    at_start(Resource::QueueBytes, 0, "it has no message queues");
    at_start(Resource::RealtimePriority, 0, "it cannot starve other processes");
}

/// Limits of a host, and of a helper.
pub(super) fn process_limits(recipe: &mut Recipe, threads: u32) {
    limits_with_files(recipe, threads, 0, "everything is granted: no descriptor can be made");
}

/// The same, of a process that once sealed may have this many open files.
pub(super) fn limits_with_files(recipe: &mut Recipe, threads: u32, files: u64, because_files: &'static str) {
    let mut limit = |resource, value, from, because: &'static str| {
        recipe.limits.push(Limit { resource, value: Value::Exactly(value), from, because: because.into() });
    };
    let because = if threads == 1 {
        "one thread is all it is (binds root only with a user of its own)"
    } else {
        "a helper is all it has beside itself (binds root only with a user of its own)"
    };
    limit(Resource::Processes, threads.into(), Stage::Confined, because);
    limit(Resource::DataBytes, HOST_DATA_BYTES, Stage::Confined, "it cannot eat the host's memory");
    limit(Resource::StackBytes, HOST_STACK_BYTES, Stage::Confined, "it cannot eat the host's memory");
    limit(Resource::OpenFiles, SETUP_DESCRIPTORS, Stage::Confined, "grants of up to 64 devices come in");
    limit(Resource::OpenFiles, files, Stage::Sealed, because_files);
}

/// What a host may make of files.
fn file_limit(recipe: &mut Recipe, devices: &[Manifest]) {
    let (value, because) = if recipe.helper.is_none() && has(devices, &[Power::FileWrite]) {
        (Value::LargestFile, "it writes a file, and cannot make it grow")
    } else {
        (Value::Exactly(0), "it writes no file, and makes no memfd larger")
    };
    recipe.limits.push(Limit { resource: Resource::FileBytes, value, from: Stage::Sealed, because: because.into() });
}

/// What occupies the numbers 0 to 2 while a process is set up.
pub(super) fn placeholders(recipe: &mut Recipe) {
    recipe.descriptors.push(Keep {
        kind: DescriptorKind::Eventfd,
        mode: Mode::Both,
        count: Count::Exactly(3),
        at: &[Stage::Confined],
        purpose: "placeholder",
        because: "numbers 0, 1 and 2, so that no grant gets one of them and a stray print ends up in a disk image; \
                  an eventfd nobody else has; closed when it is sealed"
            .into(),
    });
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

/// Descriptors of one device, as the host that runs it holds them, beside its lane and its files.
pub(super) fn keep_for(mut recipe: Recipe, device: &Manifest) -> Recipe {
    let name = &device.name;
    let one = Count::Exactly(1);
    if device.vectors > 0 {
        let count = Count::Exactly(u32::from(device.vectors));
        recipe =
            recipe.keep(DescriptorKind::Eventfd, Mode::Write, count, "vector", format!("{name}: its MSI-X vectors"));
    }
    for wish in &device.wishes {
        let because: Because = format!("{name}: {}", wish.because).into();
        recipe = match wish.power {
            Power::Stream | Power::Frames => recipe.keep(DescriptorKind::Eventfd, Mode::Write, one, "bell", because),
            Power::Switch => recipe.keep(DescriptorKind::Eventfd, Mode::Write, one, "switch", because),
            _ => recipe,
        };
    }
    recipe
}

/// Files of one device, as who reads and writes them holds them.
pub(super) fn file(mut recipe: Recipe, device: &Manifest) -> Recipe {
    for wish in &device.wishes {
        let mode = match wish.power {
            Power::FileRead => Mode::Read,
            // A file granted for writing may be a read-only image all the same: the mode is then less, never more.
            Power::FileWrite => Mode::Both,
            _ => continue,
        };
        let because = format!("{}: {}", device.name, wish.because);
        recipe = recipe.keep(DescriptorKind::File, mode, Count::Exactly(1), "file", because);
    }
    recipe
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

/// Shared memory that `devices` have mapped, beside that of their lanes and their state.
pub(super) fn shares(devices: &[Manifest]) -> Vec<Share> {
    let share = |name, mode, bytes, guest, because: Because| Share { name, mode, bytes, guest, because };
    let mut shares = Vec::new();
    let wishes = |power| {
        devices.iter().flat_map(move |device| {
            device.wishes.iter().filter(move |wish| wish.power == power).map(move |wish| (device, wish))
        })
    };
    let reasons = |power| -> Because {
        wishes(power)
            .map(|(device, wish)| format!("{}: {}", device.name, wish.because))
            .collect::<Vec<_>>()
            .join("; ")
            .into()
    };
    if has(devices, &[Power::Stream]) {
        shares.push(share("cofferdam:stream", Mode::Both, None, false, reasons(Power::Stream)));
    }
    if has(devices, &[Power::Frames]) {
        let bytes = wishes(Power::Frames).count() as u64 * FRAMES_REGION_BYTES;
        shares.push(share("cofferdam:frames", Mode::Both, Some(bytes), false, reasons(Power::Frames)));
    }
    if has(devices, &[Power::Direct]) {
        let bytes = wishes(Power::Direct).map(|(_, wish)| wish.bytes).sum();
        shares.push(share("cofferdam:direct", Mode::Both, Some(bytes), false, reasons(Power::Direct)));
    }
    if has(devices, &[Power::Scanout]) {
        let bytes = SCANOUT_BYTES * wishes(Power::Scanout).count() as u64;
        shares.push(share("cofferdam:scanout", Mode::Both, Some(bytes), false, reasons(Power::Scanout)));
    }
    if has(devices, &[Power::Memory]) {
        let because = format!("all of guest memory: {}", reasons(Power::Memory)).into();
        shares.push(share("cofferdam:ram", Mode::Both, None, true, because));
    } else if has(devices, &[Power::LowMemory]) {
        let because = format!("the first 16 MiB of guest memory: {}", reasons(Power::LowMemory)).into();
        shares.push(share("cofferdam:ram", Mode::Both, Some(LOW_MEMORY_BYTES), true, because));
    }
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

/// Calls that follow from a power.
pub(super) fn add_power_calls(calls: &mut Vec<Permit>, devices: &[Manifest]) {
    let on = |mode| vec![Condition::On(&[DescriptorKind::File], mode)];
    if has(devices, &[Power::FileRead, Power::FileWrite]) {
        for call in [Call::PREAD64, Call::PREADV] {
            calls.push(Permit {
                call,
                when: on(Mode::Read),
                because: "reading its image, at an offset it names".into(),
            });
        }
    }
    if has(devices, &[Power::FileWrite]) {
        for call in [Call::PWRITE64, Call::PWRITEV] {
            calls.push(Permit {
                call,
                when: on(Mode::Write),
                because: "writing its image, at an offset it names".into(),
            });
        }
        calls.push(Permit { call: Call::FDATASYNC, when: on(Mode::Write), because: "the guest's flush".into() });
    }
    // A VMM has it with any flags already: its hash maps are seeded so.
    if has(devices, &[Power::Entropy]) && calls.iter().all(|permit| permit.call != Call::GETRANDOM) {
        calls.push(getrandom());
    }
}

/// The kernel's random bytes.
pub(super) fn getrandom() -> Permit {
    // GRND_INSECURE among the flags: bytes of a pool that nothing has been stirred into yet.
    let flags = Condition::OneOf(2, vec![Named { value: 0, name: "no flag" }]);
    Permit { call: Call::GETRANDOM, when: vec![flags], because: "entropy for the guest".into() }
}
