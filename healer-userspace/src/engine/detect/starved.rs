//! A process that could run and does not get the CPU: because others have it, or because a limit holds it back.
//! It is slow, not hung.

mod quotas;

use core::time::Duration;
use std::collections::BTreeMap;

use super::{Context, Detector, DetectorEntry, Finding, Subject};
use crate::{
    engine::{
        certificate::called,
        class::{Certainty, Class},
        diagnosis::{Detail, Diagnosis, Evidence},
        time::{BootTime, Human},
    },
    identity::process::{Process, ProcessId},
    signal::{
        Fact, Signal,
        levels::{LevelSnapshot, share},
        work::{Consumer, Work, WorkSnapshot},
    },
    text,
};
use quotas::Quotas;

pub(super) const ENTRY: DetectorEntry = DetectorEntry {
    name: "starved",
    classes: &[Class::Starved, Class::CpuThrottled],
    build: || Box::new(Starved::default()),
};

/// Of the time, what a thread of a starved process waits on a run queue.
const WAITS_PERCENT: u64 = 50;
/// Of its periods, in how many a limit must have held it back.
const THROTTLED_PERCENT: u64 = 50;
/// So long without a gap.
const LASTS: Duration = Duration::from_secs(5);
/// One better second is no recovery.
const ROUNDS_TO_CLEAR: u32 = 3;

/// How bad it is, in percent: of its periods held back, or of the time waited.
fn share_of(class: Class, work: &Work, wall_ms: u64) -> f64 {
    match (class, &work.throttled) {
        (Class::CpuThrottled, Some(limit)) => share(limit.throttled, limit.periods),
        (Class::CpuThrottled, None) => 0.0,
        _ => share(work.delay_ms, wall_ms),
    }
}

/// What this look says of one process.
pub(super) fn lack(work: &Work, wall_ms: u64) -> Option<Class> {
    let held_back = work
        .throttled
        .as_ref()
        .is_some_and(|limit| 0 < limit.periods && limit.periods * THROTTLED_PERCENT <= limit.throttled * 100);
    // A limit on others of its cgroup does not touch whoever wants nothing.
    let wants = 0 < work.runs || 0 < work.delay_ms;
    if held_back && wants {
        return Some(Class::CpuThrottled);
    }
    (0 < wall_ms && wall_ms * WAITS_PERCENT <= work.delay_ms * 100).then_some(Class::Starved)
}

#[derive(Default)]
struct Starved {
    watched: BTreeMap<(ProcessId, u32), Lacking>,
    /// Of whoever is not tracked.
    quotas: Quotas,
}

struct Lacking {
    class: Class,
    since: BootTime,
    ran_ms: u64,
    delay_ms: u64,
    periods: u64,
    throttled: u64,
    throttled_ms: u64,
    /// Looks without lack, the last ones.
    better: u32,
    raised: bool,
    comm: String,
}

impl Detector for Starved {
    fn observe(&mut self, context: &Context<'_>, signal: &Signal, found: &mut Vec<Finding>) {
        if let Fact::Work(snapshot) = &signal.fact {
            self.looked(context, signal.at, snapshot, found);
        } else if let Fact::Levels(snapshot) = &signal.fact {
            self.held_back(context, signal.at, snapshot, found);
        } else if let (Fact::Exited(_), Some(process)) = (&signal.fact, &signal.process) {
            self.drop_where(|(id, _), _| *id == process.id(), "has ended", found);
            self.quotas.ended(process.id(), found);
        }
    }
}

impl Starved {
    /// Of the tracked more is known: whether they want the CPU at all.
    fn held_back(
        &mut self,
        context: &Context<'_>,
        at: BootTime,
        snapshot: &LevelSnapshot,
        found: &mut Vec<Finding>,
    ) {
        let known = self.watched.iter().filter(|(_, lacking)| lacking.class == Class::CpuThrottled);
        let is_known = |server: &Process| {
            known.clone().any(|((id, _), _)| context.world.home_of(*id) == Some(&server.workload))
        };
        self.quotas.looked(context, at, &snapshot.quotas, &is_known, found);
    }

    fn looked(
        &mut self,
        context: &Context<'_>,
        at: BootTime,
        snapshot: &WorkSnapshot,
        found: &mut Vec<Finding>,
    ) {
        for lacking in self.watched.values_mut() {
            lacking.better += 1;
        }
        for work in &snapshot.processes {
            if let Some(class) = lack(work, snapshot.wall_ms) {
                self.lacks(context, at, class, work, snapshot, found);
            }
            let key = (work.process.id(), work.pid);
            if let Some(lacking) = self.watched.get(&key).filter(|lacking| lacking.raised) {
                let class = lacking.class;
                let level = Some(share_of(class, work, snapshot.wall_ms));
                found.push(Finding::Level { subject: Subject::Process(key.0, class), class, level });
            }
        }
        self.drop_where(|_, lacking| ROUNDS_TO_CLEAR <= lacking.better, "gets the CPU again", found);
    }

