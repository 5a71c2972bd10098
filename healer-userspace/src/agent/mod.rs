//! The straight line: one loop over a closed enum of reasons to wake.
//!
//! kernel record → signal → identity → engine → journal → hands → engine → report. The engine decides; this file
//! only carries.

mod ask;
mod captures;
mod fail_point;
mod flows;
mod flush;
mod give_back;
mod housekeeping;
mod last_policies;
mod levels;
pub(crate) mod listening;
mod looks;
mod malformed;
mod meet;
mod memory;
mod owners;
mod probes;
mod pulse;
mod peers;
mod start;
mod stop;
mod taps;
mod unnamed;
mod waits;
mod wakes;
mod work;

use std::{
    cell::RefCell, collections::BTreeSet, path::PathBuf, process::ExitCode, rc::Rc, sync::Arc,
    sync::atomic::Ordering, time::Duration,
};

use healer_common::event::Event;
use tokio::sync::mpsc;

pub use self::start::{StartError, run};
use self::{
    fail_point::{At, FailPoint},
    wakes::{Wake, Wakes},
};
use crate::{
    action::{Hands, host::linux::Linux},
    clock,
    config::{FromCluster, Sources},
    control::{Change, Order},
    engine::{
        Engine,
        command::{ActionResult, Returned},
        report::{Report, ReportFact},
        time::BootTime,
    },
    identity::Identity,
    kubernetes::{Cluster, Kubelet},
    report::{Reporter, log},
    runtimes::Owners,
    sense::{Level, Lost, Sense, govern::account},
    signal::{self, Answer, Fact, Meaning, Raw, Signal},
    store::{
        Work,
        worker::{StoreEvent, StoreHandle},
    },
    supervise::server::{Supervisors, Told},
};

/// Records go before deadlines, but not for ever.
const OVERDUE: Duration = Duration::from_secs(1);
/// Records for which room is kept.
const FEW: usize = 64;

/// What the command line says.
#[derive(Clone, Debug)]
pub struct Options {
    pub sources: Sources,
    pub state_dir: PathBuf,
    /// `--state-dir` was given: the agent's configuration does not override it.
    pub state_dir_given: bool,
    pub listen: Option<std::net::SocketAddr>,
    pub duration: Option<Duration>,
    pub log: log::Format,
    /// Where to append every signal after identity, as `healer record` does.
    pub record: Option<PathBuf>,
    /// The best rung that the sensors may take: for tests and for kernels that misbehave.
    pub sense_rung: Level,
}

/// Everything the line runs through.
struct Agent {
    options: Options,
    sense: Sense,
    /// Rights that it had not at its start.
    lacking: Vec<&'static crate::capabilities::Capability>,
    identity: Identity,
    engine: Engine,
    store: StoreHandle,
    hands: Hands,
    host: Arc<Linux>,
    supervisors: Supervisors,
    owners: Owners,
    reporter: Reporter,
    /// Audit records and journal entries on their way to the store, in order.
    outgoing: Rc<RefCell<Vec<Work>>>,
    answers: mpsc::UnboundedSender<Signal>,
    lost: Lost,
    malformed: malformed::Malformed,
    files: housekeeping::Files,
    /// Inodes of the executables that policies name.
    watched: BTreeSet<u64>,
    taps: taps::Taps,
    peers: peers::Peers,
    doubts: meet::Doubts,
    fail_point: FailPoint,
    waits_watch: waits::WaitsWatch,
    work_watch: work::WorkWatch,
    memory_watch: memory::MemoryWatch,
    level_watch: levels::LevelWatch,
    probes: probes::Probes,
    kubelet: Kubelet,
    captures: captures::Captures,
    /// Empty between two passes; kept because a new one would cost the allocator more than a record costs.
    raws: Vec<Raw>,
    unnamed: unnamed::Unnamed,
    cluster: Cluster,
    /// The cluster's policies, as it last told them.
    from_cluster: Vec<FromCluster>,
}

