//! Memory that is used, and given back or kept within bounds: healthy.

use core::time::Duration;

use super::{End, Fault, leak::Hoard};
use crate::clock;

pub(super) const PLATEAU: Fault = Fault::healthy(
    "plateau",
    "healthy: warms up to four fifths of its memory limit and stays there",
    End::Never,
    plateau,
)
.lasting(60);
pub(super) const SAW: Fault = Fault::healthy(
    "saw",
    "healthy: a heap whose garbage is collected every seven seconds, at four fifths of the limit",
    End::Never,
    saw,
)
.lasting(60);
pub(super) const CACHE: Fault = Fault::healthy(
    "cache",
    "healthy: a cache of four fifths of the memory limit, its entries replaced all the time",
    End::Never,
    cache,
)
.lasting(60);

const LIFE: Duration = Duration::from_secs(60);

/// 8 MiB a second up to 200.
fn plateau() -> u8 {
    let mut hoard = Hoard::default();
    live(Duration::from_millis(125), |_| {
        if hoard.mib() < 200 {
            hoard.grow();
        }
    })
}

/// From 60 MiB to 205, in seven seconds.
fn saw() -> u8 {
    let held = Hoard::of(60);
    let mut garbage = Hoard::default();
    live(Duration::from_millis(50), |_| {
        garbage.grow();
        if 145 <= garbage.mib() {
            garbage = Hoard::default();
        }
    }) + u8::from(std::hint::black_box(held).mib() == 0)
}

fn cache() -> u8 {
    let mut entries = Hoard::of(200);
    live(Duration::from_millis(10), |step| entries.replace(step * 7))
}

fn live(pause: Duration, mut step: impl FnMut(usize)) -> u8 {
    let began = clock::boot();
    let mut steps = 0;
    while clock::boot().since(began) < LIFE {
        step(steps);
        steps += 1;
        std::thread::sleep(pause);
    }
    0
}
