//! A process as the kernel shows it, compared with its recipe.
//!
//! Everything here is read from `/proc` and from a process descriptor, by the supervisor; the process itself is not
//! asked.

mod descriptors;
mod kernel;
mod memory;
mod view;

use crate::recipe::{DescriptorKind, HelperForm, LayerName, Recipe, Stage, Value};
use descriptors::Descriptor;
pub(crate) use kernel::missing_from_kernel;
use schema::host::Level;
use std::io;
use std::path::PathBuf;

/// `Seccomp` of a process in mode 1.
const MODE_STRICT: u8 = 1;
/// `Seccomp` of a process under a filter.
const MODE_FILTER: u8 = 2;
/// Said of a host at level `strict` that could not have mode 1.
const IN_PLACE_OF_MODE_1: &str = "this program was started under a system call filter, where seccomp mode 1 is not to be \
                                  had: a filter leaves the same calls, on the granted descriptors alone, and no TSC";

/// Said of a host whose helper is a thread.
const HELPER_IS_A_THREAD: &str =
    "its helper is a thread of its own process, which is no boundary: what the helper may do, it may";

/// What the kernel shows of a process.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Audit {
    /// `Seccomp` of its status: 0 none, 1 strict, 2 filter. The least of all its threads.
    pub seccomp_mode: u8,
    /// `NoNewPrivs` of its status.
    pub no_new_privs: bool,
    /// Each of its descriptors, as `4: eventfd`.
    pub descriptors: Vec<String>,
    /// Guest memory that it has mapped, or could map.
    pub guest_memory_bytes: u64,
    /// Proportional set size.
    pub pss_bytes: u64,
    /// Where it is not what its recipe says: a sentence each.
    pub differences: Vec<String>,
    /// Conditional layers that it lacks, and what this kernel does not show: a sentence each.
    pub notes: Vec<String>,
    /// Its label of a security module; empty where its recipe has none.
    pub label: String,
    /// The conditional layers that it lacks.
    pub missing: Vec<LayerName>,
}

/// Looks at process `pid`, a child of this one that was spawned by `recipe`.
///
/// An error means that it is gone, or cannot be looked at. The supervisor can look as root, and as the ordinary user to
/// whom the child's user 0 is mapped.
pub fn audit(pid: i32, recipe: &Recipe, stage: Stage) -> io::Result<Audit> {
    let process = Process { pid };
    let recipe = &*recipe.as_seen(stage);
    let mut audit = Audit::default();
    let status = process.status()?;
    audit.no_new_privs = status.number("NoNewPrivs") == Some(1);
    audit.seccomp_mode = process.least_seccomp_mode()?;
    let mut descriptors = descriptors::of(&process, recipe.helper_of(HelperForm::Thread).is_some())?;
    if recipe.held_at(stage).any(|keep| keep.kind == DescriptorKind::Listener) {
        descriptors::tell_sockets_apart(&mut descriptors)?;
    }
    audit.descriptors = descriptors.iter().map(Descriptor::to_string).collect();
    audit.pss_bytes = process.pss_bytes()?;
    let maps = memory::of(&process)?;
    audit.guest_memory_bytes = memory::guest_bytes(&maps) + descriptors::guest_bytes(&descriptors);
    if recipe.level == Level::Off {
        return Ok(audit);
    }
    let mut differences = Vec::new();
    check_status(&mut differences, &status, recipe);
    if recipe.helper_of(HelperForm::Thread).is_some() {
        audit.notes.push(HELPER_IS_A_THREAD.to_owned());
    }
    if recipe.is_filtered() && stage == Stage::Sealed {
        check_seccomp(&mut differences, &mut audit.notes, audit.seccomp_mode, recipe)?;
    }
    check_namespaces(&mut differences, &process, recipe)?;
    if recipe.layer(LayerName::Root).is_some_and(|layer| layer.required) {
        match &recipe.loading {
            None => check_root(&mut differences, &process)?,
            Some(loading) => view::check(&mut differences, &process, &loading.view)?,
        }
    }
    check_limits(&mut differences, &process, recipe, stage, descriptors::largest_writable(&descriptors))?;
    descriptors::compare(&mut differences, &descriptors, recipe, stage);
    memory::compare(&mut differences, &maps, recipe, stage);
    if recipe.has_at(LayerName::Undumpable, stage) {
        kernel::check_dumpable(&mut differences, &mut audit.notes, &process);
    }
    kernel::check_conditional(&mut differences, &mut audit, &process, &status, recipe)?;
    audit.differences = differences;
    Ok(audit)
}

