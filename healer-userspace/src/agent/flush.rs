//! Carries away what the engine has decided: reports and journal to the store, commands to the hands.

use super::Agent;
use crate::{
    clock,
    engine::{command::Command, world::Tracking},
    store::Work,
    supervise::Name,
};

impl Agent {
    /// Until the engine has nothing more to say.
    pub(super) fn flush(&mut self) {
        while let Some(report) = self.engine.poll_report() {
            self.report(&report);
        }
        while let Some(death) = self.engine.poll_death() {
            self.reporter.died(death);
        }
        while let Some(entry) = self.engine.poll_journal() {
            self.outgoing.borrow_mut().push(Work::from(entry));
        }
        let batch = core::mem::take(&mut *self.outgoing.borrow_mut());
        self.store.submit(batch);
        while let Some(tracking) = self.engine.poll_tracking() {
            self.track(tracking);
        }
        while let Some(command) = self.engine.poll_command() {
            self.obey(command);
        }
    }

    /// Between two records of one batch: an intent should be on its way to the disk at once.
    pub(super) fn flush_if_urgent(&mut self) {
        if self.engine.has_journal() {
            self.flush();
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Survey(act) => self.hands.survey(*act),
            Command::Undo(undo) => self.hands.undo(undo),
            Command::Act(act) => {
                let before = self.captures.before_act(act.incident);
                self.hands.start(*act, before);
            }
            Command::Ask(question) => self.ask(question),
            Command::LookAtPeers => self.look_at_peers_now(clock::boot()),
            Command::Release { workload, reason } => {
                let name = workload.0.strip_prefix("supervise/").and_then(|name| name.parse::<Name>().ok());
                if let Some(name) = name {
                    self.supervisors.release(&name, &reason);
                }
            }
        }
    }

    fn track(&mut self, tracking: Tracking) {
        match tracking {
            Tracking::Track(id) => {
                self.identity.track(id);
                self.track_kernel(id.pid);
                self.doubts.tracked(clock::boot(), id);
            }
            Tracking::Watch(id) => self.track_kernel(id.pid),
            Tracking::Untrack(id) => {
                // Not loaded: then it was never tracked either.
                self.sense.untrack(id.pid).ok();
            }
        }
    }

    pub(super) fn track_kernel(&mut self, pid: u32) {
        if let Err(trouble) = self.sense.track(pid) {
            tracing::debug!("pid {pid} is not tracked in the kernel: {trouble}");
        }
    }
}
