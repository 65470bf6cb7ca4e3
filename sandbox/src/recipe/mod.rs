//! How a process is confined: plain data, printable, comparable, the same on every run.
//!
//! A recipe starts from nothing and only adds. Each addition states its reason, and the reasons are what a reviewer
//! reads.

mod helper;
mod host;
pub mod kvm;
mod show;
mod vmm;

pub use helper::{Helper, HelperForm};

use crate::label::Label;
use schema::host::Level;
use std::borrow::Cow;

/// Why an entry is in a recipe, for people.
pub type Because = Cow<'static, str>;

/// How a process is confined. `Display` prints all of it, each line with its reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipe {
    /// What the process is: its devices, or `vmm`.
    pub name: String,
    /// How strict.
    pub level: Level,
    /// The means of confinement, in the order in which they are applied.
    pub layers: Vec<Layer>,
    /// Resource limits.
    pub limits: Vec<Limit>,
    /// Its label of a security module, if it is to have one.
    pub label: Option<Label>,
    /// Limits of its control group; none where it is not confined.
    pub group: Option<GroupLimits>,
    /// All descriptors that it may hold.
    pub descriptors: Vec<Keep>,
    /// All shared memory that it may have mapped.
    pub memory: Vec<Share>,
    /// Most threads.
    pub threads: u32,
    /// Its number in its process namespace.
    pub number: u32,
    /// All system calls that are left once it is sealed. Empty where no filter is installed.
    pub calls: Vec<Permit>,
    /// Who makes other calls for it, where it needs any.
    pub helper: Option<Helper>,
}

/// A moment at which a process is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// It has said hello and was granted nothing yet.
    Confined,
    /// It can do only what its recipe says.
    Sealed,
}

/// A means of confinement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LayerName {
    /// A user namespace in which the supervisor's user is number 0.
    User,
    /// A mount namespace.
    Mount,
    /// A process number namespace.
    Pid,
    /// A network namespace, without an interface that is up.
    Net,
    /// A System V and POSIX message queue namespace.
    Ipc,
    /// A host name namespace.
    Uts,
    /// A control group namespace.
    CgroupNamespace,
    /// No user namespace of its own making: in one it would have all capabilities again.
    Nesting,
    /// An empty read-only root directory.
    Root,
    /// No capabilities, and no way to get any.
    Capabilities,
    /// `no_new_privs`.
    NoNewPrivs,
    /// Not dumpable: no other process of the user may trace it or read its memory.
    Undumpable,
    /// A system call filter.
    Filter,
    /// A Landlock domain that denies everything.
    Landlock,
    /// Memory-deny-write-execute.
    Mdwe,
    /// A control group of its own.
    Cgroup,
    /// A user number of its own.
    OwnUser,
    /// A label of SELinux or AppArmor.
    Label,
    /// Sealed mappings of its code.
    Mseal,
}

impl LayerName {
    /// All of them, in the order in which they are applied.
    pub const ALL: [LayerName; 19] = [
        LayerName::User,
        LayerName::Mount,
        LayerName::Pid,
        LayerName::Net,
        LayerName::Ipc,
        LayerName::Uts,
        LayerName::CgroupNamespace,
        LayerName::Nesting,
        LayerName::Cgroup,
        LayerName::OwnUser,
        LayerName::Root,
        LayerName::Capabilities,
        LayerName::Label,
        LayerName::NoNewPrivs,
        LayerName::Undumpable,
        LayerName::Mdwe,
        LayerName::Mseal,
        LayerName::Landlock,
        LayerName::Filter,
    ];

    /// The word by which a person asks for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            LayerName::User => "user",
            LayerName::Mount => "mount",
            LayerName::Pid => "pid",
            LayerName::Net => "net",
            LayerName::Ipc => "ipc",
            LayerName::Uts => "uts",
            LayerName::CgroupNamespace => "cgroup-namespace",
            LayerName::Nesting => "nesting",
            LayerName::Root => "root",
            LayerName::Capabilities => "capabilities",
            LayerName::NoNewPrivs => "no-new-privs",
            LayerName::Undumpable => "undumpable",
            LayerName::Filter => "filter",
            LayerName::Landlock => "landlock",
            LayerName::Mdwe => "mdwe",
            LayerName::Cgroup => "cgroup",
            LayerName::OwnUser => "own-user",
            LayerName::Label => "label",
            LayerName::Mseal => "mseal",
        }
    }
}

