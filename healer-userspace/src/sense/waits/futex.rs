//! What a thread that sleeps in futex(2) waits for, by its arguments and the words at the address.

use healer_common::task_scan::TaskRecord;

use super::{
    glibc::{self, Layout},
    memory::{self, Reader},
};
use crate::signal::{calls::FUTEX, waits::WaitKind};

/// Commands and flags of include/uapi/linux/futex.h.
const WAIT: u32 = 0;
const LOCK_PI: u32 = 6;
const WAIT_BITSET: u32 = 9;
const WAIT_REQUEUE_PI: u32 = 11;
const LOCK_PI2: u32 = 13;
const COMMAND: u32 = 0x7f;
const PRIVATE: u32 = 0x80;
const WAITERS: u32 = 0x8000_0000;
const TID: u32 = 0x3fff_ffff;
/// `FUTEX_OWNER_DIED`: the kernel has already given it to the next waiter.
const OWNER_DIED: u32 = 0x4000_0000;

/// glibc's and Rust's word of a locked mutex with waiters.
pub(super) const CONTENDED: u32 = 2;
/// musl's word of a locked plain mutex: the waiters' bit and `EBUSY`.
const MUSL_CONTENDED: u32 = WAITERS | 16;
/// Rust's `RwLock`: locked for writing, and readers or writers wait. Where both do all bits are set, but so they are in
/// the word of a thread that is parked: nothing is said of that. The state lies just before the word that writers
/// sleep on.
const RUST_READERS_WAIT: u32 = 0x7fff_ffff;
const RUST_WRITERS_WAIT: u32 = 0xbfff_ffff;
/// `parking_lot`: bits of a lock's byte, and how far around a parked thread's word its key may lie.
const PARKING_LOCKED_PARKED: u8 = 3;
const PARKING_REACH: usize = 64;

/// A sleeper in futex(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) address: u64,
    command: u32,
    pub(crate) is_private: bool,
    value: u32,
    is_bounded: bool,
}

impl Call {
    /// `None` if the thread is in another system call, or in one whose arguments are not all known.
    pub(crate) fn of(record: &TaskRecord) -> Option<Self> {
        let operation = record.arg1 as u32;
        (record.syscall == FUTEX).then_some(Self {
            address: record.arg0,
            command: operation & COMMAND,
            is_private: operation & PRIVATE != 0,
            value: record.arg2 as u32,
            is_bounded: record.arg3 != 0,
        })
    }

    /// As the C libraries wait for a mutex of theirs.
    pub(crate) fn is_mutex(&self) -> bool {
        self.command == WAIT && matches!(self.value, CONTENDED | MUSL_CONTENDED)
    }

    /// By a value that hardly anybody else waits at.
    pub(crate) fn is_musl_mutex(&self) -> bool {
        self.command == WAIT && self.value == MUSL_CONTENDED
    }

    /// It sleeps until a lock is free, by the value that it has seen there.
    fn is_contended(&self) -> bool {
        self.command == WAIT_BITSET && matches!(self.value, CONTENDED | 3) || self.is_mutex()
    }
}

/// Whether a thread sleeps on that very word.
pub(super) fn is_futex_on(record: &TaskRecord, address: u64) -> bool {
    record.syscall == FUTEX && record.arg0 == address
}

/// What a look at the words has shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Sight {
    /// It wakes up by itself, or somebody outside the process may wake it.
    Open,
    /// Only a thread of its own process can wake it, whichever.
    Parked { word: Option<u32> },
    /// The same in memory that others may share.
    Shared { word: u32 },
    /// The lock says who holds it: a thread id in the waiter's pid namespace.
    Owned { kind: WaitKind, lock: u64, word: u32, tid: u32, by_kernel: bool },
    /// A lock that does not say who holds it, and the addresses its holder would know it by.
    Ownerless { lock: u64, word: u32, keys: Vec<u64> },
    /// `pthread_join`: `word` is the thread's id in the waiter's pid namespace. `by_kernel`: the kernel clears it
    /// when the thread ends (`CLONE_CHILD_CLEARTID`).
    Join { word: u32, by_kernel: bool },
}

impl Sight {
    /// Whether the next scan has to look again: owners change while waiters sleep. A lock that names no owner has
    /// nothing new to say before its waiter has run.
    pub(crate) fn may_change(&self, call: &Call) -> bool {
        match self {
            Self::Open | Self::Ownerless { .. } => false,
            // The lock is just being passed on.
            Self::Parked { word } => call.is_contended() && *word != Some(call.value),
            Self::Shared { .. } | Self::Owned { .. } | Self::Join { .. } => true,
        }
    }
}

