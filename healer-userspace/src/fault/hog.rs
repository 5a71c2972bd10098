//! Processes that go on.

use core::time::Duration;

use crate::clock;

const LIFE: Duration = Duration::from_secs(60);

pub(super) fn deaf() -> u8 {
    // SAFETY: SIG_IGN is a valid disposition for SIGTERM.
    unsafe { libc::signal(libc::SIGTERM, libc::SIG_IGN) };
    let hoard = vec![1_u8; 32 << 20];
    std::thread::sleep(LIFE);
    u8::from(std::hint::black_box(hoard).is_empty())
}

/// Ten milliseconds of work, ten of rest.
pub(super) fn busy() -> u8 {
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
