//! Between an operator's command and the supervisor of a running VM.

use crate::display::Input;
use crate::handle::Handle;

/// Most console bytes in one message.
pub const CONSOLE_MAX: usize = 4096;
/// Most log lines in one reply.
pub const LINES_MAX: usize = 32;
/// Longest log line: a sentence and who said it. So many that a full reply still fits in a message; longer ones are cut.
pub const LINE_MAX: usize = 480;
/// Most entries of each list of a [`HostStatus`]: eight descriptors for each of the devices that may share a host.
pub const REMARKS_MAX: usize = 512;
/// Most layers of a sandbox in a list: more than there are.
pub const LAYERS_MAX: usize = 32;

/// Most inputs in one message: more than a person does before the next one is sent.
pub const INPUTS_MAX: usize = 64;

/// What an operator may ask of a VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum Order {
    /// Press the power button.
    Powerdown = 1,
    /// End it now.
    Stop = 2,
    /// Start it anew.
    Reset = 3,
}

/// Call; the reply is [`crate::host::Empty`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// What to do.
    pub order: Order,
}

/// Call: how the VM and its hosts are. The reply is [`StatusReport`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Compare the kernel's view with the recipes.
    pub audit: bool,
    /// Skip this many hosts: a report holds as many as a message can.
    pub first: u32,
}

/// Reply to [`Status`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusReport {
    /// Name of the VM.
    pub name: String,
    /// Hosts in all.
    pub total: u32,
    /// Hosts from `first` on.
    pub hosts: Vec<HostStatus>,
}

/// One process of a VM.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HostStatus {
    /// The device, or the class of a group, or `vmm`.
    pub name: String,
    /// Class of its devices.
    pub class: String,
    /// Process number; 0 when dead.
    pub pid: u32,
    /// Sandbox level.
    pub level: String,
    /// `Seccomp` of `/proc/PID/status`.
    pub seccomp_mode: u8,
    /// `NoNewPrivs` of `/proc/PID/status`.
    pub no_new_privs: bool,
    /// System calls that its recipe leaves.
    pub syscalls_allowed: u32,
    /// What its descriptors are.
    pub descriptors: Vec<String>,
    /// Guest memory that it holds.
    pub guest_memory_bytes: u64,
    /// Proportional set size.
    pub pss_bytes: u64,
    /// Times it was started again.
    pub restarts: u32,
    /// `running`, or `dead: ` and why.
    pub state: String,
    /// Where the kernel's view is not the recipe's.
    pub differences: Vec<String>,
    /// Conditional layers that this kernel lacks.
    pub notes: Vec<String>,
    /// Reads served from committed headers.
    pub shadow: u64,
    /// Posted writes.
    pub posted: u64,
    /// Synchronous operations.
    pub lane: u64,
    /// Doorbells.
    pub doorbell: u64,
    /// What its devices' lanes run over, each once.
    pub carriers: Vec<String>,
    /// Layers of its sandbox that it lacks.
    pub missing: Vec<String>,
    /// Layers that the operator requires.
    pub required: Vec<String>,
    /// Layers that the operator lets be missing.
    pub allowed_missing: Vec<String>,
    /// Its label of SELinux or AppArmor, as the kernel shows it; empty where there is none.
    pub label: String,
}

/// Call: log lines. The reply is [`LogLines`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logs {
    /// Number of the first line wanted.
    pub after: u64,
}

/// Reply to [`Logs`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLines {
    /// What to ask for next.
    pub next: u64,
    /// The lines.
    pub lines: Vec<String>,
}

/// Call: bytes typed at the console. The reply is [`ConsoleOutput`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Console {
    /// The bytes.
    pub input: Vec<u8>,
}

/// Reply to [`Console`]: what the guest printed since.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsoleOutput {
    /// The bytes.
    pub output: Vec<u8>,
}

/// Call: what does the display show? The reply is [`Picture`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Screenshot;

/// Reply to [`Screenshot`], at once: the picture is yet to be drawn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// The scanout's region, to read.
    pub scanout: Handle,
    /// The generation of an older picture: the one that was asked for has another.
    pub after: u64,
}

/// Call: have another medium in a drive. The reply is [`crate::host::Empty`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchange {
    /// The drive, as the machine calls it.
    pub drive: String,
    /// The path of an image; empty: the medium is taken out.
    pub image: String,
    /// It is only read.
    pub readonly: bool,
    /// Though the guest may hold the medium that is there.
    pub forced: bool,
}

/// Call: what a person did with keyboard and mouse. The reply is [`crate::host::Empty`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Press {
    /// In this order.
    pub inputs: Vec<Input>,
}
