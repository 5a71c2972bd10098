//! Questions that the engine asks the machine; the answers come back as signals.

use std::path::Path;

use super::{Agent, answer_signal, listening};
use crate::{
    clock,
    engine::command::{Ask, Question},
    sense::poll::levels::is_read_only,
    signal::Answer,
    supervise::child,
    text::printable,
};

impl Agent {
    /// Off the loop's thread: /proc may be large.
    pub(super) fn ask(&mut self, question: Question) {
        let process = self.identity.of_id(question.about);
        let answers = self.answers.clone();
        if let Ask::Paused { pod, annotation } = question.what {
            let cluster = self.cluster.clone();
            tokio::spawn(async move {
                let said = cluster.is_paused(&pod, &annotation).await;
                if let Err(why) = &said {
                    let name = format!("{}/{}", pod.namespace, pod.name);
                    let name = printable(&name);
                    tracing::warn!(
                        "whether pod {name} is paused now is not known ({why}); what was known of it counts"
                    );
                }
                let answer = Answer::Paused(said.ok());
                answers.send(answer_signal(clock::boot(), process, question.id, answer)).ok();
            });
            return;
        }
        tokio::task::spawn_blocking(move || {
            let answer = find_out(&question);
            // Closed only when the agent is on its way out.
            answers.send(answer_signal(clock::boot(), process, question.id, answer)).ok();
        });
    }
}

fn find_out(question: &Question) -> Answer {
    let pid = question.about.pid;
    match &question.what {
        Ask::Listening(ports) => {
            let missing =
                listening::missing(Path::new("/proc"), pid, ports).unwrap_or_else(|_gone| ports.clone());
            Answer::NotListening(missing.iter().map(ToString::to_string).collect())
        }
        Ask::Alive => Answer::Alive(
            child::start_of(pid)
                .is_some_and(|start| crate::identity::process::ProcessId { pid, start } == question.about),
        ),
        Ask::Paused { .. } => Answer::Paused(None),
        Ask::ReadOnly { device } => Answer::ReadOnly(is_read_only(Path::new("/proc"), pid, device)),
    }
}
