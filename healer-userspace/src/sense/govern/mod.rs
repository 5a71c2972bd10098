//! What sensing may cost: the budget of all programs and of the agent, and what is given up when it is used up.
//!
//! Pure: the caller measures, waits, attaches and detaches.

mod hook;
mod measure;
mod shed;
mod thread;
#[cfg(test)]
mod way_back;

use core::time::Duration;

use serde::Serialize;

pub(crate) use hook::{Attached, Hook};
pub use measure::POLLS_NS;
pub(crate) use measure::account;
pub use shed::Stage;
pub(crate) use thread::{Control, Handle, Start, start};

use crate::engine::time::BootTime;

/// Parts in a million of one CPU.
pub type Ppm = u64;

/// `AgentConfig.overhead`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Of one CPU: the agent's own time and that of its programs.
    pub cpu: Ppm,
    /// Resident bytes of the agent.
    pub memory: u64,
}

impl Default for Budget {
    fn default() -> Self {
        Self { cpu: 10_000, memory: 64 << 20 }
    }
}

/// `AgentConfig.sensors.syscallErrors`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Wish {
    #[default]
    Governed,
    Full,
    Sampled,
    Off,
}

/// How much of the system calls is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Every call.
    Full,
    /// Those in a slice of each second: what has run out is asked for again and again.
    Sampled,
    Off,
}

impl Mode {
    pub const ALL: [Self; 3] = [Self::Full, Self::Sampled, Self::Off];

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Sampled => "sampled",
            Self::Off => "off",
        }
    }
}

/// A sensor's state under the governor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Governed {
    pub mode: Mode,
    pub since: BootTime,
    pub why: String,
}

/// What one look says.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reading<'a> {
    /// System calls of the node per second; `None` if none were counted yet.
    pub calls: Option<u64>,
    /// Why something may run out soon.
    pub armed: Option<&'a str>,
    /// What the agent and the other programs use.
    pub others: Ppm,
    /// The budget is used up without the system calls.
    pub is_shed: bool,
}

const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Between two counts of calls that were too dear at the last.
const OFF_FOR: Duration = Duration::from_secs(5);
/// Of the time, the most that a slice takes.
const SLICE_MAX: Ppm = 30_000;
/// Less than that shows nothing.
const SLICE_MIN: Ppm = 5_000;
/// Looks in a row that must allow the full sensor before it comes back.
const CALM: u32 = 3;
/// Unless something may run out, only so much of what is left of the budget is taken.
const UNARMED_PART: u64 = 4;
/// However much the others use, this part of the budget is the sensor's.
const OWN_PART: u64 = 4;

/// Decides how much of the system calls is seen.
pub struct Governor {
    wish: Wish,
    budget: Budget,
    /// What the hook adds to each call.
    hook_ns: u64,
    calm: u32,
    /// Since the sensor was last given up for the budget's sake.
    has_counted: bool,
    slice: Ppm,
    state: Governed,
}

impl Governor {
    #[must_use]
    pub fn new(now: BootTime, hook_ns: u64) -> Self {
        let why = "system calls are being counted".to_owned();
        let state = Governed { mode: Mode::Sampled, since: now, why };
        Self {
            wish: Wish::default(),
            budget: Budget::default(),
            hook_ns,
            calm: CALM,
            has_counted: false,
            slice: SLICE_MAX,
            state,
        }
    }

    pub fn set(&mut self, wish: Wish, budget: Budget) {
        (self.wish, self.budget) = (wish, budget);
    }

    #[must_use]
    pub fn state(&self) -> &Governed {
        &self.state
    }

    /// How long the sensor is attached of each `period`.
    #[must_use]
    pub fn slice(&self, period: Duration) -> Duration {
        period * u32::try_from(self.slice).unwrap_or(0) / 1_000_000
    }

    /// While the sensor is off: how long until the next look, and whether the calls are counted then. Of one that was
    /// given up for the others' sake nobody knows yet that it is dear.
    fn while_off(&self, is_shed: bool) -> (Duration, bool) {
        let counts = self.wish != Wish::Off && !is_shed;
        (if counts && self.has_counted { OFF_FOR } else { LOOK_EVERY }, counts)
    }

    /// True if the mode is another than before.
    pub fn look(&mut self, now: BootTime, reading: &Reading<'_>) -> bool {
        let (mode, why) = match self.wish {
            Wish::Full => (Mode::Full, "the configuration says so".to_owned()),
            Wish::Off => (Mode::Off, "the configuration says so".to_owned()),
            Wish::Sampled => {
                self.slice = SLICE_MAX;
                (Mode::Sampled, "the configuration says so".to_owned())
            }
            Wish::Governed => self.weigh(reading),
        };
        let has_changed = mode != self.state.mode;
        if has_changed {
            self.state = Governed { mode, since: now, why };
        } else if self.state.why.is_empty() || self.state.since == now {
            self.state.why = why;
        }
        has_changed
    }

    fn weigh(&mut self, reading: &Reading<'_>) -> (Mode, String) {
        if reading.is_shed {
            self.has_counted = false;
            return (Mode::Off, "healer's budget is used up without it".to_owned());
        }
        let Some(calls) = reading.calls else {
            return (self.state.mode, String::new());
        };
        self.has_counted = true;
        let cost = calls.saturating_mul(self.hook_ns) / 1000;
        let left = self.budget.cpu.saturating_sub(reading.others).max(self.budget.cpu / OWN_PART);
        let allowed = if reading.armed.is_some() { left } else { left / UNARMED_PART };
        let is_full = self.state.mode == Mode::Full;
        // On the way back only half of it: the rate swings.
        let is_cheap = cost <= if is_full { allowed } else { allowed / 2 };
        self.calm = if is_cheap { self.calm.saturating_add(1) } else { 0 };
        // Something may run out: no time to wait.
        if is_cheap && (is_full || CALM <= self.calm || reading.armed.is_some()) {
            let why = match reading.armed {
                Some(why) => why.to_owned(),
                None => format!("{} are cheap to watch", Rate(calls)),
            };
            return (Mode::Full, why);
        }
        self.slice =
            (left / 2).saturating_mul(1_000_000).checked_div(cost).unwrap_or(SLICE_MAX).min(SLICE_MAX);
        let why =
            format!("{} would cost {}, of {} that are left", Rate(calls), Percent(cost), Percent(allowed));
        if self.slice < SLICE_MIN { (Mode::Off, why) } else { (Mode::Sampled, why) }
    }
}

