//! Asks after the units that policies name: every 5 s, and often for a while after something has happened to one.

use core::time::Duration;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use futures_util::StreamExt as _;
use tokio::{sync::mpsc, time::sleep};

use super::{
    super::{Learnt, Owner, Stopped},
    Told,
    jobs::OwnJobs,
    manager::{Conditions, JobRemoved, Manager, Result, Service, is_service},
};
use crate::{
    clock,
    engine::{policy::glob, time::BootTime},
    signal::Exit,
    text::printable,
};

const POLL_EVERY: Duration = Duration::from_secs(5);
/// After a death: the owner's own restart is to be seen before it counts as missing.
const LOOK_EVERY: Duration = Duration::from_millis(250);
const LOOK_FOR: Duration = Duration::from_secs(10);
/// A socket that is not there is looked for now and then.
const RETRY_EVERY: Duration = Duration::from_secs(10);

/// Polls: each unit's main process is asked for again after so many.
const THOROUGH_EVERY: u32 = 12;

/// 128 + SIGTERM and SIGINT: a program that was asked to end, and says so.
const BY_TERM: i32 = 128 + libc::SIGTERM;
const BY_INT: i32 = 128 + libc::SIGINT;

struct Watch {
    learnt: mpsc::Sender<Learnt>,
    stopped: Stopped,
    own_jobs: OwnJobs,
    patterns: Vec<String>,
    /// Whether the names without a star are known to be those of units.
    names_looked_at: bool,
    /// What was told of each unit, so that it is told once.
    told: BTreeMap<String, Service>,
    /// What had been told when systemd was last heard, until all of it has been asked for again.
    before: BTreeMap<String, Service>,
    /// By systemd's own pid, the last program of each that was seen running.
    ran: BTreeMap<String, u32>,
    /// When the conditions of each were last tested, as of its last job.
    tested: BTreeMap<String, u64>,
    /// Looked at often, until then.
    restless: BTreeMap<String, BootTime>,
    polls: u32,
}

/// Ends with the agent. Without a unit to watch it waits and does nothing.
pub(super) async fn run(
    socket: PathBuf,
    mut orders: mpsc::Receiver<Told>,
    learnt: mpsc::Sender<Learnt>,
    stopped: Stopped,
    own_jobs: OwnJobs,
) {
    let mut watch = Watch::new(learnt, stopped, own_jobs);
    let mut trouble = None;
    loop {
        while watch.patterns.is_empty() {
            // Nobody listens, and nobody is to be heard.
            watch.stopped.deafen(false);
            match orders.recv().await {
                Some(order) => watch.obey(order),
                None => return,
            }
        }
        let served = watch.serve(&socket, &mut orders, &mut trouble).await;
        if orders.is_closed() {
            return;
        }
        let Err(words) = served else { continue };
        watch.stopped.deafen(true);
        // Most hosts of containers have no systemd to ask: that is no trouble.
        if trouble.as_ref() != Some(&words) && socket.exists() {
            tracing::warn!("{words}; units are known by their cgroups alone until it answers");
            trouble = Some(words);
        }
        let wait = sleep(RETRY_EVERY);
        tokio::pin!(wait);
        loop {
            tokio::select! {
                () = &mut wait => break,
                order = orders.recv() => match order {
                    Some(order) => watch.obey(order),
                    None => return,
                },
            }
        }
    }
}

impl Watch {
    fn new(learnt: mpsc::Sender<Learnt>, stopped: Stopped, own_jobs: OwnJobs) -> Self {
        Self {
            learnt,
            stopped,
            own_jobs,
            patterns: Vec::new(),
            names_looked_at: false,
            told: BTreeMap::new(),
            before: BTreeMap::new(),
            ran: BTreeMap::new(),
            tested: BTreeMap::new(),
            restless: BTreeMap::new(),
            polls: 0,
        }
    }

    fn obey(&mut self, order: Told) {
        match order {
            Told::Watch(patterns) => {
                self.patterns = patterns;
                self.names_looked_at = false;
                self.told.clear();
            }
            Told::LookAt(unit) => {
                if self.names(&unit) {
                    self.restless.insert(unit, clock::boot() + LOOK_FOR);
                }
            }
        }
    }

    fn names(&self, unit: &str) -> bool {
        is_service(unit) && self.patterns.iter().any(|pattern| glob::matches(pattern, unit))
    }

