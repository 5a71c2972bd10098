//! Growing beyond the cgroup's limit.

use super::{End, Fault};
use crate::engine::class::Class;

pub(super) const OOM: Fault = Fault::failing(
    "oom",
    Class::OomKill,
    "grows beyond the memory limit of its cgroup",
    End::Signal(libc::SIGKILL),
    grow,
)
.within(64);

/// Never more than this, whatever the limit is: where no memory controller holds it, the machine must not suffer.
const AT_MOST: usize = 512;
const MIB: usize = 1 << 20;

/// Ends with status 1 if nobody stopped it.
fn grow() -> u8 {
    let mut hoard = Vec::with_capacity(AT_MOST);
    for step in 0..AT_MOST {
        hoard.push(vec![u8::try_from(step % 255).unwrap_or(1) | 1; MIB]);
    }
    u8::from(!std::hint::black_box(hoard).is_empty())
}