/// Bytes of the largest file that a process may write.
pub(crate) fn largest_writable(pid: i32) -> io::Result<u64> {
    Ok(descriptors::largest_writable(&descriptors::of(&Process { pid }, false)?))
}

/// The directory of a process in `/proc`.
struct Process {
    pid: i32,
}

impl Process {
    fn path(&self, name: &str) -> PathBuf {
        format!("/proc/{}/{name}", self.pid).into()
    }

    fn read(&self, name: &str) -> io::Result<String> {
        let bytes = std::fs::read(self.path(name))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn status(&self) -> io::Result<Fields> {
        self.read("status").map(Fields)
    }

    fn least_seccomp_mode(&self) -> io::Result<u8> {
        let mut least = u8::MAX;
        for task in std::fs::read_dir(self.path("task"))? {
            // A thread that ends meanwhile needs no filter.
            let Ok(text) = std::fs::read_to_string(task?.path().join("status")) else { continue };
            least = least.min(Fields(text).number("Seccomp").and_then(|mode| mode.try_into().ok()).unwrap_or(0));
        }
        if least == u8::MAX { Err(io::Error::from_raw_os_error(libc::ESRCH)) } else { Ok(least) }
    }

    fn pss_bytes(&self) -> io::Result<u64> {
        Ok(Fields(self.read("smaps_rollup")?).number("Pss").unwrap_or(0) * 1024)
    }
}

/// Lines of `Name: value`.
struct Fields(String);

impl Fields {
    fn get(&self, name: &str) -> Option<&str> {
        self.0.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim()))
    }
    fn number(&self, name: &str) -> Option<u64> {
        self.get(name)?.split_whitespace().next()?.parse().ok()
    }
}

/// Mode 2 in place of mode 1 is what a host gets that was born under a filter; from the supervisor, if from anybody.
fn check_seccomp(differences: &mut Vec<String>, notes: &mut Vec<String>, mode: u8, recipe: &Recipe) -> io::Result<()> {
    let wanted = if recipe.level == Level::Strict { MODE_STRICT } else { MODE_FILTER };
    match mode {
        mode if mode == wanted => {}
        0 => differences.push("a thread of it has no system call filter".to_owned()),
        MODE_FILTER if supervisor_is_filtered()? => notes.push(IN_PLACE_OF_MODE_1.to_owned()),
        mode => differences.push(format!("its seccomp mode is {mode}, not {wanted}")),
    }
    Ok(())
}

/// Whether a filter was installed before this program was started: a filter is inherited, and never goes away.
fn supervisor_is_filtered() -> io::Result<bool> {
    let own = Fields(std::fs::read_to_string("/proc/self/status")?);
    Ok(own.number("Seccomp") == Some(u64::from(MODE_FILTER)))
}

fn check_status(differences: &mut Vec<String>, status: &Fields, recipe: &Recipe) {
    let required = |name| recipe.layer(name).is_some_and(|layer| layer.required);
    if required(LayerName::NoNewPrivs) && status.number("NoNewPrivs") != Some(1) {
        differences.push("it may gain privileges by starting a program (no_new_privs is not set)".to_owned());
    }
    if required(LayerName::Capabilities) {
        for (field, name) in [
            ("CapInh", "inheritable"),
            ("CapPrm", "permitted"),
            ("CapEff", "effective"),
            ("CapBnd", "bounding"),
            ("CapAmb", "ambient"),
        ] {
            let set = status.get(field).and_then(|set| u64::from_str_radix(set, 16).ok());
            if set != Some(0) {
                let shown = set.map_or("unknown".to_owned(), |set| format!("{set:#x}"));
                differences.push(format!("its {name} capability set is {shown}, not empty"));
            }
        }
    }
    let numbers: Vec<&str> = status.get("NSpid").unwrap_or("").split_whitespace().collect();
    let number = recipe.number.to_string();
    if required(LayerName::Pid) && (numbers.len() < 2 || numbers.last() != Some(&number.as_str())) {
        differences.push(match recipe.number {
            1 => "it is not the first process of a process namespace of its own".to_owned(),
            _ => format!("it is not process {number} of its host's process namespace"),
        });
    }
    let threads = status.number("Threads").unwrap_or(0);
    if threads > u64::from(recipe.threads) {
        differences.push(format!("it has {threads} threads where its recipe allows {}", recipe.threads));
    }
    let tracer = status.number("TracerPid").unwrap_or(0);
    if tracer != 0 {
        differences.push(format!("process {tracer} traces it"));
    }
}

