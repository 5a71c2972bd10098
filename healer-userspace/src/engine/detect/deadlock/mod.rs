//! Threads that can never run again, proved from who waits for whom.
//!
//! One snapshot is a suspicion: it is confirmed when the next one shows the same threads, with unchanged switch
//! counts, at the same words of the same locks. Evidence from stacks needs three rounds and ten seconds.

mod convoy;
mod cores;
pub mod graph;
pub mod proof;
#[cfg(test)]
mod tests;

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use super::{Context, Detector, DetectorEntry, Finding, Subject};
use crate::{
    engine::{
        class::{Certainty, Class},
        diagnosis::{Detail, Diagnosis, Evidence},
        policy::PolicySet,
        time::BootTime,
    },
    identity::process::ProcessId,
    signal::{Fact, Signal, waits::WaitSnapshot},
    text,
};
use graph::Graph;
use proof::{Proof, proofs};

pub use convoy::{Convoy, Root, convoys};

pub(super) const ENTRY: DetectorEntry =
    DetectorEntry { name: "deadlock", classes: &[Class::Deadlock], build: || Box::new(Deadlock::default()) };

/// Contended locks hand over within milliseconds.
const MIN_WAIT: Duration = Duration::from_millis(250);
const PROVED_ROUNDS: u32 = 2;
const PROBABLE_ROUNDS: u32 = 3;
const PROBABLE_WAIT: Duration = Duration::from_secs(10);
/// One scan may fail to read a process; a cure shows in the next as well.
const ROUNDS_TO_CLEAR: u32 = 2;

#[derive(Default)]
struct Deadlock {
    /// By first thread.
    watched: BTreeMap<(u32, BootTime), Watched>,
    raised: BTreeMap<ProcessId, Raised>,
}

struct Watched {
    proof: Proof,
    rounds: u32,
}

struct Raised {
    certainty: Certainty,
    proofs: Vec<Proof>,
    comm: String,
    missing: u32,
}

impl Detector for Deadlock {
    fn observe(&mut self, context: &Context<'_>, signal: &Signal, found: &mut Vec<Finding>) {
        if let Fact::Waits(snapshot) = &signal.fact {
            self.scanned(context, signal.at, snapshot, found);
        } else if let (Fact::Exited(_), Some(process)) = (&signal.fact, &signal.process)
            && let Some(raised) = self.raised.remove(&process.id())
        {
            found.push(cleared(process.id(), &raised, "has ended"));
        }
    }
}

impl Deadlock {
    fn scanned(
        &mut self,
        context: &Context<'_>,
        at: BootTime,
        snapshot: &WaitSnapshot,
        found: &mut Vec<Finding>,
    ) {
        self.watch(proofs(&Graph::new(snapshot)));
        let confirmed = self.confirmed(context.policies);
        self.clear(&confirmed, found);
        for (target, proofs) in confirmed {
            let certainty = proofs.iter().map(|proof| proof.certainty).max();
            let known = self.raised.get(&target);
            // Said again when somebody has run in between: the hands compare with the last proof.
            let is_known = known.is_some_and(|raised| {
                Some(raised.certainty) >= certainty && are_same(&raised.proofs, &proofs)
            });
            let Some(diagnosis) = diagnosis(context, at, target, &proofs).filter(|_| !is_known) else {
                continue;
            };
            let raised = Raised {
                certainty: diagnosis.certainty,
                proofs,
                comm: diagnosis.target.comm.clone(),
                missing: 0,
            };
            self.raised.insert(target, raised);
            let subject = Subject::Process(target, Class::Deadlock);
            found.push(Finding::Raised { subject, diagnosis: Box::new(diagnosis) });
        }
    }

    /// Counts in how many scans running each core was the same.
    fn watch(&mut self, proofs: Vec<Proof>) {
        let mut before = core::mem::take(&mut self.watched);
        for proof in proofs {
            let Some(key) = proof.members().first().copied() else {
                continue;
            };
            let rounds = match before.remove(&key) {
                Some(old) if old.proof.is_same_moment_as(&proof) => old.rounds + 1,
                Some(_) | None => 1,
            };
            self.watched.insert(key, Watched { proof, rounds });
        }
    }

