//! Where glibc keeps the owner of a lock. It is no interface: tested at start on locks of our own.

use super::memory::{self, Reader};

/// What the self-test found to hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    pub mutex: bool,
    pub rwlock: bool,
}

/// Bytes from the futex words of a `pthread_rwlock_t` to its start: `__wrphase_futex`, `__writers_futex`
/// (sysdeps/nptl/bits/struct_rwlock.h).
const WRITE_PHASE: u64 = 8;
const WRITERS: u64 = 12;
/// `PTHREAD_RWLOCK_WRPHASE | PTHREAD_RWLOCK_WRLOCKED`: a writer has it.
const WRITER_HAS_IT: u32 = 3;
/// `__kind`: process-shared, elision on and off, priority ceiling kept out (nptl/pthreadP.h).
const PROCESS_SHARED: u32 = 0x80;
const ELISION: u32 = 0x300;
/// Below the upper half of a pointer into a stack: a lock of stdio has one there (`_IO_lock_t`).
const USERS_MAX: u32 = 0x5000;

/// Thread id of the owner of a `pthread_mutex_t` at `address`, if it looks like one.
pub(crate) fn mutex_owner(read: Reader<'_>, address: u64, is_private: bool) -> Option<u32> {
    let [_lock, _count, owner, users, kind] = memory::words(read, address)?;
    let is_mutex = owner != 0
        && owner < 1 << 22
        && (1..USERS_MAX).contains(&users)
        && kind & !(PROCESS_SHARED | ELISION) < 4
        && (kind & PROCESS_SHARED == 0) == is_private;
    is_mutex.then_some(owner)
}

/// Thread id of the writer that holds the `pthread_rwlock_t` whose futex word is at `address`, and the lock's
/// own address.
pub(crate) fn rwlock_writer(read: Reader<'_>, address: u64) -> Option<(u32, u64)> {
    [WRITE_PHASE, WRITERS].into_iter().find_map(|distance| {
        let lock = address.checked_sub(distance)?;
        let [readers, _, _, _, _, _, writer] = memory::words(read, lock)?;
        let is_held = readers & WRITER_HAS_IT == WRITER_HAS_IT && writer != 0 && writer < 1 << 22;
        is_held.then_some((writer, lock))
    })
}

/// Takes a mutex and a rwlock of our own and looks for our thread id in them.
#[cfg(target_env = "gnu")]
pub(crate) fn self_test() -> Layout {
    // In a thread of its own: its id differs from the process's, as in real victims.
    std::thread::spawn(test_here).join().unwrap_or_default()
}

/// A healer with another C library has no such lock to test. Each lock is still looked at by itself, and proves
/// something only if its owner is a living thread of the waiter's process.
#[cfg(not(target_env = "gnu"))]
pub(crate) fn self_test() -> Layout {
    Layout { mutex: true, rwlock: true }
}

#[cfg(target_env = "gnu")]
fn test_here() -> Layout {
    use std::mem::MaybeUninit;

    let me = rustix::thread::gettid().as_raw_nonzero().get() as u32;
    let read = memory::reader(std::process::id());
    let mut mutex = MaybeUninit::<libc::pthread_mutex_t>::zeroed();
    let mut rwlock = MaybeUninit::<libc::pthread_rwlock_t>::zeroed();
    let (mutex, rwlock) = (mutex.as_mut_ptr(), rwlock.as_mut_ptr());
    // SAFETY: initialised before use, unlocked and destroyed after it, and known to nobody else.
    unsafe {
        libc::pthread_mutex_init(mutex, std::ptr::null());
        libc::pthread_mutex_lock(mutex);
        let has_mutex = mutex_owner(&read, mutex as u64, true) == Some(me);
        libc::pthread_mutex_unlock(mutex);
        libc::pthread_mutex_destroy(mutex);
        libc::pthread_rwlock_init(rwlock, std::ptr::null());
        libc::pthread_rwlock_wrlock(rwlock);
        let at = rwlock as u64;
        let has_rwlock = rwlock_writer(&read, at + WRITERS) == Some((me, at));
        libc::pthread_rwlock_unlock(rwlock);
        libc::pthread_rwlock_destroy(rwlock);
        Layout { mutex: has_mutex, rwlock: has_rwlock }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_env = "gnu")]
    #[test]
    fn our_own_locks_are_understood() {
        assert_eq!(self_test(), Layout { mutex: true, rwlock: true });
    }

    #[test]
    fn what_is_no_mutex_has_no_owner() {
        let with = |words: [u32; 5]| {
            move |_: u64, buffer: &mut [u8]| {
                let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
                buffer.copy_from_slice(&bytes[..buffer.len()]);
                true
            }
        };
        assert_eq!(mutex_owner(&with([2, 0, 77, 1, 0]), 0x1000, true), Some(77));
        assert_eq!(mutex_owner(&with([2, 0, 77, 1, 0x80]), 0x1000, true), None, "shared, but a private wait");
        assert_eq!(mutex_owner(&with([2, 0, 0x1234_5678, 1, 0]), 0x1000, true), None, "user data");
        assert_eq!(mutex_owner(&with([2, 0, 77, 0, 0]), 0x1000, true), None, "no user");
        assert_eq!(mutex_owner(&with([2, 1, 0x20_06c0, 0x7f12, 0]), 0x1000, true), None, "a lock of stdio");
    }
}
