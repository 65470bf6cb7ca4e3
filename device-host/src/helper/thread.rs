//! A helper that is a thread of its host: the proposal's literal form, kept to compare with. It is no boundary: the two share
//! an address space, where one store of the host's undoes any check of the helper's.
#![allow(unsafe_code)] // The end of a process by its number.

use super::Work;
use crate::run::FAILED;
use sandbox::{Recipe, seal_thread};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Starts the helper, and waits until it is sealed: until it has a descriptor table of its own.
///
/// When the host's thread ends, the helper's goes on. But the channel was in the host's table alone, so the supervisor sees
/// it closed, and ends the process.
pub(crate) fn start(mut work: Work, recipe: &Recipe) -> Result<(), String> {
    let is_sealed = Arc::new(AtomicBool::new(false));
    let (recipe, told) = (recipe.clone(), is_sealed.clone());
    let body = move || {
        let sealed = seal_thread(&recipe, &work.held()).map_err(|error| error.to_string())?;
        // Nobody can be woken from here on: a sealed thread has no call for it.
        told.store(true, Ordering::Release);
        let Err(_) = work.go_on(&sealed);
        // Its table has no channel to say why.
        // SAFETY: ends the process, and passes no memory.
        unsafe { libc::syscall(libc::SYS_exit_group, FAILED) };
        unreachable!("exit_group does not return")
    };
    let started = std::thread::Builder::new().name("helper".into()).spawn(body);
    let thread = started.map_err(|error| format!("the helper's thread: {error}"))?;
    while !is_sealed.load(Ordering::Acquire) {
        if thread.is_finished() {
            return thread.join().unwrap_or_else(|_| Err("the helper's thread panicked".into()));
        }
        std::thread::yield_now();
    }
    // Never joined: it ends with the process.
    std::mem::forget(thread);
    Ok(())
}
