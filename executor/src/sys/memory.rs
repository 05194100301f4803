//! Calls that concern this process's memory.

/// Has all threads of this process allocate from one heap, where the C library would give each its own.
///
/// Heaps of threads grow apart and keep what was freed in them: over a tree of many files they hold a quarter of all memory.
pub fn share_one_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it sets a number of the allocator, under the allocator's own lock.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}
