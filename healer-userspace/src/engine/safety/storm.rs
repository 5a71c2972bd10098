//! Too many victims at once are one problem of the node: nobody is struck until it has passed, and a person is told
//! once.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use super::{Facts, Proposal, Ruling};
use crate::{
    engine::{
        command::IncidentId,
        policy::{Mode, Storm},
        time::{BootTime, Human},
    },
    identity::process::WorkloadKey,
};

const ASK_AGAIN: Duration = Duration::from_secs(2);
/// Each that asks has all of them counted: the more there are, the less often.
const MORE_PATIENCE_PER: u32 = 100;
const REMEMBERED: usize = 4096;

/// Who fell lately, by incident. Whoever is let through when the storm is over counts anew: so a storm is followed by
/// no volley.
#[derive(Debug, Default)]
pub struct Storms {
    victims: BTreeMap<IncidentId, Victim>,
    last_hold: Option<BootTime>,
}

#[derive(Debug)]
struct Victim {
    workload: WorkloadKey,
    mode: Mode,
    at: BootTime,
}

impl Storms {
    /// An incident that an act would follow.
    pub fn fell(&mut self, now: BootTime, incident: IncidentId, workload: &WorkloadKey, mode: Mode) {
        self.victims.entry(incident).or_insert_with(|| Victim { workload: workload.clone(), mode, at: now });
        if self.victims.len() > REMEMBERED
            && let Some(oldest) = self.victims.iter().min_by_key(|(_, victim)| victim.at).map(|(id, _)| *id)
        {
            self.victims.remove(&oldest);
        }
    }

    /// It fell for another, or is not to be touched: no victim of what the node has.
    pub fn excuse(&mut self, incident: IncidentId) {
        self.victims.remove(&incident);
    }

    pub fn acted(&mut self, now: BootTime, incident: IncidentId) {
        if let Some(victim) = self.victims.get_mut(&incident) {
            victim.at = now;
        }
    }

    /// True once for each storm.
    pub fn is_news(&mut self, now: BootTime, window: Duration) -> bool {
        let before = self.last_hold.replace(now);
        before.is_none_or(|at| window < now.since(at))
    }

    /// Workloads that fell within the window, with the one that asks.
    fn victims(&self, now: BootTime, mode: Mode, window: Duration, own: &WorkloadKey) -> u32 {
        let lately =
            self.victims.values().filter(|victim| victim.mode == mode && now.since(victim.at) < window);
        let workloads: BTreeSet<_> = lately.map(|victim| &victim.workload).chain([own]).collect();
        workloads.len() as u32
    }
}

pub(super) fn judge(proposal: &Proposal<'_>, facts: &Facts<'_>) -> Ruling {
    let Some(Storm { targets, percent, window }) = facts.policies.storm else {
        return Ruling::pass("no limit is set");
    };
    let fallen = facts.storms.victims(proposal.now, proposal.mode, window, proposal.workload);
    let all = ((facts.workloads)() as u32).max(fallen);
    let share = u64::from(fallen) * 100 / u64::from(all.max(1));
    let words = format!("{fallen} of {all} workloads failed within {}", Human(window));
    if fallen <= targets || share <= u64::from(percent) {
        return Ruling::pass(words);
    }
    let says = format!("{words}: one problem of the node, which acts on each would not solve");
    Ruling::hold(Some(proposal.now + ASK_AGAIN * (1 + fallen / MORE_PATIENCE_PER)), says)
}
