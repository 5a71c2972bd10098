//! Answers of Docker, for whoever feeds us others.

use bollard::models::{ContainerInspectResponse, EventMessage};

use super::{engine, watch};

/// What was understood, in words.
pub(in crate::runtimes) fn read_answer(answer: ContainerInspectResponse) -> String {
    let seen = engine::seen(answer.clone());
    assert!(seen.container.log_file.as_ref().is_none_or(|path| path.starts_with('/')), "{seen:?}");
    format!("{seen:?} {:?} {:?}", seen.state(), engine::account::limits(answer))
}

pub(in crate::runtimes) fn read_event(event: EventMessage) {
    let actor = event.actor.unwrap_or_default();
    let attributes = actor.attributes.unwrap_or_default();
    let signal = attributes.get("signal");
    assert!(signal.is_none_or(|signal| !watch::ends(signal) || signal.parse::<i32>().is_ok()));
    let container = engine::by_event(&actor.id.unwrap_or_default(), attributes);
    assert_eq!(container.runtime, "docker");
}
