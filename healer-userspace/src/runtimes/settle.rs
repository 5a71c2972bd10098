//! The owner goes first: after a death its own restart is waited for, and never doubled.

use core::time::Duration;

use tokio::sync::mpsc;

use super::{Done, Learnt, Order};
use crate::{clock, engine::command::ActionOutcome};

/// Between two questions to the owner.
const ASK_EVERY: Duration = Duration::from_millis(100);
/// So long an owner may say "running" of a workload whose main process has ended.
pub(super) const NOTICES_WITHIN: Duration = Duration::from_secs(5);
/// The owner's word that a stop was asked for may come after the end itself.
pub(super) const WORD_COMES_WITHIN: Duration = Duration::from_millis(300);

/// What the owner makes of the workload now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Runs, with this main process if it was found.
    Running(Option<u32>),
    /// The owner is about to start or stop it itself; its own word for that.
    Busy(String),
    /// Not running, and the owner will not change that.
    Over,
}

/// Was a stop asked for?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    Stop,
    Nothing,
    /// The owner is not heard at present: it may have been.
    Unheard,
}

#[derive(Debug, PartialEq, Eq)]
enum Step {
    Wait,
    Restart,
    Refuse(String),
}

fn step(owner: &str, state: &State, order: &Order, waited: Duration) -> Step {
    let late = is_late(order, waited);
    match state {
        State::Over => Step::Restart,
        State::Running(Some(pid)) if *pid != order.target.pid => Step::Refuse(match order.is_main {
            true => format!("{owner} has restarted it itself: pid {pid} lives"),
            false => format!("{owner} says that it runs: pid {pid}, its main process, lives"),
        }),
        State::Running(_) if NOTICES_WITHIN <= waited => Step::Restart,
        State::Busy(word) if late => Step::Refuse(format!("{owner} is still at it itself: {word}")),
        State::Running(_) | State::Busy(_) => Step::Wait,
    }
}

/// The owner does not mean to run it. Nobody who may have been stopped on purpose is started.
fn last_word(owner: &str, word: Word, order: &Order, waited: Duration) -> Step {
    match word {
        Word::Nothing => Step::Restart,
        Word::Stop => Step::Refuse(format!("{owner} was asked to stop it")),
        Word::Unheard if is_late(order, waited) => Step::Refuse(format!(
            "{owner} does not tell what happens: whether it was stopped on purpose nobody knows"
        )),
        Word::Unheard => Step::Wait,
    }
}

fn is_late(order: &Order, waited: Duration) -> bool {
    order.limit.saturating_sub(Duration::from_secs(2)) <= waited
}

/// Returns once the owner has left a dead workload to us.
///
/// # Errors
/// Refused: a successor lives, the owner is at it, or it was stopped on purpose; or what `ask` failed with.
pub(super) async fn owner_goes_first<F>(
    owner: &str,
    order: &Order,
    mut ask: impl FnMut() -> F,
    heard: impl Fn() -> Word,
    learnt: &mpsc::Sender<Learnt>,
) -> Result<(), ActionOutcome>
where
    F: Future<Output = Result<State, ActionOutcome>>,
{
    let began = clock::boot();
    loop {
        let state = ask().await?;
        let mut next = step(owner, &state, order, clock::boot().since(began));
        if next == Step::Restart {
            tokio::time::sleep(WORD_COMES_WITHIN).await;
            next = last_word(owner, heard(), order, clock::boot().since(began));
        }
        match next {
            Step::Wait => tokio::time::sleep(ASK_EVERY).await,
            Step::Refuse(reason) => {
                if let State::Running(Some(pid)) = state
                    && pid != order.target.pid
                {
                    // Who lives is to be known before it is read that healer did nothing.
                    let owner = order.owner.clone();
                    learnt.send(Learnt::Runs { owner, pid }).await.ok();
                }
                return Err(ActionOutcome::Refused { reason });
            }
            Step::Restart => return Ok(()),
        }
    }
}

/// Cut at the act's own limit, with words.
pub(super) async fn within(order: &Order, owner: &str, act: impl Future<Output = Done>) -> Done {
    let done = tokio::time::timeout(order.limit, act).await;
    done.unwrap_or_else(|_elapsed| {
        let reason = format!("{owner} has not finished within {} s", order.limit.as_secs_f32());
        Err(ActionOutcome::Unknown { reason })
    })
}

#[cfg(test)]
mod tests {
    use super::{super::Owner, *};
    use crate::{engine::time::BootTime, identity::process::ProcessId};

    fn order() -> Order {
        Order {
            owner: Owner::Unit("web.service".into()),
            target: ProcessId { pid: 7, start: BootTime(1) },
            is_main: true,
            is_dead: true,
            cgroup: String::new(),
            pod: None,
            grace: Duration::ZERO,
            limit: Duration::from_secs(30),
        }
    }

    fn after(state: &State, seconds: u64) -> Step {
        step("systemd", state, &order(), Duration::from_secs(seconds))
    }

    #[test]
    fn who_is_given_up_is_restarted_at_once() {
        assert_eq!(after(&State::Over, 0), Step::Restart);
    }

    #[test]
    fn an_owner_that_has_not_noticed_is_waited_for_and_then_helped() {
        for state in [State::Running(None), State::Running(Some(7))] {
            assert_eq!(after(&state, 4), Step::Wait);
            assert_eq!(after(&state, 5), Step::Restart);
        }
    }

    #[test]
    fn a_child_that_ended_is_no_restart_of_its_workload() {
        let order = Order { is_main: false, ..order() };
        let Step::Refuse(reason) = step("docker", &State::Running(Some(8)), &order, Duration::ZERO) else {
            panic!("nothing is to be restarted")
        };
        assert_eq!(reason, "docker says that it runs: pid 8, its main process, lives");
    }

    #[test]
    fn who_lives_is_told_before_the_refusal() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let (order, (learnt, mut heard)) = (order(), mpsc::channel(4));
        let wait = |state: Result<State, ActionOutcome>| {
            let ask = || core::future::ready(state.clone());
            runtime.block_on(owner_goes_first("systemd", &order, ask, || Word::Nothing, &learnt))
        };
        let deaf = ActionOutcome::Failed { error: "no answer".into(), errno: None };
        assert_eq!(wait(Err(deaf.clone())), Err(deaf));
        assert!(heard.try_recv().is_err());
        assert!(matches!(wait(Ok(State::Running(Some(8)))), Err(ActionOutcome::Refused { .. })));
        assert_eq!(heard.try_recv(), Ok(Learnt::Runs { owner: order.owner.clone(), pid: 8 }));
    }

    #[test]
    fn while_the_owner_is_not_heard_nobody_is_started() {
        let word = |word, seconds| last_word("docker", word, &order(), Duration::from_secs(seconds));
        assert_eq!(word(Word::Nothing, 0), Step::Restart);
        assert_eq!(word(Word::Unheard, 27), Step::Wait);
        for (said, seconds, reason) in [(Word::Stop, 0, "asked to stop"), (Word::Unheard, 28, "nobody knows")]
        {
            assert!(matches!(word(said, seconds), Step::Refuse(words) if words.contains(reason)), "{said:?}");
        }
    }

    #[test]
    fn the_owners_own_restart_is_not_doubled() {
        let refused = |step| matches!(step, Step::Refuse(reason) if reason.contains("itself"));
        assert!(refused(after(&State::Running(Some(8)), 0)));
        let busy = State::Busy("activating (auto-restart)".into());
        assert_eq!(after(&busy, 20), Step::Wait);
        assert!(refused(after(&busy, 28)));
    }
}
