//! One process: did its threads run, did they get the CPU, and may it run at all?

use core::time::Duration;
use std::{collections::BTreeMap, fs, path::Path};

use healer_common::task_scan::TaskRecord;

use crate::{
    engine::time::BootTime,
    identity::procfs::{self, ProcDir},
    sense::{freezer::Freezers, poll::cpu::SchedStat, waits::Proc},
    signal::{calls, work::Life},
};

/// Threads of one process that are looked at, at most: 4 µs each.
const THREADS_MAX: usize = 256;
/// Of the time, what a thread that spins wants of a CPU.
const SPINS_PERCENT: u32 = 90;
/// Of one that spun before: what it waits for now is counted when it gets the CPU, but had it slept, it would have given
/// up the CPU of its own accord.
const SPINS_ON_PERCENT: u32 = 10;
/// Longer than timers tick that do no work.
const STILL: Duration = Duration::from_secs(10);
/// Threads of one process that are asked what they sleep in, at most.
const ASKED_MAX: usize = 32;

/// epoll_wait(2), as servers of one loop call it. Go's network poller, in which any thread may rest, has the other call;
/// other processors than x86-64 have that one alone, and there only a single thread is told from Go's.
const TELLS_LOOPS: bool = cfg!(target_arch = "x86_64");
const LOOPS: i32 = if TELLS_LOOPS { calls::EPOLL_WAIT } else { calls::EPOLL_PWAIT };

/// What its threads did up to the last look.
#[derive(Default)]
pub(super) struct Member {
    threads: BTreeMap<u32, Thread>,
    looked: Option<BootTime>,
}

#[derive(Clone, Copy, Default)]
struct Thread {
    stat: SchedStat,
    /// Read only of threads that want a CPU all the time; `None` after one that slept.
    voluntary: Option<u64>,
    /// It was not seen to run since.
    still: BootTime,
    /// When it was last seen to have run, or was new in a process that was known.
    ran: Option<BootTime>,
}

/// Since the look before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Look {
    pub(super) threads: u32,
    pub(super) ran: Duration,
    pub(super) runs: u64,
    pub(super) spinning: u32,
    pub(super) delay: Duration,
    /// The kernel counts the runs of each of them.
    pub(super) sees_all: bool,
}

impl Member {
    /// One of its threads has slept for long, until a time that it has set: it goes on without anybody's help.
    pub(super) fn sleeps_for_a_time(&self, proc: &Path, pid: u32) -> bool {
        let Some(now) = self.looked else { return false };
        let still = self.threads.iter().filter(|(_, thread)| STILL <= now.since(thread.still));
        let proc = Proc::new(proc);
        still.take(ASKED_MAX).filter_map(|(tid, _)| proc.call(pid, *tid)).any(|record| has_end(&record))
    }

    /// Its first thread sleeps until something happens at one of many descriptors, and would take it: it has come round
    /// since the look before, and no other thread can have what was asked `oldest` ago. A loop that does not come round
    /// may wait for a word that will not come.
    pub(super) fn is_at_its_loop(&self, proc: &Path, pid: u32, oldest: Duration) -> bool {
        let has_come_round = || self.threads.get(&pid).is_some_and(|first| self.looked == Some(first.still));
        let is_alone = self.only_thread() == Some(pid);
        has_come_round()
            && (is_alone || TELLS_LOOPS && self.others_rest(pid, oldest))
            && Proc::new(proc).call(pid, pid).is_some_and(|record| record.syscall == LOOPS)
    }

    fn others_rest(&self, pid: u32, oldest: Duration) -> bool {
        let Some(now) = self.looked else { return false };
        let mut others = self.threads.iter().filter(|(tid, _)| **tid != pid).map(|(_, thread)| thread);
        let rests = |thread: &Thread| thread.ran.is_none_or(|ran| ran < now - oldest);
        self.threads.len() < THREADS_MAX && others.all(rests)
    }

