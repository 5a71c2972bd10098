//! Processes that go on.

use core::time::Duration;

use super::{End, Fault};
use crate::clock;

pub(super) const DEAF_HOG: Fault = Fault::healthy(
    "deaf-hog",
    "holds 32 MiB and ignores SIGTERM: the patient of a stop that must escalate",
    End::Never,
    deaf,
);
pub(super) const BUSY: Fault =
    Fault::healthy("busy", "healthy: a worker that computes half of the time", End::Never, busy).lasting(3);

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
