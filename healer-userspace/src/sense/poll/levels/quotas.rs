//! Cgroups that their CPU quota holds back, and who in them wants the CPU.

use core::time::Duration;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use super::{WORTH_SAYING_PERCENT, walk};
use crate::{
    engine::time::BootTime,
    identity::{process::ProcessId, procfs::ProcDir},
    sense::poll::{
        cpu::{CpuStat, Kept},
        memory::members,
    },
    signal::levels::{CpuUser, Quota, percent},
};

/// Who wants the CPU is asked so often, and of so many cgroups in one look: 10 µs a process.
const USERS_EVERY: Duration = Duration::from_secs(4);
/// After so many questions it is decided if anybody waits, and a batch job may be at its quota for days.
const QUESTIONS_SOON: u32 = 3;
const USERS_LATER: Duration = Duration::from_secs(30);
const ASKED_AT_ONCE: usize = 4;
const MEMBERS_MAX: usize = 64;
const TOLD: usize = 3;
/// So many better looks in a row, and who wants the CPU is forgotten: as many as end what is told (`starved/quotas.rs`).
const CALM_LOOKS: u32 = 3;

pub(super) struct Quotas {
    proc: PathBuf,
    mount: PathBuf,
    groups: BTreeMap<PathBuf, Group>,
}

#[derive(Default)]
struct Group {
    /// Of one CPU.
    quota_percent: u64,
    before: Option<(BootTime, CpuStat)>,
    /// Looks in which it was not held back much, the last ones.
    calm: u32,
    users: Users,
}

#[derive(Default)]
struct Users {
    asked: Option<BootTime>,
    questions: u32,
    /// CPU time of each so far, in milliseconds.
    ran: BTreeMap<ProcessId, u64>,
    /// CPU time of the whole cgroup so far, in milliseconds, if the kernel tells.
    all_ran: Option<u64>,
    told: Vec<CpuUser>,
}

impl Quotas {
    pub(super) fn new(proc: &Path, cgroup: &Path) -> Self {
        Self { proc: proc.to_owned(), mount: walk::mount(cgroup, "cpu"), groups: BTreeMap::new() }
    }

    /// From now on these, and what they have; who was among them before is known.
    pub(super) fn watch(&mut self, quotas: BTreeMap<PathBuf, u64>) {
        let mut known = core::mem::take(&mut self.groups);
        self.groups.extend(quotas.into_iter().map(|(dir, quota_percent)| {
            let group = known.remove(&dir).unwrap_or_default();
            (dir, Group { quota_percent, ..group })
        }));
    }

    /// Those that were held back in most of their periods since the look before.
    pub(super) fn look(&mut self, now: BootTime) -> Vec<Quota> {
        let mut held: Vec<(Quota, &PathBuf, &mut Group)> = Vec::new();
        for (dir, group) in &mut self.groups {
            if let Some(quota) = group.held_back(now, dir) {
                held.push((quota, dir, group));
            }
        }
        held.sort_by_key(|(_, _, group)| group.users.asked);
        let due = held.iter_mut().filter(|(_, _, group)| group.users.is_due(now));
        for (_, dir, group) in due.take(ASKED_AT_ONCE) {
            group.users.ask(now, &self.proc, dir);
        }
        let mount = &self.mount;
        let told = held.into_iter().map(|(quota, dir, group)| {
            let inside = dir.strip_prefix(mount).unwrap_or(dir);
            Quota { cgroup: format!("/{}", inside.display()), users: group.users.told.clone(), ..quota }
        });
        told.collect()
    }
}

/// Percent of one CPU: `cpu.max` of v2, or two files of v1 (Documentation/scheduler/sched-bwc.rst); `None` without one.
pub(super) fn quota_of(dir: &Path) -> Option<u64> {
    let read = |name: &str| Kept::open(&dir.join(name))?.read();
    let text = read("cpu.max").or_else(|| Some(read("cpu.cfs_quota_us")? + &read("cpu.cfs_period_us")?))?;
    // `max` and -1 are no numbers of this kind.
    let mut numbers = text.split_ascii_whitespace().map_while(|number| number.parse::<u64>().ok());
    numbers.next()?.saturating_mul(100).checked_div(numbers.next()?)
}

