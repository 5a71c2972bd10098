//! Growing towards the cgroup's limit, at a pace.

use core::time::Duration;

use super::{End, Fault};
use crate::{clock, engine::class::Class};

pub(super) const LEAK: Fault = Fault::failing(
    "leak",
    Class::MemoryLeak,
    "holds three quarters of its memory limit, then leaks 2 MB a second",
    End::Signal(libc::SIGKILL),
    quick,
)
.lasting(60);
pub(super) const LEAK_SLOW: Fault = Fault::failing(
    "leak-slow",
    Class::MemoryLeak,
    "holds four fifths of its memory limit, then leaks 1 MB a second",
    End::Signal(libc::SIGKILL),
    slow,
)
.lasting(60);
pub(super) const LEAK_SAW: Fault = Fault::failing(
    "leak-saw",
    Class::MemoryLeak,
    "collects its garbage every two seconds and leaks 2 MB a second below it",
    End::Signal(libc::SIGKILL),
    under_saw,
)
.lasting(60);
pub(super) const LEAK_NEIGHBOUR: Fault = Fault::failing(
    "leak-neighbour",
    Class::MemoryLeak,
    "leaks 4 MB a second beside a bigger process, which is killed for it",
    End::Never,
    beside_a_neighbour,
)
.lasting(60);
pub(super) const LEAK_FAST: Fault = Fault::failing(
    "leak-fast",
    Class::OomKill,
    "leaks 30 MB a second: too fast for a forecast",
    End::Signal(libc::SIGKILL),
    fast,
)
.lasting(60);
pub(super) const SUDDEN: Fault = Fault::failing(
    "sudden",
    Class::OomKill,
    "asks for twice its memory limit at once",
    End::Signal(libc::SIGKILL),
    sudden,
);

pub(super) const MIB: usize = 1 << 20;
/// Never more than this, whatever the limit is: where no memory controller holds it, the machine must not suffer.
const AT_MOST: usize = 300;
const LIFE: Duration = Duration::from_secs(60);

/// Memory that was written to, and is kept.
#[derive(Default)]
pub(super) struct Hoard(Vec<Vec<u8>>);

impl Hoard {
    pub(super) fn of(mib: usize) -> Self {
        let mut hoard = Self::default();
        (0..mib).for_each(|_| hoard.grow());
        hoard
    }

    /// By 1 MiB.
    pub(super) fn grow(&mut self) {
        self.0.push(vec![u8::try_from(self.0.len() % 255).unwrap_or(1) | 1; MIB]);
    }

    pub(super) fn replace(&mut self, number: usize) {
        let count = self.0.len();
        if let Some(block) = self.0.get_mut(number % count) {
            *block = vec![3; MIB];
        }
    }

    pub(super) fn mib(&self) -> usize {
        self.0.len()
    }
}

fn quick() -> u8 {
    leak(192, 2)
}

fn slow() -> u8 {
    leak(205, 1)
}

fn fast() -> u8 {
    leak(0, 30)
}

/// 512 MiB in one piece.
fn sudden() -> u8 {
    let all = vec![1_u8; 512 * MIB];
    u8::from(!std::hint::black_box(all).is_empty())
}

/// 40 MiB of garbage every two seconds.
fn under_saw() -> u8 {
    const GARBAGE: usize = 40;
    let mut hoard = Hoard::of(150);
    while hoard.mib() < AT_MOST {
        let mut garbage = Hoard::default();
        for step in 1..=GARBAGE {
            garbage.grow();
            if step % 10 == 0 {
                hoard.grow();
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    1
}

/// The neighbour is a child that holds 140 MiB; once it is gone nothing more is taken.
fn beside_a_neighbour() -> u8 {
    // SAFETY: this process has one thread; the child allocates and sleeps.
    let neighbour = unsafe { libc::fork() };
    if neighbour == 0 {
        rustix::thread::set_name(c"neighbour").ok();
        let held = Hoard::of(140);
        std::thread::sleep(LIFE);
        std::process::exit(i32::from(std::hint::black_box(held).mib() == 0));
    }
    std::thread::sleep(Duration::from_secs(2));
    let mut hoard = Hoard::of(20);
    let (began, mut ended) = (clock::boot(), false);
    while clock::boot().since(began) < LIFE {
        // SAFETY: asks about our child and writes nowhere.
        ended |= unsafe { libc::waitpid(neighbour, core::ptr::null_mut(), libc::WNOHANG) } == neighbour;
        if !ended && hoard.mib() < AT_MOST {
            hoard.grow();
        }
        std::thread::sleep(Duration::from_millis(250));
    }
    1
}

fn leak(held: usize, mib_per_second: u32) -> u8 {
    let mut hoard = Hoard::of(held);
    while hoard.mib() < AT_MOST {
        hoard.grow();
        std::thread::sleep(Duration::from_secs(1) / mib_per_second);
    }
    1
}
