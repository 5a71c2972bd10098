//! Hands: what a decision does to a process. Each action is one file and one line of `ACTIONS`.
//!
//! An action works through a `Host`. Linux does it, the dry run says what it would do, the fake is for tests; no
//! action knows which one it has.

use core::time::Duration;
use std::sync::Arc;

use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot},
};

use crate::engine::{
    command::{Act, ActionOutcome, ActionResult, Returned},
    lease::{Surveyed, Undo},
    policy::{ActionName, Mode},
};

mod capture;
pub mod host;
mod condition;
mod cordon;
mod evict;
mod freeze;
mod kill;
pub mod lacks;
pub mod lease;
mod look;
mod notify;
mod owned;
mod protect;
mod raise_limit;
mod reach;
mod reset_connections;
mod restart;
mod run_hook;
mod stop;
mod taint;
mod thaw;
mod throttle;

use host::{Host, Later, dry_run::DryRun};

/// A rung without `timeout` has this long.
const TIMEOUT: Duration = Duration::from_secs(30);
/// A rung without `grace`: from the polite signal to SIGKILL, inside its timeout.
const GRACE: Duration = Duration::from_secs(10);
/// For the last words of an act.
const SLACK: Duration = Duration::from_secs(1);
/// For the evidence that is to be taken before the first blow.
const BEFORE_MAX: Duration = Duration::from_secs(2);

pub struct Action {
    pub name: ActionName,
    /// One line for a person.
    pub does: &'static str,
    /// Capability, socket or file without which it fails.
    pub needs: &'static str,
    /// Of a lease: what it would turn. `run` turns that and nothing else.
    survey: Option<fn(&Act, &dyn Host) -> lease::Survey>,
    run: for<'a> fn(&'a Act, &'a dyn Host) -> Later<'a, ActionOutcome>,
}

/// THE ACTION TABLE: the closed list of what healer can do to a machine.
pub const ACTIONS: &[Action] = &[
    Action {
        name: ActionName::Notify,
        does: "writes a log line; touches nothing",
        needs: "nothing",
        survey: None,
        run: |act, host| Box::pin(notify::run(act, host)),
    },
    Action {
        name: ActionName::Capture,
        does: "keeps stacks, lock graph, descriptors, sockets, cgroup figures and last log lines; touches nothing",
        needs: "CAP_SYS_PTRACE for the stacks of others",
        survey: None,
        run: |act, host| Box::pin(capture::run(act, host)),
    },
    Action {
        name: ActionName::Restart,
        does: "has the workload started again by whoever owns it, or by the rung's command",
        needs: "a `healer supervise` of that name, `command`, systemd's bus, Docker's socket or the CRI's",
        survey: None,
        run: |act, host| Box::pin(restart::run(act, host)),
    },
    Action {
        name: ActionName::Stop,
        does: "sends a signal, waits for the grace, sends SIGKILL, by pidfd",
        needs: "CAP_KILL, Linux 5.3",
        survey: None,
        run: |act, host| Box::pin(stop::run(act, host)),
    },
    Action {
        name: ActionName::Kill,
        does: "sends SIGKILL to the process, its group or its cgroup",
        needs: "CAP_KILL, Linux 5.3; for a cgroup at one blow cgroup.kill (v2, Linux 5.14)",
        survey: None,
        run: |act, host| Box::pin(kill::run(act, host)),
    },
    Action {
        name: ActionName::Freeze,
        does: "halts a process (SIGSTOP) or its cgroup (freezer); undone",
        needs: "CAP_KILL, or for a cgroup its freezer",
        survey: Some(freeze::survey),
        run: |act, host| Box::pin(lease::run(act, host)),
    },
    Action {
        name: ActionName::Thaw,
        does: "lets run what somebody has halted",
        needs: "CAP_KILL, or for a cgroup its freezer",
        survey: None,
        run: |act, host| Box::pin(thaw::run(act, host)),
    },
    Action {
        name: ActionName::Throttle,
        does: "gives its cgroup less CPU, or has its memory reclaimed sooner; undone",
        needs: "a cgroup of its own with the controller cpu; for memoryHigh cgroup v2",
        survey: Some(throttle::survey),
        run: |act, host| Box::pin(lease::run(act, host)),
    },
    Action {
        name: ActionName::RaiseLimit,
        does: "gives more memory, processes or open files, up to a bound; undone",
        needs: "a cgroup of its own with the controller; for openFiles CAP_SYS_RESOURCE",
        survey: Some(raise_limit::survey),
        run: |act, host| Box::pin(lease::run(act, host)),
    },
    Action {
        name: ActionName::Protect,
        does: "has the kernel kill others first when memory runs out; undone",
        needs: "CAP_SYS_RESOURCE",
        survey: Some(protect::survey),
        run: |act, host| Box::pin(lease::run(act, host)),
    },
    Action {
        name: ActionName::RunHook,
        does: "runs the user's program, without a shell, incident on stdin",
        needs: "the program",
        survey: None,
        run: |act, host| Box::pin(run_hook::run(act, host)),
    },
    Action {
        name: ActionName::ResetConnections,
        does: "ends connections that are dead though their peer is well (SOCK_DESTROY, by cookie)",
        needs: "CAP_NET_ADMIN, CAP_SYS_ADMIN for other network namespaces, CONFIG_INET_DIAG_DESTROY",
        survey: None,
        run: |act, host| Box::pin(reset_connections::run(act, host)),
    },
    Action {
        name: ActionName::Evict,
        does: "has Kubernetes move the pod, by the Eviction API; waits for its PodDisruptionBudget",
        needs: "a service account or kubeconfig with the rights of deploy/kubernetes/act",
        survey: None,
        run: |act, host| Box::pin(evict::run(act, host)),
    },
    Action {
        name: ActionName::Cordon,
        does: "keeps new pods off this node; undone",
        needs: "a service account or kubeconfig with the rights of deploy/kubernetes/act",
        survey: Some(cordon::survey),
        run: |act, host| Box::pin(lease::run_afar(act, host)),
    },
    Action {
        name: ActionName::Taint,
        does: "taints this node, so that new pods go elsewhere; undone",
        needs: "a service account or kubeconfig with the rights of deploy/kubernetes/act",
        survey: Some(taint::survey),
        run: |act, host| Box::pin(lease::run_afar(act, host)),
    },
    Action {
        name: ActionName::Condition,
        does: "sets a condition of this node, for whoever repairs nodes; undone",
        needs: "a service account or kubeconfig with the rights of deploy/kubernetes/act",
        survey: Some(condition::survey),
        run: |act, host| Box::pin(lease::run_afar(act, host)),
    },
];

