//! Group D: memory that it shares with others.

#![allow(unsafe_code)] // The attacker's calls and stores.

use super::arena::{Fate, beside, beside_over, reader, soon};
use super::attempt::{Attempt, Done, FILTER, Group, Guard, Judge, Outcome, Trial};
use super::ground::{Ground, Machine, REGISTERS};
use super::hostile::{Host, check, word};
use super::kernel::maps;
use super::lane;
use crate::run::demo::script::{BUFFERS, RING};
use anyhow::Result;
use nix::sys::memfd::{MFdFlags, memfd_create};
use sandbox::{LayerName, Resource};
use schema::host::Purpose;
use schema::lane::Carrier;
use std::fs::File;
use std::os::fd::{AsFd, RawFd};
use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering;
use vmm::supervisor::Cell;

/// The group.
pub static GROUP: Group = Group { letter: 'D', name: "shared memory", attempts: ATTEMPTS };

/// A device that has guest memory.
const HAS_MEMORY: &str = "virtio-entropy";
/// Bytes of the regions that attackers are given.
const BYTES: u64 = 8192;
/// What stands in them.
const PATTERN: [u8; 16] = *b"0123456789abcdef";

const ATTEMPTS: &[Attempt] = &[
    Attempt {
        id: "D1",
        no: "58",
        attempt: "shrink memory under its other holders",
        guards: &[FILTER, Guard::Grants, Guard::Seals],
        seen_by: "wait status; the memory's size",
        device: REGISTERS,
        act: |host| resize(host, 0),
        judge: Judge::Cell(|_| size_changes(|size| size == 0)),
    },
    Attempt {
        id: "D2",
        no: "59",
        attempt: "grow memory on its supervisor's account",
        guards: &[FILTER, Guard::Grants, Guard::Limit(Resource::FileBytes), Guard::Seals],
        seen_by: "wait status; the memory's size",
        device: REGISTERS,
        act: |host| resize(host, 1 << 30),
        judge: Judge::Cell(|_| size_changes(|size| size == 1 << 30)),
    },
    Attempt {
        id: "D3",
        no: "61",
        attempt: "punch holes into memory that it may only read",
        guards: &[FILTER, Guard::Grants, Guard::ReadOnly],
        seen_by: "wait status; the memory's content",
        device: REGISTERS,
        act: punch,
        judge: Judge::Cell(|_| content_changes()),
    },
    Attempt {
        id: "D4",
        no: "62",
        attempt: "execute guest memory",
        guards: &[FILTER, Guard::Layer(LayerName::Mdwe)],
        seen_by: "wait status; its memory in /proc",
        device: HAS_MEMORY,
        act: |host| {
            let Some(memory) = host.region(Purpose::Memory) else { return Err(libc::ENOENT) };
            // SAFETY: changes the protection of a page of guest memory, to which no reference exists.
            check(unsafe { libc::mprotect(memory.as_ptr().cast(), 4096, libc::PROT_READ | libc::PROT_EXEC) }).map(drop)
        },
        judge: Judge::Cell(|_| {
            Ok(Trial::new(|cell, _| {
                Ok(maps(cell.pid()).lines().any(|line| line.contains(" r-xs ") && line.contains("cofferdam:ram")))
            }))
        }),
    },
    Attempt {
        id: "D5",
        no: "64",
        attempt: "change a length between its check and its use",
        guards: &[Guard::Check("what is read is copied once, and the copy checked")],
        seen_by: "honest devices answer; a reader that is caught in between",
        device: REGISTERS,
        act: flicker,
        judge: Judge::Own(|ground, attempt, removed| {
            beside(ground, attempt, removed, Fate::Either, |cell| reader("length-twice", cell.state().as_fd()))
        }),
    },
    Attempt {
        id: "D6",
        no: "65",
        attempt: "claim that a ring has far more than it can hold",
        guards: &[Guard::Check("a ring holds no more than its size")],
        seen_by: "honest devices answer; how much the relay takes",
        device: "uart16550",
        act: wild_indices,
        judge: Judge::Own(|ground, attempt, removed| {
            beside(ground, attempt, removed, Fate::Either, |cell| {
                let stream = cell.stream()?;
                // Bytes up to the index that it finds, one after the other.
                soon(|| {
                    let heads = (0..256).step_by(64).map(|at| word(&stream, at).load(Ordering::SeqCst) as u32);
                    Ok(heads.into_iter().max().unwrap_or(0) as usize > 16 * imc::RING_BYTES)
                })
            })
        }),
    },
    Attempt {
        id: "D7",
        no: "67",
        attempt: "give buffers back that it was never given",
        guards: &[Guard::Check("a used entry is one that was made available")],
        seen_by: "its state at the supervisor; the wait status of a reader",
        device: REGISTERS,
        act: |host| {
            let Some(answers) = host.region(Purpose::AnswerRegion) else { return Err(libc::ENOENT) };
            loop {
                for at in (0..1024).step_by(8) {
                    word(answers, at).store(u64::MAX, Ordering::SeqCst);
                }
                lane::ring_all(host);
            }
        },
        judge: Judge::Own(|ground, attempt, removed| {
            let fate = Fate::GivenUp("broke the lane's rules");
            beside_over(Carrier::Virtio, ground, attempt, removed, fate, |cell| reader("used-ring", cell.answers()?))
        }),
    },
    Attempt {
        id: "D8",
        no: "68",
        attempt: "write the memory of a guest that it was not granted",
        guards: &[FILTER, Guard::Grants],
        seen_by: "wait status; the memory's content",
        device: REGISTERS,
        act: write_foreign,
        judge: Judge::Cell(|_| {
            let (memory, gift) = region(false)?;
            Ok(Trial::new(move |_, _| Ok(content(&memory)? != PATTERN)).give(Guard::Grants, gift))
        }),
    },
    Attempt {
        id: "D9",
        no: "61",
        attempt: "write memory that it may only read",
        guards: &[FILTER, Guard::ReadOnly],
        seen_by: "wait status; the memory's content",
        device: REGISTERS,
        act: |host| match host.gift {
            Some(gift) => write_mapped(gift),
            None => {
                let Some(request) = host.region(Purpose::Request) else { return Err(libc::ENOENT) };
                // SAFETY: changes the protection of a page to which no reference exists.
                check(unsafe { libc::mprotect(request.as_ptr().cast(), 4096, libc::PROT_READ | libc::PROT_WRITE) })
                    .map(drop)
            }
        },
        judge: Judge::Cell(|_| {
            let (memory, gift) = region(false)?;
            Ok(Trial::new(move |_, _| Ok(content(&memory)? != PATTERN)).give(Guard::ReadOnly, gift))
        }),
    },
    Attempt {
        id: "D10",
        no: "70",
        attempt: "change its registers while they are read",
        guards: &[Guard::Check("a header is read as a whole, or again")],
        seen_by: "honest devices answer; a reader with half of each",
        device: REGISTERS,
        act: flicker,
        judge: Judge::Own(|ground, attempt, removed| {
            beside(ground, attempt, removed, Fate::Either, |cell| {
                let state = cell.map_state()?;
                // An honest host changes both at once; who reads one after the other gets half of each.
                soon(|| {
                    let torn = || {
                        let first = word(&state, FIRST_AND_LAST[0]).load(Ordering::SeqCst);
                        first != word(&state, FIRST_AND_LAST[1]).load(Ordering::SeqCst)
                    };
                    Ok((0..10_000).any(|_| torn()))
                })
            })
        }),
    },
    Attempt {
        id: "D11",
        no: "71",
        attempt: "as a guest: move a queue once it is in use",
        guards: &[Guard::Check("a queue is where it was when it was enabled")],
        seen_by: "the memory to which it was moved; honest devices answer",
        device: REGISTERS,
        act: |_| Ok(()),
        judge: Judge::Own(move_queue),
    },
];

