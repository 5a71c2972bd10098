//! What the sockets themselves say of a peer: it takes connections and reads nothing, or answers no questions.

use super::{Down, Kind, Peer, State};
use crate::engine::time::BootTime;

impl Down {
    fn by_sockets(kind: Kind, since: BootTime, is_doubtful: bool) -> Self {
        Self { kind, since, is_local: false, is_doubtful, needs_no_cause: true }
    }
}

impl Peer {
    pub(super) fn answers_questions(&self) -> Option<State> {
        let since = self.stuck.questions.unanswered_since()?;
        Some(State::Down(Down::by_sockets(Kind::Dns, since, false)))
    }

    pub(super) fn served(&self, now: BootTime) -> Option<State> {
        let frozen = self.stuck.frozen()?;
        Some(match frozen.is_old_enough(now) {
            Err(at) => State::Suspect(Some(at)),
            Ok(()) => State::Down(Down::by_sockets(Kind::Frozen, frozen.since, !frozen.halted)),
        })
    }
}
