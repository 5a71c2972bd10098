//! Processes that go on.

use core::time::Duration;

use super::{End, Fault};
use crate::{clock, engine::class::Class};

pub(super) const DEAF_HOG: Fault = Fault::healthy(
    "deaf-hog",
    "holds 32 MiB and ignores SIGTERM: the patient of a stop that must escalate",
    End::Never,
    deaf,
);
pub(super) const BUSY: Fault =
    Fault::healthy("busy", "healthy: a worker that computes half of the time", End::Never, busy).lasting(3);
pub(super) const THROTTLED: Fault = Fault::failing(
    "throttled",
    Class::CpuThrottled,
    "wants a whole CPU and may have a fifth of one",
    End::Never,
    burn,
)
.supervised()
.with_cpu(20)
.lasting(30);
pub(super) const STARVED: Fault = Fault::failing(
    "starved",
    Class::Starved,
    "wants a CPU, at the lowest priority, beside hogs that have all of them",
    End::Never,
    starved,
)
.supervised()
.lasting(30);

const LIFE: Duration = Duration::from_secs(60);

fn deaf() -> u8 {
    // SAFETY: SIG_IGN is a valid disposition for SIGTERM.
    unsafe { libc::signal(libc::SIGTERM, libc::SIG_IGN) };
    let hoard = vec![1_u8; 32 << 20];
    std::thread::sleep(LIFE);
    u8::from(std::hint::black_box(hoard).is_empty())
}

/// Ten milliseconds of work, ten of rest.
fn busy() -> u8 {
    const TURN: Duration = Duration::from_millis(10);
    let began = clock::boot();
    let mut sum = 0_u64;
    while clock::boot().since(began) < LIFE {
        let turn = clock::boot();
        while clock::boot().since(turn) < TURN {
            sum = std::hint::black_box(sum.wrapping_mul(31).wrapping_add(7));
        }
        std::thread::sleep(TURN);
    }
    0
}

/// All that there is of a CPU.
fn burn() -> u8 {
    let began = clock::boot();
    let mut sum = 0_u64;
    while clock::boot().since(began) < LIFE {
        for _round in 0..1_000_000 {
            sum = std::hint::black_box(sum.wrapping_mul(31).wrapping_add(7));
        }
    }
    0
}

/// Beside two hogs for each CPU, which are its children and end with it.
fn starved() -> u8 {
    let hogs = 2 * std::thread::available_parallelism().map_or(1, usize::from);
    for _hog in 0..hogs {
        // SAFETY: this process has one thread; the child computes and ends.
        if unsafe { libc::fork() } == 0 {
            // SAFETY: a plain system call.
            unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
            std::process::exit(burn().into());
        }
    }
    rustix::process::nice(19).ok();
    burn()
}