impl std::str::FromStr for LayerName {
    type Err = String;
    fn from_str(word: &str) -> Result<LayerName, String> {
        LayerName::ALL.into_iter().find(|layer| layer.name() == word).ok_or_else(|| {
            let have = LayerName::ALL.map(LayerName::name).join(", ");
            format!("`{word}` is no layer of the sandbox; there are {have}")
        })
    }
}

/// What can be taken out of a recipe, to show what it stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    /// A means of confinement.
    Layer(LayerName),
    /// A resource limit, at every stage.
    Limit(Resource),
}

/// One means of confinement of a recipe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Which.
    pub name: LayerName,
    /// A process without it is refused. Otherwise it is taken where it is to be had, and its absence is shown.
    pub required: bool,
    /// An operator said which of the two.
    pub asked: bool,
    /// What it stops.
    pub because: Because,
}

/// A resource limit of the kernel (`setrlimit`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Resource {
    CoreBytes,
    FileBytes,
    OpenFiles,
    LockedBytes,
    DataBytes,
    StackBytes,
    Processes,
    QueueBytes,
    RealtimePriority,
}

/// The value of a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value {
    /// This.
    Exactly(u64),
    /// The size of the largest file that it may write: it cannot make one grow.
    LargestFile,
}

/// One resource limit of a recipe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    /// Which.
    pub resource: Resource,
    /// At most this.
    pub value: Value,
    /// From when on.
    pub from: Stage,
    /// What it stops.
    pub because: Because,
}

/// Limits of a control group. They hold for all that the process starts or has others do, whatever user it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupLimits {
    /// Memory of all kinds: private, the kernel's for it, files' contents that it reads, and shared memory that it is the
    /// first to touch.
    pub memory_bytes: u64,
    /// Processes and threads.
    pub processes: u32,
    /// Processor time; 100 is one processor.
    pub cpu_percent: u32,
    /// What it stops.
    pub because: Because,
}

/// The kind of kernel object behind a descriptor, as far as the kernel tells an onlooker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DescriptorKind {
    /// A socket.
    Channel,
    /// An eventfd.
    Eventfd,
    /// A regular file or block device.
    File,
    /// A memfd.
    Memory,
    /// An end of a pipe.
    Pipe,
    /// A tap network interface.
    Tap,
    /// `/dev/kvm`.
    Kvm,
    /// A virtual machine of KVM.
    KvmMachine,
    /// A processor of KVM.
    KvmProcessor,
}

/// Which way bytes may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Mode {
    /// Out of the object.
    Read,
    /// Into it.
    Write,
    /// Both.
    Both,
}

impl Mode {
    /// Whether bytes may go the way of `other`.
    #[must_use]
    pub fn covers(self, other: Mode) -> bool {
        self == Mode::Both || self == other
    }
}

/// How many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Count {
    /// This many.
    Exactly(u32),
    /// No more than this many.
    UpTo(u32),
}

impl Count {
    /// The largest that is allowed.
    #[must_use]
    pub const fn most(self) -> u32 {
        match self {
            Count::Exactly(count) | Count::UpTo(count) => count,
        }
    }
    /// The smallest that is allowed.
    #[must_use]
    pub const fn least(self) -> u32 {
        match self {
            Count::Exactly(count) => count,
            Count::UpTo(_) => 0,
        }
    }
}

/// Descriptors that a process may hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keep {
    /// What is behind them.
    pub kind: DescriptorKind,
    /// Which way it uses them.
    pub mode: Mode,
    /// How many.
    pub count: Count,
    /// At which stages.
    pub at: &'static [Stage],
    /// A word for what they are: `wake`, `channel`.
    pub purpose: &'static str,
    /// What they are for.
    pub because: Because,
}