impl Group {
    /// Who is held back most of the time has a better second now and then, and is no stranger after it.
    fn held_back(&mut self, now: BootTime, dir: &Path) -> Option<Quota> {
        let held = self.since_before(now, dir);
        self.calm = if held.is_none() { self.calm.saturating_add(1) } else { 0 };
        if CALM_LOOKS <= self.calm {
            self.users = Users::default();
        }
        held
    }

    /// What the quota did since the look before; `None` if that was not much.
    fn since_before(&mut self, now: BootTime, dir: &Path) -> Option<Quota> {
        // Opened anew: one that is kept costs a descriptor each, and tells no more (ENODEV) of a cgroup that its
        // owner removes and makes again under the same name.
        let stat = CpuStat::parse(&Kept::open(&dir.join("cpu.stat"))?.read()?);
        let (at, before) = self.before.replace((now, stat))?;
        let since = stat.since(before);
        if percent(since.throttled, since.periods) < WORTH_SAYING_PERCENT {
            return None;
        }
        Some(Quota {
            over_ms: u64::try_from(now.since(at).as_millis()).unwrap_or(u64::MAX),
            quota_percent: self.quota_percent,
            periods: since.periods,
            throttled: since.throttled,
            throttled_ms: since.throttled_ns / 1_000_000,
            ..Quota::default()
        })
    }
}

impl Users {
    fn is_due(&self, now: BootTime) -> bool {
        let pause = if self.questions < QUESTIONS_SOON { USERS_EVERY } else { USERS_LATER };
        self.asked.is_none_or(|at| pause <= now.since(at))
    }

    /// Nobody is told unless those asked are who uses it: it may have others, or some that have ended.
    fn ask(&mut self, now: BootTime, proc: &Path, dir: &Path) {
        let last = self.asked.replace(now);
        self.questions = self.questions.saturating_add(1);
        let pids = members(dir);
        let are_all = pids.len() <= MEMBERS_MAX;
        let ran = pids.into_iter().take(MEMBERS_MAX).filter_map(|pid| ran_by(proc, pid)).collect();
        let mut users = self.since_before(ran, last);
        let before = core::mem::replace(&mut self.all_ran, ran_in(dir));
        // Less than before: it was removed and made again.
        let ran = |(now_ms, before): (u64, u64)| if now_ms < before { now_ms } else { now_ms - before };
        let all = self.all_ran.zip(before).map(ran);
        let asked: u64 = users.iter().map(|user| user.ran_ms).sum();
        if !all.map_or(are_all, |all| all <= asked.saturating_mul(2)) {
            users.clear();
        }
        users.sort_by_key(|user| core::cmp::Reverse(user.ran_ms));
        users.truncate(TOLD);
        self.told = users;
    }

    /// Of whoever is met now what it ran in its life is no news, unless it has begun since the last question.
    fn since_before(&mut self, ran: BTreeMap<ProcessId, u64>, last: Option<BootTime>) -> Vec<CpuUser> {
        let before = core::mem::replace(&mut self.ran, ran);
        let mut users: Vec<CpuUser> = Vec::new();
        for (id, now_ms) in &self.ran {
            let began = || if last.is_some_and(|last| last <= id.start) { 0 } else { *now_ms };
            let ran_ms = now_ms.saturating_sub(before.get(id).copied().unwrap_or_else(began));
            if 0 < ran_ms {
                users.push(CpuUser { pid: id.pid, ran_ms, ..CpuUser::default() });
            }
        }
        users
    }
}

/// CPU time of a cgroup and all below it: v2 tells it in `cpu.stat`, v1 beside it where `cpu` and `cpuacct` are mounted
/// together, as they mostly are.
fn ran_in(dir: &Path) -> Option<u64> {
    let read = |name: &str| fs::read_to_string(dir.join(name)).ok();
    let stat = read("cpu.stat")?;
    let of_v2 = |line: &str| line.strip_prefix("usage_usec ")?.trim().parse::<u64>().ok();
    if let Some(micros) = stat.lines().find_map(of_v2) {
        return Some(micros / 1000);
    }
    let nanos: u64 = read("cpuacct.usage")?.trim().parse().ok()?;
    Some(nanos / 1_000_000)
}

fn ran_by(proc: &Path, pid: u32) -> Option<(ProcessId, u64)> {
    let dir = ProcDir::open(proc, pid)?;
    let start = dir.stat()?.start;
    Some((ProcessId { pid, start }, dir.cpu_ms()?))
}

#[cfg(test)]
mod tests;
