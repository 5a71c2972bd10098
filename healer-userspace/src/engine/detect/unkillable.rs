//! What no signal can end: a thread of it sleeps in the kernel where none reaches it, not even SIGKILL.
//!
//! Proved of whoever was told to die and still sleeps there; probable of whom the kernel itself reports as hung:
//! that one may come back. A disk that is only slow is neither.

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
        Fact, Signal, TaskHung,
        waits::{Condition, Deaf, FileSystem, Owner, Task, WaitSnapshot},
    },
    text,
};

pub(super) const ENTRY: DetectorEntry = DetectorEntry {
    name: "unkillable",
    classes: &[Class::Unkillable],
    build: || Box::new(Unkillable::default()),
};

/// A core dump, or the end of a big process, takes a while; but then somebody runs.
const DIES_WITHIN: Duration = Duration::from_secs(10);
/// One scan may fail to read a process.
const ROUNDS_TO_CLEAR: u32 = 2;
/// Of a thread that no scan shows (one of the kernel): it is told again within this, as long as it lasts. By
/// default the kernel looks every two minutes.
const TOLD_AGAIN: Duration = Duration::from_secs(300);

#[derive(Default)]
struct Unkillable {
    known: BTreeMap<ProcessId, Known>,
}

struct Known {
    comm: String,
    /// First seen to be told to die.
    dying: Option<BootTime>,
    raised: Option<Certainty>,
    told: BootTime,
    is_scanned: bool,
    missing: u32,
    /// By thread, as the last scan has it.
    file_system: Option<(u32, FileSystem)>,
}

impl Detector for Unkillable {
    fn observe(&mut self, context: &Context<'_>, signal: &Signal, found: &mut Vec<Finding>) {
        match (&signal.fact, &signal.process) {
            (Fact::Waits(snapshot), _) => self.scanned(context, signal.at, snapshot, found),
            (Fact::TaskHung(hung), Some(process)) => self.told(context, signal.at, process, hung, found),
            (Fact::Exited(_), Some(process)) => {
                if let Some(known) = self.known.remove(&process.id()) {
                    clear(process.id(), &known, "has ended", found);
                }
            }
            (_, _) => {}
        }
    }

    fn advance(&mut self, context: &Context<'_>, found: &mut Vec<Finding>) {
        let is_over = |known: &Known| !known.is_scanned && known.due() <= context.now;
        self.drop_where(is_over, "is no longer reported by the kernel", found);
    }

    fn deadline(&self) -> Option<BootTime> {
        self.known.values().filter(|known| !known.is_scanned).map(Known::due).min()
    }
}

impl Unkillable {
    fn scanned(
        &mut self,
        context: &Context<'_>,
        at: BootTime,
        snapshot: &WaitSnapshot,
        found: &mut Vec<Finding>,
    ) {
        for known in self.known.values_mut().filter(|known| known.is_scanned) {
            known.missing += 1;
        }
        let mut worst: BTreeMap<u32, &Deaf> = BTreeMap::new();
        for deaf in &snapshot.deaf {
            let kept = worst.entry(deaf.task.tgid).or_insert(deaf);
            if (kept.dying, kept.task.waited_ms) < (deaf.dying, deaf.task.waited_ms) {
                *kept = deaf;
            }
        }
        for one in &snapshot.processes {
            if let Some(deaf) = worst.get(&one.process.pid) {
                self.seen(context, at, &one.process, deaf, found);
            }
        }
        let is_over = |known: &Known| known.is_scanned && ROUNDS_TO_CLEAR <= known.missing;
        self.drop_where(is_over, "runs again", found);
    }

    fn seen(
        &mut self,
        context: &Context<'_>,
        at: BootTime,
        process: &Process,
        deaf: &Deaf,
        found: &mut Vec<Finding>,
    ) {
        let known = self.known.entry(process.id()).or_insert_with(|| Known::new(process, at));
        (known.is_scanned, known.missing) = (true, 0);
        known.file_system = deaf.task.file_system.clone().map(|one| (deaf.task.tid, one));
        known.dying = deaf.dying.then(|| known.dying.unwrap_or(at));
        let Some(since) = known.dying.filter(|since| DIES_WITHIN <= at.since(*since)) else {
            return;
        };
        if known.raised < Some(Certainty::Proved) {
            known.raised = Some(Certainty::Proved);
            let says = told_to_die(process, &deaf.task, at.since(since));
            let kind = if deaf.task.condition == Condition::Frozen { "frozen" } else { "uninterruptible" };
            let evidence = format!(
                "SIGNAL_GROUP_EXIT is set, {} switches since {}",
                deaf.task.switches,
                Human(Duration::from_millis(deaf.task.waited_ms))
            );
            let said = Said { says, kind, evidence, signal: "task_scan", since };
            found.push(said.raise(context, at, process, Certainty::Proved));
        }
    }

