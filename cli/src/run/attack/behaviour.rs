//! Group F: how a device behaves, and what that does to those who depend on it.

#![allow(unsafe_code)] // A plain exit of a sealed process.

use super::arena::{DEAD, Fate, LATE, PORT, alone, beside, device, fooled, reader, soon};
use super::attempt::{Attempt, FILTER, Group, Guard, Judge, Outcome};
use super::ground::{Ground, Machine, PATIENCE, REGISTERS};
use super::hostile::{check, leave, word};
use super::{lane, messages};
use crate::catalogue::BuiltIn;
use crate::run::demo::script::{BUFFERS, RING};
use anyhow::{Result, ensure};
use sandbox::End;
use schema::host::{Level, Log, Purpose};
use schema::lane::Carrier;
use std::os::fd::AsFd;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// The group.
pub static GROUP: Group = Group { letter: 'F', name: "device behaviour and availability", attempts: ATTEMPTS };

/// What an attacker answers.
const GARBAGE: u64 = 0xdead_beef_cafe_babe;
/// So many are far more than anybody would take for honest.
const MANY: u64 = 1000;
/// How a host ends that does not want to serve.
const QUIT: i32 = 7;

const ATTEMPTS: &[Attempt] = &[
    Attempt {
        id: "F1",
        no: "91",
        attempt: "ring for interrupts without end",
        guards: &[Guard::Check("a ring is a hint, however often")],
        seen_by: "the guest goes on; honest devices answer",
        device: REGISTERS,
        act: |host| {
            loop {
                lane::serve(host);
                for _ in 0..100 {
                    lane::ring(host.descriptor(Purpose::Irq), 1)?;
                }
            }
        },
        judge: Judge::Own(|ground, attempt, removed| {
            // Who takes each ring for an interrupt is kept busy for good.
            beside(ground, attempt, removed, Fate::Endured, |cell| {
                let mut rings = 0;
                soon(|| {
                    rings += cell.irq().drain().unwrap_or(0);
                    Ok(rings > MANY)
                })
            })
        }),
    },
    Attempt {
        id: "F2",
        no: "92",
        attempt: "raise interrupts that are not its own",
        guards: &[Guard::Check("levels of declared lines alone")],
        seen_by: "the VMM's count of each honest device's interrupts",
        device: REGISTERS,
        act: |host| {
            for round in 0u64.. {
                let levels = if round % 2 == 0 { u32::MAX } else { 0 };
                let sequence = lane::asked(host);
                lane::answer(host, sequence, 0, levels, u64::MAX);
                lane::commit(host, sequence, round);
                lane::ring_all(host);
            }
            Ok(())
        },
        judge: Judge::Own(foreign_interrupts),
    },
    Attempt {
        id: "F3",
        no: "94",
        attempt: "answer so late that the answer is taken for that to the next question",
        guards: &[Guard::Check("an answer names its question")],
        seen_by: "its state at the supervisor; the value that the guest loads",
        device: REGISTERS,
        act: |host| {
            // No clock is left; a second question comes only after whoever waits for the first has given up.
            while lane::asked(host) < 2 {
                std::hint::spin_loop();
            }
            lane::answer(host, 1, GARBAGE, 0, u64::MAX);
            lane::commit(host, 1, 1);
            lane::ring_all(host);
            Ok(())
        },
        judge: Judge::Own(|ground, attempt, removed| {
            beside(ground, attempt, removed, Fate::GivenUp(LATE), |cell| {
                let (request, state) = (cell.request()?, cell.map_state()?);
                lane::ask(&request, 1);
                std::thread::sleep(Duration::from_millis(20));
                ensure!(lane::committed(&state) == 0, "it has answered at once");
                lane::ask(&request, 2);
                // The first commit that comes is taken for the answer to the last question.
                soon(|| Ok(lane::committed(&state) != 0 && lane::value(&state) == GARBAGE))
            })
        }),
    },
    Attempt {
        id: "F4",
        no: "95",
        attempt: "answer more than was asked for",
        guards: &[Guard::Check("an answer is cut to the width of its question")],
        seen_by: "the value that the guest loads",
        device: REGISTERS,
        act: |host| {
            for round in 0u64.. {
                let sequence = lane::asked(host);
                lane::answer(host, sequence, GARBAGE, 0, u64::MAX);
                lane::commit(host, sequence, round);
                if sequence > 0 {
                    lane::ring_all(host);
                }
            }
            Ok(())
        },
        judge: Judge::Own(garbage),
    },
    Attempt {
        id: "F5",
        no: "97",
        attempt: "die at every start",
        guards: &[Guard::Check("who dies is given up, and shown")],
        seen_by: "its state at the supervisor",
        device: REGISTERS,
        act: |_| leave(QUIT),
        judge: Judge::Own(|ground, attempt, removed| {
            if removed.is_empty() {
                return beside(ground, attempt, removed, Fate::GivenUp(DEAD), |_| Ok(fooled(false)));
            }
            // Who starts it again each time does so for ever.
            let mut deaths = 0;
            for _ in 0..5 {
                let mut cell = alone(ground, attempt, removed, Carrier::Memory)?;
                cell.wake().signal(1)?;
                deaths += u32::from(cell.wait_for_end(PATIENCE) == Some(End::Exited(QUIT)));
            }
            Ok(fooled(deaths == 5))
        }),
    },
    Attempt {
        id: "F6",
        no: "98",
        attempt: "look healthy, and do nothing",
        guards: &[Guard::Check("health is that accesses are answered")],
        seen_by: "its state at the supervisor",
        device: REGISTERS,
        act: |_| {
            let log = messages::log(b"all is well");
            loop {
                messages::send(&log)?;
                for _ in 0..1_000_000 {
                    std::hint::spin_loop();
                }
            }
        },
        judge: Judge::Own(|ground, attempt, removed| {
            beside(ground, attempt, removed, Fate::GivenUp(LATE), |cell| {
                // A sign of life is taken for health.
                let packet = cell.channel().receive(Some(PATIENCE))?;
                let said = packet.map(|packet| packet.decode::<Log>()).transpose()?;
                Ok(fooled(said.is_some_and(|(log, _)| log.text == "all is well")))
            })
        }),
    },
    Attempt {
        id: "F7",
        no: "100",
        attempt: "leave a state behind that leads its successor astray",
        guards: &[Guard::Check("a state that is found is parsed")],
        seen_by: "the successor's answer, and that it lives",
        device: REGISTERS,
        act: |host| {
            lane::fill_headers(host, || u64::MAX);
            for offset in (512..1024).step_by(8) {
                host.word(offset).store(u64::MAX / 3, Ordering::Relaxed);
            }
            lane::answer(host, 0, GARBAGE, u32::MAX, 0);
            lane::commit(host, 0, u64::MAX);
            Ok(())
        },
        judge: Judge::Own(succeed),
    },
    Attempt {
        id: "F8",
        no: "55",
        attempt: "never answer the guest",
        guards: &[Guard::Check("nobody waits without a deadline")],
        seen_by: "its state at the supervisor; the guest goes on",
        device: REGISTERS,
        act: |_| Ok(()),
        judge: Judge::Own(|ground, attempt, removed| {
            beside(ground, attempt, removed, Fate::GivenUp(LATE), |cell| reader("answer", cell.reply()?))
        }),
    },
    Attempt {
        id: "F9",
        no: "65",
        attempt: "say that it has done what nobody asked",
        guards: &[Guard::Check("a sequence is one that was issued")],
        seen_by: "its state at the supervisor",
        device: REGISTERS,
        act: |host| {
            loop {
                host.word(0).store(0x1234_5678 << 32 | 1, Ordering::SeqCst);
                lane::ring_all(host);
            }
        },
        judge: Judge::Own(|ground, attempt, removed| {
            beside(ground, attempt, removed, Fate::GivenUp("broke the lane's rules"), |cell| {
                let state = cell.map_state()?;
                // Nothing was asked; whoever counts upwards from there finds every question answered beforehand.
                soon(|| Ok(lane::committed(&state) > 1))
            })
        }),
    },
    Attempt {
        id: "F10",
        no: "91",
        attempt: "be due at once, for ever",
        guards: &[Guard::Check("one alarm is under way at a time")],
        seen_by: "the guest goes on; honest devices answer",
        device: REGISTERS,
        act: |host| {
            for round in 0u64.. {
                let sequence = lane::asked(host);
                lane::answer(host, sequence, 0, 0, 0);
                lane::commit(host, sequence, round);
                lane::ring_all(host);
            }
            Ok(())
        },
        judge: Judge::Own(|ground, attempt, removed| {
            beside(ground, attempt, removed, Fate::Either, |cell| {
                let state = cell.map_state()?;
                let mut alarms = 0;
                // Each look finds it due, as the last one did.
                soon(|| {
                    while lane::committed(&state) == 0 && lane::deadline(&state) == 0 && alarms <= MANY {
                        alarms += 1;
                    }
                    Ok(alarms > MANY)
                })
            })
        }),
    },
    Attempt {
        id: "F11",
        no: "67",
        attempt: "as a guest: a chain of buffers that never ends, outside of memory",
        guards: &[Guard::Check("a chain is as long as its ring, and within memory")],
        seen_by: "the state of the honest device's host; honest devices answer",
        device: REGISTERS,
        act: |_| Ok(()),
        judge: Judge::Own(endless_chain),
    },
    Attempt {
        id: "F12",
        no: "43",
        attempt: "fill its wake, so that who rings it waits",
        guards: &[FILTER, Guard::Check("looks for room before it rings")],
        seen_by: "its state at the supervisor; a reader that waits for ever",
        device: REGISTERS,
        act: |host| {
            lane::serve(host);
            lane::ring(host.descriptor(Purpose::Wake), u64::MAX - 1)?;
            // It says that it sleeps again, so the next question rings it.
            host.word(lane::GENERATION).fetch_add(2, Ordering::SeqCst);
            // Whoever sleeps on its wake would make room.
            // SAFETY: no memory is passed.
            check(unsafe { libc::pause() }).map(drop)
        },
        judge: Judge::Own(|ground, attempt, removed| {
            let fate = if removed.is_empty() { Fate::GivenUp("killed") } else { Fate::GivenUp("stuffed full") };
            beside(ground, attempt, removed, fate, |cell| reader("ring", cell.wake()))
        }),
    },
];

