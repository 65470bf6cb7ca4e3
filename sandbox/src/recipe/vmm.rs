//! The recipe of the process that owns the machine.

use super::common::{CPU_SLACK_PERCENT, KERNEL_BYTES, common_limits, layers, placeholders};
use super::host::is_descriptors;
use super::powers::{add_power_calls, shared_bytes, shares};
use super::{
    Call, Condition, Count, DescriptorKind, GroupLimits, Keep, Mode, Named, Permit, Recipe, Resource, Share, Stage,
    Value, kvm,
};
use schema::host::Level;
use schema::lane::Carrier;
use schema::manifest::{Manifest, Power};

/// Private memory of the VMM: heap, and a stack of 2 MiB for each thread. Guest memory is shared memory and not
/// counted.
const VMM_DATA_BYTES: u64 = 1 << 30;
/// What KVM keeps for a machine, such as its second set of page tables, which is some hundredths of guest memory.
const VMM_KERNEL_BYTES: u64 = 256 << 20;
/// Stack of its first thread; Rust gives the others 2 MiB of data.
const VMM_STACK_BYTES: u64 = 8 << 20;
/// Descriptors: of 64 devices with a vector for each queue, and of 16 processors.
const VMM_DESCRIPTORS: u64 = 8192;
/// Threads beside the vcpus: the hub, and a worker for what a vcpu must not wait for.
const OTHER_THREADS: u32 = 2;
/// KVM has a thread of its own in each process with a machine since Linux 6.13; it counts as one of the process's.
const KVM_THREADS: u32 = 1;
/// Eventfds of its own: to wake the hub and its vcpus.
const OWN_EVENTFDS: u32 = 4;

impl Recipe {
    /// The recipe of the VMM of a machine with these devices, each over the `memory` carrier. With `linked` they run in its
    /// process.
    #[must_use]
    pub fn vmm(level: Level, cpus: u8, kvm: bool, devices: &[Manifest], linked: bool) -> Recipe {
        let carrier = if linked { Carrier::InProcess } else { Carrier::Memory };
        Recipe::vmm_over(level, cpus, kvm, devices, &vec![carrier; devices.len()])
    }

    /// The recipe of the VMM of a machine with these devices, each over the carrier at its place in `carriers`. Level `strict`
    /// is for device hosts: a VMM, which runs the vcpus, is under a filter then.
    #[must_use]
    pub fn vmm_over(level: Level, cpus: u8, kvm: bool, devices: &[Manifest], carriers: &[Carrier]) -> Recipe {
        let level = level.min(Level::Seccomp);
        let linked = carriers.contains(&Carrier::InProcess);
        let mut recipe = Recipe::empty("vmm".into(), level);
        recipe.layers = layers(level);
        // Linked devices have a thread each, which sleeps on the device's wake.
        recipe.threads = u32::from(cpus)
            + OTHER_THREADS
            + if kvm { KVM_THREADS } else { 0 }
            + if linked { devices.len() as u32 } else { 0 };
        if level == Level::Off {
            return recipe;
        }
        common_limits(&mut recipe);
        let start = Stage::Confined;
        let processes = u64::from(recipe.threads);
        recipe = recipe
            .limit(
                Resource::Processes,
                Value::Exactly(processes),
                start,
                "its vcpus, and the thread that hears them and the hosts (binds root only with a user of its own)",
            )
            .limit(Resource::DataBytes, Value::Exactly(VMM_DATA_BYTES), start, "it cannot eat the host's memory")
            .limit(Resource::StackBytes, Value::Exactly(VMM_STACK_BYTES), start, "it cannot eat the host's memory")
            .limit(Resource::OpenFiles, Value::Exactly(VMM_DESCRIPTORS), start, "eventfds of all devices come in");
        recipe.group = Some(GroupLimits {
            memory_bytes: VMM_DATA_BYTES + VMM_STACK_BYTES + VMM_KERNEL_BYTES + KERNEL_BYTES + shared_bytes(devices),
            processes: recipe.threads,
            cpu_percent: 100 * recipe.threads + CPU_SLACK_PERCENT,
            because: "what it eats it takes from nobody, whatever user it is".into(),
        });
        if linked && wants(devices, Power::FileWrite) {
            recipe = recipe.limit(
                Resource::FileBytes,
                Value::LargestFile,
                Stage::Sealed,
                "a linked device writes a file, and cannot make it grow",
            );
        } else {
            recipe = recipe.limit(
                Resource::FileBytes,
                Value::Exactly(0),
                Stage::Sealed,
                "it writes no file, and makes no memfd larger",
            );
        }
        placeholders(&mut recipe);
        recipe.descriptors.push(Keep {
            kind: DescriptorKind::Channel,
            mode: Mode::Both,
            count: Count::Exactly(1),
            at: &[Stage::Confined, Stage::Sealed],
            purpose: "channel",
            because: "to the supervisor".into(),
        });
        recipe = descriptors(recipe, cpus, kvm, devices, linked);
        recipe = lanes(recipe, carriers);
        recipe.memory = vmm_memory(devices, carriers, kvm);
        if recipe.is_filtered() {
            recipe.calls = vmm_calls(kvm, carriers.iter().any(is_descriptors));
            if linked {
                add_power_calls(&mut recipe.calls, devices);
            }
        }
        recipe
    }
}