    fn lacks(
        &mut self,
        context: &Context<'_>,
        at: BootTime,
        class: Class,
        work: &Work,
        snapshot: &WorkSnapshot,
        found: &mut Vec<Finding>,
    ) {
        let lacking = self.watched.entry((work.process.id(), work.pid)).or_insert_with(|| Lacking {
            class,
            since: at - Duration::from_millis(snapshot.wall_ms),
            ran_ms: 0,
            delay_ms: 0,
            periods: 0,
            throttled: 0,
            throttled_ms: 0,
            better: 0,
            raised: false,
            comm: work.process.comm.clone(),
        });
        lacking.add(work);
        if !lacking.raised && LASTS <= at.since(lacking.since) {
            lacking.raised = true;
            lacking.class = class;
            let level = share_of(class, work, snapshot.wall_ms);
            found.push(raise(context, at, lacking, work, level, &snapshot.busiest));
        }
    }

    fn drop_where(
        &mut self,
        is_over: impl Fn(&(ProcessId, u32), &Lacking) -> bool,
        what: &str,
        found: &mut Vec<Finding>,
    ) {
        self.watched.retain(|key, lacking| {
            let over = is_over(key, lacking);
            if over && lacking.raised {
                let says = format!("{}[{}] {what}", text::printable(&lacking.comm), key.0.pid);
                let subject = Subject::Process(key.0, lacking.class);
                found.push(Finding::Cleared { subject, class: lacking.class, says });
            }
            !over
        });
    }
}

impl Lacking {
    fn add(&mut self, work: &Work) {
        self.better = 0;
        self.ran_ms += work.ran_ms;
        self.delay_ms += work.delay_ms;
        if let Some(limit) = &work.throttled {
            self.periods += limit.periods;
            self.throttled += limit.throttled;
            self.throttled_ms += limit.throttled_ms;
        }
    }

    fn sentence(&self, at: BootTime, work: &Work, busiest: &[Consumer]) -> String {
        let who = called(&work.process);
        let (over, ran) = (Human(at.since(self.since)), ms(self.ran_ms));
        let member = match work.pid == work.process.pid {
            true => String::new(),
            false => format!(" (its process {}[{}])", text::printable(&work.comm), work.pid),
        };
        if self.class == Class::CpuThrottled {
            let cgroup = work.throttled.as_ref().map_or("", |limit| limit.cgroup.as_str());
            return format!(
                "{who}{member} is held back by the CPU limit of {}: throttled in {} of {} periods over {over}, ran {ran}",
                text::printable(cgroup),
                self.throttled,
                self.periods,
            );
        }
        let users: Vec<_> = busiest.iter().map(consumer).collect();
        let users = if users.is_empty() { "nobody in particular".to_owned() } else { users.join(", ") };
        let waited = Human(Duration::from_millis(self.delay_ms).min(at.since(self.since)));
        format!("{who}{member} waited {waited} of {over} for a CPU and ran {ran}; the CPU has {users}")
    }
}

fn consumer(user: &Consumer) -> String {
    format!("{}[{}] in {}", text::printable(&user.comm), user.pid, text::printable(&user.cgroup))
}

fn ms(milliseconds: u64) -> Human {
    Human(Duration::from_millis(milliseconds))
}

fn raise(
    context: &Context<'_>,
    at: BootTime,
    lacking: &Lacking,
    work: &Work,
    level: f64,
    busiest: &[Consumer],
) -> Finding {
    let sentence = lacking.sentence(at, work, busiest);
    let signal = if lacking.class == Class::CpuThrottled { "cpu.stat" } else { "schedstat" };
    let says = format!(
        "{} periods, {} throttled ({} in all), run-queue delay {}, ran {}",
        lacking.periods,
        lacking.throttled,
        ms(lacking.throttled_ms),
        ms(lacking.delay_ms),
        ms(lacking.ran_ms)
    );
    Finding::Raised {
        subject: Subject::Process(work.process.id(), lacking.class),
        diagnosis: Box::new(Diagnosis {
            class: lacking.class,
            // The scheduler's own counters.
            certainty: Certainty::Proved,
            target: work.process.clone(),
            related: Vec::new(),
            fault_at: lacking.since,
            detected_at: context.now,
            sentence,
            evidence: vec![Evidence { signal: signal.to_owned(), at, says }],
            lost: 0,
            from_absence: false,
            detail: Detail { evidence_count: 1, level: Some(level), ..Detail::default() },
        }),
    }
}
