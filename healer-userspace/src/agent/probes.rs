//! `expect.probe` and `expect.listen`: asks the living main processes of the policies that want it.

mod ask;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
};

use self::ask::ask_the_free;
use super::Agent;
use crate::{
    clock,
    engine::{
        policy::{
            Expect, Probe,
            choose::{self, Owner},
        },
        time::BootTime,
        world::Workload,
    },
    identity::process::{Process, ProcessId},
    signal::{
        Fact, Signal,
        work::{Asked, Probed},
    },
    text,
};

/// One question about one process.
type Key = (ProcessId, Asked);

/// Who was asked, and how it went.
#[derive(Default)]
pub(super) struct Probes {
    next: BTreeMap<Key, BootTime>,
    /// By `expect.probe`.
    failing: BTreeSet<ProcessId>,
    /// Questions under way.
    asking: Arc<Mutex<BTreeSet<Key>>>,
    /// Whom healer could not ask, as was said once.
    unasked: Arc<Mutex<BTreeSet<Key>>>,
}

/// Of one workload.
struct Question {
    /// One fault, one answer: of several main processes the oldest is asked for all.
    process: Process,
    /// All of them: one that drains leaves its ports to another.
    mains: Vec<u32>,
    probe: Probe,
}

impl Question {
    fn key(&self) -> Key {
        (self.process.id(), self.probe.ask.asked())
    }
}

impl Probes {
    pub(super) fn is_failing(&self, id: ProcessId) -> bool {
        self.failing.contains(&id)
    }

    /// An answer came by.
    pub(super) fn note(&mut self, signal: &Signal) {
        if let (Fact::Probed(probed), Some(process)) = (&signal.fact, &signal.process)
            && probed.asked == Asked::Probe
        {
            if probed.ok {
                self.failing.remove(&process.id());
            } else {
                self.failing.insert(process.id());
            }
        }
    }
}

impl Agent {
    /// Starts whatever probe is due. At most once a second.
    pub(super) fn probe(&mut self) {
        let now = clock::boot();
        let policies = self.engine.policies();
        if policies.policies.iter().all(|policy| asks_nothing(&policy.expect)) {
            self.probes = Probes::default();
            return;
        }
        let workloads = self.engine.world().iter().map(|(_, workload)| workload);
        let questions: Vec<Question> = workloads
            .flat_map(|workload| {
                match oldest(workload).map(|process| (process, choose::owner(policies, process))) {
                    Some((process, Owner::One(policy))) => questions_to(process, workload, &policy.expect),
                    Some((_, Owner::None | Owner::Clash(..))) | None => Vec::new(),
                }
            })
            .collect();
        let keys: BTreeSet<Key> = questions.iter().map(Question::key).collect();
        self.probes.next.retain(|key, _| keys.contains(key));
        self.probes.failing.retain(|id| keys.contains(&(*id, Asked::Probe)));
        for question in questions {
            let next = self.probes.next.entry(question.key()).or_insert(now);
            if *next <= now {
                *next = now + question.probe.period;
                self.start_probe(question);
            }
        }
    }

    fn start_probe(&self, question: Question) {
        let answers = self.answers.clone();
        let tell = move |process: Process, probed: Probed| {
            let signal = Signal { at: clock::boot(), process: Some(process), fact: Fact::Probed(probed) };
            // Closed only when the agent is on its way out.
            answers.send(signal).ok();
        };
        let key = question.key();
        if !locked(&self.probes.asking).insert(key) {
            // The program of the last question cannot even be killed (D state): one at a time all the same.
            if let Some(probed) = ask::not_over(&question.probe) {
                tell(question.process, probed);
            }
            return;
        }
        let (asking, unasked) = (Arc::clone(&self.probes.asking), Arc::clone(&self.probes.unasked));
        let kubelet = self.kubelet.clone();
        // A thread, because it may have to enter another network namespace, and a thread cannot come back.
        let asking = move || {
            let (answer, left) = ask_the_free(&question, &kubelet);
            let Question { process, probe, .. } = question;
            match ask::probed(&probe, answer) {
                Ok(probed) => {
                    locked(&unasked).remove(&key);
                    tell(process, probed);
                }
                Err(why) if locked(&unasked).insert(key) => tracing::warn!(
                    "{}[{}] cannot be asked ({}): {why}; nothing is concluded from that",
                    text::printable(&process.comm),
                    process.pid,
                    probe.ask
                ),
                Err(_) => {}
            }
            if let Some(mut left) = left {
                left.wait().ok();
            }
            locked(&asking).remove(&key);
        };
        if let Err(error) = thread::Builder::new().name("healer-probe".to_owned()).spawn(asking) {
            tracing::warn!("no thread for a probe: {error}");
        }
    }
}

fn asks_nothing(expect: &Expect) -> bool {
    expect.probe.is_none() && expect.listen.is_empty()
}

fn oldest(workload: &Workload) -> Option<&Process> {
    workload.living.values().min_by_key(|one| one.start)
}

fn questions_to(process: &Process, workload: &Workload, expect: &Expect) -> Vec<Question> {
    let mains: Vec<u32> = workload.living.keys().map(|id| id.pid).collect();
    let question = |probe| Question { process: process.clone(), mains: mains.clone(), probe };
    expect.questions().map(question).collect()
}

fn locked(set: &Mutex<BTreeSet<Key>>) -> MutexGuard<'_, BTreeSet<Key>> {
    set.lock().unwrap_or_else(PoisonError::into_inner)
}
