//! What a child does between clone and exec.
//!
//! The supervisor may have had more threads when it was cloned, so nothing here allocates, takes a lock or panics:
//! system calls alone, on data that was prepared before. Each failure is reported as a step and an error number, and
//! ends it.

use super::Filters;
use super::view::{Mount, View};
use std::ffi::{CStr, c_char, c_int};
use std::io;
use std::os::fd::AsRawFd;
use std::sync::atomic::Ordering;

/// What the child needs, prepared by its parent.
pub(super) struct Plan {
    /// Confinement beyond descriptors is wanted.
    pub confined: bool,
    /// Where a failed step is reported. This and the numbers below are 4 or larger and closed on exec.
    pub report: c_int,
    /// Process descriptor of the supervisor.
    pub supervisor: c_int,
    /// What it becomes.
    pub role: Role,
    /// What its only child becomes, if it has one.
    pub helper: Option<Role>,
    /// Where its parent says that it is settled: one of [`SETTLED`] and [`SETTLED_AS_OWN_USER`].
    pub go: c_int,
    /// It has a user namespace.
    pub user_namespace: bool,
    /// Make a control group namespace whose root is the group that it was put into; `Some(true)`: or fail.
    pub group_namespace: Option<bool>,
    /// Forbid user namespaces inside its own; `Some(true)`: or fail.
    pub nesting: Option<bool>,
    /// Written to this file, it gives the process its label as the program starts; its helper too.
    pub label: Option<(&'static CStr, Vec<u8>)>,
    /// Change to an empty root.
    pub empty_root: bool,
    /// Give up all capabilities.
    pub drop_capabilities: bool,
    /// Set `no_new_privs`.
    pub no_new_privs: bool,
    /// Highest number of a capability.
    pub last_capability: u32,
    /// What its root shows, of a plugin.
    pub view: Option<View>,
    /// Its filters, of a plugin.
    pub filters: Option<Filters>,
}

/// What a process becomes by its exec.
pub(super) struct Role {
    /// Becomes descriptor 3.
    pub channel: c_int,
    /// What to execute.
    pub program: c_int,
    /// For exec; the last one is null.
    pub argv: Vec<*const c_char>,
    /// Resource numbers and limits.
    pub limits: Vec<(u32, u64)>,
}

macro_rules! steps {
    ($($step:ident $sentence:literal)*) => {
        /// What the child was doing.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u32)]
        pub(super) enum Step { $($step,)* }
        impl Step {
            const ALL: &[Step] = &[$(Step::$step,)*];
            pub(super) fn sentence(self) -> &'static str {
                match self { $(Step::$step => $sentence,)* }
            }
        }
    };
}
steps! {
    Parent "asking to die with the supervisor"
    Settled "waiting to be given a user and a control group"
    OwnUser "becoming the user that it was given"
    GroupNamespace "hiding the host's control groups (a namespace of its own)"
    Nesting "forbidding namespaces inside its own (/proc/sys/user/max_user_namespaces)"
    Label "taking its label (attr/exec)"
    Private "making its mounts private"
    Mount "mounting an empty root"
    Show "showing it what it is loaded from"
    Pivot "changing to the empty root"
    Detach "detaching the host's file systems"
    Directory "changing to its directory"
    Helper "starting its helper"
    Placeholder "filling the numbers of standard input and output"
    Channel "putting the channel at descriptor 3"
    Close "marking all other descriptors to be closed"
    Session "beginning a session of its own"
    Limit "setting a resource limit"
    Bounding "emptying the capability bounding set"
    Secure "locking the rules of capabilities"
    Capabilities "giving up all capabilities"
    Privileges "refusing new privileges"
    Signals "resetting signals"
    Executable "denying memory that is both writable and executable"
    Rules "denying rights to files (Landlock)"
    Filter "installing its system call filters"
    Gate "waiting for its gate"
    Exec "executing the program"
}

