//! What waits to be taken away by the caller.

use std::collections::VecDeque;

use super::{
    command::{Command, JournalEntry},
    incident::Incident,
    report::{Report, ReportFact},
    time::BootTime,
    world::Tracking,
};

#[derive(Default)]
pub(super) struct Outbox {
    pub(super) commands: VecDeque<Command>,
    pub(super) journal: VecDeque<JournalEntry>,
    pub(super) reports: VecDeque<Report>,
    pub(super) tracking: VecDeque<Tracking>,
}

impl Outbox {
    pub(super) fn report(&mut self, at: BootTime, incident: &Incident, fact: ReportFact) {
        self.reports.push_back(Report {
            at,
            incident: Some(incident.id),
            workload: Some(incident.workload.clone()),
            fact,
        });
    }
}
