//! What the supervisor sees of a process, and that it sees one that is not its recipe.

#![allow(missing_docs, unsafe_code)] // The driver takes descriptors out of messages.

#[path = "../probe/driver.rs"]
mod driver;

use driver::{DeviceKind, Probe};
use sandbox::{Audit, DescriptorKind, LayerName, Mode, Program, Recipe, Stage};
use schema::host::Level;
use std::path::Path;

fn program() -> Program {
    Program::open(Path::new(env!("CARGO_BIN_EXE_sandbox_probe"))).expect("the probe")
}

/// A probe looked at when it is confined, and when it is sealed.
fn audits(recipe: Recipe, device: DeviceKind, act: &str) -> [Audit; 2] {
    let probe = Probe::start_with(&program(), recipe, device, act).expect("a probe");
    probe.await_confined().expect("hello");
    let confined = probe.audit(Stage::Confined).expect("an audit");
    probe.grant().expect("sealed");
    [confined, probe.audit(Stage::Sealed).expect("an audit")]
}

fn recipe(level: Level, device: DeviceKind) -> Recipe {
    Recipe::host(level, &device.manifests())
}

/// What is seen at both stages of a register device that does this.
fn differences(act: &str) -> [Vec<String>; 2] {
    audits(recipe(Level::Seccomp, DeviceKind::Register), DeviceKind::Register, act).map(|audit| audit.differences)
}

#[test]
fn an_honest_process_has_no_difference() {
    for level in [Level::Process, Level::Seccomp] {
        for device in [DeviceKind::Register, DeviceKind::File] {
            let [confined, sealed] = audits(recipe(level, device), device, "nothing");
            assert_eq!(confined.differences, Vec::<String>::new(), "{device:?} confined at {level:?}");
            assert_eq!(sealed.differences, Vec::<String>::new(), "{device:?} sealed at {level:?}");
            assert_eq!(sealed.seccomp_mode, if level == Level::Seccomp { 2 } else { 0 });
            assert!(sealed.no_new_privs);
            assert!(sealed.pss_bytes > 0);
            assert_eq!(sealed.guest_memory_bytes, 0);
        }
    }
}

#[test]
fn a_sealed_process_holds_its_grants_and_nothing_else() {
    let [confined, sealed] = audits(recipe(Level::Seccomp, DeviceKind::File), DeviceKind::File, "nothing");
    let kinds = |audit: &Audit| {
        let words = audit.descriptors.iter().map(|line| line.split([' ', ',']).nth(1).unwrap_or("").to_owned());
        words.collect::<Vec<_>>()
    };
    assert_eq!(kinds(&confined), ["eventfd", "eventfd", "eventfd", "socket"]);
    assert_eq!(kinds(&sealed), ["socket", "eventfd", "eventfd", "eventfd", "file"]);
    assert!(sealed.descriptors[0].starts_with("3: "), "{:?}", sealed.descriptors);
}

#[test]
fn a_descriptor_too_many_is_seen() {
    let [confined, sealed] = differences("open-more");
    assert_eq!(confined, ["it holds 4 of eventfd where its recipe keeps 3 (3 placeholder)"]);
    // It was not held when the process was sealed, and so was closed.
    assert_eq!(sealed, Vec::<String>::new());
    let [_, sealed] = differences("keep-more");
    assert_eq!(sealed, ["it holds 4 of eventfd where its recipe keeps 3 (1 wake, 1 irq, 1 reply)"]);
}

#[test]
fn a_dumpable_process_is_seen() {
    let [confined, _] = audits(recipe(Level::Seccomp, DeviceKind::Register), DeviceKind::Register, "be-dumpable");
    let seen = confined.differences == ["it is dumpable: other processes of its user may trace it"];
    let unknown = confined.notes.iter().any(|note| note.contains("does not show whether a process is dumpable"));
    assert!(seen || unknown, "{confined:?}");
}

#[test]
fn a_process_without_its_filter_is_seen() {
    let [confined, sealed] = differences("stay-unsealed");
    assert_eq!(confined, Vec::<String>::new());
    assert!(sealed.contains(&"a thread of it has no system call filter".to_owned()), "{sealed:?}");
    // Nor were its limits tightened and its regions closed.
    assert!(sealed.iter().any(|sentence| sentence.starts_with("its limit of open files")), "{sealed:?}");
    assert!(sealed.iter().any(|sentence| sentence.contains("memfd")), "{sealed:?}");
}

#[test]
fn a_second_thread_is_seen() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: the limit of processes binds an ordinary user, so there is no second thread to see");
        return;
    }
    // Either of these would not let it start.
    let recipe = recipe(Level::Seccomp, DeviceKind::Register).without(LayerName::OwnUser).without(LayerName::Cgroup);
    let [_, sealed] = audits(recipe, DeviceKind::Register, "start-thread").map(|audit| audit.differences);
    assert_eq!(sealed, ["it has 2 threads where its recipe allows 1"]);
}

#[test]
fn shared_memory_mapped_executable_is_seen() {
    let [_, sealed] = differences("map-executable");
    assert_eq!(sealed, ["it has cofferdam:state mapped executable"]);
}

