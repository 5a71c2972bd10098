//! What waits to be taken away by the caller.

use std::collections::VecDeque;

use super::{
    command::{Command, JournalEntry},
    death::Death,
    incident::Incident,
    report::{Report, ReportFact},
    time::BootTime,
    world::Tracking,
};

/// Whoever wants more must take them away sooner.
const MAX_DEATHS: usize = 1024;

#[derive(Default)]
pub(super) struct Outbox {
    pub(super) commands: VecDeque<Command>,
    pub(super) journal: VecDeque<JournalEntry>,
    pub(super) reports: VecDeque<Report>,
    pub(super) tracking: VecDeque<Tracking>,
    pub(super) deaths: VecDeque<Death>,
}

impl Outbox {
    pub(super) fn died(&mut self, death: Death) {
        if self.deaths.len() == MAX_DEATHS {
            self.deaths.pop_front();
        }
        self.deaths.push_back(death);
    }

    pub(super) fn report(&mut self, at: BootTime, incident: &Incident, fact: ReportFact) {
        self.reports.push_back(Report {
            at,
            incident: Some(incident.id),
            workload: Some(incident.workload.clone()),
            fact,
        });
    }
}
