//! Control groups: one for each process, with limits that hold whatever user it is.
//!
//! Version 2 is used where the memory and pids controllers are delegated to this user; what it lacks is taken from the
//! hierarchies of version 1, where these are writable, as they are for root.

use crate::recipe::GroupLimits;
use std::fmt::{Display, Formatter};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// Groups of ours are called this, the number of their supervisor, and one of their own.
const PREFIX: &str = "cofferdam-";
/// Processor time is counted in periods of this many microseconds: the kernel's default.
const PERIOD_US: u64 = 100_000;

/// What limits something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Controller {
    Memory,
    Pids,
    Cpu,
}

impl Controller {
    const ALL: [Controller; 3] = [Controller::Memory, Controller::Pids, Controller::Cpu];

    const fn name(self) -> &'static str {
        match self {
            Controller::Memory => "memory",
            Controller::Pids => "pids",
            Controller::Cpu => "cpu",
        }
    }

    /// What it limits, for people.
    const fn words(self) -> &'static str {
        match self {
            Controller::Memory => "memory",
            Controller::Pids => "processes",
            Controller::Cpu => "processor time",
        }
    }

    /// The file with its limit.
    const fn file(self, version: Version) -> &'static str {
        match (self, version) {
            (Controller::Memory, Version::One) => "memory.limit_in_bytes",
            (Controller::Memory, Version::Two) => "memory.max",
            (Controller::Pids, _) => "pids.max",
            (Controller::Cpu, Version::One) => "cpu.cfs_quota_us",
            (Controller::Cpu, Version::Two) => "cpu.max",
        }
    }

    /// The number that stands first in that file.
    fn limit(self, limits: &GroupLimits) -> u64 {
        match self {
            Controller::Memory => limits.memory_bytes,
            Controller::Pids => u64::from(limits.processes),
            Controller::Cpu => u64::from(limits.cpu_percent) * PERIOD_US / 100,
        }
    }
}

/// Of the kernel's two interfaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

/// A group under which groups can be made, and what limits them there.
#[derive(Debug, Clone)]
struct Place {
    version: Version,
    directory: PathBuf,
    controllers: Vec<Controller>,
}

/// Where each mounted hierarchy has its processes' groups.
struct Hierarchies {
    /// Mount point and root of the mount, of each hierarchy by its controllers; version 2 has none here.
    mounts: Vec<(Vec<String>, PathBuf, String)>,
}

impl Hierarchies {
    fn read() -> io::Result<Hierarchies> {
        Ok(Hierarchies::parse(&fs::read_to_string("/proc/self/mountinfo")?))
    }

    /// proc(5): number, parent, device, root, mount point, options, optional fields, "-", type, source, super options.
    fn parse(table: &str) -> Hierarchies {
        let mount = |line: &str| {
            let (own, file_system) = line.split_once(" - ")?;
            let mut own = own.split(' ').skip(3);
            let (root, point) = (own.next()?.to_owned(), PathBuf::from(own.next()?));
            let mut file_system = file_system.split(' ');
            let kind = file_system.next()?;
            let options = file_system.nth(1)?;
            match kind {
                "cgroup2" => Some((Vec::new(), point, root)),
                "cgroup" => Some((options.split(',').map(str::to_owned).collect(), point, root)),
                _ => None,
            }
        };
        Hierarchies { mounts: table.lines().filter_map(mount).collect() }
    }

    /// The mount point of a hierarchy and the directory of the group that a process has in it, by its `/proc/PID/cgroup`.
    fn of(&self, table: &str, controller: Option<Controller>) -> Option<(&Path, PathBuf)> {
        let is_it = |names: &[String]| match controller {
            None => names.is_empty(),
            Some(controller) => names.iter().any(|name| name == controller.name()),
        };
        let (_, point, root) = self.mounts.iter().find(|(names, _, _)| is_it(names))?;
        let path = table.lines().find_map(|line| {
            // number:controllers:path
            let mut fields = line.splitn(3, ':').skip(1);
            let names: Vec<String> =
                fields.next()?.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
            is_it(&names).then(|| fields.next().map(str::to_owned)).flatten()
        })?;
        let below = if root == "/" { path.as_str() } else { path.strip_prefix(root.as_str())? };
        // A path that leads up and out of a group namespace names nothing that is mounted here.
        (!below.contains("/..")).then(|| (point.as_path(), point.join(below.trim_start_matches('/'))))
    }
}

