//! A peer dies in the middle of a call, and the work goes on: what it had done stands in memory that outlives it.

use imc::schema::sample::{Share, Shared};
use imc::{CallError, Capability, Channel, Mapping, ReadWrite, Region, Wake};
use std::error::Error;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Nobody is waited for any longer.
const PATIENCE: Duration = Duration::from_secs(10);
/// How much there is to do, and how much a worker does before it dies.
const STEPS: u8 = 5;
const LIFE: u8 = 2;

fn main() -> Result<(), Box<dyn Error>> {
    match std::env::args().nth(1).as_deref() {
        Some("worker") => worker(),
        _ => supervisor(),
    }
}

fn supervisor() -> Result<(), Box<dyn Error>> {
    // Ours, and granted to each worker anew.
    let progress = Region::create("progress", 1)?;
    let bell = Wake::create()?;
    let share = Share { memory: progress.handle(0), bell: bell.handle(1) };

    let mut deaths = 0;
    loop {
        let (mut channel, mut worker) = start()?;
        // It is trusted less than we are: it cannot hand us a descriptor, whose last close might stall us.
        channel.refuse_descriptors();
        let done = channel.call::<_, Shared>(&share, &[progress.as_fd(), bell.as_fd()], PATIENCE);
        // Dead or late or nonsensical: this channel is of no more use, and the process is ended before another may store.
        drop(channel);
        if done.is_err() {
            worker.kill()?;
        }
        worker.wait()?;
        match done {
            Ok(_) => break,
            Err(CallError::Gone | CallError::Late | CallError::Violation(_)) => deaths += 1,
            Err(error) => return Err(error.into()),
        }
    }
    assert_eq!((deaths, step(&progress.map()?)), (2, STEPS));
    Ok(())
}

fn start() -> Result<(Channel, Child), Box<dyn Error>> {
    let (ours, theirs) = Channel::pair()?;
    let stdin = Stdio::from(OwnedFd::from(theirs));
    Ok((ours, Command::new(std::env::current_exe()?).arg("worker").stdin(stdin).spawn()?))
}

fn worker() -> Result<(), Box<dyn Error>> {
    let mut channel = Channel::from_fd(std::io::stdin().as_fd().try_clone_to_owned()?)?;
    let packet = channel.receive(Some(PATIENCE))?.ok_or("the supervisor is silent")?;
    let call = packet.call.ok_or("the supervisor calls")?;
    let (share, mut with) = packet.decode::<Share>()?;
    let memory = with.take_as::<Region<ReadWrite>>(&share.memory)?.map()?;

    let mut life = LIFE;
    while step(&memory) < STEPS {
        if life == 0 {
            // Whatever ends a process: a bug, an attacker's guess, the kernel's hunger for memory.
            std::process::exit(1);
        }
        life -= 1;
        memory.write(0, &[step(&memory) + 1]);
    }
    channel.reply(call, &Shared { region: 0 }, &[])?;
    Ok(())
}

fn step(memory: &Mapping) -> u8 {
    let mut step = [0];
    memory.read(0, &mut step);
    step[0]
}
