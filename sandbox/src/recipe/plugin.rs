//! The recipe of a plugin: a program of somebody else's, whose code runs before it is sealed.
//!
//! A device host of ours is trusted until it has sealed itself: nothing of a guest's has reached it by then. A plugin is not
//! trusted for a moment. So nothing of its confinement is its own doing: its root shows what it is loaded from and no more,
//! both of its filters are installed before its first instruction, and what the wider of the two leaves to it ends from
//! outside, when the supervisor closes its [`crate::Gate`].

use super::{
    Because, Call, Condition, GroupLimits, HelperForm, LayerName, Named, Permit, Recipe, Resource, Stage, Value,
};
use schema::host::Level;
use schema::lane::Carrier;
use schema::manifest::Manifest;
use std::path::PathBuf;

/// Private memory of a plugin: an interpreter with its libraries takes some 40 MiB.
const PLUGIN_DATA_BYTES: u64 = 256 << 20;
/// Stack of a plugin: what interpreters and their libraries are made for.
const PLUGIN_STACK_BYTES: u64 = 8 << 20;
/// `PROT_EXEC`.
const EXECUTABLE: Named = Named { value: libc::PROT_EXEC as u64, name: "PROT_EXEC" };

/// What a plugin has until it is sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loading {
    /// What it sees of the file system, read-only, in its otherwise empty root.
    pub view: Vec<Shown>,
    /// All calls that it may make while it loads; once it is sealed, those of the recipe alone. Empty where no filter is
    /// installed.
    pub calls: Vec<Permit>,
}

/// A file or folder in a plugin's root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Where the plugin sees it.
    pub at: PathBuf,
    /// Where it is.
    pub from: PathBuf,
    /// What it is for.
    pub because: Because,
}

impl Recipe {
    /// The recipe of a plugin that is `device`, over this carrier, with this view of the file system while it loads.
    #[must_use]
    pub fn plugin(level: Level, device: &Manifest, carrier: Carrier, view: Vec<Shown>) -> Recipe {
        let mut recipe =
            Recipe::host_with(level, std::slice::from_ref(device), &[carrier], HelperForm::default()).for_a_plugin();
        if level == Level::Off {
            return recipe;
        }
        let mut calls = if recipe.is_filtered() { loading_calls() } else { Vec::new() };
        // The filter of loading stays: what is beyond it ends a sealed plugin, too.
        let more = recipe.calls.iter().filter(|sealed| calls.iter().all(|loading| loading.call != sealed.call));
        calls.extend(more.cloned().collect::<Vec<_>>());
        recipe.loading = Some(Loading { view, calls });
        recipe
    }

    fn for_a_plugin(mut self) -> Recipe {
        for layer in &mut self.layers {
            match layer.name {
                LayerName::Root => {
                    layer.because = "a read-only root directory with what it is loaded from, listed below".into();
                }
                LayerName::Landlock => {
                    layer.because = "every right denied but to read what its root shows, should it leave that".into();
                }
                LayerName::Undumpable => {
                    layer.because =
                        "once sealed, another process of the same user cannot trace it or take its descriptors".into();
                }
                LayerName::Filter => {
                    layer.because =
                        "from its first instruction on: while it loads, calls beyond those below end it or \
                                     are let through one by one; once it is sealed, no more"
                            .into();
                }
                _ => {}
            }
        }
        // Whose code it is to be is not known before it runs.
        self.layers.retain(|layer| !matches!(layer.name, LayerName::Mseal));
        for limit in &mut self.limits {
            match limit.resource {
                Resource::DataBytes => limit.value = Value::Exactly(PLUGIN_DATA_BYTES),
                Resource::StackBytes => limit.value = Value::Exactly(PLUGIN_STACK_BYTES),
                _ => {}
            }
        }
        if let Some(GroupLimits { memory_bytes, .. }) = &mut self.group {
            *memory_bytes += PLUGIN_DATA_BYTES + PLUGIN_STACK_BYTES;
        }
        for permit in &mut self.calls {
            // The filter is made before any descriptor is granted. That it holds no others, and can make none, is what the
            // audit sees and a limit keeps.
            permit.when.retain(|condition| !matches!(condition, Condition::On(..)));
        }
        if self.is_filtered() {
            self.calls.extend(heap_calls());
        }
        self
    }

    /// Whether the layer is there at `stage`.
    pub(crate) fn has_at(&self, layer: LayerName, stage: Stage) -> bool {
        // The start of a program makes it dumpable; it is the program that changes that.
        let later = layer == LayerName::Undumpable && self.loading.is_some() && stage == Stage::Confined;
        !later && self.layer(layer).is_some_and(|layer| layer.required)
    }
}

/// Calls of a language's run time, which has a heap that grows and a lock that somebody may wait for.
fn heap_calls() -> Vec<Permit> {
    let because = "its heap, as far as its limit of memory";
    let plain = |call| Permit { call, when: Vec::new(), because: because.into() };
    let not_executable = |call| Permit { call, when: vec![Condition::Without(2, EXECUTABLE)], because: because.into() };
    vec![
        plain(Call::BRK),
        not_executable(Call::MMAP),
        not_executable(Call::MPROTECT),
        plain(Call::MREMAP),
        plain(Call::MUNMAP),
        plain(Call::MADVISE),
        Permit { call: Call::FUTEX, when: Vec::new(), because: "the locks of its run time".into() },
        Permit { call: Call::EXIT_GROUP, when: Vec::new(), because: "its end".into() },
    ]
}