/// Reads what `call` sleeps on.
pub(crate) fn look(call: &Call, layout: Layout, read: Reader<'_>) -> Sight {
    let Some(word) = memory::word(read, call.address) else {
        return parked_if_private(call, None);
    };
    if call.is_bounded {
        return Sight::Open;
    }
    match call.command {
        LOCK_PI | LOCK_PI2 => owned(call, WaitKind::PiMutex, call.address, word, word & TID, true),
        WAIT | WAIT_BITSET if word != call.value => parked_if_private(call, Some(word)),
        WAIT | WAIT_BITSET => {
            let sight = if call.is_private { private(call, layout, read, word) } else { None };
            let sight =
                sight.or_else(|| if call.is_private { None } else { shared(call, layout, read, word) });
            let parked =
                if call.is_private { Sight::Parked { word: Some(word) } } else { Sight::Shared { word } };
            sight.unwrap_or(parked)
        }
        WAIT_REQUEUE_PI => parked_if_private(call, Some(word)),
        _ => Sight::Open,
    }
}

fn parked_if_private(call: &Call, word: Option<u32>) -> Sight {
    let is_wait = matches!(call.command, WAIT | WAIT_BITSET | LOCK_PI | LOCK_PI2 | WAIT_REQUEUE_PI);
    if call.is_private && is_wait && !call.is_bounded { Sight::Parked { word } } else { Sight::Open }
}

fn owned(call: &Call, kind: WaitKind, lock: u64, word: u32, tid: u32, by_kernel: bool) -> Sight {
    if tid == 0 {
        return parked_if_private(call, Some(word));
    }
    Sight::Owned { kind, lock, word, tid, by_kernel }
}

fn shared(call: &Call, layout: Layout, read: Reader<'_>, word: u32) -> Option<Sight> {
    // A lock of nobody is none: so a promise of the C++ library looks.
    // musl's plain mutex looks like a robust one of thread 16.
    let is_robust = word & WAITERS != 0 && word & OWNER_DIED == 0 && word != MUSL_CONTENDED;
    if is_robust && !matches!(word & TID, 0 | TID) {
        return Some(owned(call, WaitKind::RobustMutex, call.address, word, word & TID, true));
    }
    if call.command == WAIT_BITSET && 1 < word && word < 1 << 22 {
        return Some(Sight::Join { word, by_kernel: true });
    }
    glibc_mutex(call, layout, read, word)
}

fn private(call: &Call, layout: Layout, read: Reader<'_>, word: u32) -> Option<Sight> {
    let lock = call.address;
    if let Some(join) = musl_join(call, read, word) {
        return Some(join);
    }
    if let Some(owned) = glibc_mutex(call, layout, read, word) {
        return Some(owned);
    }
    if call.command == WAIT_BITSET && word == 3 && layout.rwlock {
        let (tid, lock) = glibc::rwlock_writer(read, lock)?;
        return Some(owned(call, WaitKind::Rwlock, lock, word, tid, false));
    }
    // Of C programs none: they find their locks by names, and by pointers to what these lie in.
    if call.is_mutex() {
        return Some(Sight::Ownerless { lock, word, keys: Vec::new() });
    }
    let keys = if word == CONTENDED {
        vec![lock]
    } else if is_rust_writer(call, read, word) {
        vec![lock, lock.wrapping_sub(4)]
    } else if call.command == WAIT_BITSET && word == RUST_READERS_WAIT {
        vec![lock]
    } else if call.command == WAIT && word == 1 {
        parking_keys(read, lock)
    } else {
        Vec::new()
    };
    let first = *keys.first()?;
    Some(Sight::Ownerless { lock: first, word, keys })
}

/// musl's joiners sleep on `detach_state` of the thread's own structure, which begins with a pointer to itself and
/// stands in a ring of such (musl, src/internal/pthread_impl.h). The pointer alone is no proof: `__dso_handle`, which
/// every program has beside its static locks, points to itself too.
fn musl_join(call: &Call, read: Reader<'_>, word: u32) -> Option<Sight> {
    const JOINABLE: u32 = 2;
    const SELF_BEFORE: u64 = 56;
    const TID_BEFORE: u64 = 8;
    const PREVIOUS: u64 = 16;
    const NEXT: u64 = 24;
    if call.command != WAIT || word != JOINABLE {
        return None;
    }
    let start = call.address.wrapping_sub(SELF_BEFORE);
    let pointer = |at: u64| {
        let mut bytes = [0; 8];
        read(at, &mut bytes).then(|| u64::from_ne_bytes(bytes))
    };
    let next = pointer(start.wrapping_add(NEXT))?;
    let is_thread = pointer(start)? == start && pointer(next.wrapping_add(PREVIOUS))? == start;
    let tid = memory::word(read, call.address.wrapping_sub(TID_BEFORE))?;
    (is_thread && 0 < tid && tid < 1 << 22).then_some(Sight::Join { word: tid, by_kernel: false })
}