fn wants(devices: &[Manifest], power: Power) -> bool {
    devices.iter().flat_map(|device| &device.wishes).any(|wish| wish.power == power)
}

fn descriptors(mut recipe: Recipe, cpus: u8, kvm: bool, devices: &[Manifest], linked: bool) -> Recipe {
    use DescriptorKind::{Eventfd, File, KvmMachine, KvmProcessor};
    if kvm {
        // Not /dev/kvm: it is closed once the machine is made.
        recipe = recipe
            .keep(
                KvmMachine,
                Mode::Both,
                Count::Exactly(1),
                "machine",
                "memory slots, interrupts and doorbells of the guest",
            )
            .keep(KvmProcessor, Mode::Both, Count::Exactly(u32::from(cpus)), "vcpu", "running the guest");
    }
    recipe = recipe.keep(Eventfd, Mode::Both, Count::UpTo(OWN_EVENTFDS), "kick", "its threads wake each other");
    let count = |wanted: Power| {
        devices.iter().flat_map(|device| &device.wishes).filter(|wish| wish.power == wanted).count() as u32
    };
    let each = devices.len() as u32;
    if each > 0 {
        let with_doorbells = devices.iter().filter(|device| !device.doorbells.is_empty()).count() as u32;
        recipe = recipe
            .keep(Eventfd, Mode::Write, Count::UpTo(each), "wake", "rings the hosts")
            .keep(Eventfd, Mode::Both, Count::UpTo(with_doorbells), "doorbell", "bound to the guest's doorbells")
            .keep(Eventfd, Mode::Read, Count::UpTo(each), "irq", "hears that a host's interrupt levels changed")
            .keep(
                Eventfd,
                Mode::Both,
                Count::UpTo(each),
                "reply",
                "a vcpu that waits for a device sleeps on it, until the device is given up",
            );
    }
    let vectors: u32 = devices.iter().map(|device| u32::from(device.vectors)).sum();
    if vectors > 0 {
        recipe = recipe.keep(
            Eventfd,
            Mode::Both,
            Count::UpTo(vectors),
            "vector",
            "bound to KVM's interrupt routes when the guest sets a vector up",
        );
    }
    let switches = count(Power::Switch);
    if switches > 0 {
        recipe =
            recipe.keep(Eventfd, Mode::Read, Count::UpTo(switches), "switch", "hears reset, power off, panic and exit");
    }
    if linked {
        let own = 4 * each + vectors + switches;
        recipe =
            recipe.keep(Eventfd, Mode::Both, Count::UpTo(own), "device", "the linked devices' own ends of all these");
        let streams = count(Power::Stream) + count(Power::Frames);
        if streams > 0 {
            recipe = recipe.keep(Eventfd, Mode::Write, Count::UpTo(streams), "bell", "linked devices ring their relay");
        }
        for wish in devices.iter().flat_map(|device| &device.wishes) {
            recipe = match wish.power {
                Power::FileRead => recipe.keep(File, Mode::Read, Count::Exactly(1), "file", wish.because.clone()),
                Power::FileWrite => recipe.keep(File, Mode::Both, Count::Exactly(1), "file", wish.because.clone()),
                _ => recipe,
            };
        }
    }
    recipe
}

