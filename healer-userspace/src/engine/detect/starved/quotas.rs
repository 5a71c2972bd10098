//! A server that nobody tracks, held back by the CPU quota of its cgroup. A job that uses up its quota does as it was
//! meant to: only of whoever serves somebody waits.

use core::time::Duration;
use std::collections::BTreeMap;

use super::super::{Context, Finding, Subject};
use crate::{
    engine::{
        certificate::called,
        class::{Certainty, Class},
        diagnosis::{Detail, Diagnosis, Evidence},
        time::{BootTime, Human},
    },
    identity::process::{Process, ProcessId},
    signal::levels::{CpuUser, Quota, percent, share},
    text,
};

/// Of its periods, in how many it must have been held back.
const PERIODS_PERCENT: u64 = 50;
/// And for how long, of the time that its quota gives it, or of one CPU's if that is more: the kernel sums over CPUs, so
/// that moments on many are much. How many CPUs the node has is no measure: one thread is held back on one.
const TIME_PERCENT: u64 = 20;
const ONE_CPU_PERCENT: u64 = 100;
/// So long without a gap: nobody has said that it matters.
const LASTS: Duration = Duration::from_secs(10);
/// One better look is no recovery.
const LOOKS_TO_CLEAR: u32 = 3;
const CGROUPS_MAX: usize = 1024;

/// By cgroup.
#[derive(Default)]
pub(super) struct Quotas {
    held: BTreeMap<String, Held>,
}

struct Held {
    since: BootTime,
    periods: u64,
    throttled: u64,
    throttled_ms: u64,
    /// Looks that no longer told of it, the last ones.
    missing: u32,
    told_of: Option<Process>,
}

impl Quotas {
    /// `is_known`: it is told of already.
    pub(super) fn looked(
        &mut self,
        context: &Context<'_>,
        at: BootTime,
        quotas: &[Quota],
        is_known: &dyn Fn(&Process) -> bool,
        found: &mut Vec<Finding>,
    ) {
        for held in self.held.values_mut() {
            held.missing += 1;
        }
        for quota in quotas.iter().filter(|quota| is_hard(quota)) {
            self.held_back(context, at, quota, is_known, found);
        }
        self.drop_where(|held| LOOKS_TO_CLEAR <= held.missing, "gets the CPU again", found);
    }

    pub(super) fn ended(&mut self, id: ProcessId, found: &mut Vec<Finding>) {
        self.drop_where(|held| held.is_of(id), "has ended", found);
    }

    fn held_back(
        &mut self,
        context: &Context<'_>,
        at: BootTime,
        quota: &Quota,
        is_known: &dyn Fn(&Process) -> bool,
        found: &mut Vec<Finding>,
    ) {
        if CGROUPS_MAX <= self.held.len() && !self.held.contains_key(&quota.cgroup) {
            return;
        }
        let began = at - Duration::from_millis(quota.over_ms);
        let held = self.held.entry(quota.cgroup.clone()).or_insert_with(|| Held::new(began));
        held.add(quota);
        if let Some(server) = &held.told_of {
            let level = Some(share(quota.throttled, quota.periods));
            found.push(Finding::Level { subject: subject(server), class: Class::CpuThrottled, level });
            return;
        }
        if at.since(held.since) < LASTS {
            return;
        }
        let server = server(context, quota).filter(|server| !is_known(server));
        // Of nested cgroups one is enough.
        let is_news = |server: &&Process| self.held.values().all(|held| !held.is_of(server.id()));
        if let Some(server) = server.filter(is_news)
            && let Some(held) = self.held.get_mut(&quota.cgroup)
        {
            held.told_of = Some(server.clone());
            found.push(raise(context, at, server, held, quota));
        }
    }