fn glibc_mutex(call: &Call, layout: Layout, read: Reader<'_>, word: u32) -> Option<Sight> {
    if call.command != WAIT || word != CONTENDED || !layout.mutex {
        return None;
    }
    let tid = glibc::mutex_owner(read, call.address, call.is_private)?;
    Some(owned(call, WaitKind::Mutex, call.address, word, tid, false))
}

fn is_rust_writer(call: &Call, read: Reader<'_>, word: u32) -> bool {
    call.command == WAIT_BITSET
        && word == 0
        && memory::word(read, call.address.wrapping_sub(4)) == Some(RUST_WRITERS_WAIT)
}

/// Pointers around the parked thread's word that point to a locked byte with waiters.
fn parking_keys(read: Reader<'_>, address: u64) -> Vec<u64> {
    let mut around = [0; 3 * PARKING_REACH];
    if !read(address.wrapping_sub(PARKING_REACH as u64), &mut around) {
        return Vec::new();
    }
    let pointers = around
        .chunks_exact(8)
        .map(|bytes| bytes.iter().rev().fold(0, |pointer: u64, byte| pointer << 8 | u64::from(*byte)));
    let is_lock = |pointer: &u64| {
        let mut byte = [0];
        (0x1_0000..1 << 47).contains(pointer)
            && read(*pointer, &mut byte)
            && byte[0] & PARKING_LOCKED_PARKED == PARKING_LOCKED_PARKED
            && byte[0] < 16
    };
    pointers.filter(is_lock).collect()
}

#[cfg(test)]
mod tests {
    use healer_common::event::wire::Wire as _;

    use super::*;

    const ALL: Layout = Layout { mutex: true, rwlock: true };

    fn call(operation: u32, value: u32, timeout: u64) -> Call {
        let record = TaskRecord {
            syscall: FUTEX,
            arg0: 0x1000,
            arg1: u64::from(operation),
            arg2: u64::from(value),
            arg3: timeout,
            ..TaskRecord::ZERO
        };
        Call::of(&record).unwrap()
    }

    /// Memory that holds `words` from `start` on, and zeros behind them.
    fn holding(start: u64, words: &[u32]) -> impl Fn(u64, &mut [u8]) -> bool {
        let bytes: Vec<u8> = words.iter().chain(&[0; 13]).flat_map(|word| word.to_ne_bytes()).collect();
        move |address, buffer| {
            let Some(from) = address.checked_sub(start).map(|from| from as usize) else {
                return false;
            };
            let Some(found) = bytes.get(from..from + buffer.len()) else {
                return false;
            };
            buffer.copy_from_slice(found);
            true
        }
    }

    fn look_at(call: Call, words: &[u32]) -> Sight {
        look(&call, ALL, &holding(0x1000, words))
    }

    #[test]
    fn a_bounded_wait_ends_by_itself() {
        assert_eq!(look_at(call(0x80, 2, 0x7fff), &[2, 0, 77, 1, 0]), Sight::Open);
    }

    #[test]
    fn a_wake_up_under_way_is_no_lock_wait() {
        assert_eq!(look_at(call(0x80, 2, 0), &[1, 0, 77, 1, 0]), Sight::Parked { word: Some(1) });
    }

    #[test]
    fn a_lock_that_is_passed_on_is_looked_at_again_and_a_parked_thread_is_not() {
        let lock = call(0x80, 2, 0);
        assert!(look_at(lock, &[1, 0, 77, 1, 0]).may_change(&lock), "its next owner takes it");
        assert!(look_at(lock, &[2, 0, 77, 1, 0]).may_change(&lock), "owners change");
        let parker = call(0x89, u32::MAX, 0);
        assert!(!look_at(parker, &[u32::MAX, 0, 0]).may_change(&parker));
        assert!(!look_at(parker, &[1, 0, 0]).may_change(&parker));
    }

    #[test]
    fn glibc_locks_name_their_owner() {
        let mutex = |kind, word| Sight::Owned { kind, lock: 0x1000, word, tid: 77, by_kernel: false };
        assert_eq!(look_at(call(0x80, 2, 0), &[2, 0, 77, 1, 0]), mutex(WaitKind::Mutex, 2));
        assert_eq!(look_at(call(0, 2, 0), &[2, 0, 77, 1, 0x80]), mutex(WaitKind::Mutex, 2));
        let rwlock = look(
            &Call { address: 0x100c, ..call(0x89, 3, 0) },
            ALL,
            &holding(0x1000, &[3, 1, 1, 3, 0, 0, 77]),
        );
        assert_eq!(rwlock, mutex(WaitKind::Rwlock, 3));
    }

