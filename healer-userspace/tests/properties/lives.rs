//! The agent of [`super::machine`] ends and comes back: killed, or asked to stop.

use healer_userspace::{
    engine::{Engine, command::Recovered, policy::Mode},
    signal::Fact,
};

use crate::machine::Machine;

impl Machine {
    /// SIGTERM: what is lent goes back first.
    pub(crate) fn stop_agent(&mut self) {
        self.engine.give_back_everything(self.now);
        self.drain();
        if !self.knobs_stuck {
            self.promised.nothing_is_turned();
        }
        self.restart_agent();
    }

    pub(crate) fn restart_agent(&mut self) {
        self.waiting.clear();
        self.busy.clear();
        self.questions.clear();
        let promised = &mut self.promised;
        promised.life += 1;
        promised.in_flight.clear();
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
        self.engine = Engine::new(self.now, self.policies.clone(), recovered);
        self.is_paused = false;
        self.drain();
        for process in self.living.clone().into_iter().flatten() {
            self.tell(process, Fact::Execed);
        }
    }
}
