//! Two processes that share memory: one writes numbers, the other adds them up.

use imc::schema::Rights;
use imc::schema::sample::{Add, Share, Shared, Sum};
use imc::{Borrowed, Capability, Channel, EventCount, Lender, ReadOnly, Region, Table, Wake};
use std::error::Error;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Nobody is waited for any longer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Where in the region the number of batches stands, and where the numbers.
const BATCHES: usize = 0;
const NUMBERS: usize = 64;

fn main() -> Result<(), Box<dyn Error>> {
    match std::env::args().nth(1).as_deref() {
        Some("worker") => worker(),
        _ => owner(),
    }
}

fn owner() -> Result<(), Box<dyn Error>> {
    // This program once more, with one end of a channel as its standard input. Whoever has a better way to start processes
    // leaves the end at a number of his choice, and the child takes it with `Channel::inherit`.
    let (mut channel, theirs) = Channel::pair()?;
    let stdin = Stdio::from(OwnedFd::from(theirs));
    let mut worker = Command::new(std::env::current_exe()?).arg("worker").stdin(stdin).spawn()?;

    // The memory is ours to write. The worker gets a weaker capability to it: no descriptor that it has can store there.
    let memory = Region::create("numbers", 4096)?;
    let readable = memory.read_only()?;
    let bell = Wake::create()?;
    let share = Share { memory: readable.handle(0), bell: bell.handle(1) };
    let (shared, _): (Shared, _) = channel.call(&share, &[readable.as_fd(), bell.as_fd()], PATIENCE)?;

    // First way: write, count, ring. The worker sleeps until then, and tells what it found.
    let batches = EventCount::new(memory.map()?, BATCHES, bell)?;
    batches.mapping().write(NUMBERS, &[1, 2, 3]);
    batches.advance()?;
    let packet = channel.receive(Some(PATIENCE))?.ok_or("the worker is silent")?;
    let (told, _) = packet.decode::<Sum>()?;
    assert_eq!(told, Sum { sum: 6 });

    // Second way: a call that lends a part of the memory until it is answered.
    let mut lender = Lender::new(shared.region, batches.mapping().len());
    let (loan, bytes) = lender.lend(NUMBERS, 2, Rights::READ)?;
    let (answer, _): (Sum, _) = channel.call(&Add { bytes }, &[], PATIENCE)?;
    lender.settle(loan);
    assert_eq!(answer, Sum { sum: 3 });

    // The worker leaves when nobody is there any more.
    drop(channel);
    assert!(worker.wait()?.success());
    Ok(())
}

fn worker() -> Result<(), Box<dyn Error>> {
    let mut channel = Channel::from_fd(std::io::stdin().as_fd().try_clone_to_owned()?)?;
    let packet = channel.receive(Some(PATIENCE))?.ok_or("the owner is silent")?;
    let call = packet.call.ok_or("the owner calls")?;
    // Whatever came is by now what the message says it is, and its size is sealed: the kernel was asked.
    let (share, mut with) = packet.decode::<Share>()?;
    let memory: Region<ReadOnly> = with.take_as(&share.memory)?;
    let bell: Wake = with.take_as(&share.bell)?;

    // The owner names this mapping by a key of ours, which will never mean another.
    let mut held = Table::with_bound(1);
    let key = held.insert(memory.map()?).map_err(|_| "there is room for one")?;
    channel.reply(call, &Shared { region: key.to_bits() }, &[])?;

    let batches = EventCount::new(memory.map()?, BATCHES, bell)?;
    batches.wait_past(0, PATIENCE)?.ok_or("there are no numbers")?;
    let mut numbers = [0; 3];
    batches.mapping().read(NUMBERS, &mut numbers);
    channel.tell(&Sum { sum: numbers.iter().map(|number| u64::from(*number)).sum() }, &[])?;

    let packet = channel.receive(Some(PATIENCE))?.ok_or("the owner is silent")?;
    let call = packet.call.ok_or("the owner calls")?;
    let (add, _) = packet.decode::<Add>()?;
    let lent = Borrowed::new(&held, call, &add.bytes)?;
    let mut numbers = vec![0; lent.len()];
    lent.read(&channel, 0, &mut numbers)?;
    channel.reply(call, &Sum { sum: numbers.iter().map(|number| u64::from(*number)).sum() }, &[])?;
    assert!(lent.read(&channel, 0, &mut numbers).is_err(), "with the answer the loan has ended");
    Ok(())
}
