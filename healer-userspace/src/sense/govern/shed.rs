//! What is given up, in which order, when the agent and its programs use more than their budget.

use std::collections::VecDeque;

use super::Ppm;

/// Each stage gives up what is named and all before it. Ends, execs, signals and OOM kills are never given up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    #[default]
    Nothing,
    /// Errors of system calls are not seen.
    Syscalls,
    /// What may run out is looked at less often.
    Polls,
    /// Retransmissions are not seen: silent peers are found when their connections end.
    Retransmits,
    /// Connections are not seen.
    Connections,
}

impl Stage {
    pub const ALL: [Self; 5] =
        [Self::Nothing, Self::Syscalls, Self::Polls, Self::Retransmits, Self::Connections];

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Syscalls => "syscall_errors",
            Self::Polls => "polls",
            Self::Retransmits => "retransmits",
            Self::Connections => "connections",
        }
    }

    /// It and all before it.
    #[must_use]
    pub fn list(self) -> String {
        let given_up = Self::ALL.into_iter().filter(|stage| *stage != Self::Nothing && *stage <= self);
        given_up.map(Self::name).collect::<Vec<_>>().join(", ")
    }

    fn next(self) -> Self {
        Self::ALL.into_iter().find(|stage| self < *stage).unwrap_or(self)
    }

    fn before(self) -> Self {
        Self::ALL.into_iter().rev().find(|stage| *stage < self).unwrap_or(self)
    }
}

/// What is used.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Use {
    /// All of its own time, the polls among it.
    pub(super) agent: Ppm,
    /// The same of the last look alone.
    pub(super) agent_now: Ppm,
    pub(super) polls: Ppm,
    pub(super) retransmits: Ppm,
    pub(super) connections: Ppm,
    pub(super) syscalls: Ppm,
    /// Of the agent's own time, what it does with what these two tell.
    pub(super) told_retransmits: Ppm,
    pub(super) told_connections: Ppm,
}

impl Use {
    fn sum(self) -> Ppm {
        self.agent + self.retransmits + self.connections + self.syscalls
    }

    /// A storm that is over is remembered for a while by what the agent used of late; a beat that is dearer than the
    /// others is none.
    pub(super) fn at_rest(self) -> Ppm {
        self.sum() - self.agent + self.agent.min(self.agent_now)
    }

    /// Of the last look, with its storms.
    fn now(self) -> Ppm {
        self.sum() - self.agent + self.agent_now
    }

    fn network(self) -> Ppm {
        self.retransmits + self.told_retransmits + self.connections + self.told_connections
    }
}

/// Looks over the budget before something is given up: in a row, or with one below it between two.
const OVER: u32 = 2;
/// Looks whose mean is over the budget, if so many of them are: what comes now and then, and costs too much.
const LATELY: usize = 12;
const OFTEN: usize = 3;
/// Looks in a row below half of it before something comes back; twice as many each time that it was too early.
const CALM_MIN: u32 = 5;
const CALM_MAX: u32 = 20;
/// Who has to give up something so soon after something came back has had it back too early.
const RELAPSE: u32 = 120;
/// A part that uses less of the budget is not worth giving up.
const WORTH_IT: u64 = 20;
/// Nor is one that is less of what is too much: that would not help.
const HELPS: u64 = 10;
/// The network is not seen any more only where that helps much.
const HELPS_MUCH: u64 = 2;

pub(super) struct Shedding {
    stage: Stage,
    over: u32,
    /// The look before was one of them.
    was_over: bool,
    lately: VecDeque<Ppm>,
    calm: u32,
    wanted_calm: u32,
    /// Looks since something came back; `None`: it was judged, or nothing did.
    back: Option<u32>,
}

impl Default for Shedding {
    fn default() -> Self {
        Self {
            stage: Stage::Nothing,
            over: 0,
            was_over: false,
            lately: VecDeque::with_capacity(LATELY),
            calm: 0,
            wanted_calm: CALM_MIN,
            back: None,
        }
    }
}

impl Shedding {
    pub(super) fn stage(&self) -> Stage {
        self.stage
    }

    /// True if the stage is another than before.
    pub(super) fn look(&mut self, used: Use, budget: Ppm) -> bool {
        let is_over = self.counts_as_over(used, budget);
        let comes_often = self.comes_often(used, budget);
        let is_too_much = OVER <= self.over || comes_often;
        self.calm = if used.at_rest() < budget / 2 { self.calm + 1 } else { 0 };
        self.back = self.back.map(|looks| looks.saturating_add(1));
        let wanted = if is_over && is_too_much {
            self.worth_it(used, budget)
        } else if self.wanted_calm <= self.calm {
            self.stage.before()
        } else {
            self.stage
        };
        if wanted == self.stage {
            return false;
        }
        (self.over, self.calm) = (0, 0);
        self.lately.clear();
        if wanted < self.stage {
            self.back = Some(0);
        } else if let Some(looks) = self.back.take() {
            let longer = (2 * self.wanted_calm).min(CALM_MAX);
            self.wanted_calm = if looks < RELAPSE { longer } else { CALM_MIN };
        }
        self.stage = wanted;
        true
    }

