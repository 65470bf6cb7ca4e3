//! A call without descriptors allocates nothing on the caller's side, once the channel exists.
#![allow(unsafe_code)] // A global allocator.

use imc::Channel;
use schema::host::{Empty, Hello};
use schema::vmm::Button;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Duration;

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: all is handed on to the system's allocator; a const thread-local of a `Cell` allocates nothing itself.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

#[test]
fn calls_allocate_nothing() {
    let (mut supervisor, mut host) = Channel::pair().unwrap();
    let host = std::thread::spawn(move || {
        while let Ok(Some(packet)) = host.receive(None) {
            if let Some(call) = packet.call {
                host.reply(call, &Empty, &[]).unwrap();
            }
        }
    });
    let mut call = || {
        supervisor.tell(&Button, &[]).unwrap();
        supervisor.call::<_, Empty>(&Hello { protocol: 1 }, &[], Duration::from_secs(5)).unwrap();
    };
    call();
    let before = ALLOCATIONS.get();
    for _ in 0..100 {
        call();
    }
    assert_eq!(ALLOCATIONS.get() - before, 0);
    drop(supervisor);
    host.join().unwrap();
}

#[test]
fn telling_by_write_allocates_nothing() {
    let (host, _supervisor) = Channel::pair().unwrap();
    let log = schema::host::Log { severity: schema::host::Severity::Info, text: "sealed".into() };
    let before = ALLOCATIONS.get();
    host.tell_by_write(&log).unwrap();
    assert_eq!(ALLOCATIONS.get() - before, 0);
}