    /// Ok once there is nobody to watch, or the agent is on its way out.
    async fn serve(
        &mut self,
        socket: &Path,
        orders: &mut mpsc::Receiver<Told>,
        trouble: &mut Option<String>,
    ) -> Result<()> {
        let manager = Manager::connect(socket).await?;
        let mut jobs = manager.jobs().await?;
        for (unit, old) in core::mem::take(&mut self.told) {
            // The older word stays: of that time on, nobody knows what happened.
            self.before.entry(unit).or_insert(old);
        }
        self.poll(&manager).await?;
        self.catch_up().await;
        self.stopped.deafen(false);
        if trouble.take().is_some() {
            tracing::info!("systemd answers again");
        }
        let mut due = clock::boot() + POLL_EVERY;
        while !self.patterns.is_empty() {
            let next = if self.restless.is_empty() { due } else { due.min(clock::boot() + LOOK_EVERY) };
            tokio::select! {
                order = orders.recv() => match order {
                    Some(order) => {
                        due = clock::boot();
                        self.obey(order);
                    }
                    None => return Ok(()),
                },
                message = jobs.next() => match message {
                    Some(Ok(message)) => self.job(&manager, &message).await?,
                    Some(Err(_)) | None => return Err("the connection to systemd went away".to_owned()),
                },
                () = sleep(next.since(clock::boot())) => {
                    let now = clock::boot();
                    self.restless.retain(|_, until| now < *until);
                    if due <= now {
                        due = now + POLL_EVERY;
                        self.poll(&manager).await?;
                    } else {
                        for unit in self.restless.keys().cloned().collect::<Vec<_>>() {
                            self.look(&manager, &unit).await?;
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Who ran when systemd was last heard, and has ended well or as a stop ends it since, may have been stopped.
    async fn catch_up(&mut self) {
        for (unit, old) in core::mem::take(&mut self.before) {
            let is_over = self.told.get(&unit).is_none_or(|now| now.active == "inactive");
            if old.own_pid != 0 && is_over {
                self.stopped.note(&unit);
                self.tell(Learnt::StopAsked { owner: Owner::Unit(unit) }).await;
            }
        }
    }

    /// One question for all; more only of those that have changed, and now and then of everybody.
    async fn poll(&mut self, manager: &Manager) -> Result<()> {
        self.polls = self.polls.wrapping_add(1);
        let thorough = self.polls.is_multiple_of(THOROUGH_EVERY);
        let units = manager.matching(&self.patterns).await?;
        if !core::mem::replace(&mut self.names_looked_at, true) {
            self.tell_names_of_nobody(manager, &units).await?;
        }
        if thorough {
            self.forget_all_but(&units);
        }
        for (unit, words) in units {
            let is_known = self.told.get(&unit).is_some_and(|told| told.words() == words);
            if self.names(&unit) && (thorough || !is_known || self.restless.contains_key(&unit)) {
                self.look(manager, &unit).await?;
            }
        }
        Ok(())
    }

    /// Instances of a template come and go: systemd forgets them too.
    fn forget_all_but(&mut self, units: &[(String, String)]) {
        let loaded: BTreeSet<&str> = units.iter().map(|(unit, _)| unit.as_str()).collect();
        self.told.retain(|unit, _| loaded.contains(unit.as_str()));
        self.ran.retain(|unit, _| loaded.contains(unit.as_str()));
        self.tested.retain(|unit, _| loaded.contains(unit.as_str()));
    }

    /// A policy for a name that no unit has does nothing: said once, with the name that would.
    async fn tell_names_of_nobody(&self, manager: &Manager, units: &[(String, String)]) -> Result<()> {
        let is_seen = |name: &&String| units.iter().any(|(unit, _)| unit == *name);
        let names = self.patterns.iter().filter(|name| is_service(name) && !glob::is_glob(name));
        for name in names.filter(|name| !is_seen(name)) {
            if !manager.is_loaded(name).await? {
                tracing::warn!("a policy names the unit {}, which systemd does not know", printable(name));
                continue;
            }
            let id = manager.id(name).await?;
            if id != *name {
                let (name, id) = (printable(name), printable(&id));
                tracing::warn!(
                    "a policy names the unit {name}, which is but another name of {id}: write {id}"
                );
            }
        }
        Ok(())
    }

    async fn look(&mut self, manager: &Manager, unit: &str) -> Result<()> {
        let now = manager.service(unit).await?;
        if now.own_pid != 0 {
            self.ran.insert(unit.to_owned(), now.own_pid);
        }
        let before = self.told.insert(unit.to_owned(), now.clone());
        if before.as_ref() == Some(&now) {
            return Ok(());
        }
        tracing::debug!("{}: {}, main pid {:?}", printable(unit), now.words(), now.main);
        let owner = Owner::Unit(unit.to_owned());
        if now.active == "active" || now.active == "activating" {
            self.stopped.forget(unit);
        }
        if let Some(pid) = now.main {
            self.tell(Learnt::Runs { owner: owner.clone(), pid }).await;
        }
        if manager.is_meant_to_end(unit, &now).await? {
            self.tell(Learnt::MeantToEnd { owner: owner.clone() }).await;
        }
        if now.main.is_none() && now.active == "failed" {
            let (pid, exit) = manager.last_exit(unit).await?;
            // Nobody knows how it came to that: an end as a stop brings it about is none to answer.
            if before.is_none() && was_stopped(&exit, &manager.result(unit).await?) {
                tracing::info!("{} was stopped before healer looked", printable(unit));
                self.stopped.note(unit);
                return Ok(());
            }
            self.tell(Learnt::Failed { owner, pid, exit }).await;
        }
        Ok(())
    }

    /// A job that has left its unit dead was a stop: a death of its own makes no job. Only a start whose program ends
    /// at once looks the same, and one whose conditions do not hold, which nobody sees any more of a unit that systemd
    /// has unloaded. (Where an assertion does not, its result is `assert`.)
    async fn job(&mut self, manager: &Manager, message: &zbus::Message) -> Result<()> {
        let Some(job) = JobRemoved::of(message).filter(|job| self.names(&job.unit)) else {
            return Ok(());
        };
        let now = manager.service(&job.unit).await?;
        let is_over = matches!(now.active.as_str(), "inactive" | "failed");
        let was_skipped = self.was_skipped(&job.unit, manager.conditions(&job.unit).await?);
        // Asked last: by the answers of systemd that were waited for, its restart's has come.
        let is_own = self.own_jobs.has(job.job.as_str());
        let is_stop = job.result == "done" && is_over && !was_skipped && !is_own;
        if is_stop && !self.has_failed_to_start(manager, &job.unit, &now).await? {
            self.stopped.note(&job.unit);
            self.told.insert(job.unit.clone(), now);
            self.tell(Learnt::StopAsked { owner: Owner::Unit(job.unit) }).await;
            return Ok(());
        }
        self.look(manager, &job.unit).await
    }

    /// A start tests the conditions anew; a stop finds them as they were.
    fn was_skipped(&mut self, unit: &str, conditions: Conditions) -> bool {
        let before = self.tested.insert(unit.to_owned(), conditions.tested_at);
        !conditions.hold && conditions.tested_at != 0 && before != Some(conditions.tested_at)
    }

    /// An end that no stop brings about, of a program that was never seen running.
    async fn has_failed_to_start(&self, manager: &Manager, unit: &str, now: &Service) -> Result<bool> {
        if now.active != "failed" {
            return Ok(false);
        }
        let (pid, exit) = manager.last_exit(unit).await?;
        Ok(is_failed_start(self.ran.get(unit).copied(), pid, &exit))
    }

    async fn tell(&self, learnt: Learnt) {
        // Closed only when the agent is on its way out.
        self.learnt.send(learnt).await.ok();
    }
}

/// As a stop ends a program: by the signal, by the shells' word for it, or by SIGKILL once it has not listened.
fn was_stopped(exit: &Exit, result: &str) -> bool {
    match exit.signal {
        Some(libc::SIGTERM | libc::SIGINT) => true,
        // Of the OOM killer, or of anybody else, it is no stop.
        Some(libc::SIGKILL) => result == "timeout",
        Some(_) => false,
        None => matches!(exit.code, BY_TERM | BY_INT),
    }
}

/// `pid` as systemd has it. A program that was seen running was stopped, however it took that.
fn is_failed_start(ran: Option<u32>, pid: u32, exit: &Exit) -> bool {
    let was_running = ran == Some(pid);
    // Systemd alone knows why it sent SIGKILL; the job says that it wanted to.
    !was_running && exit.is_abnormal() && !was_stopped(exit, "timeout")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(code: i32) -> Exit {
        Exit { code, ..Exit::default() }
    }

    fn signal(signal: i32) -> Exit {
        Exit { signal: Some(signal), ..Exit::default() }
    }

    #[test]
    fn what_a_stop_leaves_behind_is_told_from_a_death() {
        for exit in [code(143), code(130), signal(libc::SIGTERM), signal(libc::SIGINT)] {
            assert!(was_stopped(&exit, "exit-code"), "{exit:?}");
        }
        for exit in [code(1), code(203), signal(libc::SIGSEGV)] {
            assert!(!was_stopped(&exit, "exit-code"), "{exit:?}");
        }
        assert!(was_stopped(&signal(libc::SIGKILL), "timeout"));
        assert!(!was_stopped(&signal(libc::SIGKILL), "oom-kill"));
        assert!(!was_stopped(&signal(libc::SIGKILL), "signal"));
    }

    #[test]
    fn a_start_that_dies_at_once_is_no_stop() {
        assert!(is_failed_start(None, 7, &code(203)));
        assert!(is_failed_start(Some(6), 7, &code(1)), "a restart; the one before was another");
        assert!(!is_failed_start(Some(7), 7, &code(1)), "it ran, and takes a stop like that");
        assert!(!is_failed_start(None, 7, &code(143)) && !is_failed_start(None, 7, &code(0)));
        assert!(!is_failed_start(None, 7, &signal(libc::SIGKILL)));
    }

    #[test]
    fn a_start_that_its_conditions_do_not_let_happen_is_no_stop() {
        let (learnt, _heard) = mpsc::channel(1);
        let mut watch = Watch::new(learnt, Stopped::default(), OwnJobs::default());
        let mut was_skipped =
            |hold, tested_at| watch.was_skipped("web.service", Conditions { hold, tested_at });
        assert!(!was_skipped(false, 0), "it was never started");
        assert!(!was_skipped(true, 5), "a stop of who was started then");
        assert!(was_skipped(false, 9));
        assert!(!was_skipped(false, 9), "nobody has tested them since: it was no start");
        assert!(was_skipped(false, 12));
        assert!(!was_skipped(true, 15));
    }
}
