//! `cofferdam`: a virtual machine monitor that trusts no device.
//!
//! One program in several roles, told apart by the name it was started with: the command a person types, which is also the
//! supervisor; the VMM; a device host, and its helper; a net relay; a display relay. This crate is the only one that sees both sides.

mod args;
mod catalogue;
mod device;
mod devices;
mod display;
mod drives;
mod firmware;
mod keys;
mod machine;
mod mouse;
mod nic;
mod operate;
mod policy;
mod ps;
mod qtest;
mod rtc;
mod run;
mod table;

use anyhow::Result;
use clap::Parser;
use std::process::ExitCode;
use vmm::supervisor::Signals;

/// Something of ours went wrong.
const FAILED: u8 = 1;
/// What was asked makes no sense.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    match std::env::args_os().next().as_deref().and_then(|name| name.to_str()) {
        Some("cofferdam: host") => device_host::run(::devices::catalogue()),
        Some("cofferdam: helper") => device_host::help(::devices::catalogue()),
        Some(vmm::supervisor::RELAY_ROLE) => device_host::relay(),
        Some(vmm::supervisor::DISPLAY_ROLE) => device_host::show(),
        Some("cofferdam: vmm") => vmm::serve::run(&catalogue::Linked),
        // What `bench spawn` compares with: a program of this size that does nothing.
        Some("cofferdam: empty") => return ExitCode::SUCCESS,
        // The other side of what `bench calls` measures.
        Some(run::bench::ANSWERER) => return run::bench::answer(),
        // What `attack` starts, and nothing else.
        Some(role) if role.starts_with(run::attack::HOSTILE) => run::attack::be_hostile(role),
        Some(name) if name.rsplit('/').next() == Some(qtest::NAME) => return qtest_system(),
        Some(run::attack::CARELESS) => {
            run::attack::be_careless();
            return ExitCode::SUCCESS;
        }
        Some(role) if role.starts_with(run::attack::NAIVE) => run::attack::be_naive(role),
        Some(role) if role.starts_with(run::attack::VICTIM) => run::attack::be_victim(role),
        _ => {}
    }
    finish("cofferdam", act(args::Args::parse()))
}

/// The machine of a test program that knows us by our second name.
fn qtest_system() -> ExitCode {
    let words: Vec<String> = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    let run = || qtest::run(qtest::parse_words(&words)?, &Signals::hold()?);
    // As what it stands for: nothing tells a wrong word from another failure.
    finish(qtest::NAME, run().map_err(|error| anyhow::anyhow!("{error:#}")))
}

fn finish(name: &str, result: Result<u8>) -> ExitCode {
    match result {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            eprintln!("{name}: {error:#}");
            ExitCode::from(if error.is::<args::Usage>() { USAGE } else { FAILED })
        }
    }
}

fn act(asked: args::Args) -> Result<u8> {
    use args::Action;
    match asked.action {
        Action::Demo(demo) => run::demo::demo(&demo, &Signals::hold()?),
        Action::Run(run) => run::run(*run),
        Action::Qtest(asked) => qtest::run(asked.setup()?, &Signals::hold()?),
        Action::Ps(ps) => ps::ps(&ps),
        Action::Powerdown(vm) => operate::order(&vm, schema::control::Order::Powerdown),
        Action::Stop(vm) => operate::order(&vm, schema::control::Order::Stop),
        Action::Reset(vm) => operate::order(&vm, schema::control::Order::Reset),
        Action::Console(vm) => operate::console(&vm, &Signals::hold()?),
        Action::Screenshot(asked) => display::screenshot(&asked),
        Action::Eject(asked) => operate::eject(&asked),
        Action::Insert(asked) => operate::insert(&asked),
        Action::Sendkeys(asked) => display::sendkeys(&asked),
        Action::Sendmouse(asked) => display::sendmouse(&asked),
        Action::Logs(vm) => operate::logs(&vm),
        Action::Devices(devices) => devices::devices(&devices),
        Action::Device(asked) => device::device(&asked.what),
        Action::Recipe(recipe) => devices::recipe(&recipe),
        Action::Policy(asked) => policy::policy(&asked),
        Action::Attack(attack) => run::attack::attack(&attack, &Signals::hold()?),
        Action::Bench(bench) => run::bench::bench(&bench, &Signals::hold()?),
        Action::Completions(shell) => args::completions(&shell),
    }
}