/// Shared memory that a process may have mapped once it is sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// The memfd's name, or the start of it.
    pub name: &'static str,
    /// [`Mode::Read`] or [`Mode::Both`].
    pub mode: Mode,
    /// At most this many bytes in all; `None` where the size is the operator's choice.
    pub bytes: Option<u64>,
    /// It is guest memory.
    pub guest: bool,
    /// What it is for.
    pub because: Because,
}

/// A system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Call {
    /// Its number on this architecture.
    pub number: i64,
    /// Its name in the manual.
    pub name: &'static str,
}

macro_rules! calls {
    ($($constant:ident = $number:ident $name:literal;)*) => {
        #[allow(missing_docs)]
        impl Call {
            $(pub const $constant: Call = Call { number: libc::$number, name: $name };)*
        }
    };
}
calls! {
    BRK = SYS_brk "brk";
    CLOCK_GETTIME = SYS_clock_gettime "clock_gettime";
    CLOCK_NANOSLEEP = SYS_clock_nanosleep "clock_nanosleep";
    CLOSE = SYS_close "close";
    EXIT = SYS_exit "exit";
    EXIT_GROUP = SYS_exit_group "exit_group";
    FDATASYNC = SYS_fdatasync "fdatasync";
    FUTEX = SYS_futex "futex";
    GETPID = SYS_getpid "getpid";
    GETRANDOM = SYS_getrandom "getrandom";
    GETTID = SYS_gettid "gettid";
    IOCTL = SYS_ioctl "ioctl";
    MADVISE = SYS_madvise "madvise";
    MMAP = SYS_mmap "mmap";
    MPROTECT = SYS_mprotect "mprotect";
    MREMAP = SYS_mremap "mremap";
    MUNMAP = SYS_munmap "munmap";
    POLL = SYS_poll "poll";
    PPOLL = SYS_ppoll "ppoll";
    PREAD64 = SYS_pread64 "pread64";
    PREADV = SYS_preadv "preadv";
    PREADV2 = SYS_preadv2 "preadv2";
    PWRITE64 = SYS_pwrite64 "pwrite64";
    PWRITEV = SYS_pwritev "pwritev";
    READ = SYS_read "read";
    READV = SYS_readv "readv";
    RECVMSG = SYS_recvmsg "recvmsg";
    RESTART_SYSCALL = SYS_restart_syscall "restart_syscall";
    RT_SIGPROCMASK = SYS_rt_sigprocmask "rt_sigprocmask";
    RT_SIGRETURN = SYS_rt_sigreturn "rt_sigreturn";
    SENDTO = SYS_sendto "sendto";
    SHUTDOWN = SYS_shutdown "shutdown";
    SIGALTSTACK = SYS_sigaltstack "sigaltstack";
    TGKILL = SYS_tgkill "tgkill";
    WRITE = SYS_write "write";
    WRITEV = SYS_writev "writev";
}

/// A value with a name, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Named {
    /// The value.
    pub value: u64,
    /// What the manual calls it.
    pub name: &'static str,
}

/// What must hold of a system call's arguments. The kernel sees the registers only, never memory that they point at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// Argument 0 is a descriptor of one of these kinds that is held for this direction.
    On(&'static [DescriptorKind], Mode),
    /// The low 32 bits of the argument are one of these.
    OneOf(u8, Vec<Named>),
    /// None of these bits of the argument is set.
    Without(u8, Named),
}

/// A system call that is left to a sealed process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permit {
    /// Which.
    pub call: Call,
    /// All of these must hold.
    pub when: Vec<Condition>,
    /// What it is needed for.
    pub because: Because,
}

/// A level does not have that layer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("sandbox level `{}` has no layer `{}`", show::level_name(*.level), .layer.name())]
pub struct NoSuchLayer {
    layer: LayerName,
    level: Level,
}

impl Recipe {
    /// One of this level that allows nothing yet: the first process of a process namespace, with one thread.
    pub(crate) fn empty(name: String, level: Level) -> Recipe {
        Recipe {
            name,
            level,
            layers: Vec::new(),
            limits: Vec::new(),
            label: None,
            group: None,
            descriptors: Vec::new(),
            memory: Vec::new(),
            threads: 1,
            number: 1,
            calls: Vec::new(),
            helper: None,
        }
    }