impl Agent {
    async fn live(&mut self, wakes: &mut Wakes) -> anyhow::Result<ExitCode> {
        loop {
            let deadline = self.engine.next_deadline();
            let wake = wakes.next(&mut self.sense, deadline).await;
            self.engine.set_wall_clock(clock::on_the_wall());
            match wake {
                Wake::Records => {
                    self.records();
                    // Who floods the rings must not stop the time.
                    if deadline.is_some_and(|at| OVERDUE <= clock::boot().since(at)) {
                        self.time_passed();
                    }
                }
                Wake::Store(event) => self.stored(event),
                Wake::Returned(returned) => self.returned(returned),
                Wake::Told(told) => self.told(told),
                Wake::Learnt(learnt) => self.learnt(learnt),
                Wake::Answer(signal) => self.observe(&signal),
                Wake::Waits(at, snapshot) => self.waits(at, snapshot),
                Wake::Work(at, snapshot) => self.work(at, snapshot),
                Wake::Memory(at, snapshot) => self.memory(at, snapshot),
                Wake::Levels(at, snapshot) => self.levels(at, snapshot),
                Wake::Flows(at, look) => self.flows(at, look),
                Wake::Policies(policies) => self.take_policies(policies),
                Wake::Order(order) => self.order(order),
                Wake::Deadline => {
                    // Time proves nothing while what happened meanwhile lies unread.
                    self.records();
                    self.time_passed();
                }
                Wake::Reload => self.reload_and_say(),
                Wake::Pause(by) => self.pause(Some(by)),
                Wake::Resume => self.pause(None),
                Wake::Broken(error) => return Err(error.into()),
                Wake::Shutdown(why) => {
                    self.stop(&why, wakes).await;
                    return Ok(ExitCode::SUCCESS);
                }
            }
            self.flush();
        }
    }

    /// Nor while nobody has counted what is lost.
    fn time_passed(&mut self) {
        self.look_for_losses(clock::boot());
        self.look_at_peers(clock::boot(), true);
        self.engine.advance(clock::boot());
    }

    fn records(&mut self) {
        self.read_records();
        self.look_around();
    }

