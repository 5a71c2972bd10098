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
        let workload = self.world.get(&incident.workload).filter(|_| is_a_persons_to_stop(incident))?;
        if !workload.was_stopped_since(incident.fault_at) {
            return None;
        }
        let report = gate_report(STALE, Verdict::Refuse, SAYS, plan.mode);
        self.report_gates(now, incident, vec![report]);
        if plan.mode == Mode::Enforce && incident.has_acted(plan) {
            self.notify(now, incident, plan, format!("healer has acted, and goes no further: {SAYS}"));
        }
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

/// The containers of a pod come and go as the kubelet sees fit, and whose memory ran out is cleared away for that.
fn is_a_persons_to_stop(incident: &Incident) -> bool {
    let place = &incident.target.place;
    let is_kubelets = place.pod.is_some() && place.supervise.is_none();
    incident.is_of_death() && !is_kubelets && !incident.active.contains_key(&Class::OomKill)
}