fn foreign_interrupts(ground: &Ground<'_>, attempt: &Attempt, removed: &[Guard]) -> Result<Outcome> {
    if !removed.is_empty() {
        return beside(ground, attempt, removed, Fate::Either, |cell| {
            let state = cell.map_state()?;
            lane::ask(&cell.request()?, 1);
            // It has no line at all; who takes its levels as they are raises thirty-two.
            soon(|| Ok(lane::levels(&state) == u32::MAX))
        });
    }
    let mut machine = Machine::start(ground, Vec::new())?;
    let quiet = interrupts(&mut machine)?;
    drop(machine);
    let outcome = beside(ground, attempt, removed, Fate::Either, |_| Ok(fooled(false)))?;
    ensure!(quiet.iter().all(|count| *count == 0), "honest devices interrupt although nobody asked them to");
    Ok(outcome)
}

fn interrupts(machine: &mut Machine) -> Result<Vec<u64>> {
    Ok(machine.vm.counters()?.devices.iter().map(|device| device.interrupts).collect())
}

fn garbage(ground: &Ground<'_>, attempt: &Attempt, removed: &[Guard]) -> Result<Outcome> {
    if !removed.is_empty() {
        return beside(ground, attempt, removed, Fate::Either, |cell| {
            let state = cell.map_state()?;
            lane::ask(&cell.request()?, 1);
            // One byte was asked for; who takes what is there takes eight.
            soon(|| Ok(lane::value(&state) == GARBAGE))
        });
    }
    let mut machine = Machine::start(ground, vec![device(ground, attempt, removed, Carrier::Memory)])?;
    let mut largest = [0; 3];
    for _ in 0..100 {
        for (at, width) in [1, 2, 4].into_iter().enumerate() {
            largest[at] = largest[at].max(machine.touch(PORT, width)?);
        }
    }
    machine.is_well(ground)?;
    machine.others_are_clean(attempt.device)?;
    let [one, two, four] = largest;
    let fits = one <= 0xff && two <= 0xffff && four <= 0xffff_ffff;
    Ok(if fits { Outcome::Stopped(format!("a byte is {one:#x} at most")) } else { Outcome::Succeeded })
}

