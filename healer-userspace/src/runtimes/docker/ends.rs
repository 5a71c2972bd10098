//! How containers have ended, as Docker has it written down, and what its events say of whose wish that was.

use bollard::models::{
    ContainerState, ContainerStateStatusEnum, EventMessage, RestartPolicy, RestartPolicyNameEnum,
};
use jiff::Timestamp;

use super::{super::exit::exit_of, watch::ends};
use crate::signal::Exit;

/// 128 + the signal: Ctrl-C in the container's terminal is a stop of which Docker does not tell.
const BY_INT: i32 = 128 + libc::SIGINT;
/// The same of those by which a stop ends a program, whether that listens or not.
const BY_TERM: i32 = 128 + libc::SIGTERM;
const BY_KILL: i32 = 128 + libc::SIGKILL;

/// An end that Docker leaves at that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) exit: Exit,
    pub(super) at: Timestamp,
    pub(super) oom_killed: bool,
    /// A stop leaves the same behind: only what is remembered of it tells.
    pub(super) is_as_of_a_stop: bool,
}

pub(super) fn failure(state: &ContainerState) -> Option<Failure> {
    let code = i32::try_from(state.exit_code?).ok()?;
    // OOMKilled alone says nothing of PID 1: it may have been a child of it.
    let oom_killed = code == BY_KILL && state.oom_killed.unwrap_or_default();
    let is_as_of_a_stop = !oom_killed && matches!(code, BY_TERM | BY_KILL);
    let is_bad = !matches!(code, 0 | BY_INT);
    let is_over = state.status == Some(ContainerStateStatusEnum::EXITED);
    let at: Timestamp = state.finished_at.as_deref()?.parse().ok()?;
    (is_over && is_bad).then(|| Failure { exit: exit_of(code), at, oom_killed, is_as_of_a_stop })
}

/// Who lies there all the same was stopped, or will be started soon.
pub(super) fn restarts_itself(policy: &RestartPolicy, restarted: i64) -> bool {
    let most = policy.maximum_retry_count.unwrap_or_default();
    match policy.name {
        Some(RestartPolicyNameEnum::ALWAYS | RestartPolicyNameEnum::UNLESS_STOPPED) => true,
        // 0: for ever.
        Some(RestartPolicyNameEnum::ON_FAILURE) => most <= 0 || restarted < most,
        Some(RestartPolicyNameEnum::EMPTY | RestartPolicyNameEnum::NO) | None => false,
    }
}

/// What Docker's events say of a container's last life.
#[derive(Debug, Default)]
pub(super) struct Remembered {
    /// None of that life is forgotten.
    pub(super) has_begun: bool,
    has_ended: bool,
    was_stopped: bool,
    /// The signal that ended it, if one did.
    ended_by: Option<i32>,
}

impl Remembered {
    pub(super) fn of(failure: &Failure) -> Self {
        Self { ended_by: failure.exit.signal, ..Self::default() }
    }

    pub(super) fn hear(&mut self, event: &EventMessage) {
        match event.action.as_deref() {
            // Who stopped the life before, for a restart, has not stopped this one.
            Some("start") => *self = Self { has_begun: true, ended_by: self.ended_by, ..Self::default() },
            Some("die") => self.has_ended = true,
            Some(_) | None => self.was_stopped |= is_stop(event, self.ended_by),
        }
    }

    pub(super) fn ended_alone(&self) -> bool {
        self.has_ended && !self.was_stopped
    }
}

