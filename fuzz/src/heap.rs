//! Counts what this thread asks of the heap: a device asks nothing once it is attached.

// An allocator is unsafe to be.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

#[global_allocator]
static HEAP: Counted = Counted;

thread_local! {
    static USES: Cell<u64> = const { Cell::new(0) };
}

/// How often this thread has asked.
pub fn uses() -> u64 {
    USES.with(Cell::get)
}

struct Counted;

fn count() {
    USES.with(|uses| uses.set(uses.get() + 1));
}

// SAFETY: all of it is the system's allocator's.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        count();
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(memory, layout) }
    }
    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as the caller promises.
        unsafe { System.realloc(memory, layout, size) }
    }
}
