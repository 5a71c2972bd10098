//! Who is dead, and was asked to stop since: nobody wants it to run any more.

use super::{gate::gate_report, *};
use crate::engine::safety::STALE;

const SAYS: &str = "it was asked to stop since, and nobody wants it to run any more";

impl Engine {
    /// What waits to be done for it is not done. A supervisor that went without a word may have been killed.
    pub(super) fn let_rest(
        &mut self,
        now: BootTime,
        incident: &mut Incident,
        plan: &mut Plan,
    ) -> Option<Next> {
        let workload = self.world.get(&incident.workload).filter(|_| incident.is_of_death())?;
        if !workload.was_stopped_since(incident.fault_at) {
            return None;
        }
        let report = gate_report(STALE, Verdict::Refuse, SAYS, plan.mode);
        self.report_gates(now, incident, vec![report]);
        Some(self.refused(now, incident, plan, STALE, SAYS))
    }

    /// Whoever waits at a gate is told at once.
    pub(super) fn stop_came(&mut self, now: BootTime, id: IncidentId) {
        let waits = |incident: &&mut Incident| {
            incident.is_of_death() && matches!(&incident.plan, Some(Plan { stage: Stage::Gating { .. }, .. }))
        };
        if self.incidents.get_mut(&id).filter(waits).is_some() {
            self.step(now, id);
        }
    }
}