fn action(name: ActionName) -> Option<&'static Action> {
    ACTIONS.iter().find(|action| action.name == name)
}

/// Starts acts as tasks of the current runtime; every act has an end.
#[derive(Clone)]
pub struct Hands {
    host: Arc<dyn Host>,
    results: mpsc::Sender<Returned>,
}

impl Hands {
    pub fn new(host: Arc<dyn Host>, results: mpsc::Sender<Returned>) -> Self {
        Self { host, results }
    }

    /// Exactly one result per act comes out of the channel. `before`: what has to be over first, if it is in time.
    pub fn start(&self, act: Act, before: Option<oneshot::Receiver<()>>) {
        let Self { host, results } = self.clone();
        tokio::spawn(async move {
            if let Some(before) = before {
                // Evidence is worth a moment, not the patient.
                tokio::time::timeout(BEFORE_MAX, before).await.ok();
            }
            let key = act.key.clone();
            let outcome = perform_beside(act, host).await;
            // Closed only when the agent is on its way out; the intent stays open in the journal.
            results.send(Returned::Acted(ActionResult { key, outcome })).await.ok();
        });
    }

    /// What a lease would turn.
    pub fn survey(&self, act: Act) {
        self.give(move |host| {
            let turns = survey(&act, host);
            Returned::Surveyed(Surveyed { key: act.key, turns })
        });
    }

    pub fn undo(&self, undo: Undo) {
        if undo.turns.iter().any(|turn| turn.knob.is_afar()) {
            let Self { host, results } = self.clone();
            tokio::spawn(async move {
                let undone = lease::undo_afar(&undo, &*host).await;
                results.send(Returned::Undone(undone)).await.ok()
            });
        } else {
            self.give(move |host| Returned::Undone(lease::undo(&undo, host)));
        }
    }

