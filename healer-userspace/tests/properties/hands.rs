//! The hands of [`super::machine`]: how an act fares, and when they say so.

use core::time::Duration;

use healer_userspace::engine::{
    command::{Act, ActionOutcome, ActionResult},
    policy::{ActionName, Mode},
    time::BootTime,
};

use crate::{
    machine::Machine,
    steps::{Hands, WORKLOADS},
};

const LONG: Duration = Duration::from_secs(20);

/// An act that they are at.
pub(crate) struct Busy {
    pub(crate) until: BootTime,
    pub(crate) act: Act,
    /// Its effect is there, whatever they will say.
    is_done: bool,
}

impl Machine {
    pub(crate) fn begin(&mut self, act: Act) {
        let is_done = matches!(self.hands, Hands::SpeakLate) && act.mode == Mode::Enforce;
        let takes = match self.hands {
            Hands::TakeTheirTime | Hands::SpeakLate => LONG,
            Hands::Succeed | Hands::SucceedWithSuccessor | Hands::Fail | Hands::Refuse | Hands::DoNotKnow => {
                Duration::ZERO
            }
        };
        let busy = Busy { until: self.now + takes, act, is_done };
        if is_done {
            self.promised.turned_by(&busy.act);
            self.start_successor(&busy.act);
        }
        if takes == Duration::ZERO {
            self.finished(&busy);
        } else {
            self.busy.push(busy);
        }
    }

    pub(crate) fn finished(&mut self, busy: &Busy) {
        let act = &busy.act;
        let says = "as told".to_owned();
        let outcome = match (act.mode, self.hands) {
            (Mode::Observe | Mode::Shadow, _) => ActionOutcome::WouldDo { says },
            (Mode::Enforce, _) if busy.is_done => ActionOutcome::Done { says },
            (Mode::Enforce, Hands::Fail) => ActionOutcome::Failed { error: says, errno: Some(5) },
            (Mode::Enforce, Hands::Refuse) => ActionOutcome::Refused { reason: says },
            (Mode::Enforce, Hands::DoNotKnow) => ActionOutcome::Unknown { reason: says },
            (
                Mode::Enforce,
                Hands::Succeed | Hands::SucceedWithSuccessor | Hands::TakeTheirTime | Hands::SpeakLate,
            ) => ActionOutcome::Done { says },
        };
        let is_done = matches!(outcome, ActionOutcome::Done { .. });
        if !busy.is_done && matches!(outcome, ActionOutcome::Done { .. } | ActionOutcome::Unknown { .. }) {
            self.promised.turned_by(act);
        }
        self.engine.action_finished(self.now, ActionResult { key: act.key.clone(), outcome });
        if !busy.is_done && is_done && !matches!(self.hands, Hands::Succeed) {
            self.start_successor(act);
        }
    }

    fn start_successor(&mut self, act: &Act) {
        let of_act = |who: &usize| self.process(*who).workload == act.workload;
        let who = (0..WORKLOADS).find(of_act).filter(|_| act.rung.action == ActionName::Restart);
        if let Some(who) = who {
            self.last_key[who] = Some(act.key.0.clone());
            self.start(who);
        }
    }
}