    /// The recipe of its helper where that is a process, which has the same layers.
    fn helper_mut(&mut self) -> Option<&mut Recipe> {
        let helper = self.helper.as_mut().filter(|helper| helper.form == HelperForm::Process);
        helper.map(|helper| &mut *helper.recipe)
    }

    /// Processes by this recipe: itself, and its helper where that is one.
    pub(crate) fn processes(&self) -> u64 {
        1 + u64::from(self.helper_of(HelperForm::Process).is_some())
    }

    /// Threads of all of them.
    pub(crate) fn tasks(&self) -> u32 {
        self.threads + self.helper_of(HelperForm::Process).map_or(0, |helper| helper.threads)
    }

    /// Sets the limits of its control group, which a helper shares.
    pub(crate) fn set_group(&mut self, group: GroupLimits) {
        if let Some(helper) = &mut self.helper {
            helper.recipe.group = Some(group.clone());
        }
        self.group = Some(group);
    }

    /// What a process by this recipe is to an onlooker: a helper that is a thread is part of it.
    #[must_use]
    pub(crate) fn as_seen(&self, stage: Stage) -> Cow<'_, Recipe> {
        match self.helper_of(HelperForm::Thread) {
            Some(helper) if stage == Stage::Sealed => {
                let mut whole = self.clone();
                whole.limits.extend(helper.limits.iter().cloned());
                whole.descriptors.extend(helper.descriptors.iter().cloned());
                Cow::Owned(whole)
            }
            _ => Cow::Borrowed(self),
        }
    }

    /// The recipe of its helper, if it has one of this form.
    #[must_use]
    pub fn helper_of(&self, form: HelperForm) -> Option<&Recipe> {
        self.helper.as_ref().filter(|helper| helper.form == form).map(|helper| &*helper.recipe)
    }

    /// Keeps descriptors.
    #[must_use]
    pub fn keep(
        mut self,
        kind: DescriptorKind,
        mode: Mode,
        count: Count,
        purpose: &'static str,
        because: impl Into<Because>,
    ) -> Recipe {
        let because = because.into();
        self.descriptors.push(Keep { kind, mode, count, at: &[Stage::Sealed], purpose, because });
        self
    }

    /// Permits a system call.
    #[must_use]
    pub fn permit(mut self, call: Call, when: Vec<Condition>, because: impl Into<Because>) -> Recipe {
        self.calls.push(Permit { call, when, because: because.into() });
        self
    }

    /// Sets a resource limit.
    #[must_use]
    pub fn limit(mut self, resource: Resource, value: Value, from: Stage, because: impl Into<Because>) -> Recipe {
        self.limits.push(Limit { resource, value, from, because: because.into() });
        self
    }

    /// Adds shared memory whose size the operator chose: guest memory.
    #[must_use]
    pub fn with_guest_memory(mut self, bytes: u64) -> Recipe {
        let helper = self.helper.as_mut().and_then(|helper| helper.recipe.group.as_mut());
        for group in self.group.iter_mut().chain(helper) {
            group.memory_bytes += bytes;
        }
        self
    }

    /// Gives it a label as its program starts.
    #[must_use]
    pub fn with_label(mut self, label: Label) -> Recipe {
        if let Some(helper) = self.helper_mut() {
            helper.label = Some(label.clone());
        }
        self.label = Some(label);
        self
    }

    /// Makes a layer required that would otherwise be taken only where it is to be had.
    pub fn require(&mut self, layer: LayerName) -> Result<(), NoSuchLayer> {
        self.ask(layer, true)
    }

    /// Goes on without a layer that is not to be had. The audit goes on showing that it is missing.
    pub fn allow_missing(&mut self, layer: LayerName) -> Result<(), NoSuchLayer> {
        self.ask(layer, false)
    }

    fn ask(&mut self, name: LayerName, required: bool) -> Result<(), NoSuchLayer> {
        let found = self.layers.iter_mut().find(|layer| layer.name == name);
        let layer = found.ok_or(NoSuchLayer { layer: name, level: self.level })?;
        (layer.required, layer.asked) = (required, true);
        match self.helper_mut() {
            Some(helper) => helper.ask(name, required),
            None => Ok(()),
        }
    }

    /// Takes a layer out, as if it did not exist: what attacks it stops is shown by their success without it.
    #[must_use]
    pub fn without(mut self, layer: LayerName) -> Recipe {
        self.layers.retain(|have| have.name != layer);
        if layer == LayerName::Filter {
            self.calls.clear();
        }
        self
    }

    /// Takes parts out, as [`Recipe::without`] does with a layer.
    #[must_use]
    pub fn without_parts(mut self, parts: &[Part]) -> Recipe {
        for part in parts {
            match part {
                Part::Layer(layer) => self = self.without(*layer),
                Part::Limit(resource) => self.limits.retain(|limit| limit.resource != *resource),
            }
        }
        self
    }

    /// The layer, if it is part of this recipe.
    #[must_use]
    pub fn layer(&self, name: LayerName) -> Option<&Layer> {
        self.layers.iter().find(|layer| layer.name == name)
    }

    /// Whether a system call filter is part of it.
    #[must_use]
    pub fn is_filtered(&self) -> bool {
        self.layer(LayerName::Filter).is_some()
    }

    /// How many different system calls a sealed process has left, all its threads together; 0 means that none is filtered.
    #[must_use]
    pub fn syscalls_allowed(&self) -> u32 {
        let helper = self.helper_of(HelperForm::Thread).into_iter().flat_map(|helper| &helper.calls);
        let mut numbers: Vec<i64> = self.calls.iter().chain(helper).map(|permit| permit.call.number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers.len() as u32
    }

    /// Descriptors that it holds at `stage`.
    pub fn held_at(&self, stage: Stage) -> impl Iterator<Item = &Keep> {
        self.descriptors.iter().filter(move |keep| keep.at.contains(&stage))
    }

    /// The limits in force at `stage`: a later one replaces an earlier one.
    #[must_use]
    pub fn limits_at(&self, stage: Stage) -> Vec<&Limit> {
        let mut limits: Vec<&Limit> = Vec::new();
        for limit in self.limits.iter().filter(|limit| limit.from <= stage) {
            limits.retain(|have| have.resource != limit.resource);
            limits.push(limit);
        }
        limits
    }
}