    /// An owner that is asked may take its time.
    fn give(&self, look: impl FnOnce(&dyn Host) -> Returned + Send + 'static) {
        let Self { host, results } = self.clone();
        tokio::task::spawn_blocking(move || results.blocking_send(look(&*host)));
    }
}

/// [`perform`], with whatever may take long off the caller's thread: who proves something again reads many files, and
/// an owner that lends or a kernel that is asked for sockets may take seconds.
async fn perform_beside(act: Act, host: Arc<dyn Host>) -> ActionOutcome {
    let lends = act.rung.action.is_lease() && act.turns.iter().all(|turn| !turn.knob.is_afar());
    let ended = if lends || act.rung.action == ActionName::ResetConnections {
        let all = move || Handle::current().block_on(perform(&act, &*host));
        tokio::task::spawn_blocking(all).await
    } else {
        until_gone(&act, &*host).await;
        let began = tokio::time::Instant::now();
        let look = move || (look_again(&act, &*host), act, host);
        match tokio::task::spawn_blocking(look).await {
            // What was seen before it hung may be over, and who waited for the act has given it up.
            Ok((Ok(()), act, _)) if limit(&act) < began.elapsed() => {
                let took = began.elapsed().as_secs();
                Ok(ActionOutcome::Refused {
                    reason: format!("the second look took {took} s: it is too late to act"),
                })
            }
            Ok((Ok(()), act, host)) => Ok(carry_out(&act, &*host).await),
            Ok((Err(outcome), ..)) => Ok(outcome),
            Err(error) => Err(error),
        }
    };
    ended.unwrap_or_else(|error| ActionOutcome::Unknown { reason: error.to_string() })
}

/// Looks again, acts within the time limit, confirms. Observe and shadow go to the dry run.
pub async fn perform(act: &Act, host: &dyn Host) -> ActionOutcome {
    until_gone(act, host).await;
    match look_again(act, host) {
        Ok(()) => carry_out(act, host).await,
        Err(outcome) => outcome,
    }
}

async fn until_gone(act: &Act, host: &dyn Host) {
    for look in &act.look {
        look::until_gone(look, host).await;
    }
}

fn look_again(act: &Act, host: &dyn Host) -> Result<(), ActionOutcome> {
    let mut looks = act.look.iter();
    looks
        .try_for_each(|look| look::again(look, act, host))
        .map_err(|reason| ActionOutcome::Refused { reason })
}

async fn carry_out(act: &Act, host: &dyn Host) -> ActionOutcome {
    let limit = limit(act) + SLACK;
    let done = match act.mode {
        Mode::Enforce => tokio::time::timeout(limit, run(act, host)).await,
        Mode::Observe | Mode::Shadow => {
            let dry = DryRun::over(host);
            tokio::time::timeout(limit, run(act, &dry)).await
        }
    };
    done.unwrap_or_else(|_elapsed| ActionOutcome::Unknown {
        reason: format!("not over after {} s", limit.as_secs()),
    })
}

/// Looks again, then at what the act would turn. Touches nothing.
pub fn survey(act: &Act, host: &dyn Host) -> lease::Survey {
    look_again(act, host)?;
    match action(act.rung.action).and_then(|action| action.survey) {
        Some(survey) => survey(act, host),
        None => Ok(Vec::new()),
    }
}

async fn run(act: &Act, host: &dyn Host) -> ActionOutcome {
    match action(act.rung.action) {
        Some(action) => (action.run)(act, host).await,
        None => ActionOutcome::Failed {
            error: format!("no such action: {}", act.rung.action.name()),
            errno: None,
        },
    }
}

/// A grace that the policy gives comes before the timeout; ours is a part of it.
fn limit(act: &Act) -> Duration {
    timeout(act) + act.rung.grace.unwrap_or_default()
}

fn timeout(act: &Act) -> Duration {
    act.rung.timeout.unwrap_or(TIMEOUT)
}

fn grace(act: &Act) -> Duration {
    act.rung.grace.unwrap_or(GRACE.min(timeout(act) / 2))
}

/// From SIGKILL to the confirmed end.
fn kill_wait(act: &Act) -> Duration {
    limit(act) - grace(act)
}

fn polite_signal(act: &Act) -> i32 {
    act.rung.signal.unwrap_or(libc::SIGTERM)
}

#[cfg(test)]
mod lease_tests;
#[cfg(test)]
mod restart_tests;
#[cfg(test)]
mod tests;