/// Each required layer of the start, taken out when the process is started, is missed when it is looked at.
#[test]
fn a_missing_layer_is_seen() {
    let whole = recipe(Level::Seccomp, DeviceKind::Register);
    for (layer, expected) in [
        (LayerName::Pid, "it is not the first process of a process namespace of its own"),
        (LayerName::Net, "it shares the network namespace of the supervisor"),
        (LayerName::Ipc, "it shares the ipc namespace of the supervisor"),
        (LayerName::Uts, "it shares the host name namespace of the supervisor"),
        (LayerName::CgroupNamespace, "it shares the control group namespace of the supervisor"),
        (LayerName::Mount, "it shares the mount namespace of the supervisor"),
        (LayerName::Root, "file systems instead of one empty one"),
        (LayerName::Capabilities, "its bounding capability set is 0x"),
    ] {
        let mut probe = Probe::start_with(&program(), whole.clone().without(layer), DeviceKind::Register, "nothing")
            .expect("a probe");
        probe.recipe = whole.clone();
        probe.await_confined().expect("hello");
        let audit = probe.audit(Stage::Confined).expect("an audit");
        let seen = audit.differences.iter().any(|sentence| sentence.contains(expected));
        assert!(seen, "without {}: {:?}", layer.name(), audit.differences);
    }
}

#[test]
fn a_layer_that_this_machine_lacks_is_a_note_and_if_required_a_difference() {
    let mut recipe = recipe(Level::Seccomp, DeviceKind::Register);
    let [_, sealed] = audits(recipe.clone(), DeviceKind::Register, "nothing");
    assert!(sealed.notes.iter().any(|note| note.contains("no label")), "{:?}", sealed.notes);
    let mut probe = Probe::start_with(&program(), recipe.clone(), DeviceKind::Register, "nothing").expect("a probe");
    recipe.require(LayerName::Label).expect("a layer");
    probe.recipe = recipe;
    probe.await_confined().expect("hello");
    let audit = probe.audit(Stage::Confined).expect("an audit");
    let wanted = "layer `label` is required: it has no label";
    assert!(matches!(&audit.differences[..], [one] if one.starts_with(wanted)), "{:?}", audit.differences);
}

/// Root can make control groups on any machine that has the controllers, and give out user numbers.
#[test]
fn as_root_a_process_has_a_control_group_and_a_user_of_its_own() {
    if !nix::unistd::geteuid().is_root() {
        println!("SKIPPED: only root may give out user numbers");
        return;
    }
    let mut probe = Probe::start(&program(), Level::Seccomp, DeviceKind::Register, "nothing").expect("a probe");
    probe.await_confined().expect("hello");
    assert!(probe.child.lacks().iter().all(|lack| lack.layer == LayerName::Label), "{:?}", probe.child.lacks());
    let read = |name: &str| std::fs::read_to_string(format!("/proc/{}/{name}", probe.child.pid)).expect(name);
    let user = 0x7000_0000 + probe.child.pid;
    let expected = format!("Uid:\t{user}\t{user}\t{user}\t{user}\nGid:\t{user}\t{user}\t{user}\t{user}\n");
    assert!(read("status").contains(&expected), "{}", read("status"));
    assert!(read("status").contains("Groups:\t \n"), "{}", read("status"));
    let groups = read("cgroup");
    assert!(groups.contains(&format!("/cofferdam-{}-", std::process::id())), "{groups}");

    let audit = probe.audit(Stage::Confined).expect("an audit");
    assert_eq!(audit.differences, Vec::<String>::new());
    assert!(
        !audit.notes.iter().any(|note| note.contains("user") || note.contains("control group")),
        "{:?}",
        audit.notes
    );

    // The limits are those of the recipe, no less and no more.
    let group = probe.recipe.group.as_mut().expect("limits");
    group.memory_bytes -= 1 << 20;
    group.processes -= 1;
    let audit = probe.audit(Stage::Confined).expect("an audit");
    let limits = |words| audit.differences.iter().any(|sentence| sentence.contains(words));
    assert!(limits("control group's limit of memory") && limits("limit of processes"), "{:?}", audit.differences);

    // Nothing is left behind.
    let line =
        groups.lines().find(|line| line.contains(":pids:") || line.starts_with("0::/cofferdam")).expect("a group");
    let name = line.rsplit('/').next().expect("a name").to_owned();
    drop(probe);
    let places = ["/sys/fs/cgroup", "/sys/fs/cgroup/pids", "/sys/fs/cgroup/unified"];
    assert!(!places.iter().any(|place| Path::new(place).join(&name).exists()), "{name} is still there");
}

#[test]
fn a_file_open_for_writing_where_it_should_be_read_is_seen() {
    let mut recipe = recipe(Level::Seccomp, DeviceKind::File);
    for keep in recipe.descriptors.iter_mut().filter(|keep| keep.kind == DescriptorKind::File) {
        keep.mode = Mode::Read;
    }
    let [_, sealed] = audits(recipe, DeviceKind::File, "nothing");
    assert_eq!(sealed.differences, ["it may write 1 of file where its recipe lets it write 0"]);
}

#[test]
fn a_process_that_is_gone_cannot_be_looked_at() {
    let mut probe = Probe::start(&program(), Level::Seccomp, DeviceKind::Register, "nothing").expect("a probe");
    probe.await_confined().expect("hello");
    probe.child.kill().expect("a signal");
    assert_eq!(probe.end(), Some(sandbox::End::Killed(libc::SIGKILL)));
    assert!(probe.audit(Stage::Confined).is_err());
}
