//! The kernel lock that a task waits for, and who holds it.

use crate::{
    memory::{Access, Object, Probed},
    tuning::{present, tuned},
};

/// Types in the low bits of `task_struct.blocker` (include/linux/hung_task.h).
const TYPE: u64 = 3;
const MUTEX: u64 = 0;
const SEMAPHORE: u64 = 1;
/// Flags in the low bits of the owners of mutexes and rw-semaphores; of the latter the first says
/// that readers hold it, and the owner is only one of them.
const OWNER_FLAGS: u64 = 7;
const READERS_OWN: u64 = 1;

/// `task_struct.blocker` and the thread id of its holder; 0 none or unknown.
#[inline(always)]
pub(crate) fn of<A: Access>(task: Object<A>) -> (u64, u32) {
    if !present!(TASK_BLOCKER, MUTEX_OWNER, RWSEM_OWNER) {
        return (0, 0);
    }
    let blocker: u64 = task.get(tuned!(TASK_BLOCKER));
    (blocker, holder(blocker).unwrap_or(0))
}

/// The thread that holds a kernel lock alone.
#[inline(always)]
fn holder(blocker: u64) -> Option<u32> {
    let lock = Object::<Probed>::new((blocker & !TYPE) as *const u8)?;
    let owner: u64 = match blocker & TYPE {
        MUTEX => lock.get(tuned!(MUTEX_OWNER)),
        SEMAPHORE => return None,
        _readers_or_writer => {
            let owner: u64 = lock.get(tuned!(RWSEM_OWNER));
            if owner & READERS_OWN != 0 {
                return None;
            }
            owner
        }
    };
    Some(Object::<Probed>::new((owner & !OWNER_FLAGS) as *const u8)?.get(tuned!(TASK_PID)))
}