/// A step and an error number.
pub(super) const REPORT_BYTES: usize = 8;

/// The parent's word: go on as the user that you are.
pub(super) const SETTLED: u8 = 1;
/// The parent's word: go on, and become user 0 of your namespace.
pub(super) const SETTLED_AS_OWN_USER: u8 = 2;

/// The parent's word: who is asked about calls is there.
pub(super) const GATE_IS_OPEN: u8 = 3;
/// In place of a step: the number at which the child has the listener of its filter.
const LISTENER: u32 = u32::MAX;

/// What a child reports.
pub(super) enum Report {
    /// Its filter asks here.
    Listener(c_int),
    /// A step failed.
    Failed(Step, io::Error),
}

/// What [`run`] reported. A number that is no step cannot come from our own code; it is shown as the last one.
pub(super) fn parse_report(bytes: [u8; REPORT_BYTES]) -> Report {
    let [a, b, c, d, e, f, g, h] = bytes;
    let (step, number) = (u32::from_ne_bytes([a, b, c, d]), i32::from_ne_bytes([e, f, g, h]));
    if step == LISTENER {
        return Report::Listener(number);
    }
    let step = Step::ALL.get(step as usize).copied().unwrap_or(Step::Exec);
    Report::Failed(step, io::Error::from_raw_os_error(number))
}

fn report(to: c_int, what: u32, number: c_int) {
    let mut report = [0; REPORT_BYTES];
    report[..4].copy_from_slice(&what.to_ne_bytes());
    report[4..].copy_from_slice(&number.to_ne_bytes());
    // SAFETY: the buffer is on this stack. If the write fails, the parent sees the end of this process.
    unsafe { libc::write(to, report.as_ptr().cast(), REPORT_BYTES) };
}

/// Confines this process and executes the program. Never returns.
pub(super) fn run(plan: &Plan) -> ! {
    let Err((step, errno)) = confine_and_exec(plan);
    report(plan.report, step as u32, errno);
    // SAFETY: ends this process.
    unsafe { libc::_exit(127) }
}

type Failure = (Step, c_int);

fn errno() -> c_int {
    // SAFETY: the location is that of this thread.
    unsafe { *libc::__errno_location() }
}

/// Turns the result of a system call into a failure of `step`.
fn check(step: Step, result: impl Into<i64>) -> Result<i64, Failure> {
    let result = result.into();
    if result < 0 { Err((step, errno())) } else { Ok(result) }
}

fn confine_and_exec(plan: &Plan) -> Result<std::convert::Infallible, Failure> {
    die_with(plan.supervisor)?;
    let word = await_settled(plan.go)?;
    if let Some(view) = &plan.view {
        // As the user that the supervisor is, who may look into its folders; mounted once there is a root to mount in.
        find(view)?;
    }
    if word == SETTLED_AS_OWN_USER {
        become_own_user()?;
        // A change of the user takes it back.
        die_with(plan.supervisor)?;
    }
    if plan.user_namespace
        && let Some(required) = plan.nesting
    {
        // The file is that of the namespace of who opens it.
        let done = write_file(Step::Nesting, c"/proc/sys/user/max_user_namespaces".as_ptr(), b"0");
        if required {
            done?;
        }
    }
    if let Some(required) = plan.group_namespace {
        // Not with the others, at clone: its root would be the group of the supervisor.
        // SAFETY: no memory is passed.
        let done = check(Step::GroupNamespace, unsafe { libc::unshare(libc::CLONE_NEWCGROUP) });
        if required {
            done?;
        }
    }
    // Before its root is empty: there is no /proc afterwards.
    if let Some((file, text)) = &plan.label {
        write_file(Step::Label, file.as_ptr(), text)?;
    }
    if plan.empty_root {
        enter_root(plan.view.as_ref())?;
    }
    let role = match &plan.helper {
        // It shares all of its parent's namespaces, and is confined from here on as its parent is.
        Some(helper) if fork()? == 0 => {
            die_with(plan.supervisor)?;
            helper
        }
        _ => &plan.role,
    };
    place_descriptors(plan, role)?;
    if plan.confined {
        // SAFETY: no memory is passed. umask cannot fail.
        unsafe {
            check(Step::Session, libc::setsid())?;
            libc::umask(0o077);
        }
        for (resource, value) in &role.limits {
            lower_limit(*resource, *value)?;
        }
    }
    if plan.drop_capabilities {
        drop_capabilities(plan.last_capability)?;
    }
    if plan.no_new_privs {
        // SAFETY: no memory is passed.
        check(Step::Privileges, unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) })?;
    }
    reset_signals()?;
    if let Some(view) = &plan.view {
        confine_plugin(view)?;
    }
    if let Some(filters) = &plan.filters {
        install(filters, plan)?;
    }
    let environment: [*const c_char; 1] = [std::ptr::null()];
    // SAFETY: all pointers are to strings and null-terminated arrays that live until the call replaces this memory.
    check(Step::Exec, unsafe {
        libc::syscall(
            libc::SYS_execveat,
            role.program,
            c"".as_ptr(),
            role.argv.as_ptr(),
            environment.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    })?;
    Err((Step::Exec, libc::ENOEXEC))
}

