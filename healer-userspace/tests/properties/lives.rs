//! The agent of [`super::machine`] ends and comes back: killed, or asked to stop.

use std::collections::BTreeSet;

use healer_userspace::{
    engine::{Engine, command::Recovered, policy::Mode},
    signal::Fact,
};

use crate::machine::{Machine, WALL};

impl Machine {
    /// SIGTERM: what is lent goes back first.
    pub(crate) fn stop_agent(&mut self) {
        self.engine.give_back_everything(self.now);
        self.drain();
        // Whoever is at something is waited for only so long; the next life gives that back.
        let busy: BTreeSet<_> = self.busy.iter().map(|busy| &busy.act.key).collect();
        let is_turned = self.promised.turned.iter().any(|key| !busy.contains(key));
        assert!(self.knobs_stuck || !is_turned, "still turned: {:?}", self.promised.turned);
        self.restart_agent();
    }

    pub(crate) fn restart_agent(&mut self) {
        self.waiting.clear();
        self.busy.clear();
        self.questions.clear();
        let promised = &mut self.promised;
        promised.life += 1;
        promised.in_flight.clear();
        promised.flying.clear();
        promised.is_fleet_trusted = true;
        let open = promised.on_disk.iter().filter(|key| !promised.results.contains_key(key));
        let recovered = Recovered {
            next_incident: promised.last_incident + 1,
            open: open.filter_map(|key| promised.intents.get(key)).cloned().collect(),
            acts: promised.effects.clone(),
            leases: promised.leases.values().cloned().collect(),
            ..Recovered::default()
        };
        for intent in &recovered.open {
            if intent.act.mode == Mode::Enforce {
                promised.in_flight.insert(intent.act.workload.clone(), intent.act.key.clone());
            }
        }
        self.engine = Engine::by_the_wall(self.now, WALL, self.policies.clone(), recovered);
        self.is_paused = false;
        self.drain();
        for process in self.living.clone().into_iter().flatten() {
            self.tell(process, Fact::Execed);
        }
    }
}
