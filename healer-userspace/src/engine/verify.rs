//! Did it help? Concluded from the kernel: a successor that lives, listens, and does not fail again.

mod disk;

use core::time::Duration;

use super::{
    command::Ask,
    policy::{Port, Verify},
    report::Outcome,
    time::{BootTime, Human},
    world::World,
};
use crate::{
    identity::process::{Process, ProcessId, WorkloadKey},
    text,
};

pub use disk::Disk;
use disk::{DiskWatch, Says};

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
    /// Since when nothing of the fault is seen; None while it is.
    quiet_since: Option<BootTime>,
    /// Of which successor we know that its ports are open.
    listening: Option<ProcessId>,
    not_listening: Vec<String>,
    pub asked: Option<(u64, ProcessId)>,
    /// Not before: an answer comes back faster than a port opens.
    ask_at: BootTime,
    /// What was lent is given back, and the fault was not seen then.
    alone: bool,
    /// The successor has the same fault, or the patient has it again.
    relapse: Option<String>,
    /// They were read-only: as long as one of them is, nothing is healed. The next is asked about once the one before can
    /// be written, or nobody knows.
    disks: Vec<DiskWatch>,
}

#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "lives for one call, on the stack")]
pub enum Check {
    Wait,
    /// Who listens in the network namespace of this process, or whether a disk can be written.
    Ask(ProcessId, Ask),
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
            quiet_since: Some(now),
            listening: None,
            not_listening: Vec::new(),
            asked: None,
            ask_at: now,
            alone: false,
            relapse: None,
            disks: Vec::new(),
        }
    }

    pub fn ask_about(&mut self, disk: Disk) {
        self.disks.retain(|watch| !watch.is_about(&disk));
        self.disks.push(DiskWatch::new(self.since, disk));
    }

    /// Nobody's absence is a cure.
    pub fn ask_for_somebody(&mut self) {
        self.somebody_follows = true;
    }

    /// Not before is it known whether it helped.
    pub fn last_until(&mut self, at: BootTime) {
        self.until = self.until.max(at);
    }

    /// Whoever runs out of time cannot wait for long to see whether it helps.
    pub fn end_by(&mut self, at: BootTime) {
        self.until = self.until.min(at.max(self.since));
        self.wake_at = self.wake_at.min(self.until);
    }

    /// `still`: what of this incident is not over yet (of a death: nothing).
    pub fn check(
        &mut self,
        now: BootTime,
        workload: &WorkloadKey,
        world: &World,
        still: Option<&str>,
    ) -> Check {
        let check = self.check_patient(now, workload, world, still);
        let Check::Healed { successor, .. } = &check else { return check };
        let about = successor.as_ref().map_or(self.target, Process::id);
        match disk::all_say(&mut self.disks, now, self.until, about) {
            Says::Writable => check,
            Says::ReadOnly(says) => failed(says),
            Says::Unknown(says) => Check::Unseen { says },
            Says::Ask(device, by) => {
                self.wake_at = by;
                Check::Ask(about, Ask::ReadOnly { device })
            }
            Says::WaitUntil(at) => {
                self.wake_at = at;
                Check::Wait
            }
        }
    }

    fn check_patient(
        &mut self,
        now: BootTime,
        workload: &WorkloadKey,
        world: &World,
        still: Option<&str>,
    ) -> Check {
        self.quiet_since = still.is_none().then(|| self.quiet_since.unwrap_or(now));
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
        let lives_long_at = successor.start.max(self.since - self.stable_for) + self.stable_for;
        let stable_at = lives_long_at.max(self.quiet_at().unwrap_or(lives_long_at));
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
            return Check::Ask(id, Ask::Listening(self.ports.clone()));
        }
        if now < stable_at || still.is_some() {
            self.wake_at = if now < stable_at { stable_at } else { self.until };
            if lives_long_at <= now && still.is_none() {
                return Check::Wait;
            }
            return self.unless_late(now, || still.unwrap_or("the successor is too young").to_owned());
        }
        let ports = if self.ports.is_empty() {
            String::new()
        } else {
            format!(", listens on {}", Port::list(&self.ports))
        };
        Check::Healed {
            says: format!("{} has lived {}{ports}", name(successor), Human(now.since(successor.start))),
            successor: Some(successor.clone()),
        }
    }

    fn check_absence(&mut self, now: BootTime, still: Option<&str>) -> Check {
        let Some(quiet_since) = self.quiet_since else {
            self.wake_at = self.until;
            return self.unless_late(now, || still.unwrap_or_default().to_owned());
        };
        let stable_at = quiet_since + self.stable_for;
        if now < stable_at {
            // It went in time; whether it stays away is seen after that time.
            self.wake_at = stable_at;
            return Check::Wait;
        }
        let says = format!("the fault has not come back in {}", Human(now.since(quiet_since)));
        Check::Healed { says, successor: None }
    }

    /// When it will have stayed away for long enough, if it went after the act and not by it.
    fn quiet_at(&self) -> Option<BootTime> {
        self.quiet_since.filter(|quiet| self.since < *quiet).map(|quiet| quiet + self.stable_for)
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

    /// Nothing holds the patient any more, and it looks well: whether it stays so is watched from here on, for `least`
    /// or longer.
    pub fn on_its_own(&mut self, now: BootTime, least: Duration) {
        if core::mem::replace(&mut self.alone, true) {
            return;
        }
        self.stable_for = self.stable_for.max(least);
        self.until = self.until.max(now + self.stable_for + Duration::from_secs(1));
        self.quiet_since = Some(now);
        self.wake_at = now;
    }

    /// A leak was diagnosed again. Where something was lent for it, that has held it up and not healed it.
    pub fn came_back(&mut self, sentence: &str) {
        if self.alone {
            self.relapse = Some(format!("it came back once what was lent was given back: {sentence}"));
            self.wake_at = self.since;
        }
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

    /// The same of a question about the disk.
    pub fn told_of_disk(&mut self, question: u64, is_read_only: Option<bool>) {
        let is_it = self.asked.take_if(|(id, _)| *id == question).is_some();
        let asked = self.disks.iter_mut().find(|disk| disk.is_asked());
        if let Some(disk) = asked.filter(|_| is_it) {
            disk.told(is_read_only);
        }
    }
}

fn failed(says: String) -> Check {
    Check::Failed { outcome: Outcome::Unchanged, says }
}

fn name(process: &Process) -> String {
    format!("{}[{}]", text::printable(&process.comm), process.pid)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u64) -> BootTime {
        BootTime(second * 1_000_000_000)
    }

    /// Half a minute of peace, within a minute from the hundredth second on.
    fn watch(told: &[(u64, Option<&str>)]) -> (Check, BootTime) {
        let verify = Verify {
            within: Duration::from_secs(60),
            stable_for: Duration::from_secs(30),
            ..Verify::default()
        };
        let target = ProcessId { pid: 1, start: at(1) };
        let mut verification = Verification::new(at(100), target, false, &[], &verify);
        let workload = Process::default().workload;
        let mut last = Check::Wait;
        for (second, still) in told {
            last = verification.check(at(*second), &workload, &World::default(), *still);
        }
        (last, verification.wake_at)
    }

    #[test]
    fn a_fault_that_goes_late_must_stay_away_for_as_long() {
        let (waits, wake_at) = watch(&[(100, Some("sick")), (145, None)]);
        assert!(matches!(waits, Check::Wait) && wake_at == at(175), "{waits:?}");
        let (healed, _) = watch(&[(100, Some("sick")), (145, None), (175, None)]);
        let Check::Healed { says, .. } = healed else { panic!("{healed:?}") };
        assert_eq!(says, "the fault has not come back in 30.0s");
        let (at_once, _) = watch(&[(100, None), (130, None)]);
        assert!(matches!(at_once, Check::Healed { .. }), "{at_once:?}");
    }

    #[test]
    fn whoever_runs_out_of_time_is_given_up_sooner() {
        let target = ProcessId { pid: 1, start: at(1) };
        let mut verification = Verification::new(at(100), target, false, &[], &Verify::default());
        verification.end_by(at(106));
        let workload = Process::default().workload;
        let mut check = |second| verification.check(at(second), &workload, &World::default(), Some("grows"));
        assert!(matches!(check(101), Check::Wait));
        assert!(matches!(check(106), Check::Failed { .. }));
    }

    #[test]
    fn what_was_only_held_up_is_not_waited_for_and_what_stays_away_is_healed() {
        let workload = Process::default().workload;
        let verify = Verify { stable_for: Duration::from_secs(1), ..Verify::default() };
        let target = ProcessId { pid: 1, start: at(1) };
        let mut lent = Verification::new(at(100), target, false, &[], &verify);
        lent.came_back("leaks");
        assert!(matches!(lent.check(at(100), &workload, &World::default(), Some("leaks")), Check::Wait));
        let alone = || {
            let mut verification = Verification::new(at(100), target, false, &[], &verify);
            verification.on_its_own(at(100), Duration::from_secs(6));
            verification
        };
        let mut back = alone();
        assert!(matches!(back.check(at(103), &workload, &World::default(), None), Check::Wait));
        back.came_back("leaks");
        let check = back.check(at(104), &workload, &World::default(), Some("leaks"));
        let Check::Failed { says, .. } = check else { panic!("{check:?}") };
        assert_eq!(says, "it came back once what was lent was given back: leaks");
        let mut well = alone();
        assert!(matches!(well.check(at(106), &workload, &World::default(), None), Check::Healed { .. }));
    }

    #[test]
    fn a_fault_that_comes_back_after_its_time_was_not_healed() {
        let (back, _) = watch(&[(100, Some("sick")), (145, None), (170, Some("sick"))]);
        assert!(matches!(back, Check::Failed { .. }), "{back:?}");
        let (in_time, _) = watch(&[(110, None), (120, Some("sick")), (140, None), (169, None)]);
        assert!(matches!(in_time, Check::Wait), "{in_time:?}");
    }
}
