//! How much a call allocates at once.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// Runs `call`, and also returns the size of its largest allocation on this thread.
pub(crate) fn largest<T>(call: impl FnOnce() -> T) -> (T, usize) {
    LARGEST.set(0);
    let result = call();
    (result, LARGEST.get())
}

thread_local! {
    static LARGEST: Cell<usize> = const { Cell::new(0) };
}

struct Measured;

#[global_allocator]
static MEASURED: Measured = Measured;

// SAFETY: it is the system's allocator; the `Cell` in between neither allocates nor unwinds.
unsafe impl GlobalAlloc for Measured {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LARGEST.set(LARGEST.get().max(layout.size()));
        // SAFETY: the caller keeps what `alloc` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        LARGEST.set(LARGEST.get().max(size));
        // SAFETY: the caller keeps what `realloc` asks for, and `at` came from `System`.
        unsafe { System.realloc(at, layout, size) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps what `dealloc` asks for, and `at` came from `System`.
        unsafe { System.dealloc(at, layout) }
    }
}
