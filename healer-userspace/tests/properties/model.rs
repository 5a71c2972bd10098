//! Every gate that can hold × every way the hands can fare, rung by rung × every moment at which healer may die: the
//! promises of [`super::promises`] hold in all of them. In order and without chance; the short form takes every few.

use crate::{
    machine::Machine,
    steps::{Disk, End, Hands, Step, WORKLOADS},
};

/// What the gates meet, and what lifts it.
const GATES: [(&[Step], &[Step]); 10] = [
    (&[], &[]),
    (&[Step::Pause], &[Step::Resume]),
    (&[Step::Maintenance(true)], &[Step::Maintenance(false)]),
    (&[Step::Disk(Disk::Refuses)], &[Step::Disk(Disk::Writes)]),
    (&[Step::Disk(Disk::Hangs)], &[Step::Disk(Disk::Writes)]),
    (&[Step::Lost(9)], &[]),
    (&[Step::Reload(2)], &[Step::Reload(0)]),
    (&[Step::Reload(3)], &[Step::Reload(0)]),
    (&[Step::KnobsStuck(true)], &[Step::KnobsStuck(false)]),
    (&[Step::Pause, Step::UndoAsked], &[Step::Resume, Step::UndoAsked]),
];
const HANDS: [Hands; 7] = [
    Hands::Succeed,
    Hands::SucceedWithSuccessor,
    Hands::Fail,
    Hands::Refuse,
    Hands::DoNotKnow,
    Hands::TakeTheirTime,
    Hands::SpeakLate,
];
/// From the fault to the crash: at once, before a lease is asked for, while hands are at it, while it is verified, after
/// one rung, after several.
const MOMENTS_MS: [u16; 6] = [0, 40, 700, 1_600, 8_000, 40_000];
const CRASHES: [Option<Step>; 3] = [None, Some(Step::AgentDies), Some(Step::AgentStops)];

#[derive(Clone, Copy)]
enum Fault {
    Deaf,
    Killed,
    Crashed,
    /// Again and again: budgets, backoff and breakers have a say.
    Loops,
    /// Of all workloads at once: canary, storm, and the node's budget have a say.
    Everybody,
}
const FAULTS: [Fault; 5] = [Fault::Deaf, Fault::Killed, Fault::Crashed, Fault::Loops, Fault::Everybody];

/// A number of the whole product, and the course that it stands for.
struct Course {
    who: usize,
    fault: Fault,
    gate: (&'static [Step], &'static [Step]),
    hands: (Hands, Hands),
    crash: Option<Step>,
    after_ms: u16,
}

pub(crate) const ALL: usize =
    WORKLOADS * FAULTS.len() * GATES.len() * HANDS.len() * HANDS.len() * CRASHES.len() * MOMENTS_MS.len();

pub(crate) fn run(number: usize) {
    let steps = Course::of(number).steps();
    let tried = Tried(number, &steps);
    let mut machine = Machine::new();
    steps.iter().for_each(|step| machine.take(step));
    machine.finish();
    drop(tried);
}

/// Says of a promise that was broken by what.
struct Tried<'a>(usize, &'a [Step]);

impl Drop for Tried<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("course {}: {:?}", self.0, self.1);
        }
    }
}

impl Course {
    fn of(mut number: usize) -> Self {
        let mut digit = |base: usize| {
            let digit = number % base;
            number /= base;
            digit
        };
        Self {
            who: digit(WORKLOADS),
            fault: FAULTS[digit(FAULTS.len())],
            gate: GATES[digit(GATES.len())],
            hands: (HANDS[digit(HANDS.len())], HANDS[digit(HANDS.len())]),
            crash: CRASHES[digit(CRASHES.len())],
            after_ms: MOMENTS_MS[digit(MOMENTS_MS.len())],
        }
    }

    /// Healthy, obstacle, fault, some time, crash; then other hands, the obstacle gone, and time.
    fn steps(&self) -> Vec<Step> {
        let mut steps = vec![Step::Start(self.who), Step::Probed(self.who, true), Step::Pass(2_000)];
        steps.extend(self.gate.0);
        steps.push(Step::Hands(self.hands.0));
        steps.extend(self.fault.steps(self.who));
        steps.push(Step::Pass(self.after_ms));
        steps.extend(self.crash);
        steps.push(Step::Hands(self.hands.1));
        steps.extend([
            Step::Pass(3_000),
            Step::Probed(self.who, false),
            Step::SupervisorBack(self.who, false),
        ]);
        steps.extend(self.gate.1);
        steps.push(Step::Pass(30_000));
        steps.extend(self.fault.steps(self.who));
        steps
    }
}

impl Fault {
    fn steps(self, who: usize) -> Vec<Step> {
        match self {
            Self::Deaf => vec![Step::Probed(who, false), Step::Pass(1_000), Step::Probed(who, false)],
            Self::Killed => vec![Step::End(who, End::Killed)],
            Self::Crashed => vec![Step::End(who, End::Fault)],
            Self::Everybody => {
                (0..WORKLOADS).flat_map(|one| [Step::Start(one), Step::End(one, End::Killed)]).collect()
            }
            Self::Loops => {
                let once =
                    [Step::End(who, End::Status(1)), Step::Pass(900), Step::Start(who), Step::Pass(900)];
                once.iter().copied().cycle().take(5 * once.len()).collect()
            }
        }
    }
}