/// The VMM's ends of lanes that are read and written.
fn lanes(recipe: Recipe, carriers: &[Carrier]) -> Recipe {
    let count = |wanted| Count::UpTo(carriers.iter().filter(|carrier| **carrier == wanted).count() as u32);
    let mut recipe = recipe;
    if carriers.contains(&Carrier::Socket) {
        let because = "lanes: accesses go, and answers come";
        recipe = recipe.keep(DescriptorKind::Channel, Mode::Both, count(Carrier::Socket), "packets", because);
    }
    if carriers.contains(&Carrier::Pipe) {
        recipe = recipe
            .keep(DescriptorKind::Pipe, Mode::Write, count(Carrier::Pipe), "asked", "lanes: accesses go")
            .keep(DescriptorKind::Pipe, Mode::Read, count(Carrier::Pipe), "answers", "lanes: answers come");
    }
    recipe
}

fn vmm_memory(devices: &[Manifest], carriers: &[Carrier], kvm: bool) -> Vec<Share> {
    let linked = carriers.contains(&Carrier::InProcess);
    let share =
        |name, mode, guest, because: &'static str| Share { name, mode, bytes: None, guest, because: because.into() };
    let mut shares = if linked { shares(devices) } else { Vec::new() };
    shares.retain(|share| matches!(share.name, "cofferdam:stream" | "cofferdam:scanout" | "cofferdam:frames"));
    shares.extend([
        share("cofferdam:ram", Mode::Both, true, "the guest's memory is this process's memory: KVM wants it so"),
        share("cofferdam:rom", Mode::Read, true, "firmware, which the guest sees as read-only memory"),
        share("cofferdam:request", Mode::Both, false, "lane entries, which it writes"),
        share("cofferdam:direct", Mode::Both, false, "memory of devices that the guest sees directly"),
    ]);
    if linked {
        shares.push(share("cofferdam:state", Mode::Both, false, "state of devices linked into it"));
    } else if carriers.contains(&Carrier::Memory) {
        let because = "committed state of devices: levels, deadlines, shadow registers";
        shares.push(share("cofferdam:state", Mode::Read, false, because));
    }
    if carriers.contains(&Carrier::Virtio) {
        shares.push(share(
            "cofferdam:answers",
            Mode::Read,
            false,
            "what hosts tell: levels, deadlines, shadow registers",
        ));
    }
    if kvm {
        shares.push(share("anon_inode:kvm-vcpu:", Mode::Both, false, "where KVM says why a vcpu stopped"));
    }
    shares
}