/// Words that an honest host changes together.
const FIRST_AND_LAST: [usize; 2] = [256, 504];

/// Changes every word of its headers as fast as it can, and answers.
fn flicker(host: &Host) -> Done {
    for round in 0u64.. {
        let value = if round % 2 == 0 { 0 } else { u64::MAX };
        lane::fill_headers(host, || value);
        let sequence = lane::asked(host);
        lane::answer(host, sequence, value, 0, lane::NEVER);
        lane::commit(host, sequence, round);
        if round % 64 == 0 {
            lane::ring_all(host);
        }
    }
    Ok(())
}

/// Moves the indices of its stream to and fro.
fn wild_indices(host: &Host) -> Done {
    let Some(stream) = host.region(Purpose::Stream) else { return Err(libc::ENOENT) };
    for round in 0u64.. {
        lane::serve(host);
        for at in (0..256).step_by(64) {
            word(stream, at).store(round.wrapping_mul(0x9e37_79b9_7f4a_7c15), Ordering::SeqCst);
        }
        lane::ring(host.descriptor(Purpose::Bell), 1)?;
    }
    Ok(())
}

fn move_queue(ground: &Ground<'_>, _: &Attempt, removed: &[Guard]) -> Result<Outcome> {
    /// Where the guest moves the queue to, and the device must not write.
    const ELSEWHERE: u64 = 0x30_0000;
    /// Of the common configuration: addresses of descriptors, of the available and of the used ring.
    const ADDRESSES: [u64; 3] = [32, 40, 48];
    const USED_INDEX: usize = 2;
    let mut machine = Machine::start(ground, Vec::new())?;
    {
        let mut script = machine.script(ground)?;
        let bar = script.start_virtio(0x1044_1af4)?;
        for (page, address) in ADDRESSES.into_iter().enumerate() {
            script.store(bar + address, 4, ELSEWHERE + 0x1000 * page as u64)?;
        }
        if removed.is_empty() {
            script.memory.write(BUFFERS, &[0; 16]);
            script.describe(0, BUFFERS, 16, 2, 0);
            // It goes on where it was.
            script.kick(bar)?;
        } else {
            // A device that looks up where its used ring is each time that it has used something.
            let moved = script.load(bar + ADDRESSES[2], 4)?;
            let moved = if moved == RING + 0x2000 { ELSEWHERE + 0x2000 } else { moved };
            script.memory.write(moved + USED_INDEX as u64, &1u16.to_le_bytes());
        }
        let written = script.memory.read::<64>(ELSEWHERE + 0x2000) != [0; 64];
        if written {
            return Ok(Outcome::Succeeded);
        }
    }
    machine.is_well(ground)?;
    machine.others_are_clean("")?;
    Ok(Outcome::Stopped("it goes on where it was".to_owned()))
}