    /// Cores that are beyond doubt, by the process to be healed.
    fn confirmed(&self, policies: &PolicySet) -> BTreeMap<ProcessId, Vec<Proof>> {
        let mut confirmed: BTreeMap<ProcessId, Vec<Proof>> = BTreeMap::new();
        for Watched { proof, rounds } in self.watched.values() {
            let (enough, wait) = match proof.certainty {
                Certainty::Proved => (PROVED_ROUNDS, MIN_WAIT),
                Certainty::Probable | Certainty::Suspected => (PROBABLE_ROUNDS, PROBABLE_WAIT),
            };
            if *rounds >= enough
                && proof.waited() >= wait
                && let Some(target) = proof.cheapest(policies)
            {
                confirmed.entry(target.id()).or_default().push(proof.clone());
            }
        }
        confirmed
    }

    fn clear(&mut self, confirmed: &BTreeMap<ProcessId, Vec<Proof>>, found: &mut Vec<Finding>) {
        let seen: BTreeSet<ProcessId> =
            self.watched.values().flat_map(|watched| watched.proof.ids()).collect();
        self.raised.retain(|target, raised| {
            let is_there = confirmed.contains_key(target) || seen.contains(target);
            raised.missing = if is_there { 0 } else { raised.missing + 1 };
            let is_over = raised.missing >= ROUNDS_TO_CLEAR;
            if is_over {
                found.push(cleared(*target, raised, "runs again"));
            }
            !is_over
        });
    }
}

fn are_same(before: &[Proof], now: &[Proof]) -> bool {
    before.len() == now.len() && before.iter().zip(now).all(|(one, other)| one.is_same_moment_as(other))
}

fn cleared(target: ProcessId, raised: &Raised, what: &str) -> Finding {
    Finding::Cleared {
        subject: Subject::Process(target, Class::Deadlock),
        class: Class::Deadlock,
        says: format!("{}[{}] {what}", text::printable(&raised.comm), target.pid),
    }
}

/// `None` if the target is in none of the proofs.
fn diagnosis(context: &Context<'_>, at: BootTime, target: ProcessId, proofs: &[Proof]) -> Option<Diagnosis> {
    let best = proofs.iter().max_by_key(|proof| proof.certainty)?;
    let members = || proofs.iter().flat_map(|proof| &proof.processes).map(|one| &one.process);
    let process = members().find(|process| process.id() == target)?;
    let related: BTreeMap<_, _> = members()
        .filter(|process| process.id() != target)
        .map(|process| (process.id(), process.clone()))
        .collect();
    let more = match proofs.len() {
        1 => String::new(),
        count => format!("; {} more such cores", count - 1),
    };
    let sources = proofs.iter().flat_map(Proof::sources).collect::<BTreeSet<_>>();
    Some(Diagnosis {
        class: Class::Deadlock,
        certainty: best.certainty,
        target: process.clone(),
        related: related.into_values().collect(),
        fault_at: at - best.waited(),
        detected_at: context.now,
        sentence: best.sentence(process) + &more,
        evidence: evidence(at, best),
        lost: 0,
        from_absence: false,
        detail: Detail {
            kind: Some(best.shape.name().to_owned()),
            evidence_count: sources.len() as u32,
            proof: serde_json::to_value(proofs).ok(),
            ..Detail::default()
        },
    })
}

fn evidence(at: BootTime, proof: &Proof) -> Vec<Evidence> {
    let line = |link: &proof::Link| Evidence {
        signal: "task_scan".to_owned(),
        at,
        says: format!(
            "{}[{}] in system call {}, {} switches: {}",
            text::printable(&link.task.comm),
            link.task.tid,
            link.task.syscall,
            link.task.switches,
            text::printable(&link.wait.says)
        ),
    };
    proof.threads.iter().take(16).map(line).collect()
}