impl Resource {
    /// Its number for `setrlimit`.
    pub(crate) const fn number(self) -> u32 {
        match self {
            Resource::CoreBytes => libc::RLIMIT_CORE,
            Resource::FileBytes => libc::RLIMIT_FSIZE,
            Resource::OpenFiles => libc::RLIMIT_NOFILE,
            Resource::LockedBytes => libc::RLIMIT_MEMLOCK,
            Resource::DataBytes => libc::RLIMIT_DATA,
            Resource::StackBytes => libc::RLIMIT_STACK,
            Resource::Processes => libc::RLIMIT_NPROC,
            Resource::QueueBytes => libc::RLIMIT_MSGQUEUE,
            Resource::RealtimePriority => libc::RLIMIT_RTPRIO,
        }
    }

    /// How a line of `/proc/PID/limits` begins.
    pub(crate) const fn title(self) -> &'static str {
        match self {
            Resource::CoreBytes => "Max core file size",
            Resource::FileBytes => "Max file size",
            Resource::OpenFiles => "Max open files",
            Resource::LockedBytes => "Max locked memory",
            Resource::DataBytes => "Max data size",
            Resource::StackBytes => "Max stack size",
            Resource::Processes => "Max processes",
            Resource::QueueBytes => "Max msgqueue size",
            Resource::RealtimePriority => "Max realtime priority",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use schema::lane::Carrier;
    use schema::manifest::{Class, Manifest, Power, Wish};

    fn device(name: &str, powers: &[Power]) -> Manifest {
        let wish = |power: &Power| Wish {
            power: *power,
            name: "it".into(),
            switch: None,
            bytes: 4096,
            range: 0,
            because: "a test wants it".into(),
        };
        Manifest {
            name: name.into(),
            summary: String::new(),
            class: Class::System,
            ranges: vec![],
            registers: vec![],
            lines: vec![],
            vectors: 0,
            doorbells: vec![],
            wishes: powers.iter().map(wish).collect(),
            state_bytes: 64,
            bulk_bytes: 0,
            pci: None,
            acpi: None,
            with: vec![],
            options: vec![],
        }
    }

    fn calls(recipe: &Recipe) -> Vec<&'static str> {
        recipe.calls.iter().map(|permit| permit.call.name).collect()
    }

