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
const KIND: u32 = 3;
/// `PTHREAD_MUTEX_RECURSIVE_NP`.
const RECURSIVE: u32 = 1;
/// The most of `PTHREAD_RWLOCK_PREFER_*` (sysdeps/nptl/pthread.h).
const PREFERENCE_MAX: u32 = 2;
/// Below the upper half of a pointer into a stack: a lock of stdio has one there (`_IO_lock_t`).
const USERS_MAX: u32 = 0x5000;

/// Thread id of the owner of a `pthread_mutex_t` at `address`, if it looks like one.
pub(crate) fn mutex_owner(read: Reader<'_>, address: u64, is_private: bool) -> Option<u32> {
    let [_lock, count, owner, users, kind, _spins, links @ ..]: [u32; 10] = memory::words(read, address)?;
    // Only robust and PI mutexes are linked, whose owner the kernel's word tells.
    let is_mutex = owner != 0
        && (count == 0 || kind & KIND == RECURSIVE)
        && links == [0; 4]
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
        let words: [u32; 13] = memory::words(read, lock)?;
        let [readers, _, _, _, pad3, pad4, writer, shared, padding @ .., preference] = words;
        let is_held = readers & WRITER_HAS_IT == WRITER_HAS_IT && writer != 0 && writer < 1 << 22;
        // Words of a runtime's own that look like these have something behind them.
        let is_rwlock = [pad3, pad4, shared] == [0; 3] && padding == [0; 4] && preference <= PREFERENCE_MAX;
        (is_held && is_rwlock).then_some((writer, lock))
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
                let words = words.iter().chain(&[0; 5]);
                let bytes: Vec<u8> = words.flat_map(|word| word.to_ne_bytes()).collect();
                buffer.copy_from_slice(&bytes[..buffer.len()]);
                true
            }
        };
        assert_eq!(mutex_owner(&with([2, 0, 77, 1, 0]), 0x1000, true), Some(77));
        assert_eq!(mutex_owner(&with([2, 0, 77, 1, 0x80]), 0x1000, true), None, "shared, but a private wait");
        assert_eq!(mutex_owner(&with([2, 0, 0x1234_5678, 1, 0]), 0x1000, true), None, "user data");
        assert_eq!(mutex_owner(&with([2, 0, 77, 0, 0]), 0x1000, true), None, "no user");
        assert_eq!(mutex_owner(&with([2, 1, 0x20_06c0, 0x7f12, 0]), 0x1000, true), None, "a lock of stdio");
        assert_eq!(mutex_owner(&with([2, 3, 77, 1, 0]), 0x1000, true), None, "a state of 2 before numbers");
        assert_eq!(mutex_owner(&with([2, 3, 77, 1, RECURSIVE]), 0x1000, true), Some(77));
    }

    #[test]
    fn a_condition_of_rust_behind_a_three_is_no_rwlock() {
        let held = [3, 1, 1, 3, 0, 0, 77, 0, 0, 0, 0, 0, 0];
        let writer = |words: [u32; 13]| {
            let read = move |_: u64, buffer: &mut [u8]| {
                let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
                buffer.copy_from_slice(&bytes[..buffer.len()]);
                true
            };
            rwlock_writer(&read, 0x1008).map(|(writer, _)| writer)
        };
        assert_eq!(writer(held), Some(77));
        for at in [4, 5, 7, 9, 11, 12] {
            let mut other = held;
            other[at] = 0x55;
            assert_eq!(writer(other), None, "word {at}");
        }
    }
}