fn succeed(ground: &Ground<'_>, attempt: &Attempt, removed: &[Guard]) -> Result<Outcome> {
    let mut cell = alone(ground, attempt, removed, Carrier::Memory)?;
    cell.wake().signal(1)?;
    let state = cell.map_state()?;
    let until = Instant::now() + PATIENCE;
    while lane::deadline(&state) != 0 || word(&state, 512).load(Ordering::SeqCst) == 0 {
        ensure!(Instant::now() < until, "it has left nothing");
        std::thread::sleep(Duration::from_millis(1));
    }
    std::thread::sleep(Duration::from_millis(5));
    if !removed.is_empty() {
        return reader("state", cell.state().as_fd());
    }
    let mut honest = ground.device(attempt.device, Vec::new());
    honest.level = Level::Seccomp;
    cell.succeed(&honest, &BuiltIn)?;
    let before = lane::committed(&state);
    lane::ask(&cell.request()?, before.wrapping_add(1));
    cell.wake().signal(1)?;
    let until = Instant::now() + PATIENCE;
    while lane::committed(&state) == before {
        if Instant::now() > until || cell.wait_for_end(Duration::ZERO).is_some() {
            return Ok(Outcome::Succeeded);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(if lane::value(&state) == GARBAGE { Outcome::Succeeded } else { Outcome::Stopped("began anew".to_owned()) })
}

fn endless_chain(ground: &Ground<'_>, _: &Attempt, removed: &[Guard]) -> Result<Outcome> {
    const NEXT: u16 = 1;
    const DEVICE_WRITES: u16 = 2;
    if !removed.is_empty() {
        // Two descriptors that follow each other, walked as they say.
        let next = [1usize, 0];
        let (mut at, mut steps) = (0, 0u64);
        while next[at] < next.len() && steps <= 1_000_000 {
            at = next[at];
            steps += 1;
        }
        return Ok(fooled(steps > 1_000_000));
    }
    let mut machine = Machine::start(ground, Vec::new())?;
    {
        let mut script = machine.script(ground)?;
        let bar = script.start_virtio(0x1044_1af4)?;
        for (index, address, next) in [(0, BUFFERS, 1), (1, 0xffff_ffff_0000, 2), (2, u64::MAX - 15, 1)] {
            script.describe(index, address, u32::MAX, NEXT | DEVICE_WRITES, next);
        }
        script.memory.write(RING + 0x1004, &[0, 0]);
        script.memory.write(RING + 0x1002, &1u16.to_le_bytes());
        script.store(bar + 0x3000, 2, 0)?;
        // And an index far ahead, for good measure.
        script.memory.write(RING + 0x1002, &0x8000u16.to_le_bytes());
        script.store(bar + 0x3000, 2, 0)?;
    }
    machine.go_on(ground, Duration::from_millis(100))?;
    let state = machine.state_of("virtio-entropy");
    machine.is_well(ground)?;
    machine.others_are_clean("virtio-entropy")?;
    Ok(if state == "running" { Outcome::Stopped("the device's host goes on".to_owned()) } else { Outcome::Succeeded })
}
