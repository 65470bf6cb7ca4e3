//! The probe as a supervisor: in a process of its own, so that it can be another user's, or be killed.

use crate::driver::{DeviceKind, Probe, level_named};
use sandbox::{Label, Layer, LayerName, Module, Program, Recipe, Stage};
use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

pub fn main(arguments: &[String]) {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["supervise", level, device, act] => supervise(level, device, act),
        ["wait"] => wait(),
        ["forbidden"] => forbidden(),
        ["require", layer] => require(layer),
        ["context", file] => println!("{}", context(file)),
        ["context", file, context] => set_context(file, context),
        ["labelled", "selinux", process, memory, channel, file, act] => {
            sandbox::label::label_sockets(channel).expect("sockcreate");
            labelled(Module::Selinux, process, Some(memory), file, act);
        }
        ["labelled", "apparmor", process, file, act] => labelled(Module::Apparmor, process, None, file, act),
        ["cost", rounds] => cost(rounds.parse().expect("a number")),
        ["program", path] => start(Path::new(path)),
        _ => eprintln!("sandbox_probe is run by the tests of the crate cofferdam-sandbox"),
    }
}

fn program() -> Program {
    Program::current().expect("this program")
}

/// Starts a probe and prints what is seen of it: a fact a line.
fn supervise(level: &str, device: &str, act: &str) {
    let mut probe = Probe::start(&program(), level_named(level), DeviceKind::named(device), act).expect("a probe");
    probe.await_confined().expect("hello");
    show(&probe, "confined", Stage::Confined);
    probe.grant().expect("sealed");
    show(&probe, "sealed", Stage::Sealed);
    probe.wake().expect("a wake");
    println!("end: {:?}", probe.end());
}

fn show(probe: &Probe, stage: &str, at: Stage) {
    let audit = probe.audit(at).expect("an audit");
    println!("{stage}: seccomp {}, no_new_privs {}", audit.seccomp_mode, audit.no_new_privs);
    for difference in &audit.differences {
        println!("{stage} differs: {difference}");
    }
    for note in &audit.notes {
        println!("{stage} note: {note}");
    }
}

/// Starts a probe, says its number, and waits to be killed.
fn wait() {
    let probe = Probe::start(&program(), level_named("seccomp"), DeviceKind::Register, "nothing").expect("a probe");
    probe.await_confined().expect("hello");
    probe.grant().expect("sealed");
    println!("{}", probe.child.pid);
    std::io::stdout().flush().expect("output");
    loop {
        std::thread::park();
    }
}

/// Tries to start a probe where user namespaces are forbidden, and prints why it could not.
fn forbidden() {
    let (user, group) = (nix::unistd::geteuid(), nix::unistd::getegid());
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWUSER).expect("a user namespace");
    std::fs::write("/proc/self/setgroups", "deny").expect("setgroups");
    std::fs::write("/proc/self/uid_map", format!("0 {user} 1")).expect("uid_map");
    std::fs::write("/proc/self/gid_map", format!("0 {group} 1")).expect("gid_map");
    std::fs::write("/proc/sys/user/max_user_namespaces", "0").expect("max_user_namespaces");
    report(Probe::start(&program(), level_named("process"), DeviceKind::Register, "nothing").map(drop));
    let mut recipe = Recipe::host(level_named("seccomp"), &DeviceKind::Register.manifests());
    recipe.allow_missing(LayerName::User).expect("a layer");
    report(Probe::start_with(&program(), recipe, DeviceKind::Register, "nothing").and_then(|probe| {
        probe.await_confined()?;
        Ok(())
    }));
}

/// Starts a probe that must have a layer.
fn require(layer: &str) {
    let mut recipe = Recipe::host(level_named("seccomp"), &DeviceKind::Register.manifests());
    recipe.require(layer.parse().expect("a layer")).expect("a layer");
    report(Probe::start_with(&program(), recipe, DeviceKind::Register, "nothing").map(drop));
}

/// The label of a file for SELinux.
fn context(file: &str) -> String {
    let file = File::open(file).expect("the file");
    sandbox::label::context(file.as_fd()).unwrap_or_else(|error| error.to_string())
}

/// Labels a file for SELinux.
fn set_context(file: &str, context: &str) {
    let file = File::open(file).expect("the file");
    sandbox::label::set_context(file.as_fd(), context).expect("a context");
}

/// Starts a probe whose whole sandbox is a label, grants it a file, and prints what became of its act.
fn labelled(module: Module, process: &str, memory: Option<&str>, file: &str, act: &str) {
    let mut recipe = Recipe::host(level_named("off"), &[]).with_label(Label { module, text: process.to_owned() });
    // Numbers 0 to 2 are filled as for any host, and it does not look for a sandbox that is not there.
    recipe.level = level_named("process");
    recipe.layers.push(Layer {
        name: LayerName::Label,
        required: true,
        asked: true,
        because: "nothing else is left".into(),
    });
    let file = File::options().read(true).write(true).open(file).expect("the file");
    let probe = Probe::start_as(&program(), recipe, "off", DeviceKind::File, act).expect("a probe");
    let mut probe = probe.with_file(file, memory.map(str::to_owned));
    println!("label: {}", module.label_of(&probe.child.pid.to_string()).expect("its label"));
    let granted = probe.await_confined().and_then(|()| probe.grant()).and_then(|()| probe.wake());
    match granted {
        Ok(()) => println!("end: {:?}", probe.end()),
        Err(error) => println!("end: {error}"),
    }
}

/// Starts another program.
fn start(path: &Path) {
    let program = Program::open(path).expect("a program");
    report(Probe::start(&program, level_named("process"), DeviceKind::Register, "nothing").map(drop));
}

fn report(result: Result<(), sandbox::SpawnError>) {
    match result {
        Ok(()) => println!("it started"),
        Err(error) => println!("{error}"),
    }
}

/// Prints what starting and ending a probe costs, with all layers and with one fewer.
fn cost(rounds: usize) {
    let recipe = |level| Recipe::host(level_named(level), &DeviceKind::Register.manifests());
    let mut recipes = vec![("off".to_owned(), recipe("off")), ("seccomp".to_owned(), recipe("seccomp"))];
    // Without no_new_privs a process takes itself for one of level `off`.
    let all = recipe("seccomp").layers.into_iter().filter(|layer| layer.name != LayerName::NoNewPrivs);
    for layer in all {
        recipes.push((format!("seccomp without {}", layer.name.name()), recipe("seccomp").without(layer.name)));
    }
    let mut times = vec![[Vec::new(), Vec::new(), Vec::new(), Vec::new()]; recipes.len()];
    for _ in 0..rounds {
        for ((_, recipe), times) in recipes.iter().zip(&mut times) {
            let begin = Instant::now();
            let probe = Probe::start_with(&program(), recipe.clone(), DeviceKind::Register, "nothing");
            let mut probe = probe.expect("a probe");
            times[0].push(begin.elapsed());
            probe.await_confined().expect("hello");
            times[1].push(begin.elapsed());
            probe.grant().expect("sealed");
            times[2].push(begin.elapsed());
            probe.wake().expect("a wake");
            probe.end();
            times[3].push(begin.elapsed());
        }
    }
    println!(
        "{:36} {:>10} {:>10} {:>10} {:>10}  (medians of {rounds}, in µs since the start)",
        "", "exec", "hello", "sealed", "reaped"
    );
    for ((name, _), times) in recipes.iter().zip(&mut times) {
        let [exec, hello, sealed, reaped] = times.each_mut().map(|times| median(times).as_micros());
        println!("{name:36} {exec:>10} {hello:>10} {sealed:>10} {reaped:>10}");
    }
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}