/// Has the kernel kill this process with its parent. If the parent died before it was asked, that is seen here: in a
/// new process namespace the number of the parent is always 0, but its process descriptor tells.
fn die_with(supervisor: c_int) -> Result<(), Failure> {
    let mut watched = libc::pollfd { fd: supervisor, events: libc::POLLIN, revents: 0 };
    // SAFETY: `watched` is one entry on this stack.
    unsafe {
        check(Step::Parent, libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0))?;
        match check(Step::Parent, libc::poll(&mut watched, 1, 0))? {
            0 => Ok(()),
            _ => Err((Step::Parent, libc::ESRCH)),
        }
    }
}

/// Waits until the parent has written the maps of its user namespace and moved it to its control group.
fn await_settled(go: c_int) -> Result<u8, Failure> {
    let mut word = 0u8;
    // SAFETY: one byte of this stack.
    match check(Step::Settled, unsafe { libc::read(go, std::ptr::from_mut(&mut word).cast(), 1) as i64 })? {
        1 => Ok(word),
        _ => Err((Step::Settled, libc::ESRCH)),
    }
}

/// Becomes user and group 0 of its namespace, with no other group. By the kernel's calls, for the C library's would reach
/// for threads that this process has not.
fn become_own_user() -> Result<(), Failure> {
    // SAFETY: no memory is passed.
    unsafe {
        check(Step::OwnUser, libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<u32>()))?;
        check(Step::OwnUser, libc::syscall(libc::SYS_setresgid, 0, 0, 0))?;
        check(Step::OwnUser, libc::syscall(libc::SYS_setresuid, 0, 0, 0)).map(drop)
    }
}

/// A copy of this process, which has one thread. Gives 0 in the copy.
fn fork() -> Result<i64, Failure> {
    // SAFETY: no stack and no CLONE_VM: this is a fork, whose copy of the memory is all that either side needs.
    check(Step::Helper, unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) })
}

fn write_file(step: Step, path: *const c_char, text: &[u8]) -> Result<(), Failure> {
    // SAFETY: the path is null-terminated and the text readable; the number is closed by who opened it.
    unsafe {
        let file = check(step, libc::open(path, libc::O_WRONLY | libc::O_CLOEXEC))? as c_int;
        check(step, libc::write(file, text.as_ptr().cast(), text.len()) as i64)?;
        libc::close(file);
    }
    Ok(())
}

