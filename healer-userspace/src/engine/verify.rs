//! Did it help? Concluded from the kernel: a successor that lives, listens, and does not fail again.

use core::time::Duration;

use super::{
    policy::{Port, Verify},
    report::Outcome,
    time::{BootTime, Human},
    world::World,
};
use crate::{
    identity::process::{Process, ProcessId, WorkloadKey},
    text,
};

const ASK_EVERY: Duration = Duration::from_millis(100);
/// Who takes long to begin is not asked ten times a second all the while.
const ASK_AT_LEAST_EVERY: Duration = Duration::from_secs(1);

#[derive(Clone, Debug)]
pub struct Verification {
    pub since: BootTime,
    pub wake_at: BootTime,
    /// The patient; whoever follows it must be another process.
    target: ProcessId,
    /// A living main process is wanted, not only the absence of the fault.
    must_run: bool,
    /// After a death here, somebody's life is what tells whether it helped.
    somebody_follows: bool,
    ports: Vec<Port>,
    stable_for: Duration,
    until: BootTime,
    /// Of which successor we know that its ports are open.
    listening: Option<ProcessId>,
    not_listening: Vec<String>,
    pub asked: Option<(u64, ProcessId)>,
    /// Not before: an answer comes back faster than a port opens.
    ask_at: BootTime,
    /// The successor has the same fault.
    relapse: Option<String>,
}

#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "lives for one call, on the stack")]
pub enum Check {
    Wait,
    /// Ask who listens, in the network namespace of this process.
    Ask(ProcessId, Vec<Port>),
    Healed {
        says: String,
        successor: Option<Process>,
    },
    Failed {
        outcome: Outcome,
        says: String,
    },
    /// There is nothing to be seen that would tell.
    Unseen {
        says: String,
    },
}

impl Verification {
    pub fn new(now: BootTime, target: ProcessId, must_run: bool, ports: &[Port], verify: &Verify) -> Self {
        let within = verify.within.max(verify.stable_for + Duration::from_secs(1));
        Self {
            since: now,
            wake_at: now,
            target,
            must_run: must_run && verify.alive,
            somebody_follows: false,
            ports: if verify.listen { ports.to_vec() } else { Vec::new() },
            stable_for: verify.stable_for,
            until: now + within,
            listening: None,
            not_listening: Vec::new(),
            asked: None,
            ask_at: now,
            relapse: None,
        }
    }

    /// Nobody's absence is a cure.
    pub fn ask_for_somebody(&mut self) {
        self.somebody_follows = true;
    }

    /// Not before is it known whether it helped.
    pub fn last_until(&mut self, at: BootTime) {
        self.until = self.until.max(at);
    }

    /// `still`: what of this incident is not over yet (of a death: nothing).
    pub fn check(
        &mut self,
        now: BootTime,
        workload: &WorkloadKey,
        world: &World,
        still: Option<&str>,
    ) -> Check {
        let successor = world.get(workload).and_then(|workload| workload.successor(self.target));
        if let Some(says) = self.relapse.take() {
            return failed(says);
        }
        if !self.must_run {
            let is_missed =
                self.somebody_follows && world.get(workload).is_none_or(|known| known.living.is_empty());
            let check = self.check_absence(now, still);
            // A fault that nobody is left to have has not gone away.
            if is_missed && matches!(check, Check::Healed { .. }) {
                return Check::Unseen { says: "nobody is known to have taken its place".to_owned() };
            }
            return check;
        }
        let Some(successor) = successor else {
            self.wake_at = self.until;
            return self.unless_late(now, || "no successor appeared".to_owned());
        };
        let id = successor.id();
        let stable_at = successor.start.max(self.since - self.stable_for) + self.stable_for;
        if self.needs_ports(id) {
            let missing = self.not_listening.join(", ");
            if now >= self.until {
                return failed(format!("{} does not listen on {missing}", name(successor)));
            }
            let is_asked = self.asked.is_some_and(|(_, about)| about == id);
            if is_asked || now < self.ask_at {
                self.wake_at = if is_asked { self.until } else { self.ask_at.min(self.until) };
                return Check::Wait;
            }
            self.ask_at = now + (now.since(self.since) / 8).clamp(ASK_EVERY, ASK_AT_LEAST_EVERY);
            self.wake_at = self.ask_at.min(self.until);
            return Check::Ask(id, self.ports.clone());
        }
        if now < stable_at || still.is_some() {
            self.wake_at = if now < stable_at { stable_at } else { self.until };
            return self.unless_late(now, || still.unwrap_or("the successor is too young").to_owned());
        }
        let ports =
            if self.ports.is_empty() { String::new() } else { format!(", listens on {}", list(&self.ports)) };
        Check::Healed {
            says: format!("{} has lived {}{ports}", name(successor), Human(now.since(successor.start))),
            successor: Some(successor.clone()),
        }
    }

    fn check_absence(&mut self, now: BootTime, still: Option<&str>) -> Check {
        let stable_at = self.since + self.stable_for;
        if still.is_none() && now >= stable_at {
            let says = format!("the fault has not come back in {}", Human(now.since(self.since)));
            return Check::Healed { says, successor: None };
        }
        self.wake_at = if still.is_none() { stable_at } else { self.until };
        self.unless_late(now, || still.unwrap_or_default().to_owned())
    }

    fn needs_ports(&self, successor: ProcessId) -> bool {
        !self.ports.is_empty() && self.listening != Some(successor)
    }

    fn unless_late(&self, now: BootTime, why: impl FnOnce() -> String) -> Check {
        if now >= self.until && self.wake_at >= self.until {
            failed(format!("{} within {}", why(), Human(self.until.since(self.since))))
        } else {
            Check::Wait
        }
    }

    /// The same class was diagnosed on a successor: due at once.
    pub fn relapsed(&mut self, sentence: &str) {
        self.relapse = Some(format!("the successor has it too: {sentence}"));
        self.wake_at = self.since;
    }

    /// The answer to the question asked last; others are stale.
    pub fn answered(&mut self, question: u64, missing: &[String]) {
        let Some((_, about)) = self.asked.take_if(|(id, _)| *id == question) else {
            return;
        };
        if missing.is_empty() {
            self.listening = Some(about);
        }
        self.not_listening = missing.to_vec();
    }
}

fn failed(says: String) -> Check {
    Check::Failed { outcome: Outcome::Unchanged, says }
}

fn name(process: &Process) -> String {
    format!("{}[{}]", text::printable(&process.comm), process.pid)
}

fn list(ports: &[Port]) -> String {
    ports.iter().map(Port::to_string).collect::<Vec<_>>().join(", ")
}