    const EVERYTHING: [Power; 8] = [
        Power::Stream,
        Power::Memory,
        Power::LowMemory,
        Power::FileRead,
        Power::FileWrite,
        Power::Switch,
        Power::Direct,
        Power::Entropy,
    ];

    #[test]
    fn a_device_of_registers_and_rings_is_left_what_mode_1_leaves() {
        let recipe = Recipe::host(Level::Seccomp, &[device("uart", &[Power::Stream, Power::Switch])]);
        assert_eq!(calls(&recipe), ["read", "write", "exit", "rt_sigreturn"]);
        assert_eq!(recipe.syscalls_allowed(), 4);
    }

    #[test]
    fn at_level_strict_a_device_is_left_what_mode_1_leaves_whatever_its_powers() {
        let recipe = Recipe::host(Level::Strict, &[device("it", &EVERYTHING)]);
        assert_eq!(calls(&recipe), ["read", "write", "exit", "rt_sigreturn"]);
        assert!(recipe.descriptors.iter().all(|keep| keep.kind != DescriptorKind::File));
        assert!(Recipe::host(Level::Strict, &[device("uart", &[Power::Stream, Power::Memory])]).helper.is_none());
    }

    #[test]
    fn a_helper_is_left_what_its_devices_powers_need_and_no_guest_memory() {
        let helper = |power| {
            let host = Recipe::host(Level::Strict, &[device("it", &[Power::Memory, power])]);
            host.helper_of(HelperForm::Process).expect("a helper").clone()
        };
        let added = |power| calls(&helper(power))[4..].to_vec();
        assert_eq!(added(Power::FileRead), ["preadv"]);
        assert_eq!(added(Power::FileWrite), ["preadv", "pwritev", "fdatasync"]);
        assert_eq!(added(Power::Entropy), ["getrandom"]);
        for power in [Power::FileRead, Power::FileWrite, Power::Entropy] {
            assert!(helper(power).memory.iter().all(|share| share.name == "cofferdam:helper"), "{power:?}");
        }
    }

    #[test]
    fn what_a_helper_thread_may_is_counted_as_its_process_may() {
        let of = |form| {
            let host =
                Recipe::host_with(Level::Strict, &[device("disk", &[Power::FileWrite])], &[Carrier::Memory], form);
            (host.threads, host.syscalls_allowed())
        };
        assert_eq!(of(HelperForm::Process), (1, 4));
        assert_eq!(of(HelperForm::Thread), (2, 8));
    }

    #[test]
    fn a_power_adds_the_calls_that_it_needs() {
        let added = |power| {
            let recipe = Recipe::host(Level::Seccomp, &[device("it", &[power])]);
            calls(&recipe)[4..].to_vec()
        };
        assert_eq!(added(Power::FileRead), ["pread64", "preadv"]);
        assert_eq!(added(Power::FileWrite), ["pread64", "preadv", "pwrite64", "pwritev", "fdatasync"]);
        assert_eq!(added(Power::Entropy), ["getrandom"]);
        assert_eq!(added(Power::Memory), Vec::<&str>::new());
    }

    #[test]
    fn no_host_is_left_more_than_twelve_calls_and_no_vmm_more_than_thirty() {
        assert!(Recipe::host(Level::Seccomp, &[device("it", &EVERYTHING)]).syscalls_allowed() <= 12);
        assert!(Recipe::vmm(Level::Seccomp, 16, true, &[device("it", &EVERYTHING)], false).syscalls_allowed() <= 30);
    }

