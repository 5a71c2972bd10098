//! What the looks at memory cost on a node full of containers.

use anyhow::Context as _;
use healer_userspace::{engine::time::BootTime, sense::poll::memory::MemoryPoller};

use super::{args::Args, figure::Figure, say};
use crate::cgroup::MemoryCgroup;

const CGROUPS: usize = 500;
const SECONDS: u64 = 60;
const LIMIT: u64 = 1 << 30;

/// Cgroups with room, as most have; a minute of looks, one after the other.
///
/// # Errors
/// The clock of this thread cannot be read.
pub fn measure(_args: &Args) -> anyhow::Result<Vec<Figure>> {
    say(&format!("memory: {CGROUPS} cgroups"));
    let cgroups: Vec<MemoryCgroup> = (0..CGROUPS).map(|_| MemoryCgroup::new()).collect();
    cgroups.iter().for_each(|cgroup| cgroup.set_limit(LIMIT));
    let mut poller = MemoryPoller::new("/proc".as_ref(), "/sys/fs/cgroup".as_ref(), None);
    let second = |number: u64| BootTime((1000 + number) * 1_000_000_000);
    let begun = cpu_nanos()?;
    poller.look(second(0));
    let began = cpu_nanos()?;
    for number in 1..SECONDS {
        poller.look(second(number));
    }
    let took = cpu_nanos()? - began;
    let share = took as f64 / (SECONDS - 1) as f64 / 1e9 * 100.0;
    let (looked_at, _) = poller.counts();
    let remark = format!(
        "{looked_at} cgroups with a limit, CPU time of {} looks; found and opened in {:.1} ms",
        SECONDS - 1,
        (began - begun) as f64 / 1e6
    );
    let name = "500 cgroups looked at once a second";
    Ok(vec![Figure::new(name, share, "% of a core").at_most(0.1).remark(remark)])
}

/// Of this thread.
fn cpu_nanos() -> anyhow::Result<u64> {
    let text =
        std::fs::read_to_string("/proc/thread-self/schedstat").context("read the thread's CPU time")?;
    let nanos = text.split(' ').next().and_then(|nanos| nanos.parse().ok());
    nanos.context("no CPU time")
}
