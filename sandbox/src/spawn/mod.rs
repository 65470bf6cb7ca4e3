//! Starting a confined process.

#![allow(unsafe_code)] // clone3, signal masks and descriptor numbers for the child.

mod child;
mod settle;
mod view;

use crate::filter;
use crate::gate::Gate;
use crate::label::Label;
use crate::process::{Child, Lack, Program};
use crate::recipe::{HelperForm, LayerName, Loading, Recipe, Stage, Value};
use child::{Plan, Role, Step};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use schema::host::Level;
use seccompiler::BpfProgram;
use settle::Settled;
use std::ffi::CString;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;
use view::View;

/// A child has executed its program within this, or is killed. It does some forty system calls; only a machine that
/// thrashes takes longer than some milliseconds.
const SPAWN_MS: u16 = 10_000;
/// The first number that is not part of a child's table: 0 to 2 and the channel.
const FIRST_FREE: i32 = 4;
/// `CLONE_CLEAR_SIGHAND` of <linux/sched.h>, which does not fit the type that libc gives it.
const CLEAR_SIGHAND: u64 = 1 << 32;

/// Why a process could not be started.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// The kernel refuses the namespaces.
    #[error("{sentence}")]
    Namespaces {
        /// What the kernel said.
        error: io::Error,
        /// What that means and what can be done.
        sentence: String,
    },
    /// A step of confinement failed in the child.
    #[error("could not confine the process: {what}: {error}{hint}")]
    Step {
        /// The step, as "mounting an empty root".
        what: &'static str,
        /// What the kernel said.
        error: io::Error,
        /// What may be done, if that is known.
        hint: String,
    },
    /// A required layer is not to be had.
    #[error("the sandbox layer `{}` is required, and {}; {}, or give `--allow-missing {}`", .0.layer.name(), .0.why, .0.remedy,
        .0.layer.name())]
    Missing(Lack),
    /// The child did not get as far as executing its program.
    #[error("the process did not start within {SPAWN_MS} ms, and was killed")]
    Late,
    /// The child was gone before it executed its program.
    #[error("the process died while it was confined: {0}")]
    Died(crate::End),
    /// The supervisor lacks something.
    #[error("could not prepare a process: {0}")]
    Prepare(#[from] io::Error),
}

/// A program to start.
pub struct Start<'a> {
    /// It.
    pub program: &'a Program,
    /// The name that it is started by.
    pub argv0: &'a str,
    /// Its arguments.
    pub arguments: &'a [String],
    /// What becomes its descriptor 3.
    pub channel: OwnedFd,
}

/// Starts `program` as `recipe` says, with `channel` as its descriptor 3, an empty environment and `argv0` as its only
/// argument. Returns once it runs the program. What is used of the recipe is its level, layers and limits at the start.
///
/// The child dies with the *thread* that calls this: call it from one that lives as long as the process.
pub fn spawn(program: &Program, argv0: &str, channel: OwnedFd, recipe: &Recipe) -> Result<Child, SpawnError> {
    spawn_with(Start { program, argv0, arguments: &[], channel }, recipe)
}

/// As [`spawn()`], with arguments.
pub fn spawn_with(start: Start<'_>, recipe: &Recipe) -> Result<Child, SpawnError> {
    self::start(start, None, recipe)
}

/// As [`spawn()`], with a helper beside it: a child of the first process of its process namespace. So the two end together,
/// and who has reaped the first has reaped both: the kernel keeps it until all of its namespace is gone.
pub fn spawn_with_helper(host: Start<'_>, helper: Start<'_>, recipe: &Recipe) -> Result<Child, SpawnError> {
    let mut child = start(host, Some(helper), recipe)?;
    child.helper = Some(only_child(child.pid)?);
    Ok(child)
}