/// `1.2 M system calls/s`
struct Rate(u64);

impl core::fmt::Display for Rate {
    fn fmt(&self, out: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self.0 {
            calls @ 1_000_000.. => write!(out, "{}.{} M", calls / 1_000_000, calls / 100_000 % 10)?,
            calls @ 1_000.. => write!(out, "{} k", calls / 1_000)?,
            calls => write!(out, "{calls}")?,
        }
        out.write_str(" system calls/s")
    }
}

/// `0.25 % of a CPU`
pub(crate) struct Percent(pub(crate) Ppm);

impl core::fmt::Display for Percent {
    fn fmt(&self, out: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(out, "{}.{:02} % of a CPU", self.0 / 10_000, self.0 / 100 % 100)
    }
}

/// What sensing costs now, and what was given up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overhead {
    /// Of the system calls; `None` where the sensor does not work.
    pub syscalls: Option<Governed>,
    pub calls_per_second: Option<u64>,
    /// The agent's own time.
    pub agent: Ppm,
    /// Its programs' time: their runs, times what a run costs.
    pub programs: Ppm,
    pub resident: u64,
    pub budget: Budget,
    pub stage: Stage,
    pub stage_since: BootTime,
}

impl Overhead {
    pub(crate) fn stage_in_words(&self) -> String {
        let (used, budget) = (Percent(self.agent + self.programs), Percent(self.budget.cpu));
        if self.stage == Stage::Nothing {
            return format!("sensing is whole again: it uses {used}, its budget is {budget}");
        }
        format!("sensing uses {used}, its budget is {budget}: given up: {}", self.stage.list())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn at(second: u64) -> BootTime {
        BootTime(second * SECOND)
    }

    fn governor(calls: u64) -> Governor {
        let mut governor = Governor::new(at(0), 90);
        let reading = Reading { calls: Some(calls), ..Reading::default() };
        for second in 1..=5 {
            governor.look(at(second), &reading);
        }
        governor
    }

    fn mode(governor: &mut Governor, second: u64, reading: &Reading<'_>) -> Mode {
        governor.look(at(second), reading);
        governor.state().mode
    }

    #[test]
    fn a_quiet_node_is_watched_in_full_and_a_busy_one_is_sampled_at_once() {
        let mut governor = governor(5_000);
        assert_eq!(governor.state().mode, Mode::Full);
        let busy = Reading { calls: Some(1_000_000), ..Reading::default() };
        assert_eq!(mode(&mut governor, 6, &busy), Mode::Sampled);
        assert_eq!(
            governor.state().why,
            "1.0 M system calls/s would cost 9.00 % of a CPU, of 0.25 % of a CPU that are left"
        );
        assert!(governor.slice(Duration::from_secs(1)) <= Duration::from_millis(50));
        let quiet = Reading { calls: Some(5_000), ..Reading::default() };
        assert_eq!(mode(&mut governor, 7, &quiet), Mode::Sampled, "one quiet second is no rest");
        mode(&mut governor, 8, &quiet);
        assert_eq!(mode(&mut governor, 9, &quiet), Mode::Full);
    }

    #[test]
    fn what_may_run_out_arms_it_within_the_budget() {
        let mut governor = governor(80_000);
        assert_eq!(governor.state().mode, Mode::Sampled);
        let calls = Some(50_000);
        let armed = Reading { calls, armed: Some("/data is 91 % full"), ..Reading::default() };
        assert_eq!(mode(&mut governor, 6, &armed), Mode::Full);
        assert_eq!(governor.state().why, "/data is 91 % full");
        let stormy = Reading { calls: Some(1_000_000), ..armed };
        assert_eq!(mode(&mut governor, 7, &stormy), Mode::Sampled);
    }

    #[test]
    fn the_slice_shrinks_with_the_rate_and_then_there_is_none() {
        let six = governor(6_000_000);
        assert_eq!(six.state().mode, Mode::Sampled);
        let slice = six.slice(Duration::from_secs(1));
        assert!(Duration::from_millis(8) < slice && slice < Duration::from_millis(11), "{slice:?}");
        let mut governor = governor(60_000_000);
        assert_eq!(governor.state().mode, Mode::Off);
        let quiet = Reading { calls: Some(1_000), ..Reading::default() };
        for second in 6..9 {
            mode(&mut governor, second, &quiet);
        }
        assert_eq!(governor.state().mode, Mode::Full, "it comes back by itself");
    }

    #[test]
    fn the_configuration_is_obeyed_and_a_spent_budget_is_too() {
        let mut governor = governor(1_000);
        let shed = Reading { calls: Some(1_000), is_shed: true, ..Reading::default() };
        assert_eq!(mode(&mut governor, 6, &shed), Mode::Off);
        for (wish, wanted) in
            [(Wish::Full, Mode::Full), (Wish::Sampled, Mode::Sampled), (Wish::Off, Mode::Off)]
        {
            governor.set(wish, Budget::default());
            assert_eq!(mode(&mut governor, 7, &shed), wanted);
        }
    }
}
