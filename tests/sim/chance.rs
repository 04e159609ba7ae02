//! The randomness that std and tokio take from the system behind everybody's back.
//!
//! The order in which tokio wakes those who wait for a `watch`, and the branch at which an unbiased `select!` begins, are drawn from a generator that is seeded by std's `RandomState` and
//! a counter of runtimes in the process. `RandomState` asks the C library; here it asks this. So in a process that makes one runtime, both are always the same.

/// Fills `buffer` with bytes that are the same in every process.
///
/// # Safety
/// As in the C library: `buffer` has `len` bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn getrandom(buffer: *mut u8, len: usize, _flags: u32) -> isize {
    // SAFETY: the caller says so.
    let bytes = unsafe { std::slice::from_raw_parts_mut(buffer, len) };
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = (at as u8).wrapping_mul(167).wrapping_add(13);
    }
    len as isize
}