fn start(host: Start<'_>, helper: Option<Start<'_>>, recipe: &Recipe) -> Result<Child, SpawnError> {
    // Numbers from 4 on: the child must be able to fill 0 to 3 without closing what it still needs.
    let (report, report_write) = nix::unistd::pipe2(OFlag::O_CLOEXEC).map_err(io::Error::from)?;
    let report_write = lifted(report_write)?;
    let host = Ready::new(host)?;
    let helper = helper.map(Ready::new).transpose()?;
    let supervisor = pidfd_of_this_process()?;
    let (go, settled_write) = nix::unistd::pipe2(OFlag::O_CLOEXEC).map_err(io::Error::from)?;
    let go = lifted(go)?;
    if let Some(lack) = crate::audit::missing_from_kernel(recipe) {
        return Err(SpawnError::Missing(lack));
    }
    let program_mode =
        helper.iter().try_fold(host.mode()?, |mode, helper| Ok::<_, io::Error>(mode & helper.mode()?))?;
    let mut plan = Plan {
        confined: recipe.level != Level::Off,
        report: report_write.as_raw_fd(),
        supervisor: supervisor.as_raw_fd(),
        role: host.role(recipe),
        helper: helper.as_ref().map(|helper| helper.role(recipe.helper_of(HelperForm::Process).unwrap_or(recipe))),
        go: go.as_raw_fd(),
        user_namespace: false,
        group_namespace: recipe.layer(LayerName::CgroupNamespace).map(|layer| layer.required),
        nesting: recipe.layer(LayerName::Nesting).map(|layer| layer.required),
        label: recipe.label.as_ref().filter(|_| recipe.layer(LayerName::Label).is_some()).map(Label::on_exec),
        empty_root: recipe.layer(LayerName::Root).is_some(),
        drop_capabilities: recipe.layer(LayerName::Capabilities).is_some(),
        no_new_privs: recipe.layer(LayerName::NoNewPrivs).is_some(),
        last_capability: last_capability(),
        view: None,
        filters: None,
    };
    if let Some(loading) = &recipe.loading {
        let mut view = View::prepare(&loading.view)?;
        view.rules = view.rules.filter(|_| recipe.layer(LayerName::Landlock).is_some()).map(lifted).transpose()?;
        plan.view = Some(view);
        if recipe.is_filtered() {
            plan.filters = Some(Filters::of(loading, recipe)?);
        }
    }
    let namespaces = Namespaces::of(recipe);
    let mut child = namespaces.clone_with(|flags| {
        plan.user_namespace = flags & libc::CLONE_NEWUSER as u64 != 0;
        // Without a mount namespace of its own it would take the supervisor's root away.
        plan.empty_root &= flags & libc::CLONE_NEWNS as u64 != 0;
        clone3(flags, &plan)
    })?;
    drop(report_write);
    let Settled { own_user, group, lacks } =
        settle::settle(child.pid, recipe, plan.user_namespace, settle::own_user(recipe, program_mode))?;
    child.settled(group, lacks);
    let word = if own_user { child::SETTLED_AS_OWN_USER } else { child::SETTLED };
    // One that died meanwhile is found below.
    let _ = nix::unistd::write(&settled_write, &[word]);
    await_exec(report, &settled_write, &mut child)?;
    Ok(child)
}

/// The two filters that a plugin has from its first instruction on: what kills, and what asks.
pub(super) struct Filters {
    pub(super) outer: BpfProgram,
    pub(super) inner: BpfProgram,
}

impl Filters {
    fn of(loading: &Loading, recipe: &Recipe) -> Result<Filters, SpawnError> {
        let outer = filter::compile(&loading.calls, &[]).map_err(io::Error::other)?;
        let inner = filter::compile_asking(&recipe.calls).map_err(io::Error::other)?;
        Ok(Filters { outer, inner })
    }
}

/// A program to start, at numbers that the child can use.
struct Ready {
    argv: Vec<CString>,
    channel: OwnedFd,
    program: OwnedFd,
}

impl Ready {
    fn new(start: Start<'_>) -> io::Result<Ready> {
        let words = std::iter::once(start.argv0).chain(start.arguments.iter().map(String::as_str));
        let argv = words.map(CString::new).collect::<Result<Vec<_>, _>>()?;
        Ok(Ready { argv, channel: lifted(start.channel)?, program: lifted_copy(start.program.as_fd())? })
    }

    /// Who may execute it.
    fn mode(&self) -> io::Result<u32> {
        Ok(nix::sys::stat::fstat(&self.program)?.st_mode)
    }

    fn role(&self, recipe: &Recipe) -> Role {
        Role {
            channel: self.channel.as_raw_fd(),
            program: self.program.as_raw_fd(),
            argv: self.argv.iter().map(|word| word.as_ptr()).chain([std::ptr::null()]).collect(),
            limits: limits(recipe),
        }
    }
}

/// The one child of a process. It is its parent's until that is gone, so this cannot be another's number.
fn only_child(pid: i32) -> io::Result<i32> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let first = children.ok().and_then(|list| list.split_whitespace().next()?.parse().ok());
    // A kernel without CONFIG_PROC_CHILDREN has no such file.
    first
        .or_else(|| numbers().find(|child| parent(*child) == Some(pid)))
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "its helper is gone, or /proc does not show it"))
}

