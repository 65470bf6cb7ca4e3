//! What every confined process has, whatever it does.

use super::{Count, DescriptorKind, Keep, Layer, LayerName, Limit, Mode, Recipe, Resource, Stage, Value};
use schema::host::Level;

/// Private memory of a host: its program, heap and device state. Real hosts use less than 4 MiB; bulk state is shared
/// memory.
pub(super) const HOST_DATA_BYTES: u64 = 64 << 20;
/// Stack of a host: its one thread calls no deeper than a few KiB.
pub(super) const HOST_STACK_BYTES: u64 = 1 << 20;
/// What the kernel keeps for a process, page tables and buffers of files among it, beside its own memory.
pub(super) const KERNEL_BYTES: u64 = 32 << 20;
/// Processor time beyond that of the threads a process is said to have: a limit that were met exactly would hold honest
/// threads up.
pub(super) const CPU_SLACK_PERCENT: u32 = 25;
/// Descriptors while a host is set up: grants come in before regions are mapped and closed. Enough for a group of 64
/// devices, the most in one host, of which some have a vector for each queue.
const SETUP_DESCRIPTORS: u64 = 1024;

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