fn vmm_calls(kvm: bool, over_descriptors: bool) -> Vec<Permit> {
    use DescriptorKind::{Channel, Eventfd, KvmMachine, KvmProcessor, Pipe};
    let (read, written): (&[_], &[_]) = if over_descriptors {
        (&[Eventfd, Channel, Pipe], &[Eventfd, Channel, Pipe])
    } else {
        (&[Eventfd], &[Eventfd, Channel])
    };
    let none = Vec::new;
    let permit = |call, when, because: &'static str| Permit { call, when, because: because.into() };
    let without_exec = || vec![Condition::Without(2, Named { value: libc::PROT_EXEC as u64, name: "PROT_EXEC" })];
    let mut calls = Vec::new();
    if kvm {
        // First of its conditions, because each exit of the guest pays for what stands before it.
        calls.push(permit(
            Call::IOCTL,
            vec![
                Condition::On(&[KvmProcessor], Mode::Both),
                Condition::OneOf(1, vec![kvm::RUN, kvm::SET_GUEST_DEBUG, kvm::GET_REGS, kvm::GET_SREGS]),
            ],
            "running the guest, by single instructions where KVM emulates them, and saying where it was when it cannot go on",
        ));
        calls.push(permit(
            Call::IOCTL,
            vec![
                Condition::On(&[KvmMachine], Mode::Both),
                Condition::OneOf(
                    1,
                    vec![
                        kvm::IRQ_LINE,
                        kvm::SIGNAL_MSI,
                        kvm::SET_GSI_ROUTING,
                        kvm::IRQFD,
                        kvm::IOEVENTFD,
                        kvm::SET_USER_MEMORY_REGION,
                    ],
                ),
            ],
            "interrupts, doorbells and BARs, which a guest sets up and moves at any time",
        ));
    }
    let flags = |argument, value: i32, name| Condition::OneOf(argument, vec![Named { value: value as u64, name }]);
    calls.extend([
        permit(
            Call::WRITE,
            vec![Condition::On(written, Mode::Write)],
            "ringing hosts and its own threads, accesses, messages without descriptors",
        ),
        permit(
            Call::PREADV2,
            vec![Condition::On(&[Eventfd], Mode::Read), flags(5, libc::RWF_NOWAIT, "RWF_NOWAIT")],
            "draining an eventfd that a host may have left empty, without ever waiting for it",
        ),
        permit(Call::READ, vec![Condition::On(read, Mode::Read)], "draining its own eventfds; answers of hosts"),
        permit(Call::RECVMSG, vec![Condition::On(&[Channel], Mode::Read)], "messages of the supervisor"),
        permit(
            Call::SENDTO,
            vec![Condition::On(&[Channel], Mode::Write)],
            "messages to the supervisor; it sends nobody a descriptor",
        ),
        permit(
            Call::SHUTDOWN,
            vec![Condition::On(&[Channel], Mode::Both)],
            "hanging up on a supervisor that is gone or talks nonsense",
        ),
        permit(Call::POLL, none(), "waiting for hosts and the supervisor, with a deadline"),
        permit(Call::PPOLL, none(), "waiting for hosts and the supervisor, with a deadline"),
        permit(Call::FUTEX, none(), "locks between vcpus"),
        permit(Call::CLOCK_GETTIME, none(), "the guest's clock, where the kernel offers no faster way"),
        permit(Call::CLOCK_NANOSLEEP, none(), "alarms of devices"),
        permit(Call::MMAP, without_exec(), "the allocator grows; direct ranges"),
        permit(Call::MUNMAP, none(), "the allocator shrinks"),
        permit(Call::MREMAP, none(), "the allocator grows a large block"),
        permit(Call::MPROTECT, without_exec(), "the allocator grows the heap of a thread"),
        permit(Call::MADVISE, none(), "the allocator and a thread's end give memory back"),
        permit(Call::BRK, none(), "the allocator grows"),
        permit(Call::GETRANDOM, none(), "hash tables are seeded"),
        permit(Call::CLOSE, none(), "descriptors of a retired device"),
        permit(Call::RT_SIGPROCMASK, none(), "a thread starts, ends or aborts"),
        permit(Call::RT_SIGRETURN, none(), "a signal's handler returns: vcpus are kicked by one"),
        permit(Call::SIGALTSTACK, none(), "a thread's end"),
        permit(Call::TGKILL, none(), "kicking a vcpu out of the guest; abort"),
        permit(Call::GETPID, none(), "kicking a vcpu out of the guest; abort"),
        permit(Call::GETTID, none(), "abort"),
        permit(Call::RESTART_SYSCALL, none(), "the kernel resumes a wait after a stop"),
        permit(Call::EXIT, none(), "a thread's end"),
        permit(Call::EXIT_GROUP, none(), "its end"),
    ]);
    calls
}