/// Calls while a program loads: opening and mapping what its root shows, asking about itself, and its first messages.
fn loading_calls() -> Vec<Permit> {
    const FILES: [Call; 18] = [
        Call::OPENAT,
        Call::OPEN,
        Call::CLOSE,
        Call::CLOSE_RANGE,
        Call::READ,
        Call::READV,
        Call::PREAD64,
        Call::LSEEK,
        Call::FSTAT,
        Call::STAT,
        Call::LSTAT,
        Call::NEWFSTATAT,
        Call::STATX,
        Call::ACCESS,
        Call::FACCESSAT2,
        Call::READLINK,
        Call::GETDENTS64,
        Call::GETCWD,
    ];
    const MEMORY: [Call; 6] = [Call::BRK, Call::MMAP, Call::MPROTECT, Call::MREMAP, Call::MUNMAP, Call::MADVISE];
    const ITSELF: [Call; 23] = [
        Call::ARCH_PRCTL,
        Call::SET_TID_ADDRESS,
        Call::SET_ROBUST_LIST,
        Call::RSEQ,
        Call::PRLIMIT64,
        Call::GETRLIMIT,
        Call::GETRANDOM,
        Call::GETPID,
        Call::GETTID,
        Call::GETUID,
        Call::GETGID,
        Call::GETEUID,
        Call::GETEGID,
        Call::UNAME,
        Call::SYSINFO,
        Call::SCHED_GETAFFINITY,
        Call::SCHED_YIELD,
        Call::CLOCK_GETTIME,
        Call::CLOCK_GETRES,
        Call::RT_SIGACTION,
        Call::RT_SIGPROCMASK,
        Call::SIGALTSTACK,
        Call::EPOLL_CREATE1,
    ];
    const MESSAGES: [Call; 12] = [
        Call::WRITE,
        Call::WRITEV,
        Call::SENDTO,
        Call::RECVMSG,
        Call::PREADV2,
        Call::RECVFROM,
        Call::POLL,
        Call::DUP,
        Call::GETPEERNAME,
        Call::GETSOCKNAME,
        Call::GETSOCKOPT,
        Call::EVENTFD2,
    ];
    let each = |calls: &'static [Call], because: &'static str| {
        calls.iter().map(move |call| Permit { call: *call, when: Vec::new(), because: because.into() })
    };
    let one_of = |call, argument, values: &[(u64, &'static str)], because: &'static str| {
        let values = values.iter().map(|(value, name)| Named { value: *value, name }).collect();
        Permit { call, when: vec![Condition::OneOf(argument, values)], because: because.into() }
    };
    let mut calls: Vec<Permit> = each(&FILES, "reading what it is loaded from").collect();
    calls.extend(each(&MEMORY, "its code and its heap"));
    calls.extend(each(&ITSELF, "asking about itself, as its run time starts"));
    calls.extend(each(&MESSAGES, "its first messages, and what comes with them"));
    calls.extend(each(
        &[Call::FUTEX, Call::RT_SIGRETURN, Call::EXIT, Call::EXIT_GROUP, Call::RESTART_SYSCALL],
        "its locks, and its end",
    ));
    calls.push(one_of(
        Call::PRCTL,
        0,
        &[
            (libc::PR_SET_DUMPABLE as u64, "PR_SET_DUMPABLE"),
            (libc::PR_SET_NAME as u64, "PR_SET_NAME"),
            (libc::PR_SET_VMA as u64, "PR_SET_VMA"),
        ],
        "not to be looked at, and names of its memory",
    ));
    calls.push(one_of(
        Call::IOCTL,
        1,
        &[(libc::TCGETS, "TCGETS"), (libc::FIOCLEX, "FIOCLEX"), (libc::FIONBIO, "FIONBIO")],
        "asking whether something is a terminal",
    ));
    calls.push(one_of(
        Call::FCNTL,
        1,
        &[
            (libc::F_GETFD as u64, "F_GETFD"),
            (libc::F_SETFD as u64, "F_SETFD"),
            (libc::F_GETFL as u64, "F_GETFL"),
            (libc::F_SETFL as u64, "F_SETFL"),
            (libc::F_DUPFD_CLOEXEC as u64, "F_DUPFD_CLOEXEC"),
            (libc::F_GET_SEALS as u64, "F_GET_SEALS"),
        ],
        "flags of its descriptors",
    ));
    calls.push(Permit {
        call: Call::SOCKET,
        when: Vec::new(),
        because: "refused by the gate, not killed: a run time that asks for its user's name goes on without".into(),
    });
    calls.push(Permit {
        call: Call::EXECVEAT,
        when: Vec::new(),
        because: "becoming the plugin: once, by us; the gate refuses a second".into(),
    });
    calls
}
