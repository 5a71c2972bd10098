//! A server's queue of connections to be accepted is full: the kernel drops who comes, without a word to either side.
//! It is the server's own problem, whatever its clients make of it.

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
    identity::process::ProcessId,
    signal::{
        Fact, Signal,
        levels::share,
        work::{Backlog, Work, WorkSnapshot},
    },
};

pub(super) const ENTRY: DetectorEntry = DetectorEntry {
    name: "listen_overflow",
    classes: &[Class::ListenOverflow],
    build: || Box::new(ListenOverflow::default()),
};

/// A burst fills a queue for a moment.
const LASTS: Duration = Duration::from_secs(2);
/// One better second is no recovery.
const ROUNDS_TO_CLEAR: u32 = 3;

/// A server that is too slow has room for a moment after each connection that it takes.
const TIMES: u32 = 3;

#[derive(Default)]
struct ListenOverflow {
    watched: BTreeMap<(ProcessId, u16), Full>,
}

struct Full {
    since: BootTime,
    missing: u32,
    times: u32,
    raised: bool,
    called: String,
}

impl Detector for ListenOverflow {
    fn observe(&mut self, context: &Context<'_>, signal: &Signal, found: &mut Vec<Finding>) {
        if let Fact::Work(snapshot) = &signal.fact {
            self.looked(context, signal.at, snapshot, found);
        } else if let (Fact::Exited(_), Some(process)) = (&signal.fact, &signal.process) {
            self.clear(|(id, _), _| *id == process.id(), "has ended", found);
        }
    }
}

impl ListenOverflow {
    fn looked(
        &mut self,
        context: &Context<'_>,
        at: BootTime,
        snapshot: &WorkSnapshot,
        found: &mut Vec<Finding>,
    ) {
        for full in self.watched.values_mut() {
            full.missing += 1;
        }
        for work in &snapshot.processes {
            let Some(backlog) = work.backlog.as_ref().filter(|backlog| backlog.is_full()) else {
                continue;
            };
            let full = self.watched.entry((work.process.id(), backlog.port)).or_insert_with(|| Full {
                since: at,
                missing: 0,
                times: 0,
                raised: false,
                called: called(&work.process),
            });
            full.missing = 0;
            full.times += 1;
            if full.raised {
                let (subject, level) = (subject(work.process.id()), Some(level(backlog)));
                found.push(Finding::Level { subject, class: Class::ListenOverflow, level });
            }
            if LASTS <= at.since(full.since) && TIMES <= full.times && !full.raised {
                full.raised = true;
                found.push(raised(context, at, full, work, backlog));
            }
        }
        // Nothing is known of them: not even that it is over.
        let blind = |id: &ProcessId| snapshot.unseen.iter().any(|one| one.process.id() == *id);
        for ((id, _), full) in &mut self.watched {
            if blind(id) {
                full.missing = 0;
            }
        }
        self.clear(|_, full| ROUNDS_TO_CLEAR <= full.missing, "accepts connections again", found);
    }

    fn clear(
        &mut self,
        is_over: impl Fn(&(ProcessId, u16), &Full) -> bool,
        what: &str,
        found: &mut Vec<Finding>,
    ) {
        let over: Vec<_> = self.watched.extract_if(.., |key, full| is_over(key, full)).collect();
        for ((id, _), full) in over.into_iter().filter(|(_, full)| full.raised) {
            // Of several ports of one process, the last says so.
            let another = self.watched.iter().any(|((other, _), full)| *other == id && full.raised);
            if !another {
                found.push(Finding::Cleared {
                    subject: subject(id),
                    class: Class::ListenOverflow,
                    says: format!("{} {what}", full.called),
                });
            }
        }
    }
}

fn subject(id: ProcessId) -> Subject {
    Subject::Process(id, Class::ListenOverflow)
}

/// Of what the queue holds.
fn level(backlog: &Backlog) -> f64 {
    share(u64::from(backlog.waiting), u64::from(backlog.limit) + 1)
}

fn raised(context: &Context<'_>, at: BootTime, full: &Full, work: &Work, backlog: &Backlog) -> Finding {
    let Backlog { port, waiting, limit, oldest_ms, .. } = backlog;
    let oldest = Duration::from_millis(*oldest_ms);
    let how_long = if LASTS <= oldest {
        format!("it has not become shorter in {}", Human(oldest))
    } else {
        format!("it was full in {} looks within {}", full.times, Human(at.since(full.since)))
    };
    let sentence = format!(
        "{} does not keep up with its connections: {waiting} wait on port {port}, its queue holds {} (listen was told \
         {limit}); {how_long}, and whoever comes now is dropped",
        full.called,
        u64::from(*limit) + 1,
    );
    let evidence = Evidence { signal: "sockets".to_owned(), at, says: sentence.clone() };
    Finding::Raised {
        subject: subject(work.process.id()),
        diagnosis: Box::new(Diagnosis {
            class: Class::ListenOverflow,
            certainty: Certainty::Proved,
            target: work.process.clone(),
            related: Vec::new(),
            fault_at: full.since,
            detected_at: context.now,
            sentence,
            evidence: vec![evidence],
            lost: 0,
            from_absence: false,
            detail: Detail {
                evidence_count: 1,
                level: Some(level(backlog)),
                proof: Some(serde_json::json!({"port": port, "waiting": waiting, "limit": limit})),
                ..Detail::default()
            },
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        engine::{memory::Memory, policy::PolicySet, world::World},
        identity::process::Process,
    };

    fn look(detector: &mut ListenOverflow, second: u64, ports: &[u16]) -> Vec<bool> {
        let (at, process) = (BootTime(second * 1_000_000_000), Process { pid: 7, ..Process::default() });
        let (world, memory, policies) = (World::default(), Memory::default(), PolicySet::default());
        let context =
            Context { now: at, world: &world, memory: &memory, policies: &policies, certificate: None };
        let full = |port: &u16| Work {
            process: process.clone(),
            backlog: Some(Backlog {
                port: *port,
                waiting: 9,
                limit: 8,
                oldest_ms: 2000,
                ..Backlog::default()
            }),
            ..Work::default()
        };
        let processes = ports.iter().map(full).collect();
        let mut found = Vec::new();
        detector.looked(&context, at, &WorkSnapshot { processes, ..WorkSnapshot::default() }, &mut found);
        found
            .iter()
            .filter(|one| !matches!(one, Finding::Level { .. }))
            .map(|one| matches!(one, Finding::Raised { .. }))
            .collect()
    }

    #[test]
    fn one_of_two_full_ports_that_is_well_again_does_not_end_it() {
        let mut detector = ListenOverflow::default();
        let raised = (0..4).flat_map(|second| look(&mut detector, second, &[80, 443])).collect::<Vec<_>>();
        assert_eq!(raised, [true, true]);
        let one_well = (4..10).flat_map(|second| look(&mut detector, second, &[443])).collect::<Vec<_>>();
        assert_eq!(one_well, [false; 0]);
        let both_well = (10..16).flat_map(|second| look(&mut detector, second, &[])).collect::<Vec<_>>();
        assert_eq!(both_well, [false]);
    }
}