/// Mounts an empty tmpfs over the root, steps onto it, mounts in it what is to be shown, and lets the old one go.
fn enter_root(view: Option<&View>) -> Result<(), Failure> {
    let none = std::ptr::null::<c_char>();
    let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
    // One inode is the root directory itself: nothing can be added even if it were writable. A view takes folders, and files
    // to mount on; it is made read-only once they are there.
    let (flags, options) = match view {
        None => (flags | libc::MS_RDONLY, c"size=4k,nr_inodes=1,mode=0555"),
        Some(_) => (flags, c"size=64k,nr_inodes=4k,mode=0755"),
    };
    // SAFETY: all strings are null-terminated constants.
    unsafe {
        check(Step::Private, libc::mount(none, c"/".as_ptr(), none, libc::MS_REC | libc::MS_PRIVATE, none.cast()))?;
        check(
            Step::Mount,
            libc::mount(c"cofferdam".as_ptr(), c"/".as_ptr(), c"tmpfs".as_ptr(), flags, options.as_ptr().cast()),
        )?;
        // "/" is still the directory below the new mount; its "..", itself, is looked up through what is mounted on it.
        check(Step::Mount, libc::chdir(c"/..".as_ptr()))?;
        if let Some(view) = view {
            for mount in &view.shown {
                show(mount)?;
            }
            set_attributes(c".", libc::MOUNT_ATTR_RDONLY, 0)?;
        }
        if libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()) == 0 {
            // The old root now lies on top of the new one.
            check(Step::Detach, libc::umount2(c".".as_ptr(), libc::MNT_DETACH))?;
        } else if errno() == libc::EINVAL {
            // The root of an initramfs cannot be moved away. It stays, covered; without capabilities there is no way
            // back.
            check(Step::Pivot, libc::chroot(c".".as_ptr()))?;
        } else {
            return Err((Step::Pivot, errno()));
        }
        check(Step::Directory, libc::chdir(c"/".as_ptr()))?;
    }
    Ok(())
}

/// Opens what a view shows.
fn find(view: &View) -> Result<(), Failure> {
    for mount in &view.shown {
        // SAFETY: the path is null-terminated.
        let found = check(Step::Show, unsafe { libc::open(mount.from.as_ptr(), libc::O_PATH | libc::O_CLOEXEC) })?;
        mount.found.store(found as c_int, Ordering::Relaxed);
    }
    Ok(())
}

/// A descriptor of this process by its path in /proc, which ends with a zero; made without allocating.
fn path_of(descriptor: c_int) -> [u8; 32] {
    const FOLDER: &[u8] = b"/proc/self/fd/";
    let mut path = [0; 32];
    path[..FOLDER.len()].copy_from_slice(FOLDER);
    let (mut left, mut end) = (descriptor.unsigned_abs(), FOLDER.len());
    loop {
        path[end] = b'0' + (left % 10) as u8;
        (left, end) = (left / 10, end + 1);
        if left == 0 {
            break;
        }
    }
    path[FOLDER.len()..end].reverse();
    path
}

/// Mounts one file or folder, read-only, in the root that is being made: the directory that this process is in. Its own root
/// is still the old one.
fn show(mount: &Mount) -> Result<(), Failure> {
    let none = std::ptr::null::<c_char>();
    let made = |result: c_int| match result {
        0.. => Ok(result),
        _ if errno() == libc::EEXIST => Ok(0),
        _ => Err((Step::Show, errno())),
    };
    // SAFETY: all strings are null-terminated and live as long as the plan.
    unsafe {
        for folder in &mount.folders {
            made(libc::mkdir(folder.as_ptr(), 0o755))?;
        }
        if mount.is_folder {
            made(libc::mkdir(mount.at.as_ptr(), 0o755))?;
        } else {
            let flags = libc::O_CREAT | libc::O_EXCL | libc::O_WRONLY | libc::O_CLOEXEC;
            let file = made(libc::open(mount.at.as_ptr(), flags, 0o444))?;
            if file > 0 {
                libc::close(file);
            }
        }
        let bind = libc::MS_BIND | libc::MS_REC;
        let found = path_of(mount.found.load(Ordering::Relaxed));
        check(Step::Show, libc::mount(found.as_ptr().cast(), mount.at.as_ptr(), none, bind, none.cast()))?;
    }
    let attributes = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
    set_attributes(&mount.at, attributes, libc::AT_RECURSIVE)
}

