//! What the hands of [`super::machine`] find to be turned, and whether they can turn it back.

use healer_userspace::engine::{
    command::{Act, ActionOutcome},
    lease::{Knob, Surveyed, Turn, Undo, Undone},
};

use crate::{machine::Machine, steps::Hands};

impl Machine {
    pub(crate) fn survey(&mut self, act: &Act) {
        let turns = match self.hands {
            Hands::Refuse => Err(ActionOutcome::Refused { reason: "another process".into() }),
            Hands::Fail => Err(ActionOutcome::Failed { error: "no such file".into(), errno: Some(2) }),
            Hands::Succeed
            | Hands::SucceedWithSuccessor
            | Hands::DoNotKnow
            | Hands::TakeTheirTime
            | Hands::SpeakLate => Ok(vec![turn_of(act)]),
        };
        self.engine.surveyed(self.now, Surveyed { key: act.key.clone(), turns });
    }

    pub(crate) fn undo(&mut self, undo: &Undo) {
        let complete = !self.knobs_stuck;
        self.promised.stuck |= self.knobs_stuck;
        if complete {
            self.promised.turned.remove(&undo.key);
        }
        self.engine.undone(self.now, &Undone { key: undo.key.clone(), says: "as told".into(), complete });
    }
}

fn turn_of(act: &Act) -> Turn {
    Turn { knob: Knob::Running(act.target.id()), was: "running".into(), set: "stopped".into() }
}