/// Numbers of all processes.
fn numbers() -> impl Iterator<Item = i32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// The field behind the state, of `pid (name) state parent …` in proc(5). The name may hold anything.
fn parent(pid: i32) -> Option<i32> {
    let line = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    line.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

/// The descriptor at a number from [`FIRST_FREE`] on.
fn lifted(descriptor: OwnedFd) -> io::Result<OwnedFd> {
    if descriptor.as_raw_fd() < FIRST_FREE { lifted_copy(descriptor.as_fd()) } else { Ok(descriptor) }
}

/// A copy of a descriptor at a number from [`FIRST_FREE`] on, closed on exec.
fn lifted_copy(descriptor: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let number = fcntl(descriptor, FcntlArg::F_DUPFD_CLOEXEC(FIRST_FREE))?;
    // SAFETY: fcntl has just made this number, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

fn pidfd_of_this_process() -> io::Result<OwnedFd> {
    // SAFETY: no memory is passed.
    let number = unsafe { libc::syscall(libc::SYS_pidfd_open, libc::getpid(), 0) };
    if number < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call has just made this number, and nobody else knows it.
    lifted(unsafe { OwnedFd::from_raw_fd(number as i32) })
}

/// The highest capability that this kernel knows; the child has no file system to look it up in.
fn last_capability() -> u32 {
    /// CAP_CHECKPOINT_RESTORE, the last one of the oldest kernel (6.1) that is supported.
    const KNOWN: u32 = 40;
    /// A capability set is 64 bits.
    const MOST: u32 = 63;
    let text = std::fs::read_to_string("/proc/sys/kernel/cap_last_cap");
    text.ok().and_then(|text| text.trim().parse().ok()).map_or(KNOWN, |last: u32| last.min(MOST))
}

/// Limits at the start. One that the supervisor itself is under already stays as it is.
fn limits(recipe: &Recipe) -> Vec<(u32, u64)> {
    let exact = |value| if let Value::Exactly(value) = value { Some(value) } else { None };
    let limits = recipe.limits_at(Stage::Confined).into_iter();
    limits.filter_map(|limit| Some((limit.resource.number(), exact(limit.value)?))).collect()
}

/// The namespaces that a child gets, and those that it may do without.
struct Namespaces {
    wanted: u64,
    user_is_optional: bool,
    optional: u64,
}

impl Namespaces {
    fn of(recipe: &Recipe) -> Namespaces {
        const FLAGS: [(LayerName, i32); 6] = [
            (LayerName::User, libc::CLONE_NEWUSER),
            (LayerName::Mount, libc::CLONE_NEWNS),
            (LayerName::Pid, libc::CLONE_NEWPID),
            (LayerName::Net, libc::CLONE_NEWNET),
            (LayerName::Ipc, libc::CLONE_NEWIPC),
            (LayerName::Uts, libc::CLONE_NEWUTS),
        ];
        let mut namespaces = Namespaces { wanted: 0, user_is_optional: false, optional: 0 };
        for (name, flag) in FLAGS {
            let Some(layer) = recipe.layer(name) else { continue };
            namespaces.wanted |= flag as u64;
            if !layer.required {
                namespaces.optional |= flag as u64;
                namespaces.user_is_optional |= name == LayerName::User;
            }
        }
        namespaces
    }

    /// Tries with all; where the kernel refuses, without the user namespace if that may be missing (root can make the
    /// others without it), then without all that may be missing.
    fn clone_with(&self, mut clone: impl FnMut(u64) -> io::Result<Child>) -> Result<Child, SpawnError> {
        let mut tries = vec![self.wanted];
        if self.user_is_optional {
            tries.push(self.wanted & !(libc::CLONE_NEWUSER as u64));
        }
        tries.push(self.wanted & !self.optional);
        tries.dedup();
        let mut first = None;
        for flags in tries {
            match clone(flags) {
                Ok(child) => return Ok(child),
                Err(error) => first = first.or(Some(error)),
            }
        }
        let error = first.unwrap_or_else(|| io::Error::from_raw_os_error(libc::EINVAL));
        if self.wanted == 0 {
            return Err(SpawnError::Prepare(error));
        }
        let sentence = format!("the kernel refuses to make the namespaces of a sandbox: {error}; {}", remedy());
        Err(SpawnError::Namespaces { error, sentence })
    }
}

/// What stands in the way of user namespaces on this machine, as far as it says so, and what may be done.
fn remedy() -> String {
    let setting = |path: &str| std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
    let mut causes = Vec::new();
    if setting("/proc/sys/kernel/unprivileged_userns_clone").as_deref() == Some("0") {
        causes.push("sysctl kernel.unprivileged_userns_clone is 0");
    }
    if setting("/proc/sys/user/max_user_namespaces").as_deref() == Some("0") {
        causes.push("sysctl user.max_user_namespaces is 0");
    }
    if setting("/proc/sys/kernel/apparmor_restrict_unprivileged_userns").as_deref() == Some("1") {
        causes.push("AppArmor restricts them (sysctl kernel.apparmor_restrict_unprivileged_userns is 1)");
    }
    let cause = match causes.as_slice() {
        [] => {
            "usual causes are sysctl kernel.unprivileged_userns_clone or user.max_user_namespaces, AppArmor, and the \
               system call filter of a container"
                .to_owned()
        }
        causes => causes.join(", "),
    };
    format!("{cause}. Allow user namespaces, or run as root with `--allow-missing user`")
}

/// A child in these namespaces, which goes on in [`child::run`].
fn clone3(flags: u64, plan: &Plan) -> io::Result<Child> {
    let mut pidfd: i32 = -1;
    // SAFETY: all zeroes is a valid clone_args.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = flags | libc::CLONE_PIDFD as u64 | CLEAR_SIGHAND;
    arguments.pidfd = std::ptr::from_mut(&mut pidfd) as u64;
    arguments.exit_signal = libc::SIGCHLD as u64;
    // No handler of the supervisor may run in the child, so signals stay blocked until it has reset them.
    let before = block_signals()?;
    // SAFETY: no stack and no CLONE_VM: this is a fork. The child has a copy of this thread alone, so it must neither
    // allocate nor take locks; `child::run` makes system calls only and never returns.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &arguments, size_of::<libc::clone_args>()) };
    if pid == 0 {
        child::run(plan);
    }
    let error = io::Error::last_os_error();
    restore_signals(&before);
    if pid < 0 {
        return Err(error);
    }
    // SAFETY: CLONE_PIDFD has just made this number, and nobody else knows it.
    Ok(Child::new(pid as i32, unsafe { OwnedFd::from_raw_fd(pidfd) }))
}

fn block_signals() -> io::Result<libc::sigset_t> {
    // SAFETY: both sets live on this stack; sigfillset and pthread_sigmask only write to them.
    unsafe {
        let (mut all, mut before) = (std::mem::zeroed(), std::mem::zeroed());
        libc::sigfillset(&mut all);
        match libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before) {
            0 => Ok(before),
            error => Err(io::Error::from_raw_os_error(error)),
        }
    }
}

fn restore_signals(before: &libc::sigset_t) {
    // SAFETY: `before` was filled in by `block_signals`; the old set is not asked for. It cannot fail with SIG_SETMASK.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before, std::ptr::null_mut()) };
}

/// Waits until the child's end of the pipe is closed by its exec, or has brought an error. A plugin's gate is opened when it
/// asks for that.
fn await_exec(report: OwnedFd, go: &OwnedFd, child: &mut Child) -> Result<(), SpawnError> {
    let mut report = std::fs::File::from(report);
    loop {
        let mut watched = [PollFd::new(report.as_fd(), PollFlags::POLLIN)];
        match poll(&mut watched, PollTimeout::from(SPAWN_MS)) {
            Err(nix::errno::Errno::EINTR) => continue,
            Err(error) => return Err(SpawnError::Prepare(error.into())),
            // The child is killed as it is dropped.
            Ok(0) => return Err(SpawnError::Late),
            Ok(_) => {}
        }
        let mut bytes = [0; child::REPORT_BYTES];
        match report.read_exact(&mut bytes) {
            // Closed without a word: by exec, or because it was killed. Then there is nothing more to find out.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
            Err(error) => return Err(error.into()),
            Ok(()) => {}
        }
        match child::parse_report(bytes) {
            child::Report::Listener(number) => {
                child.gate = Some(Gate::open(&child.pidfd, number)?);
                let _ = nix::unistd::write(go, &[child::GATE_IS_OPEN]);
            }
            child::Report::Failed(step, error) => {
                return Err(SpawnError::Step { what: step.sentence(), hint: hint(step, &error), error });
            }
        }
    }
    match child.reap(Duration::ZERO) {
        Some(end @ crate::End::Killed(_)) => Err(SpawnError::Died(end)),
        _ => Ok(()),
    }
}

/// What may be done where the kernel forbids a step that namespaces need.
fn denied(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => format!("; {}", remedy()),
        _ => String::new(),
    }
}

fn hint(step: Step, error: &io::Error) -> String {
    match (step, error.raw_os_error()) {
        (Step::Exec, Some(libc::ENOENT)) => {
            " (an empty root has no dynamic loader: a device host must be linked statically)".into()
        }
        (Step::Exec, Some(libc::EACCES)) => {
            " (its user may not execute the program, its file system is mounted `noexec`, or its label may not: see the kernel's log)".into()
        }
        (Step::Label, _) => " (is the policy that `cofferdam policy` writes installed?)".into(),
        (Step::Private | Step::Mount | Step::Show | Step::Pivot, _) => denied(error),
        _ => String::new(),
    }
}