/// `docker kill` is a stop as well: Docker's own restart policies take it for one, whatever the signal. Podman's event of
/// a kill does not have the signal.
fn is_stop(event: &EventMessage, ended_by: Option<i32>) -> bool {
    let attributes = event.actor.as_ref().and_then(|actor| actor.attributes.as_ref());
    let signal = attributes.and_then(|attributes| attributes.get("signal"));
    match event.action.as_deref() {
        Some("stop") => true,
        Some("kill") => signal.is_none_or(|signal| {
            ends(signal) || signal.parse::<i32>().is_ok_and(|sent| ended_by == Some(sent))
        }),
        Some(_) | None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::{super::engine::seen, *};

    fn inspected(state: &str, policy: &str, restarted: u32) -> Option<Failure> {
        let at = "2026-01-02T03:04:05.678901234Z";
        let answer = format!(
            r#"{{"Id":"c0ffee","RestartCount":{restarted},"HostConfig":{{"RestartPolicy":{policy}}},
                "State":{{"FinishedAt":"{at}",{state}}}}}"#
        );
        let failure = seen(serde_json::from_str(&answer).unwrap()).failure?;
        assert_eq!(failure.at, at.parse::<Timestamp>().unwrap());
        Some(failure)
    }

    #[test]
    fn a_failure_is_told_from_what_a_stop_leaves_behind() {
        let of = |state: &str| inspected(&format!(r#""Status":"exited",{state}"#), r#"{"Name":"no"}"#, 0);
        for (code, is_as_of_a_stop) in [(3, false), (139, false), (137, true), (143, true)] {
            let failure = of(&format!(r#""ExitCode":{code}"#)).expect("a failure");
            assert_eq!((failure.exit, failure.oom_killed), (exit_of(code), false));
            assert_eq!(failure.is_as_of_a_stop, is_as_of_a_stop, "{code}");
        }
        let by_oom = of(r#""ExitCode":137,"OOMKilled":true"#).expect("a failure");
        assert!(by_oom.oom_killed && !by_oom.is_as_of_a_stop);
        let of_a_child = of(r#""ExitCode":143,"OOMKilled":true"#).expect("a failure");
        assert!(!of_a_child.oom_killed && of_a_child.is_as_of_a_stop);
        for code in [0, 130] {
            assert_eq!(of(&format!(r#""ExitCode":{code}"#)), None, "{code}");
        }
    }

    #[test]
    fn who_has_not_ended_has_not_failed() {
        for status in ["created", "running", "restarting", "dead"] {
            let state = format!(r#""Status":"{status}","ExitCode":3"#);
            assert_eq!(inspected(&state, r#"{"Name":"no"}"#, 0), None, "{status}");
        }
    }

    #[test]
    fn whom_docker_restarts_itself_is_no_failure() {
        let of = |policy: &str, restarted| {
            inspected(r#""Status":"exited","ExitCode":3"#, policy, restarted).is_some()
        };
        assert!(!of(r#"{"Name":"always"}"#, 0));
        assert!(!of(r#"{"Name":"unless-stopped"}"#, 0));
        assert!(!of(r#"{"Name":"on-failure"}"#, 9));
        assert!(!of(r#"{"Name":"on-failure","MaximumRetryCount":3}"#, 2));
        assert!(of(r#"{"Name":"on-failure","MaximumRetryCount":3}"#, 3), "given up");
        assert!(of("null", 0));
    }

    fn event(action: &str, signal: &str) -> EventMessage {
        let event = format!(r#"{{"Action":"{action}","Actor":{{"Attributes":{{"signal":"{signal}"}}}}}}"#);
        serde_json::from_str(&event).unwrap()
    }

    #[test]
    fn a_stop_is_known_among_the_events() {
        let is = |action: &str, signal: &str| is_stop(&event(action, signal), None);
        assert!(is("stop", "") && is("kill", "15") && is("kill", "9"));
        assert!(!is("kill", "1") && !is("die", "9") && !is_stop(&EventMessage::default(), None));
        let podmans = EventMessage { action: Some("kill".to_owned()), ..EventMessage::default() };
        assert!(is_stop(&podmans, None), "it does not say by which signal");
    }

    #[test]
    fn who_sent_the_signal_that_ended_it_has_stopped_it() {
        let failure = inspected(r#""Status":"exited","ExitCode":139"#, "null", 0).expect("a failure");
        let ended_alone = |signal: &str| {
            let mut remembered = Remembered::of(&failure);
            for (action, signal) in [("start", ""), ("kill", signal), ("die", "")] {
                remembered.hear(&event(action, signal));
            }
            remembered.ended_alone()
        };
        assert!(!ended_alone("11"), "docker kill -s SEGV");
        assert!(ended_alone("1") && ended_alone("12"), "told to read its configuration anew");
    }

    #[test]
    fn an_end_is_its_own_if_it_is_remembered_and_no_stop_of_that_life_is() {
        let of = |events: &[(&str, &str)]| {
            let mut remembered = Remembered::default();
            for (action, signal) in events {
                remembered.hear(&event(action, signal));
            }
            (remembered.ended_alone(), remembered.has_begun)
        };
        let (kill, term, die, stop, start) =
            (("kill", "9"), ("kill", "15"), ("die", ""), ("stop", ""), ("start", ""));
        assert_eq!(of(&[]), (false, false), "forgotten");
        assert_eq!(of(&[die]), (true, false));
        assert_eq!(of(&[start, ("kill", "1"), die]), (true, true));
        for stopped in [&[start, kill, die][..], &[term, die, stop], &[die, stop], &[stop, die]] {
            assert!(!of(stopped).0, "{stopped:?}");
        }
        assert_eq!(of(&[term, die, stop, start, die]), (true, true), "it failed after a restart");
        assert_eq!(of(&[die, start]), (false, true), "it runs again");
    }
}