    fn drop_where(&mut self, is_over: impl Fn(&Held) -> bool, what: &str, found: &mut Vec<Finding>) {
        self.held.retain(|_, held| {
            let is_over = is_over(held);
            if let Some(server) = held.told_of.as_ref().filter(|_| is_over) {
                let says = format!("{} {what}", called(server));
                found.push(Finding::Cleared { subject: subject(server), class: Class::CpuThrottled, says });
            }
            !is_over
        });
    }
}

impl Held {
    fn new(since: BootTime) -> Self {
        Self { since, periods: 0, throttled: 0, throttled_ms: 0, missing: 0, told_of: None }
    }

    fn add(&mut self, quota: &Quota) {
        self.missing = 0;
        self.periods += quota.periods;
        self.throttled += quota.throttled;
        self.throttled_ms += quota.throttled_ms;
    }

    fn is_of(&self, id: ProcessId) -> bool {
        self.told_of.as_ref().is_some_and(|server| server.id() == id)
    }
}

fn is_hard(quota: &Quota) -> bool {
    let cpus_percent = quota.quota_percent.max(ONE_CPU_PERCENT);
    let may_use_ms = quota.over_ms.saturating_mul(cpus_percent) / ONE_CPU_PERCENT;
    PERIODS_PERCENT <= percent(quota.throttled, quota.periods)
        && TIME_PERCENT <= percent(quota.throttled_ms, may_use_ms)
}

/// Who runs most in it, or the parent whose worker that is, if it has listened and is no job.
fn server<'a>(context: &Context<'a>, quota: &Quota) -> Option<&'a Process> {
    let heaviest = &quota.users.first()?.process;
    let topology = context.world.topology();
    let by = |id: ProcessId| topology.server_by(id).filter(|server| server.pid != 0);
    let server = by(heaviest.id()).or_else(|| by(master(heaviest)?))?;
    let workload = context.world.get(&server.workload);
    workload.is_none_or(|workload| !workload.is_meant_to_end).then_some(server)
}

/// A worker runs its parent's program.
fn master(worker: &Process) -> Option<ProcessId> {
    let parent = worker.parent.as_ref()?;
    let is_same = worker.exe.is_some() && worker.exe == parent.exe;
    is_same.then_some(ProcessId { pid: parent.pid, start: parent.start })
}

fn subject(server: &Process) -> Subject {
    Subject::Process(server.id(), Class::CpuThrottled)
}

fn raise(context: &Context<'_>, at: BootTime, server: &Process, held: &Held, quota: &Quota) -> Finding {
    let (cgroup, over) = (text::printable(&quota.cgroup), Human(at.since(held.since)));
    let share_of_periods = percent(held.throttled, held.periods);
    let sentence = format!(
        "{} is held back by the CPU limit of {cgroup} ({}% of a CPU): throttled in {} of {} periods \
         ({share_of_periods}%) over {over}; the CPU has {}",
        called(server),
        quota.quota_percent,
        held.throttled,
        held.periods,
        users(&quota.users),
    );
    let lost = Human(Duration::from_millis(held.throttled_ms));
    let says = format!("{} periods, {} throttled ({lost}, summed over CPUs)", held.periods, held.throttled);
    Finding::Raised {
        subject: subject(server),
        diagnosis: Box::new(Diagnosis {
            class: Class::CpuThrottled,
            // That it is held back is sure, that somebody minds is not: nobody has named it.
            certainty: Certainty::Suspected,
            target: server.clone(),
            related: Vec::new(),
            fault_at: held.since,
            detected_at: context.now,
            sentence,
            evidence: vec![Evidence { signal: "cpu.stat".to_owned(), at, says }],
            lost: 0,
            from_absence: false,
            detail: Detail {
                evidence_count: 1,
                level: Some(share(quota.throttled, quota.periods)),
                ..Detail::default()
            },
        }),
    }
}

fn users(users: &[CpuUser]) -> String {
    let user = |user: &CpuUser| format!("{}[{}]", text::printable(&user.process.comm), user.pid);
    users.iter().map(user).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