    #[test]
    fn a_join_of_musl_is_known_by_the_thread_that_points_to_itself() {
        let thread = |start: u32| {
            let mut words = [0; 16];
            (words[0], words[12], words[14]) = (start, 77, 2);
            // A ring of one.
            (words[4], words[6]) = (start, start);
            words
        };
        let join = Call { address: 0x1000 + 56, ..call(0x80, 2, 0) };
        let look_at = |start| look(&join, ALL, &holding(0x1000, &thread(start)));
        assert_eq!(look_at(0x1000), Sight::Join { word: 77, by_kernel: false });
        assert!(!matches!(look_at(0x2000), Sight::Join { .. }));
    }

    #[test]
    fn a_static_mutex_behind_a_word_that_points_to_itself_is_a_mutex() {
        let mut words = [0; 24];
        // `__dso_handle` at 0x1000; lock, count, owner, users, kind at 0x1038.
        words[0] = 0x1000;
        (words[14], words[16], words[17]) = (2, 77, 1);
        let waits = Call { address: 0x1000 + 56, ..call(0x80, 2, 0) };
        let seen = look(&waits, ALL, &holding(0x1000, &words));
        assert!(matches!(seen, Sight::Owned { kind: WaitKind::Mutex, tid: 77, .. }), "{seen:?}");
    }

    #[test]
    fn the_kernel_names_the_owner_of_robust_and_pi_locks() {
        let word = 0x8000_0000 | 77;
        let owned = |kind| Sight::Owned { kind, lock: 0x1000, word, tid: 77, by_kernel: true };
        assert_eq!(look_at(call(0, word, 0), &[word]), owned(WaitKind::RobustMutex));
        assert_eq!(look_at(call(LOCK_PI | 0x80, 0, 0), &[word]), owned(WaitKind::PiMutex));
    }

    #[test]
    fn musl_has_no_owner_even_though_its_word_looks_like_one() {
        let sight = look_at(call(0x80, MUSL_CONTENDED, 0), &[MUSL_CONTENDED]);
        assert_eq!(sight, Sight::Ownerless { lock: 0x1000, word: MUSL_CONTENDED, keys: Vec::new() });
    }

    #[test]
    fn a_lock_of_rust_is_locked_for_writing_and_a_parked_thread_is_none() {
        let ownerless = |lock, word, keys| Sight::Ownerless { lock, word, keys };
        let writer = Call { address: 0x1004, ..call(0x89, 0, 0) };
        let seen = |state| look(&writer, ALL, &holding(0x1000, &[state, 0]));
        assert_eq!(seen(RUST_WRITERS_WAIT), ownerless(0x1004, 0, vec![0x1004, 0x1000]));
        assert_eq!(seen(u32::MAX), Sight::Parked { word: Some(0) }, "a condition behind -1");
        let reader = |word| look_at(call(0x89, word, 0), &[word, 0]);
        assert_eq!(reader(RUST_READERS_WAIT), ownerless(0x1000, RUST_READERS_WAIT, vec![0x1000]));
        assert_eq!(reader(u32::MAX), Sight::Parked { word: Some(u32::MAX) }, "thread::park");
    }

    #[test]
    fn a_semaphore_parks_in_memory_of_its_own_or_in_shared_memory() {
        assert_eq!(look_at(call(0x189, 0, 0), &[0]), Sight::Parked { word: Some(0) });
        assert_eq!(look_at(call(0x109, 0, 0), &[0]), Sight::Shared { word: 0 });
        assert_eq!(look_at(call(0, WAITERS, 0), &[WAITERS]), Sight::Shared { word: WAITERS }, "std::future");
        assert_eq!(look_at(call(0x109, 77, 0), &[77]), Sight::Join { word: 77, by_kernel: true });
    }

    #[test]
    fn without_the_layout_a_mutex_is_ownerless() {
        let sight = look(&call(0x80, 2, 0), Layout::default(), &holding(0x1000, &[2, 0, 77, 1, 0]));
        assert_eq!(sight, Sight::Ownerless { lock: 0x1000, word: 2, keys: Vec::new() });
        let of_rust = look(&call(0x89, 2, 0), Layout::default(), &holding(0x1000, &[2, 0]));
        assert_eq!(of_rust, Sight::Ownerless { lock: 0x1000, word: 2, keys: vec![0x1000] });
    }
}
