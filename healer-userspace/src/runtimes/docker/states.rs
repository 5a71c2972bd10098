//! Podman answers to Docker's API with states of its own: one such word, and the whole answer would not be understood.

use bollard::errors::Error;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Podman's (libpod/define/containerstate.go), and what Docker calls them. `stopped` has ended and is not tidied up yet:
/// for a moment, or for good if whoever should have done that was killed.
const STATES: [(&str, &str); 3] = [("stopped", "exited"), ("initialized", "created"), ("unknown", "")];

/// The answer, if other words for its states are all that it takes.
pub(super) fn understood<T: DeserializeOwned>(answer: Result<T, Error>) -> Result<T, Error> {
    if let Err(Error::JsonDataError { contents, .. }) = &answer
        && let Ok(mut said) = serde_json::from_str(contents)
    {
        reword(&mut said);
        return serde_json::from_value(said).or(answer);
    }
    answer
}

/// Of one container, or of a list.
fn reword(said: &mut Value) {
    if let Some(state) = said.get_mut("State").and_then(Value::as_object_mut) {
        // `reset` once it was unpaused (libpod/define/healthchecks.go). Nobody here asks for it.
        state.remove("Health");
        state.get_mut("Status").into_iter().for_each(reword_state);
    }
    for one in said.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
        one.remove("Health");
        one.get_mut("State").into_iter().for_each(reword_state);
    }
}

fn reword_state(state: &mut Value) {
    let known = STATES.iter().find(|(podmans, _)| *state == **podmans);
    if let Some((_, dockers)) = known {
        *state = Value::from(*dockers);
    }
}

#[cfg(test)]
mod tests {
    use bollard::models::{
        ContainerInspectResponse, ContainerStateStatusEnum, ContainerSummary, ContainerSummaryStateEnum,
    };

    use super::*;

    fn read<T: DeserializeOwned>(text: &str) -> Result<T, Error> {
        let answer = serde_json::from_str(text).map_err(|error| Error::JsonDataError {
            message: error.to_string(),
            contents: text.to_owned(),
            column: error.column(),
        });
        understood(answer)
    }

    #[test]
    fn what_podman_has_not_tidied_up_has_ended() {
        let one: ContainerInspectResponse = read(r#"{"Id":"c0ffee","State":{"Status":"stopped"}}"#).unwrap();
        assert_eq!(one.state.unwrap().status, Some(ContainerStateStatusEnum::EXITED));
        let list = r#"[{"Id":"c0ffee","State":"stopped"},{"Id":"f00d","State":"running"}]"#;
        let list: Vec<ContainerSummary> = read(list).unwrap();
        let states: Vec<_> = list.into_iter().filter_map(|one| one.state).collect();
        assert_eq!(states, [ContainerSummaryStateEnum::EXITED, ContainerSummaryStateEnum::RUNNING]);
    }

    /// Podman 5 has a state of health of its own.
    #[test]
    fn what_is_said_of_health_hides_nothing_else() {
        let unpaused = r#"{"Id":"c0ffee","State":{"Status":"running","Pid":7,"Health":{"Status":"reset"}}}"#;
        let state = read::<ContainerInspectResponse>(unpaused).unwrap().state.unwrap();
        assert_eq!((state.status, state.pid), (Some(ContainerStateStatusEnum::RUNNING), Some(7)));
    }

    #[test]
    fn what_nobody_knows_is_an_error_still() {
        for text in [r#"{"State":{"Status":"dancing"}}"#, r#"{"Id":7}"#, "{"] {
            let answer = read::<ContainerInspectResponse>(text);
            assert!(matches!(answer, Err(Error::JsonDataError { .. })), "{answer:?}");
        }
    }
}