    /// If it has but one.
    pub(super) fn only_thread(&self) -> Option<u32> {
        let mut all = self.threads.keys();
        all.next().copied().filter(|_| all.next().is_none())
    }

    /// `None` at first sight, and once the process is gone.
    pub(super) fn look(&mut self, proc: &Path, pid: u32, now: BootTime) -> Option<Look> {
        let tasks = proc.join(format!("{pid}/task"));
        let mut tids: Vec<u32> = procfs::pids(&tasks).collect();
        tids.sort_unstable();
        let mut look = Look { threads: tids.len() as u32, ..Look::default() };
        let before = self.looked.replace(now);
        let wall = before.map_or(Duration::ZERO, |before| now.since(before));
        let mut threads = BTreeMap::new();
        for tid in tids.into_iter().take(THREADS_MAX) {
            let known = self.threads.get(&tid).copied();
            if let Some(thread) = thread(&tasks.join(tid.to_string()), known, now, wall, &mut look) {
                threads.insert(tid, thread);
            }
        }
        self.threads = threads;
        let all = self.threads.len() as u32 == look.threads;
        look.sees_all = all && self.threads.values().any(|thread| 0 < thread.stat.runs);
        (before.is_some() && !self.threads.is_empty()).then_some(look)
    }
}

fn thread(
    task: &Path,
    known: Option<Thread>,
    now: BootTime,
    wall: Duration,
    look: &mut Look,
) -> Option<Thread> {
    let stat = SchedStat::parse(&fs::read_to_string(task.join("schedstat")).ok()?)?;
    let before = known.unwrap_or_default();
    let since = |now: u64, before: u64| Duration::from_nanos(now.saturating_sub(before));
    let ran = since(stat.ran_ns, before.stat.ran_ns);
    let delay = since(stat.delay_ns, before.stat.delay_ns);
    look.ran += ran;
    look.delay = look.delay.max(delay);
    let runs = stat.runs.saturating_sub(before.stat.runs);
    look.runs += runs;
    let wants = |percent| known.is_some() && wall * percent / 100 <= ran + delay;
    let enough = if before.voluntary.is_some() { SPINS_ON_PERCENT } else { SPINS_PERCENT };
    let voluntary = if wants(enough) { voluntary_switches(task) } else { None };
    let spins = voluntary.is_some() && voluntary == before.voluntary;
    look.spinning += u32::from(spins);
    let voluntary = voluntary.filter(|_| spins || wants(SPINS_PERCENT));
    let still = if known.is_none() || 0 < runs { now } else { before.still };
    let is_new = known.is_none() && !wall.is_zero();
    let ran = if is_new || known.is_some() && 0 < runs { Some(now) } else { before.ran };
    Some(Thread { stat, voluntary, still, ran })
}

