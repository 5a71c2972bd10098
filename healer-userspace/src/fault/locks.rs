//! Threads that wait for each other for ever, and threads that only seem to.

use core::{cell::UnsafeCell, time::Duration};
use std::{
    sync::{Barrier, Mutex, RwLock},
    thread,
};

use super::{End, Fault};
use crate::engine::class::Class;

pub(super) const AB_BA: Fault = deadlock("deadlock", "two threads take two mutexes in opposite order", ab_ba);
pub(super) const THREE: Fault =
    deadlock("deadlock-three", "three threads wait for each other's mutex in a circle", three);
pub(super) const RELOCK: Fault = deadlock("deadlock-self", "a thread takes a mutex that it holds", relock);
pub(super) const RWLOCK: Fault =
    deadlock("deadlock-rwlock", "two threads write-lock two rwlocks in opposite order", rwlock);
pub(super) const RUST: Fault =
    deadlock("deadlock-rust", "two threads take two std::sync::Mutex, which name no owner", rust);
pub(super) const SLOW_HOLDER: Fault = Fault::healthy(
    "slow-holder",
    "healthy: three threads wait for a mutex whose holder sleeps for a while",
    End::Status(0),
    slow_holder,
);
pub(super) const CONTENDED: Fault = Fault::healthy(
    "contended",
    "healthy: four threads take one mutex in turn all the time",
    End::Status(0),
    contended,
);
pub(super) const POOL: Fault = Fault::healthy(
    "idle-pool",
    "healthy: workers of a pool wait for one channel behind its mutex",
    End::Status(0),
    pool,
);

/// What the parties hold before they ask for more.
const HOLD: Duration = Duration::from_millis(100);
const HEALTHY_LIFE: Duration = Duration::from_secs(5);

const fn deadlock(name: &'static str, does: &'static str, child: fn() -> u8) -> Fault {
    Fault::failing(name, Class::Deadlock, does, End::Never, child)
}

/// A mutex of the C library: it names its owner.
struct Pthread(UnsafeCell<libc::pthread_mutex_t>);

// SAFETY: pthread_mutex_lock(3) is made for several threads, and nothing else touches the memory.
unsafe impl Sync for Pthread {}

impl Pthread {
    const fn new() -> Self {
        Self(UnsafeCell::new(libc::PTHREAD_MUTEX_INITIALIZER))
    }

    fn lock(&self) {
        // SAFETY: initialised, and never moved: all of them are static.
        unsafe { libc::pthread_mutex_lock(self.0.get()) };
    }

    fn unlock(&self) {
        // SAFETY: as above; callers hold it.
        unsafe { libc::pthread_mutex_unlock(self.0.get()) };
    }
}

static MUTEXES: [Pthread; 3] = [const { Pthread::new() }; 3];

/// As many threads as mutexes: each holds its own and asks for the next one's.
fn circle(members: usize) -> u8 {
    let all_hold = Barrier::new(members);
    thread::scope(|scope| {
        for member in 0..members {
            let all_hold = &all_hold;
            scope.spawn(move || {
                MUTEXES[member].lock();
                all_hold.wait();
                MUTEXES[(member + 1) % members].lock();
            });
        }
    });
    1
}

fn ab_ba() -> u8 {
    circle(2)
}

fn three() -> u8 {
    circle(3)
}

fn relock() -> u8 {
    MUTEXES[0].lock();
    MUTEXES[0].lock();
    1
}

struct PthreadRw(UnsafeCell<libc::pthread_rwlock_t>);

// SAFETY: as Pthread.
unsafe impl Sync for PthreadRw {}

impl PthreadRw {
    fn write(&self) {
        // SAFETY: initialised, static.
        unsafe { libc::pthread_rwlock_wrlock(self.0.get()) };
    }
}

static RWLOCKS: [PthreadRw; 2] = [const { PthreadRw(UnsafeCell::new(libc::PTHREAD_RWLOCK_INITIALIZER)) }; 2];

fn rwlock() -> u8 {
    let all_hold = Barrier::new(2);
    thread::scope(|scope| {
        for member in 0..2 {
            let all_hold = &all_hold;
            scope.spawn(move || {
                RWLOCKS[member].write();
                all_hold.wait();
                RWLOCKS[1 - member].write();
            });
        }
    });
    1
}

fn rust() -> u8 {
    let (mutexes, all_hold) = ([const { Mutex::new(0) }; 2], Barrier::new(2));
    thread::scope(|scope| {
        for member in 0..2 {
            let (mutexes, all_hold) = (&mutexes, &all_hold);
            scope.spawn(move || {
                let own = mutexes[member].lock();
                all_hold.wait();
                let others = mutexes[1 - member].lock();
                drop((own, others));
            });
        }
    });
    1
}

fn slow_holder() -> u8 {
    MUTEXES[0].lock();
    thread::scope(|scope| {
        for _waiter in 0..3 {
            scope.spawn(|| {
                MUTEXES[0].lock();
                MUTEXES[0].unlock();
            });
        }
        thread::sleep(HEALTHY_LIFE);
        MUTEXES[0].unlock();
    });
    0
}

fn contended() -> u8 {
    let (sum, hold) = (RwLock::new(0_u64), Duration::from_millis(2));
    thread::scope(|scope| {
        for _worker in 0..4 {
            scope.spawn(|| {
                for _turn in 0..HEALTHY_LIFE.as_millis() / 10 {
                    MUTEXES[0].lock();
                    thread::sleep(hold);
                    MUTEXES[0].unlock();
                    sum.write().map(|mut sum| *sum += 1).ok();
                }
            });
        }
    });
    0
}

fn pool() -> u8 {
    let (jobs, queue) = std::sync::mpsc::channel::<u32>();
    let queue = Mutex::new(queue);
    thread::scope(|scope| {
        for _worker in 0..4 {
            scope.spawn(|| while queue.lock().is_ok_and(|queue| queue.recv().is_ok()) {});
        }
        thread::sleep(HEALTHY_LIFE);
        jobs.send(1).ok();
        thread::sleep(HOLD);
        drop(jobs);
    });
    0
}