    /// All that the rings hold: bytes → meaning → who → engine.
    fn read_records(&mut self) {
        let mut raws = core::mem::take(&mut self.raws);
        let (mut malformed, mut last) = (0, None);
        self.sense.drain(|bytes| match Event::decode(bytes) {
            Ok((header, event)) => match signal::interpret(&header, &event) {
                Meaning::Happened(raw) => raws.push(raw),
                Meaning::SelfProbe { .. } => {}
            },
            Err(error) => (malformed, last) = (malformed + 1, Some(error)),
        });
        let says = last.and_then(|error| self.malformed.note(clock::boot(), malformed, &error));
        if let Some(says) = says {
            self.say("malformed_record", &says);
        }
        if self.is_look_due(clock::boot()) {
            // These records may have waited long, and the rings have been full.
            self.count_losses(clock::boot());
        }
        for raw in raws.drain(..) {
            let account = account(&raw.fact).map(|account| (account, clock::thread_cpu()));
            self.record(raw);
            if let Some((account, before)) = account {
                let cost = clock::thread_cpu().saturating_sub(before);
                account.fetch_add(u64::try_from(cost.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
            }
        }
        raws.shrink_to(FEW);
        self.raws = raws;
    }

    fn record(&mut self, mut raw: Raw) {
        self.introduce_late(&raw);
        self.look_into(&mut raw);
        let signal = self.identity.enrich(raw);
        self.note_trouble(clock::boot(), &signal);
        if !self.waits_for_its_name(&signal) {
            self.observe(&signal);
            self.flush_if_urgent();
        }
    }

    /// A supervised child that died before its supervisor could introduce it: one death, under its one name.
    fn introduce_late(&mut self, raw: &Raw) {
        if let (Fact::Exited(_), Some(seen)) = (&raw.fact, &raw.seen)
            && let Some(parent) = &seen.parent
            && let Some(name) = self.supervisors.name_of(parent.id, seen.task.id)
        {
            self.identity.supervise(seen.task.id, name.as_str());
        }
    }

    fn observe(&mut self, signal: &Signal) {
        self.engine.observe(clock::boot(), signal);
        self.reporter.signal(signal);
        self.probes.note(signal);
        self.keep(signal);
        self.consult_owners(signal);
        self.doubt(signal);
    }

    fn stored(&mut self, event: StoreEvent) {
        self.reporter.set_store_status(&self.store.status());
        let now = clock::boot();
        match event {
            StoreEvent::Committed(key) => {
                self.fail_point.reached(At::AfterIntent);
                // What the kernel has told while the intent was synced counts in the second look.
                self.records();
                self.engine.committed(clock::boot(), &key);
            }
            StoreEvent::Failed { key, reason } => {
                tracing::warn!("the intent {key} was not written: {reason}");
                self.engine.commit_failed(now, &key);
            }
            StoreEvent::Remembered(recovered) => {
                self.reporter.remember_acts(&recovered.open);
                self.engine.remember(now, *recovered);
            }
            StoreEvent::Writable { writable: true, says } => {
                self.reporter.set_not_writable(None);
                self.engine.journal_state(now, None);
                self.say("journal_writable", &says);
            }
            StoreEvent::Writable { writable: false, says } => {
                self.reporter.set_not_writable(Some(says.clone()));
                self.engine.journal_state(now, Some(says.clone()));
                self.say("journal_not_writable", &says);
            }
        }
    }

    fn returned(&mut self, returned: Returned) {
        match returned {
            Returned::Surveyed(surveyed) => self.engine.surveyed(clock::boot(), surveyed),
            Returned::Acted(result) => self.acted(result),
            Returned::Undone(undone) => self.engine.undone(clock::boot(), &undone),
        }
    }

    fn acted(&mut self, result: ActionResult) {
        self.fail_point.reached(At::AfterAct);
        // Who ended before the act was over ended by it.
        self.records();
        self.engine.action_finished(clock::boot(), result);
        self.fail_point.reached(At::BeforeResult);
    }

    /// A supervisor said something: identity first, then the same door as any signal.
    fn told(&mut self, told: Told) {
        let Some(child) = told.child else { return };
        let process = if matches!(told.fact, Fact::Registered(_)) {
            self.identity.supervise(child, told.name.as_str())
        } else {
            self.identity.of_id(child)
        };
        if matches!(told.fact, Fact::Deregistered) {
            self.identity.release(child);
        }
        if let Fact::Registered(registration) = &told.fact {
            self.track_kernel(registration.supervisor.pid);
        }
        let process = process.unwrap_or_else(|| supervised_stranger(child, told.name.as_str()));
        self.observe(&Signal { at: told.at, process: Some(process), fact: told.fact });
    }

    fn order(&mut self, order: Order) {
        let answer = match order.what {
            Change::Pause { by } => {
                let says = format!("paused by {by}");
                self.pause(Some(by));
                Ok(says)
            }
            Change::Resume => {
                self.pause(None);
                Ok("acting again".to_owned())
            }
            Change::Reload => self.reload(),
            Change::CatchUp { about } => {
                self.records();
                self.flush();
                Ok(about.and_then(|pid| self.who_lives(pid)).unwrap_or_default())
            }
            Change::Undo { of } => Ok(self.undo(of.as_deref())),
            Change::Record { lines } => {
                self.record_to(lines);
                Ok("recording".to_owned())
            }
        };
        // Whoever asked may have gone: nothing to do about that.
        order.reply.send(answer).ok();
    }

    fn pause(&mut self, by: Option<String>) {
        let says = by
            .as_ref()
            .map_or_else(|| "acting again".to_owned(), |by| format!("paused by {by}: senses, does not act"));
        self.reporter.set_paused(by.clone());
        self.engine.pause(clock::boot(), by);
        self.say("pause", &says);
    }

    /// A fact about the agent itself, for log and audit.
    fn say(&mut self, event: &str, says: &str) {
        let fact = ReportFact::Agent { event: event.to_owned(), says: says.to_owned() };
        self.report(&Report { at: clock::boot(), incident: None, workload: None, fact });
    }

    fn report(&mut self, report: &Report) {
        // The audit's seam only queues for the store: a disk that is full is told by the store.
        self.reporter.write(report).ok();
        self.captures.note(report, self.engine.policies());
    }
}

/// Dead before it was ever seen: all that is known is what the supervisor says.
fn supervised_stranger(
    child: crate::identity::process::ProcessId,
    name: &str,
) -> crate::identity::process::Process {
    use crate::identity::process::{Place, Process, WorkloadKey};
    Process {
        pid: child.pid,
        start: child.start,
        comm: name.chars().take(15).collect(),
        workload: WorkloadKey::supervise(name),
        main: true,
        place: Place { supervise: Some(name.to_owned()), ..Place::default() },
        ..Process::default()
    }
}

fn answer_signal(
    at: BootTime,
    process: Option<crate::identity::process::Process>,
    question: u64,
    answer: Answer,
) -> Signal {
    Signal { at, process, fact: Fact::Answered { question, answer } }
}