/// Adds attributes to a mount: none is taken away, so those of the host's own stay.
fn set_attributes(at: &CStr, attributes: u64, flags: c_int) -> Result<(), Failure> {
    let change = libc::mount_attr { attr_set: attributes, attr_clr: 0, propagation: 0, userns_fd: 0 };
    // SAFETY: the string is null-terminated, and `change` is as long as is said.
    let result = unsafe {
        libc::syscall(libc::SYS_mount_setattr, libc::AT_FDCWD, at.as_ptr(), flags, &change, size_of_val(&change))
    };
    check(Step::Show, result).map(drop)
}

/// What a host of ours does to itself once its program has started is done here for a plugin, whose program is not trusted
/// to. Both layers are inherited by it. Where the kernel has not one of them, the audit shows that.
fn confine_plugin(view: &View) -> Result<(), Failure> {
    /// `PR_SET_MDWE` and `PR_MDWE_REFUSE_EXEC_GAIN` of <linux/prctl.h>, since Linux 6.3.
    const MDWE: (c_int, libc::c_ulong) = (65, 1);
    /// `LANDLOCK_RULE_PATH_BENEATH` and `LANDLOCK_ACCESS_FS_READ_DIR` of <linux/landlock.h>. Folders of the root were made for
    /// what it shows, so their names tell nothing else; interpreters look for modules by them.
    const PATH_BENEATH: c_int = 1;
    const READ_DIR: u64 = 1 << 3;
    /// `struct landlock_path_beneath_attr`.
    #[repr(C, packed)]
    struct PathBeneath {
        allowed: u64,
        parent: c_int,
    }
    // SAFETY: the path and the rule outlive their calls; nothing else is passed by address.
    unsafe {
        if libc::prctl(MDWE.0, MDWE.1, 0, 0, 0) < 0 && errno() != libc::EINVAL {
            return Err((Step::Executable, errno()));
        }
        if let Some(rules) = &view.rules {
            let root = check(Step::Rules, libc::open(c"/".as_ptr(), libc::O_PATH | libc::O_CLOEXEC))?;
            let lists = PathBeneath { allowed: READ_DIR, parent: root as c_int };
            check(Step::Rules, libc::syscall(libc::SYS_landlock_add_rule, rules.as_raw_fd(), PATH_BENEATH, &lists, 0))?;
            libc::close(root as c_int);
            check(Step::Rules, libc::syscall(libc::SYS_landlock_restrict_self, rules.as_raw_fd(), 0))?;
        }
    }
    Ok(())
}

/// Installs both filters: first the one that asks. Somebody must answer before the other can be added, for that is a call too,
/// and one that the other will not permit again.
fn install(filters: &Filters, plan: &Plan) -> Result<(), Failure> {
    let program = |code: &seccompiler::BpfProgram| libc::sock_fprog {
        len: code.len() as u16,
        // Only read, and of the same layout: see <linux/filter.h>.
        filter: code.as_ptr().cast_mut().cast(),
    };
    let add = |program: &libc::sock_fprog, flags: libc::c_ulong| {
        // SAFETY: the program and its instructions outlive the call.
        let result = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, program) };
        check(Step::Filter, result)
    };
    let (outer, inner) = (program(&filters.outer), program(&filters.inner));
    let listener = add(&inner, libc::SECCOMP_FILTER_FLAG_NEW_LISTENER)? as c_int;
    report(plan.report, LISTENER, listener);
    let mut word = 0u8;
    // SAFETY: one byte of this stack.
    match check(Step::Gate, unsafe { libc::read(plan.go, std::ptr::from_mut(&mut word).cast(), 1) as i64 })? {
        1 => add(&outer, 0).map(drop),
        _ => Err((Step::Gate, libc::ESRCH)),
    }
}

