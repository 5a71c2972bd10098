//! Whether the owner of a pod has paused healing by an annotation. It may come and go while the pod lives, and only the
//! API server knows: it is asked before each act.

use core::time::Duration;

use super::{
    Engine,
    command::{Ask, Command, Question},
    incident::{Incident, Plan},
    time::BootTime,
};

/// So long an answer counts.
const FRESH: Duration = Duration::from_secs(5);
/// The API client gives up before: then what the runtime knows counts.
const ANSWERS_WITHIN: Duration = Duration::from_secs(8);

#[derive(Clone, Debug)]
pub struct Asked {
    question: u64,
    at: BootTime,
    answer: Answer,
    /// What was last told: no silence since then has taken it back.
    is_paused: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Outstanding,
    /// None: nobody could tell.
    Told(Option<bool>),
}

impl Asked {
    pub fn told(&self) -> Option<bool> {
        match self.answer {
            Answer::Told(Some(said)) => Some(said),
            Answer::Told(None) | Answer::Outstanding => self.is_paused.then_some(true),
        }
    }
}

impl Engine {
    /// True: the answer comes first.
    pub(super) fn asks_whether_paused(
        &mut self,
        now: BootTime,
        incident: &mut Incident,
        plan: &mut Plan,
    ) -> bool {
        let (Some(annotation), Some(pod)) = (&plan.policy.safety.pause, &incident.target.place.pod) else {
            return false;
        };
        if let Some(asked) = &incident.pause {
            let since = now.since(asked.at);
            match asked.answer {
                Answer::Outstanding if since < ANSWERS_WITHIN => {
                    plan.ask_again(asked.at + ANSWERS_WITHIN);
                    return true;
                }
                Answer::Outstanding if since < ANSWERS_WITHIN + FRESH => return false,
                Answer::Told(_) if since < FRESH => return false,
                Answer::Outstanding | Answer::Told(_) => {}
            }
        }
        let question = self.next_question;
        self.next_question += 1;
        let what = Ask::Paused { pod: pod.clone(), annotation: annotation.clone() };
        let about = incident.target.id();
        self.out.commands.push_back(Command::Ask(Question { id: question, about, what }));
        let is_paused = incident.pause.as_ref().is_some_and(|asked| asked.is_paused);
        incident.pause = Some(Asked { question, at: now, answer: Answer::Outstanding, is_paused });
        plan.ask_again(now + ANSWERS_WITHIN);
        true
    }

    pub(super) fn told_of_pause(&mut self, now: BootTime, question: u64, said: Option<bool>) {
        let is_asked =
            |one: &&mut Incident| one.pause.as_ref().is_some_and(|asked| asked.question == question);
        let Some(incident) = self.incidents.values_mut().find(is_asked) else {
            return;
        };
        let id = incident.id;
        if let Some(asked) = &mut incident.pause {
            (asked.at, asked.answer) = (now, Answer::Told(said));
            asked.is_paused = said.unwrap_or(asked.is_paused);
        }
        if let Some(plan) = &mut incident.plan {
            plan.wake(now);
        }
        self.step(now, id);
    }
}
