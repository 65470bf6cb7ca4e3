//! Attackers beside honest devices, and readers that believe them.

use super::attempt::{Attempt, Guard, Outcome};
use super::ground::{Ground, Machine, PATIENCE, REGISTERS, Terms};
use super::naive::Naive;
use crate::catalogue::BuiltIn;
use crate::machine::planned;
use anyhow::Result;
use schema::host::Setting;
use schema::lane::Carrier;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};
use vmm::supervisor::{Cell, Hostile, PlannedDevice};

/// The port at which the guest finds a device of registers whose host is against us.
pub const PORT: u64 = 0x5000;
/// Why a host is given up that does not answer.
pub const LATE: &str = "did not answer in time";
/// Why a host is given up that ends again and again.
pub const DEAD: &str = "retired";
/// How long an attacker that is not given up does what it does.
const A_WHILE: Duration = Duration::from_millis(100);

/// What becomes of a host that is against us, as its supervisor shows it.
#[derive(Debug, Clone, Copy)]
pub enum Fate {
    /// It is given up, for a reason that says this.
    GivenUp(&'static str),
    /// It goes on, and harms nobody.
    Endured,
    /// One of both, as it comes; it harms nobody.
    Either,
}

/// The device in whose place an attacker is, with these guards taken out.
pub fn device(ground: &Ground<'_>, attempt: &Attempt, removed: &[Guard], carrier: Carrier) -> PlannedDevice {
    let mut device = planned(attempt.device, Vec::new(), Vec::new());
    device.level = ground.level_of(attempt.device);
    attempt.device.clone_into(&mut device.label);
    device.carrier = carrier;
    device.hostile = Some(Hostile {
        role: attempt.role(removed, false, &[]),
        without: removed.iter().flat_map(|guard| guard.parts()).collect(),
    });
    if attempt.device == REGISTERS {
        device.options.push(Setting { name: "port".into(), value: PORT.to_string() });
    }
    device
}

/// An attempt beside honest devices while it has guards, and alone with `naive`, who believes it, when it has none.
pub fn beside(
    ground: &Ground<'_>,
    attempt: &Attempt,
    removed: &[Guard],
    fate: Fate,
    naive: impl FnOnce(&mut Cell) -> Result<Outcome>,
) -> Result<Outcome> {
    beside_over(Carrier::Memory, ground, attempt, removed, fate, naive)
}

/// The same over this carrier.
pub fn beside_over(
    carrier: Carrier,
    ground: &Ground<'_>,
    attempt: &Attempt,
    removed: &[Guard],
    fate: Fate,
    naive: impl FnOnce(&mut Cell) -> Result<Outcome>,
) -> Result<Outcome> {
    if removed.len() == attempt.guards.len() {
        let mut cell = alone(ground, attempt, removed, carrier)?;
        cell.wake().signal(1)?;
        return naive(&mut cell);
    }
    let hostile = vec![device(ground, attempt, removed, carrier)];
    let terms = match fate {
        Fate::GivenUp(LATE) => Terms::HASTY,
        // A script's accesses keep the supervisor from starting anybody anew.
        Fate::GivenUp(DEAD) if ground.kvm => Terms::FORGIVING,
        _ => Terms::LENIENT,
    };
    let mut machine = Machine::start_with(ground, hostile, terms)?;
    endure(ground, attempt, &mut machine, fate)
}

/// A lone attacker that sleeps still.
pub fn alone(ground: &Ground<'_>, attempt: &Attempt, removed: &[Guard], carrier: Carrier) -> Result<Cell> {
    Cell::start(&device(ground, attempt, removed, carrier), &BuiltIn, None)
}

/// Wakes the attacker by an access of the guest's, and looks at what becomes of it and of everybody else.
fn endure(ground: &Ground<'_>, attempt: &Attempt, machine: &mut Machine, fate: Fate) -> Result<Outcome> {
    if !ground.kvm {
        machine.touch(PORT, 4)?;
    }
    if let Err(error) = machine.go_on(ground, A_WHILE) {
        return Ok(harm(&error));
    }
    let until = Instant::now() + PATIENCE;
    let state = loop {
        let state = machine.state_of(attempt.device);
        let settled = match fate {
            Fate::GivenUp(_) => state.starts_with("retired"),
            Fate::Endured | Fate::Either => true,
        };
        if settled || Instant::now() > until {
            break state;
        }
        if !ground.kvm {
            machine.touch(PORT, 4)?;
        }
        machine.go_on(ground, Duration::from_millis(5))?;
    };
    let well = machine.is_well(ground).and_then(|()| machine.others_are_clean(attempt.device));
    if let Err(error) = well {
        return Ok(harm(&error));
    }
    match fate {
        Fate::GivenUp(why) if !state.contains(why) => {
            Ok(Outcome::Failed(format!("it is shown as `{state}`, not with `{why}`")))
        }
        Fate::Endured if state != "running" => Ok(Outcome::Failed(format!("it is shown as `{state}`"))),
        _ if state == "running" => Ok(Outcome::Stopped("harmed nobody".to_owned())),
        // That it is shown as retired, and by what we killed it, is the same for all.
        _ => Ok(Outcome::Stopped(state.replace("retired: ", "").replace(" (killed (signal 9))", ""))),
    }
}

/// Somebody honest came to harm: the attempt has succeeded.
fn harm(error: &anyhow::Error) -> Outcome {
    eprintln!("cofferdam: {error:#}");
    Outcome::Succeeded
}

/// What came of it, when that is known at once.
pub fn fooled(is_so: bool) -> Outcome {
    if is_so { Outcome::Succeeded } else { Outcome::Stopped("was not believed".to_owned()) }
}

/// Whether this comes about soon.
pub fn soon(mut is_so: impl FnMut() -> Result<bool>) -> Result<Outcome> {
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        if is_so()? {
            return Ok(Outcome::Succeeded);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(fooled(false))
}

/// What becomes of a reader in a process of its own, with this as its standard input.
pub fn reader(name: &'static str, input: impl AsFd) -> Result<Outcome> {
    Naive::start(name, input.as_fd())?.outcome()
}