    #[test]
    fn guest_memory_is_in_the_recipe_of_who_wishes_for_it_alone() {
        let memory = |powers: &[Power]| {
            let recipe = Recipe::host(Level::Seccomp, &[device("it", powers)]);
            recipe.memory.into_iter().find(|share| share.guest).map(|share| share.bytes)
        };
        assert_eq!(memory(&[Power::Stream, Power::FileWrite]), None);
        assert_eq!(memory(&[Power::LowMemory]), Some(Some(16 << 20)));
        assert_eq!(memory(&[Power::Memory]), Some(None));
        assert_eq!(memory(&[Power::Memory, Power::LowMemory]), Some(None));
    }

    #[test]
    fn hosts_that_write_no_file_may_write_none() {
        let limit = |powers: &[Power]| {
            let recipe = Recipe::host(Level::Seccomp, &[device("it", powers)]);
            recipe
                .limits_at(Stage::Sealed)
                .into_iter()
                .find(|limit| limit.resource == Resource::FileBytes)
                .map(|limit| limit.value)
        };
        assert_eq!(limit(&[Power::FileRead]), Some(Value::Exactly(0)));
        assert_eq!(limit(&[Power::FileWrite]), Some(Value::LargestFile));
    }

    #[test]
    fn what_is_done_at_the_start_depends_on_the_level_alone() {
        let (one, other) =
            (Recipe::host(Level::Seccomp, &[]), Recipe::host(Level::Seccomp, &[device("it", &EVERYTHING)]));
        assert_eq!(one.layers, other.layers);
        assert_eq!(one.limits_at(Stage::Confined), other.limits_at(Stage::Confined));
        assert!(one.held_at(Stage::Confined).eq(other.held_at(Stage::Confined)));
    }

    #[test]
    fn every_entry_has_a_reason_and_is_printed() {
        for recipe in [
            Recipe::host(Level::Seccomp, &[device("it", &EVERYTHING)]),
            Recipe::host(Level::Strict, &[device("it", &EVERYTHING)]),
            Recipe::vmm(Level::Seccomp, 2, true, &[device("it", &EVERYTHING)], true),
        ] {
            let text = recipe.to_string();
            let helper = recipe.helper_of(HelperForm::Process).map_or(String::new(), Recipe::to_string);
            assert!(text.ends_with(&helper), "{text}");
            let reasons = recipe.layers.iter().map(|layer| &layer.because);
            let reasons = reasons.chain(recipe.limits.iter().map(|limit| &limit.because));
            let reasons = reasons.chain(recipe.descriptors.iter().map(|keep| &keep.because));
            let reasons = reasons.chain(recipe.memory.iter().map(|share| &share.because));
            for because in reasons.chain(recipe.calls.iter().map(|permit| &permit.because)) {
                assert!(!because.is_empty() && text.contains(because.as_ref()), "{because}");
            }
        }
    }

    #[test]
    fn a_level_without_a_filter_says_so() {
        let recipe = Recipe::host(Level::Process, &[]);
        assert_eq!(recipe.syscalls_allowed(), 0);
        assert!(recipe.to_string().contains("System calls: not filtered at this level"));
        assert!(Recipe::host(Level::Off, &[]).to_string().contains("nothing to confine it"));
    }

    #[test]
    fn layers_are_asked_for_by_name() {
        let mut recipe = Recipe::host(Level::Seccomp, &[]);
        recipe.require("landlock".parse().unwrap()).unwrap();
        assert!(recipe.layer(LayerName::Landlock).unwrap().required);
        recipe.allow_missing("user".parse().unwrap()).unwrap();
        assert!(!recipe.layer(LayerName::User).unwrap().required);
        assert!(recipe.to_string().contains("required, as asked"));
        assert!(recipe.to_string().contains("may be missing, as asked"));
        let error = "moat".parse::<LayerName>().unwrap_err().to_string();
        assert!(error.contains("`moat`") && error.contains("landlock"), "{error}");
        let error = Recipe::host(Level::Process, &[]).require(LayerName::Filter).unwrap_err().to_string();
        assert_eq!(error, "sandbox level `process` has no layer `filter`");
    }

    #[test]
    fn layers_are_applied_in_the_order_that_is_told() {
        let recipe = Recipe::host(Level::Seccomp, &[]);
        assert!(recipe.layers.iter().map(|layer| layer.name).eq(LayerName::ALL));
    }
}