/// Leaves descriptor 3 to the program, and 0 to 2 filled: Rust's runtime, finding one of them closed, opens /dev/null
/// and aborts when there is none; and the first grants would get these numbers. An unconfined process keeps those it
/// has.
fn place_descriptors(plan: &Plan, role: &Role) -> Result<(), Failure> {
    // SAFETY: no memory is passed. The numbers that are replaced are not needed any more: what is, is 4 or larger.
    unsafe {
        if plan.confined {
            let inert = check(Step::Placeholder, libc::eventfd(0, libc::EFD_NONBLOCK))? as c_int;
            for number in 0..3 {
                check(Step::Placeholder, libc::dup2(inert, number))?;
            }
        }
        check(Step::Channel, libc::dup2(role.channel, 3))?;
        check(Step::Close, libc::syscall(libc::SYS_close_range, 4, u32::MAX, libc::CLOSE_RANGE_CLOEXEC))?;
    }
    Ok(())
}

/// Sets a limit, or leaves the one that is already lower: raising it again would need a capability.
fn lower_limit(resource: u32, value: u64) -> Result<(), Failure> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is on this stack.
    unsafe {
        check(Step::Limit, libc::getrlimit(resource, &mut limit))?;
        let value = value.min(limit.rlim_max);
        check(Step::Limit, libc::setrlimit(resource, &libc::rlimit { rlim_cur: value, rlim_max: value }))?;
    }
    Ok(())
}

/// Empties every capability set, and forbids every way by which one could be filled again.
fn drop_capabilities(last: u32) -> Result<(), Failure> {
    // <linux/securebits.h>: NOROOT, NO_SETUID_FIXUP, NO_CAP_AMBIENT_RAISE, each with its lock, and the lock of
    // KEEP_CAPS.
    const SECUREBITS: libc::c_ulong = 0b11 | 0b11 << 2 | 0b10 << 4 | 0b11 << 6;
    // _LINUX_CAPABILITY_VERSION_3 of <linux/capability.h>: two sets of 32 bits each.
    const VERSION: u32 = 0x2008_0522;
    let header = [VERSION, 0];
    let empty = [[0u32; 3]; 2];
    // SAFETY: the header and both sets have the layout of <linux/capability.h> and are on this stack.
    unsafe {
        for capability in 0..=last {
            if libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(capability), 0, 0, 0) < 0 {
                match errno() {
                    // This kernel knows fewer.
                    libc::EINVAL => break,
                    errno => return Err((Step::Bounding, errno)),
                }
            }
        }
        check(Step::Secure, libc::prctl(libc::PR_SET_SECUREBITS, SECUREBITS, 0, 0, 0))?;
        check(Step::Capabilities, libc::syscall(libc::SYS_capset, header.as_ptr(), empty.as_ptr()))?;
    }
    Ok(())
}

/// Signals that the supervisor ignores would stay ignored across exec, and those that it blocks, blocked.
fn reset_signals() -> Result<(), Failure> {
    // `struct sigaction` of the kernel: handler, flags, restorer, mask; all zeroes is SIG_DFL. Not by the C library,
    // which keeps two signals to itself and so would leave them ignored.
    let default = [0u64; 4];
    let none = 0u64;
    // SAFETY: both are on this stack and as long as the kernel reads; the old ones are not asked for.
    unsafe {
        for signal in 1..=64 {
            // Fails for SIGKILL and SIGSTOP, which cannot be ignored.
            libc::syscall(libc::SYS_rt_sigaction, signal, &default, std::ptr::null::<u64>(), size_of::<u64>());
        }
        check(
            Step::Signals,
            libc::syscall(
                libc::SYS_rt_sigprocmask,
                libc::SIG_SETMASK,
                &none,
                std::ptr::null::<u64>(),
                size_of::<u64>(),
            ),
        )?;
    }
    Ok(())
}