    /// What comes every other second is a load as well.
    fn counts_as_over(&mut self, used: Use, budget: Ppm) -> bool {
        let is_over = budget < used.at_rest();
        if is_over {
            self.over += 1;
        } else if !self.was_over {
            self.over = 0;
        }
        self.was_over = is_over;
        is_over
    }

    fn comes_often(&mut self, used: Use, budget: Ppm) -> bool {
        if self.lately.len() == LATELY {
            self.lately.pop_front();
        }
        self.lately.push_back(used.now());
        let often = self.lately.iter().filter(|used| budget < **used).count();
        OFTEN <= often && budget * (LATELY as Ppm) < self.lately.iter().sum()
    }

    /// The next stage that gives back something.
    fn worth_it(&self, used: Use, budget: Ppm) -> Stage {
        let mut stage = self.stage;
        let too_much = used.at_rest().saturating_sub(budget);
        loop {
            let next = stage.next();
            let gives = match next {
                Stage::Nothing => 0,
                Stage::Syscalls => used.syscalls,
                Stage::Polls => used.polls,
                Stage::Retransmits => used.retransmits + used.told_retransmits,
                Stage::Connections => used.connections + used.told_connections,
            };
            if next == stage {
                return self.stage;
            }
            let helps = match next {
                Stage::Nothing | Stage::Syscalls | Stage::Polls => too_much / HELPS < gives,
                Stage::Retransmits | Stage::Connections => too_much / HELPS_MUCH < used.network(),
            };
            if helps && budget / WORTH_IT < gives {
                return next;
            }
            stage = next;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET: Ppm = 10_000;

    fn after(shedding: &mut Shedding, looks: u32, used: Use) -> Stage {
        for _ in 0..looks {
            shedding.look(Use { agent_now: used.agent, ..used }, BUDGET);
        }
        shedding.stage()
    }

    #[test]
    fn one_stage_after_the_other_is_given_up_and_comes_back() {
        let mut shedding = Shedding::default();
        let busy = Use {
            agent: 5_000,
            polls: 1_000,
            retransmits: 4_000,
            connections: 4_000,
            syscalls: 2_500,
            ..Use::default()
        };
        assert_eq!(after(&mut shedding, 1, busy), Stage::Nothing, "a moment is no load");
        assert_eq!(after(&mut shedding, 1, busy), Stage::Syscalls);
        let busy = Use { syscalls: 0, ..busy };
        assert_eq!(after(&mut shedding, 2, busy), Stage::Polls);
        assert_eq!(after(&mut shedding, 2, busy), Stage::Retransmits);
        let less = Use { retransmits: 0, ..busy };
        assert_eq!(after(&mut shedding, 50, less), Stage::Retransmits, "below the budget, above half of it");
        let idle = Use::default();
        assert_eq!(after(&mut shedding, CALM_MIN - 1, idle), Stage::Retransmits, "a moment is no rest");
        assert_eq!(after(&mut shedding, 1, idle), Stage::Polls);
        assert_eq!(after(&mut shedding, 2 * CALM_MIN, idle), Stage::Nothing);
    }

    const BUSY: Use = Use {
        agent: 15_000,
        agent_now: 15_000,
        polls: 0,
        retransmits: 10,
        connections: 9_000,
        syscalls: 0,
        told_retransmits: 0,
        told_connections: 0,
    };

    /// Looks until the first of what was given up is back.
    fn comes_back(shedding: &mut Shedding) -> u32 {
        let given_up = shedding.stage();
        let is_back = |looks: &u32| after(shedding, 1, Use::default()) < given_up || 1000 < *looks;
        (1..).find(is_back).unwrap_or_default()
    }

    #[test]
    fn what_came_back_too_early_takes_longer_each_time() {
        let mut shedding = Shedding::default();
        let looks = [(); 4].map(|()| {
            assert_eq!(after(&mut shedding, 2, BUSY), Stage::Connections);
            comes_back(&mut shedding)
        });
        assert_eq!(looks, [5, 10, 20, 20], "and no longer than that");
        assert_eq!(after(&mut shedding, 3 * CALM_MAX + RELAPSE, Use::default()), Stage::Nothing);
        assert_eq!(after(&mut shedding, 2, BUSY), Stage::Connections);
        assert_eq!(comes_back(&mut shedding), CALM_MIN, "the storm before is long ago");
    }

    #[test]
    fn storms_that_come_again_and_again_are_sat_out() {
        let mut shedding = Shedding::default();
        let mut changes = 0;
        for _ in 0..20 {
            for used in [[BUSY; 8], [Use::default(); 8]].concat() {
                changes += u32::from(shedding.look(used, BUDGET));
            }
        }
        assert_eq!((changes, shedding.stage()), (3, Stage::Connections), "once back, and no more");
    }

    #[test]
    fn what_was_used_of_late_keeps_nothing_away_and_a_dear_beat_does_not_either() {
        let mut shedding = Shedding::default();
        after(&mut shedding, 2, BUSY);
        let over = Use { agent: 15_000, agent_now: 100, ..Use::default() };
        for _ in 0..CALM_MIN {
            shedding.look(over, 2 * BUSY.agent);
        }
        assert_eq!(shedding.stage(), Stage::Retransmits, "the storm is over");
        let beat = Use { agent: 1_000, agent_now: 9_000, ..Use::default() };
        for _ in 0..CALM_MIN {
            shedding.look(beat, BUDGET);
        }
        assert_eq!(shedding.stage(), Stage::Polls);
    }

    #[test]
    fn a_burst_that_is_over_costs_nothing_and_a_load_that_lasts_is_answered_in_two_looks() {
        let mut shedding = Shedding::default();
        let rest = Use { agent_now: 3_000, syscalls: 2_500, ..Use::default() };
        let mut agent: Ppm = 252_000;
        assert!(!shedding.look(Use { agent, agent_now: 1_000_000, ..rest }, BUDGET));
        for _ in 0..30 {
            agent = (3 * agent + 3_000) / 4;
            assert!(!shedding.look(Use { agent, ..rest }, BUDGET), "{agent} are remembered");
        }
        assert_eq!(after(&mut shedding, 1, Use { agent: 12_000, ..rest }), Stage::Nothing);
        assert_eq!(after(&mut shedding, 1, Use { agent: 12_000, ..rest }), Stage::Syscalls);
    }

    #[test]
    fn what_comes_back_does_not_wait_until_a_burst_is_forgotten() {
        let mut shedding = Shedding::default();
        assert_eq!(after(&mut shedding, 2, BUSY), Stage::Connections);
        let remembered = Use { agent: 250_000, agent_now: 3_000, ..Use::default() };
        let looks = (1..).find(|_| shedding.look(remembered, BUDGET));
        assert_eq!((looks, shedding.stage()), (Some(CALM_MIN), Stage::Retransmits));
    }

    #[test]
    fn a_load_every_other_look_is_given_something_up_for_once_and_a_rare_one_is_not() {
        let changes = |looks: &[Use]| {
            let mut shedding = Shedding::default();
            let all = looks.iter().cycle().take(20 * looks.len());
            let changes = all.filter(|used| shedding.look(**used, BUDGET)).count();
            (changes, shedding.stage())
        };
        let rest = Use { agent_now: 0, connections: 0, ..BUSY };
        assert_eq!(changes(&[BUSY, rest]), (1, Stage::Connections));
        assert_eq!(changes(&[BUSY, rest, rest]), (0, Stage::Nothing));
    }

    #[test]
    fn what_costs_nothing_is_kept() {
        let mut shedding = Shedding::default();
        let busy = Use { agent: 15_000, retransmits: 10, connections: 9_000, ..Use::default() };
        assert_eq!(after(&mut shedding, 2, busy), Stage::Connections);
        let mut shedding = Shedding::default();
        let others = Use { agent: 14_000, connections: 900, ..Use::default() };
        assert_eq!(after(&mut shedding, 40, others), Stage::Nothing, "what is too much is not theirs");
        let scanned = Use { told_connections: 9_000, ..others };
        assert_eq!(after(&mut shedding, 2, scanned), Stage::Connections);
        let mut shedding = Shedding::default();
        let own = Use { agent: 50_000, ..Use::default() };
        assert_eq!(after(&mut shedding, 40, own), Stage::Nothing, "nothing to give up would help");
    }

    #[test]
    fn a_load_in_every_third_look_is_shed_if_it_costs_too_much_on_the_whole() {
        let often = |agent_now: Ppm| {
            let mut shedding = Shedding::default();
            for _ in 0..8 {
                for agent_now in [agent_now, 3_000, 3_000] {
                    shedding.look(Use { agent: 50_000, polls: 100_000, agent_now, ..Use::default() }, BUDGET);
                }
            }
            shedding.stage()
        };
        assert_eq!(often(1_000_000), Stage::Polls);
        assert_eq!(often(15_000), Stage::Nothing, "on the whole it is within the budget");
    }

    #[test]
    fn a_load_that_was_over_for_long_counts_among_the_last_looks() {
        let mut shedding = Shedding::default();
        let own = Use { agent: 50_000, ..Use::default() };
        assert_eq!(after(&mut shedding, 12, own), Stage::Nothing, "nothing to give up would help");
        assert_eq!(after(&mut shedding, 2, Use { agent: 6_000, ..own }), Stage::Nothing);
        assert_eq!(after(&mut shedding, 1, Use { polls: 100_000, ..own }), Stage::Polls);
    }
}