/// Memory with the pattern, for us and for the attacker.
fn region(sealed: bool) -> Result<(File, File)> {
    let memory = File::from(memfd_create(c"cofferdam:state", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?);
    memory.set_len(BYTES)?;
    memory.write_all_at(&PATTERN, 0)?;
    if sealed {
        use nix::fcntl::{FcntlArg, SealFlag, fcntl};
        fcntl(&memory, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL))?;
    }
    let gift = memory.try_clone()?;
    Ok((memory, gift))
}

fn content(memory: &File) -> Result<[u8; 16]> {
    let mut bytes = [0; 16];
    memory.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

fn size_changes(is_so: fn(u64) -> bool) -> Result<Trial> {
    let (memory, gift) = region(false)?;
    let seen = move |cell: &mut Cell, _| {
        let state = File::from(cell.state().as_fd().try_clone_to_owned()?);
        Ok(is_so(state.metadata()?.len()) || is_so(memory.metadata()?.len()))
    };
    Ok(Trial::new(seen).give(Guard::Seals, gift))
}

fn content_changes() -> Result<Trial> {
    let (memory, gift) = region(true)?;
    Ok(Trial::new(move |_, _| Ok(content(&memory)? != PATTERN)).give(Guard::ReadOnly, gift))
}

fn resize(host: &Host, bytes: i64) -> Done {
    let memory = host.gift.unwrap_or(host.descriptor(Purpose::State));
    // SAFETY: no memory is passed.
    check(unsafe { libc::ftruncate(memory, bytes) }).map(drop)
}

fn punch(host: &Host) -> Done {
    let memory = host.gift.unwrap_or(host.descriptor(Purpose::Request));
    let how = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    // SAFETY: no memory is passed.
    check(unsafe { libc::fallocate(memory, how, 0, 4096) }).map(drop)
}

/// Maps a page of memory and writes it.
fn write_mapped(memory: RawFd) -> Done {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping of a page, which is then written.
    unsafe {
        let page = libc::mmap(std::ptr::null_mut(), 4096, protection, libc::MAP_SHARED, memory, 0);
        if page == libc::MAP_FAILED {
            return check(-1).map(drop);
        }
        page.cast::<u64>().write_volatile(u64::MAX);
    }
    Ok(())
}

fn write_foreign(host: &Host) -> Done {
    let mut last = libc::EBADF;
    for memory in host.gift.into_iter().chain(3..64) {
        match write_mapped(memory) {
            Ok(()) => return Ok(()),
            Err(libc::EBADF) => {}
            Err(errno) => last = errno,
        }
    }
    Err(last)
}