fn check_namespaces(differences: &mut Vec<String>, process: &Process, recipe: &Recipe) -> io::Result<()> {
    for (layer, file) in [
        (LayerName::User, "user"),
        (LayerName::Mount, "mnt"),
        (LayerName::Pid, "pid"),
        (LayerName::Net, "net"),
        (LayerName::Ipc, "ipc"),
        (LayerName::Uts, "uts"),
        (LayerName::CgroupNamespace, "cgroup"),
    ] {
        if recipe.layer(layer).is_some_and(|layer| layer.required) {
            let name = format!("ns/{file}");
            let own = std::fs::read_link(format!("/proc/self/{name}"))?;
            if std::fs::read_link(process.path(&name))? == own {
                differences.push(format!("it shares the {} namespace of the supervisor", layer_words(layer)));
            }
        }
    }
    Ok(())
}

fn layer_words(layer: LayerName) -> &'static str {
    match layer {
        LayerName::CgroupNamespace => "control group",
        LayerName::Net => "network",
        LayerName::Pid => "process",
        LayerName::Uts => "host name",
        other => other.name(),
    }
}

/// Its root must be the only file system that it sees, read-only and empty.
fn check_root(differences: &mut Vec<String>, process: &Process) -> io::Result<()> {
    let table = process.read("mountinfo")?;
    let mounts: Vec<&str> = table.lines().collect();
    match mounts.as_slice() {
        [mount] => {
            // proc(5): number, parent, device, root, mount point, options, optional fields, "-", type, source, options.
            let mut fields = mount.split(' ').skip(4);
            let (point, options) = (fields.next().unwrap_or(""), fields.next().unwrap_or(""));
            let has = |option| options.split(',').any(|have| have == option);
            let kind = mount.split(" - ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap_or("");
            if point != "/" || kind != "tmpfs" || !["ro", "nosuid", "nodev", "noexec"].into_iter().all(has) {
                differences.push(format!("its root is not a read-only tmpfs without programs and devices: {mount}"));
            }
        }
        _ => differences.push(format!("it sees {} file systems instead of one empty one", mounts.len())),
    }
    // The link leads into its mount namespace.
    let entries = std::fs::read_dir(process.path("root/"))?.count();
    if entries > 0 {
        differences.push(format!("its root directory has {entries} entries"));
    }
    let directory = std::fs::read_link(process.path("cwd"))?;
    if directory.as_os_str() != "/" {
        differences.push(format!("its directory is {}", directory.display()));
    }
    Ok(())
}

fn check_limits(
    differences: &mut Vec<String>,
    process: &Process,
    recipe: &Recipe,
    stage: Stage,
    largest_file: u64,
) -> io::Result<()> {
    let table = process.read("limits")?;
    for limit in recipe.limits_at(stage) {
        let line = table.lines().find_map(|line| line.strip_prefix(limit.resource.title()));
        let mut values = line.unwrap_or("").split_whitespace();
        let most = match limit.value {
            Value::Exactly(value) => value,
            Value::LargestFile => largest_file,
        };
        let (soft, hard) = (values.next().unwrap_or("unknown"), values.next().unwrap_or("unknown"));
        let within = |text: &str| text.parse::<u64>().is_ok_and(|value| value <= most);
        if !within(soft) || !within(hard) {
            differences.push(format!("its limit of {} is {hard}, not {most}", limit.resource));
        }
    }
    Ok(())
}
