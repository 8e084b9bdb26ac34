//! The memory that the allocator keeps.

/// Gives memory that nobody uses back to the system at once. mimalloc keeps freed memory for a second (its option
/// `purge_delay`), so what is allocated in that second would count on top of it. Costs about a millisecond: for the end of
/// work that took many megabytes.
#[expect(unsafe_code, reason = "a call of C without arguments that point anywhere")]
pub fn return_free_memory() {
    // SAFETY: mi_collect may be called at any time by any thread (mimalloc's documentation, "Extended Functions").
    unsafe { libmimalloc_sys::mi_collect(true) }
}