/// Where groups can be made. Found once: a supervisor stays where it was started.
fn places() -> &'static [Place] {
    static PLACES: OnceLock<Vec<Place>> = OnceLock::new();
    PLACES.get_or_init(|| {
        let places = find().unwrap_or_default();
        places.iter().for_each(sweep);
        places
    })
}

fn find() -> io::Result<Vec<Place>> {
    let hierarchies = Hierarchies::read()?;
    let own = fs::read_to_string("/proc/self/cgroup")?;
    let mut places = Vec::new();
    if let Some((top, directory)) = hierarchies.of(&own, None) {
        let mut groups = directory.ancestors().take_while(|group| group.starts_with(top));
        places.extend(groups.find_map(delegated));
    }
    for controller in Controller::ALL {
        if places.iter().any(|place: &Place| place.controllers.contains(&controller)) {
            continue;
        }
        if let Some((_, directory)) = hierarchies.of(&own, Some(controller)).filter(|(_, group)| is_writable(group)) {
            places.push(Place { version: Version::One, directory, controllers: vec![controller] });
        }
    }
    Ok(places)
}

fn is_writable(path: &Path) -> bool {
    nix::unistd::access(path, nix::unistd::AccessFlags::W_OK).is_ok()
}

/// The group as a place of version 2, if this user may make groups in it that limit memory and processes.
fn delegated(group: &Path) -> Option<Place> {
    let listed = |file: &str| fs::read_to_string(group.join(file)).unwrap_or_default();
    let has = |list: &str, controller: &Controller| list.split_whitespace().any(|word| word == controller.name());
    // To move a process, `cgroup.procs` of the group above both ends must be writable too.
    if !is_writable(group) || !is_writable(&group.join("cgroup.procs")) {
        return None;
    }
    let offered = listed("cgroup.controllers");
    for controller in Controller::ALL.iter().filter(|controller| has(&offered, controller)) {
        if !has(&listed("cgroup.subtree_control"), controller) {
            enable(group, *controller);
        }
    }
    let enabled = listed("cgroup.subtree_control");
    let controllers: Vec<Controller> =
        Controller::ALL.into_iter().filter(|controller| has(&enabled, controller)).collect();
    [Controller::Memory, Controller::Pids].iter().all(|needed| controllers.contains(needed)).then(|| Place {
        version: Version::Two,
        directory: group.to_owned(),
        controllers,
    })
}

/// A group that limits groups in it has no processes of its own. Where this process is the only one, it makes itself a
/// group inside.
fn enable(group: &Path, controller: Controller) {
    let write = || fs::write(group.join("cgroup.subtree_control"), format!("+{}", controller.name()));
    let Err(error) = write() else { return };
    let own = std::process::id().to_string();
    let alone = fs::read_to_string(group.join("cgroup.procs")).is_ok_and(|list| list.trim() == own);
    if error.raw_os_error() == Some(libc::EBUSY) && alone {
        let inside = group.join(format!("{PREFIX}{own}-supervisor"));
        if fs::create_dir(&inside).and_then(|()| fs::write(inside.join("cgroup.procs"), &own)).is_ok() {
            // Whether it helped is read from the file.
            let _ = write();
        }
    }
}

/// Removes groups of supervisors that are gone. One with a process in it stays: the kernel does not remove it.
fn sweep(place: &Place) {
    for entry in fs::read_dir(&place.directory).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let supervisor =
            name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split('-').next()?.parse::<u32>().ok());
        if supervisor.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            let _ = fs::remove_dir(entry.path());
        }
    }
}

/// The groups of one process, a directory in each hierarchy that is used. Removed when dropped: its process is reaped by
/// then.
#[derive(Debug, Default)]
pub(crate) struct Group {
    directories: Vec<PathBuf>,
}