    fn told(
        &mut self,
        context: &Context<'_>,
        at: BootTime,
        process: &Process,
        hung: &TaskHung,
        found: &mut Vec<Finding>,
    ) {
        let known = self.known.entry(process.id()).or_insert_with(|| Known::new(process, at));
        known.told = at;
        if known.raised.is_some() {
            return;
        }
        known.raised = Some(Certainty::Probable);
        let behind = match hung.holder {
            0 => String::new(),
            holder => format!(", behind a kernel lock that thread {holder} holds"),
        };
        let known = known.file_system.as_ref().filter(|(tid, _)| *tid == hung.tid);
        let says = format!(
            "{} cannot be ended for now: its thread {} has been in uninterruptible sleep for longer than \
             kernel.hung_task_timeout_secs{behind}{}",
            called(process),
            hung.tid,
            on(known.map(|(_, file_system)| file_system))
        );
        let evidence = format!("thread {} is hung by the kernel's own watch", hung.tid);
        let said = Said { says, kind: "uninterruptible", evidence, signal: "task_hung", since: at };
        found.push(said.raise(context, at, process, Certainty::Probable));
    }

    fn drop_where(&mut self, is_over: impl Fn(&Known) -> bool, what: &str, found: &mut Vec<Finding>) {
        self.known.retain(|id, known| {
            let over = is_over(known);
            if over {
                clear(*id, known, what, found);
            }
            !over
        });
    }
}

impl Known {
    fn new(process: &Process, at: BootTime) -> Self {
        let comm = process.comm.clone();
        Self { comm, dying: None, raised: None, told: at, is_scanned: false, missing: 0, file_system: None }
    }

    fn due(&self) -> BootTime {
        self.told + TOLD_AGAIN
    }
}

fn clear(id: ProcessId, known: &Known, what: &str, found: &mut Vec<Finding>) {
    if known.raised.is_some() {
        found.push(Finding::Cleared {
            subject: Subject::Process(id, Class::Unkillable),
            class: Class::Unkillable,
            says: format!("{}[{}] {what}", text::printable(&known.comm), id.pid),
        });
    }
}

fn told_to_die(process: &Process, task: &Task, ago: Duration) -> String {
    let who = called(process);
    if task.condition == Condition::Frozen {
        return format!("{who} was told to die {} ago and cannot: its cgroup is frozen", Human(ago));
    }
    let owners = task.waits.iter().flat_map(|wait| &wait.owners);
    let holder = owners.filter_map(|owner| match owner {
        Owner::Task(tid) => Some(format!(", behind a kernel lock that thread {tid} holds")),
        Owner::Process(_) | Owner::Gone(_) => None,
    });
    format!(
        "{who} was told to die {} ago and cannot: its thread {} sleeps uninterruptibly in system call {} for {}{}{}",
        Human(ago),
        task.tid,
        task.syscall,
        Human(Duration::from_millis(task.waited_ms)),
        holder.into_iter().next().unwrap_or_default(),
        on(task.file_system.as_ref())
    )
}

fn on(file_system: Option<&FileSystem>) -> String {
    file_system.map(|one| format!(", {}", one.says())).unwrap_or_default()
}

struct Said {
    says: String,
    kind: &'static str,
    evidence: String,
    signal: &'static str,
    since: BootTime,
}

impl Said {
    fn raise(self, context: &Context<'_>, at: BootTime, process: &Process, certainty: Certainty) -> Finding {
        let evidence = vec![Evidence { signal: self.signal.to_owned(), at, says: self.evidence }];
        Finding::Raised {
            subject: Subject::Process(process.id(), Class::Unkillable),
            diagnosis: Box::new(Diagnosis {
                class: Class::Unkillable,
                certainty,
                target: process.clone(),
                related: Vec::new(),
                fault_at: self.since,
                detected_at: context.now,
                sentence: self.says,
                evidence,
                lost: 0,
                from_absence: false,
                detail: Detail { kind: Some(self.kind.to_owned()), evidence_count: 1, ..Detail::default() },
            }),
        }
    }
}
