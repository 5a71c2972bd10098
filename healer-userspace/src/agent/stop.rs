//! The end: what was lent is given back first.

use core::time::Duration;

use super::{
    Agent,
    wakes::{Wake, Wakes},
};
use crate::clock;

/// Files are written at once; a freezer may take a moment.
const LAST_WAIT: Duration = Duration::from_secs(3);

impl Agent {
    pub(super) async fn stop(&mut self, why: &str, wakes: &mut Wakes) {
        self.engine.give_back_everything(clock::boot());
        self.flush();
        let until = clock::boot() + LAST_WAIT;
        while 0 < self.engine.undos_left() && clock::boot() < until {
            if let Wake::Returned(returned) = wakes.next(&mut self.sense, Some(until)).await {
                self.returned(returned);
                self.flush();
            }
        }
        let left = self.engine.leases().len();
        if 0 < left {
            tracing::warn!(
                "{left} leases are still in force: `healer undo`, or the next start, gives them back"
            );
        }
        self.say("stop", why);
        self.flush();
    }

    /// `healer undo`, asked of the agent.
    pub(super) fn undo(&mut self, of: Option<&str>) -> String {
        match self.engine.give_back_asked(clock::boot(), of) {
            0 => "nothing is lent".to_owned(),
            1 => "1 lease is being undone; the log says what became of it".to_owned(),
            many => format!("{many} leases are being undone; the log says what became of them"),
        }
    }
}
