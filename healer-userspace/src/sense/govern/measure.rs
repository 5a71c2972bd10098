//! What sensing costs, without the kernel's own statistics of programs, which cost more than what they measure.

use core::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use std::path::Path;

use aya::maps::{MapData, PerCpuArray};
use healer_common::tuning::Counter;

use super::{Ppm, hook::Hook, shed::Use};
use crate::{clock, engine::time::BootTime, sense::poll::cpu::Kept, signal::Fact};

/// What a run costs, as the bench finds it, with the record that it may send.
const SOCKET_STATE_NS: u64 = 120;
const RETRANSMIT_NS: u64 = 300;
const END_NS: u64 = 500;
/// What the hook adds to a call where it cannot be measured.
const HOOK_NS: u64 = 90;

/// CPU time of the looks at what may run out, since the governor asked last.
pub static POLLS_NS: AtomicU64 = AtomicU64::new(0);
/// The same of what is done with failed connections and with retransmissions.
static CONNECTIONS_NS: AtomicU64 = AtomicU64::new(0);
static RETRANSMITS_NS: AtomicU64 = AtomicU64::new(0);

/// Whose account the agent's time goes to; `None` of what is never given up.
pub(crate) fn account(fact: &Fact) -> Option<&'static AtomicU64> {
    if matches!(fact, Fact::ConnectionFailed(_)) {
        Some(&CONNECTIONS_NS)
    } else if matches!(fact, Fact::Retransmitted(_)) {
        Some(&RETRANSMITS_NS)
    } else {
        None
    }
}

/// Counts since the look before.
pub(super) struct Meter {
    counters: Option<PerCpuArray<MapData, u64>>,
    before: Counts,
    at: BootTime,
    cpu: Duration,
    /// Of the last looks, the newest weighing most.
    agent: Ppm,
    /// proc(5), `statm` of the agent.
    pages: Option<Kept>,
}

#[derive(Clone, Copy, Default)]
struct Counts {
    states: u64,
    retransmits: u64,
    ends: u64,
}

impl Meter {
    pub(super) fn new(counters: Option<PerCpuArray<MapData, u64>>) -> Self {
        let mut meter = Self {
            counters,
            before: Counts::default(),
            at: clock::boot(),
            cpu: own_cpu(),
            agent: 0,
            pages: Kept::open(Path::new("/proc/self/statm")),
        };
        meter.before = meter.counts();
        meter
    }

    /// System calls that were counted so far.
    pub(super) fn calls(&self) -> u64 {
        self.sum(Counter::Syscalls)
    }

    pub(super) fn look(&mut self) -> Use {
        let (now, cpu, counts) = (clock::boot(), own_cpu(), self.counts());
        let wall = now.since(self.at);
        let share = |nanos: u64| nanos.saturating_mul(1_000_000) / (wall.as_nanos() as u64).max(1);
        let agent = share(cpu.saturating_sub(self.cpu).as_nanos() as u64);
        self.agent = (3 * self.agent + agent) / 4;
        let runs = |now: u64, before: u64, cost: u64| share(now.saturating_sub(before).saturating_mul(cost));
        let ends = runs(counts.ends, self.before.ends, END_NS);
        let used = Use {
            agent: self.agent + ends,
            agent_now: agent + ends,
            polls: share(POLLS_NS.swap(0, Ordering::Relaxed)),
            told_retransmits: share(RETRANSMITS_NS.swap(0, Ordering::Relaxed)),
            told_connections: share(CONNECTIONS_NS.swap(0, Ordering::Relaxed)),
            syscalls: 0,
            retransmits: runs(counts.retransmits, self.before.retransmits, RETRANSMIT_NS),
            connections: runs(counts.states, self.before.states, SOCKET_STATE_NS),
        };
        (self.at, self.cpu, self.before) = (now, cpu, counts);
        used
    }

    /// Resident bytes of the agent.
    pub(super) fn resident(&self) -> u64 {
        let statm = self.pages.as_ref().and_then(Kept::read).unwrap_or_default();
        let pages: u64 = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
        pages * rustix::param::page_size() as u64
    }

    fn counts(&self) -> Counts {
        Counts {
            states: self.sum(Counter::SocketStates),
            retransmits: self.sum(Counter::Retransmits),
            ends: self.sum(Counter::QuietExits),
        }
    }

    fn sum(&self, counter: Counter) -> u64 {
        let slots = self.counters.as_ref().and_then(|map| map.get(&(counter as u32), 0).ok());
        slots.map_or(0, |slots| slots.iter().sum())
    }
}

/// CPU time of all threads of the agent.
fn own_cpu() -> Duration {
    let mut usage = core::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the kernel fills it in; zeros are a valid rusage, too.
    let usage = unsafe {
        libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr());
        usage.assume_init()
    };
    let time = |of: libc::timeval| Duration::new(of.tv_sec as u64, of.tv_usec as u32 * 1000);
    time(usage.ru_utime) + time(usage.ru_stime)
}

/// ns that the hook adds to the cheapest call on this machine: some milliseconds of calls, with and without.
pub(super) fn hook_ns(hook: &Hook) -> u64 {
    const ROUNDS: u32 = 5;
    let mut best = [u64::MAX; 2];
    for _round in 0..ROUNDS {
        best[0] = best[0].min(batch());
        let Ok(attached) = hook.attach() else {
            return HOOK_NS;
        };
        best[1] = best[1].min(batch());
        drop(attached);
    }
    // A machine that is busy or stopped in between must not make it free, nor dear for ever.
    best[1].saturating_sub(best[0]).clamp(HOOK_NS / 3, HOOK_NS * 10)
}

/// ns a call.
fn batch() -> u64 {
    const CALLS: u32 = 500;
    let start = clock::boot();
    for _ in 0..CALLS {
        // SAFETY: takes nothing.
        unsafe { libc::syscall(libc::SYS_getppid) };
    }
    (clock::boot().since(start) / CALLS).as_nanos() as u64
}