impl Group {
    /// Makes one with these limits and moves process `pid`, which has started nothing yet, into it.
    pub(crate) fn around(pid: i32, limits: &GroupLimits) -> Result<Group, GroupError> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        if places().is_empty() {
            return Err(GroupError::NotDelegated);
        }
        let name = format!("{PREFIX}{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let mut group = Group::default();
        for place in places() {
            let directory = place.directory.join(&name);
            let act = |path: &Path, result: io::Result<()>| {
                result.map_err(|error| GroupError::Failed { path: path.to_owned(), error })
            };
            act(&directory, fs::create_dir(&directory))?;
            group.directories.push(directory.clone());
            for controller in &place.controllers {
                let file = directory.join(controller.file(place.version));
                act(&file, fs::write(&file, controller.limit(limits).to_string()))?;
            }
            let processes = directory.join("cgroup.procs");
            act(&processes, fs::write(&processes, pid.to_string()))?;
        }
        Ok(group)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for directory in &self.directories {
            // What stays is removed by the next supervisor.
            let _ = fs::remove_dir(directory);
        }
    }
}

/// Why a process has no group of its own.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GroupError {
    #[error("no control group with the memory and pids controllers is delegated to this user")]
    NotDelegated,
    #[error("control group {}: {error}", path.display())]
    Failed { path: PathBuf, error: io::Error },
}

/// What the kernel shows of a process's groups.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// What nothing limits beyond what limits the supervisor.
    pub(crate) unlimited: Vec<&'static str>,
    /// Limits that are higher than they should be, a sentence each.
    pub(crate) higher: Vec<String>,
}

/// Looks at the groups of process `pid`, a child of this one.
pub(crate) fn look(pid: i32, limits: &GroupLimits) -> io::Result<Seen> {
    let hierarchies = Hierarchies::read()?;
    let own = fs::read_to_string("/proc/self/cgroup")?;
    let its = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    let mut seen = Seen::default();
    for controller in Controller::ALL {
        let limit =
            [(None, Version::Two), (Some(controller), Version::One)].into_iter().find_map(|(hierarchy, version)| {
                let (_, group) = hierarchies.of(&its, hierarchy)?;
                let (_, supervisors) = hierarchies.of(&own, hierarchy)?;
                let text = fs::read_to_string(group.join(controller.file(version))).ok()?;
                (group != supervisors).then_some(text)
            });
        // "max" and -1 are no limit.
        let limit = limit.as_deref().and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok());
        match limit {
            None => seen.unlimited.push(controller.words()),
            Some(found) if found > controller.limit(limits) => seen.higher.push(format!(
                "its control group's limit of {} ({}) is {found}, not {}",
                controller.words(),
                controller.name(),
                controller.limit(limits)
            )),
            Some(_) => {}
        }
    }
    Ok(seen)
}

impl Display for GroupLimits {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        let GroupLimits { memory_bytes, processes, cpu_percent, .. } = self;
        write!(f, "{} MiB of memory, {processes} processes, {cpu_percent} % of a processor", memory_bytes >> 20)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: &str = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
        35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
        36 31 0:33 /docker/7 /sys/fs/cgroup/pids rw shared:9 - cgroup cgroup rw,pids\n\
        41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";

    #[test]
    fn a_path_out_of_the_group_namespace_is_no_group_of_ours() {
        let hierarchies = Hierarchies::parse(BOTH);
        assert_eq!(hierarchies.of("0::/../other", None), None);
        assert_eq!(hierarchies.of("8:pids:/elsewhere", Some(Controller::Pids)), None);
        assert_eq!(hierarchies.of("0::/", Some(Controller::Cpu)), None);
    }

    #[test]
    fn groups_of_both_versions_are_found() {
        let hierarchies = Hierarchies::parse(BOTH);
        let table = "8:pids:/docker/7/vm\n4:cpuset,memory:/a/b\n0::/user.slice\n";
        let group = |controller| hierarchies.of(table, controller).map(|(_, group)| group);
        assert_eq!(group(None), Some("/sys/fs/cgroup/unified/user.slice".into()));
        assert_eq!(group(Some(Controller::Memory)), Some("/sys/fs/cgroup/memory/a/b".into()));
        assert_eq!(group(Some(Controller::Pids)), Some("/sys/fs/cgroup/pids/vm".into()));
    }
}