fn voluntary_switches(task: &Path) -> Option<u64> {
    let status = fs::read_to_string(task.join("status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
    line.trim().parse().ok()
}

/// Stopped, traced or frozen: then nothing that it does not do is its own fault.
pub fn life(proc: &Path, cgroup: &Path, pid: u32) -> Life {
    life_by(&mut Freezers::new(cgroup), proc, pid)
}

/// The same of one of many: the cgroups that they share are read once.
pub(crate) fn life_by(freezers: &mut Freezers, proc: &Path, pid: u32) -> Life {
    let state = ProcDir::open(proc, pid).and_then(|dir| dir.stat()).map(|stat| stat.state);
    if tracer(proc, pid) != 0 || state == Some(b't') {
        return Life::Traced;
    }
    if state == Some(b'T') {
        return Life::Stopped;
    }
    if freezers.of(proc, pid).is_some() { Life::Frozen } else { Life::Free }
}

/// The system calls that take a time, by the table of x86-64 and as far as their first four arguments tell. Not futex:
/// runtimes rest in it for a time of their own (Go's sysmon, the JVM's cleaner).
fn has_end(record: &TaskRecord) -> bool {
    use calls::{
        CLOCK_NANOSLEEP, EPOLL_PWAIT, EPOLL_PWAIT2, EPOLL_WAIT, NANOSLEEP, POLL, PPOLL, PSELECT6,
        RT_SIGTIMEDWAIT, SELECT, SEMTIMEDOP,
    };
    let by_millis = |millis: u64| 0 < millis as i32;
    match record.syscall {
        NANOSLEEP | CLOCK_NANOSLEEP => true,
        // Of no descriptor at all: that it waits for the time is all it can.
        SELECT | PSELECT6 => record.arg0 == 0,
        EPOLL_WAIT | EPOLL_PWAIT => by_millis(record.arg3),
        POLL => by_millis(record.arg2),
        EPOLL_PWAIT2 | SEMTIMEDOP => record.arg3 != 0,
        PPOLL | RT_SIGTIMEDWAIT => record.arg2 != 0,
        _ => false,
    }
}

/// Its first thread wants a CPU now.
pub(super) fn is_runnable(proc: &Path, pid: u32) -> bool {
    ProcDir::open(proc, pid).and_then(|dir| dir.stat()).is_some_and(|stat| stat.state == b'R')
}

fn tracer(proc: &Path, pid: u32) -> u32 {
    let status = fs::read_to_string(proc.join(format!("{pid}/status"))).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("TracerPid:"));
    line.and_then(|tracer| tracer.trim().parse().ok()).unwrap_or(0)
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;
    use crate::identity::fixture::Tree;

    const EPOLL_WAIT: &str = "232 0x5 0x7ffd 0x10 0x64 0x0 0x0 0x7ffd 0x7f01\n";
    const EPOLL_PWAIT: &str = "281 0x5 0x7ffd 0x10 0x64 0x0 0x0 0x7ffd 0x7f01\n";
    const FUTEX: &str = "202 0x55 0x80 0x0 0x0 0x0 0x0 0x7ffd 0x7f01\n";

    /// After two looks at process 7: what its threads sleep in, and whether they have run in between.
    fn is_at_its_loop(threads: &[(u32, &str, bool)]) -> bool {
        let tree = Tree::new();
        let proc = tree.root().join("proc");
        let mut member = Member::default();
        for round in 1..3_u64 {
            for (tid, call, has_run) in threads {
                let runs = if *has_run { round } else { 1 };
                let file = |name: &str, text: &str| tree.file(&format!("proc/7/task/{tid}/{name}"), text);
                file("schedstat", &format!("{runs}000 0 {runs}\n"));
                file("syscall", call);
            }
            let look = member.look(&proc, 7, BootTime(round * 1_000_000_000));
            assert_eq!(look.is_some(), round == 2);
        }
        member.is_at_its_loop(&proc, 7, Duration::from_secs(1))
    }

    #[test]
    fn who_comes_round_is_at_its_loop_and_who_waits_for_a_lock_is_not() {
        assert!(is_at_its_loop(&[(7, EPOLL_WAIT, true), (8, FUTEX, false)]), "redis");
        assert!(is_at_its_loop(&[(7, EPOLL_WAIT, true)]), "the only thread");
        assert!(!is_at_its_loop(&[(7, EPOLL_WAIT, false)]), "asyncio, whose handlers wait for a lock");
        assert!(!is_at_its_loop(&[(7, EPOLL_WAIT, false), (8, FUTEX, false)]), "others may be to answer");
        assert!(!is_at_its_loop(&[(7, FUTEX, true), (8, EPOLL_WAIT, true)]), "the JVM");
        assert!(!is_at_its_loop(&[(7, EPOLL_PWAIT, true), (8, FUTEX, false)]), "Go");
        assert!(!is_at_its_loop(&[(7, EPOLL_WAIT, true), (8, FUTEX, true)]), "the other may have it");
        assert!(!is_at_its_loop(&[(7, "running\n", true)]));
    }
}
