//! Who has too much to do, or is in trouble, is asked again, as long as an act can wait for it.

use core::time::Duration;

use super::{
    api::{Answer, Api, Send},
    rights::Right,
};
use crate::{clock, engine::time::BootTime};

/// A lease's undo reads and writes, and has 15 s: where each takes that long and its last answer as well, the undo is found
/// done by the next one.
const INSISTS_FOR: Duration = Duration::from_secs(6);
/// After an answer that says nothing about when to come back.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// All questions of one act.
pub(super) struct Insistent<'a> {
    api: &'a Api,
    until: BootTime,
}

impl<'a> Insistent<'a> {
    pub(super) fn new(api: &'a Api) -> Self {
        Self::until(api, clock::boot() + INSISTS_FOR)
    }

    /// As long as the act itself may take.
    pub(super) fn until(api: &'a Api, until: BootTime) -> Self {
        Self { api, until }
    }

    /// As [`Api::ask`]; the last answer, if it never was another.
    pub(super) async fn ask(&self, right: &Right, path: &str, send: Send<'_>) -> Result<Answer, String> {
        let mut pause = FIRST_PAUSE;
        loop {
            let answer = self.api.ask(right, path, send).await?;
            let wait = answer.retry_after.map_or(pause, |asked| asked.max(FIRST_PAUSE));
            if !answer.is_for_later() || self.until <= clock::boot() + wait {
                return Ok(answer);
            }
            tokio::time::sleep(wait).await;
            pause *= 2;
        }
    }
}
