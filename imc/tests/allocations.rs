//! Neither side of a call or an access allocates anything, once channel or lane have been used.
#![allow(unsafe_code)] // A global allocator.

#[path = "allocations/lanes.rs"]
mod lanes;

use imc::{CallId, Capability, Channel, Descriptors, ReadWrite, Region, Wake};
use schema::Body;
use schema::host::Hello;
use schema::sample::Share;
use schema::vmm::Button;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::os::fd::AsFd;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(5);

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

/// Calls that are made before any is counted: the first ones find the memory that the rest use again.
const WARM: usize = 3;
const COUNTED: usize = 100;

/// Allocations of `act` once it is warm.
fn counted(mut act: impl FnMut()) -> usize {
    (0..WARM).for_each(|_| act());
    let before = ALLOCATIONS.get();
    (0..COUNTED).for_each(|_| act());
    ALLOCATIONS.get() - before
}

fn next<B: Body>(channel: &mut Channel) -> (CallId, B, Descriptors) {
    let packet = channel.receive(None).unwrap().unwrap();
    let call = packet.call.unwrap();
    let (body, descriptors) = packet.decode::<B>().unwrap();
    (call, body, descriptors)
}

#[test]
fn call_and_its_answer_allocate_nothing_on_either_side() {
    let (mut client, mut server) = Channel::pair().unwrap();
    let serving = std::thread::spawn(move || {
        counted(|| {
            let (call, hello, _) = next::<Hello>(&mut server);
            server.reply(call, &hello, &[]).unwrap();
        })
    });
    let calling = counted(|| {
        let (hello, _) = client.call::<_, Hello>(&Hello { protocol: 1 }, &[], SOON).unwrap();
        assert_eq!(hello.protocol, 1);
    });
    assert_eq!((calling, serving.join().unwrap()), (0, 0));
}

#[test]
fn call_with_capabilities_allocates_nothing_on_either_side() {
    let (mut client, mut server) = Channel::pair().unwrap();
    let serving = std::thread::spawn(move || {
        counted(|| {
            let (call, share, mut with) = next::<Share>(&mut server);
            let memory: Region<ReadWrite> = with.take_as(&share.memory).unwrap();
            let bell: Wake = with.take_as(&share.bell).unwrap();
            bell.signal(1).unwrap();
            // And back: a reply may carry capabilities as well.
            let back = Share { memory: memory.handle(1), bell: bell.handle(0) };
            server.reply(call, &back, &[bell.as_fd(), memory.as_fd()]).unwrap();
        })
    });
    let (memory, bell) = (Region::create("test", 4096).unwrap(), Wake::create().unwrap());
    let share = Share { memory: memory.handle(0), bell: bell.handle(1) };
    let calling = counted(|| {
        let (back, mut with) = client.call::<_, Share>(&share, &[memory.as_fd(), bell.as_fd()], SOON).unwrap();
        let rung: Wake = with.take_as(&back.bell).unwrap();
        assert_eq!(rung.drain(), Some(1));
    });
    assert_eq!((calling, serving.join().unwrap()), (0, 0));
}

#[test]
fn event_allocates_nothing_on_either_side() {
    let (mut sender, mut receiver) = Channel::pair().unwrap();
    let allocations = counted(|| {
        sender.tell(&Button, &[]).unwrap();
        receiver.receive(None).unwrap().unwrap().decode::<Button>().unwrap();
    });
    assert_eq!(allocations, 0);
}

#[test]
fn telling_by_write_allocates_nothing() {
    let (host, _supervisor) = Channel::pair().unwrap();
    let log = schema::host::Log { severity: schema::host::Severity::Info, text: "sealed".into() };
    let before = ALLOCATIONS.get();
    host.tell_by_write(&log).unwrap();
    assert_eq!(ALLOCATIONS.get() - before, 0);
}
