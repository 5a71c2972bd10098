//! The abnormal ends of one workload or command, and when they make a loop.

use core::time::Duration;
use std::collections::VecDeque;

use crate::{
    engine::{
        class::{Certainty, Class},
        detect::Context,
        diagnosis::End,
        policy::{Exits, choose},
        time::BootTime,
    },
    identity::process::{Process, ProcessId},
};

pub const DEFAULT: Exits = Exits { min: 3, within: Duration::from_secs(300), codes_not_in: Vec::new() };
const MAX_ENDS: usize = 64;
/// Whoever restarts what has ended does it soon; who looks now and then lets more time pass.
const RESTARTS_WITHIN: Duration = Duration::from_secs(3);

#[derive(Default)]
pub(super) struct Ends {
    /// Of a workload that a policy named.
    pub(super) tracked: bool,
    pub(super) lives: VecDeque<End>,
    pub(super) last: Option<ProcessId>,
    said: Option<(BootTime, Certainty)>,
    /// The shell that starts it never asks; a script that could not be read in time once does not change that.
    pub(super) is_unasked: bool,
    /// One of its lives had a listening socket.
    pub(super) serves: bool,
}

impl Ends {
    pub(super) fn of(tracked: bool) -> Self {
        Self { tracked, ..Self::default() }
    }

    pub(super) fn add(&mut self, end: End) {
        self.is_unasked |= end.unasked;
        self.lives.push_back(end);
        while self.lives.len() > MAX_ENDS {
            self.lives.pop_front();
        }
    }

    /// Of a tracked workload.
    pub(super) fn are_enough(&self, context: &Context<'_>, process: &Process) -> bool {
        let is_enough = |exits: &Exits| enough_ends(&self.lives, exits, context.now);
        asked_for(context, process).iter().any(is_enough)
    }

    /// As surely as that, and not long ago.
    pub(super) fn was_said(&self, certainty: Certainty, now: BootTime) -> bool {
        self.said.is_some_and(|(at, said)| certainty <= said && now.since(at) <= DEFAULT.within)
    }

    pub(super) fn say(&mut self, certainty: Certainty, now: BootTime) {
        self.said = Some((now, certainty));
    }

    /// One was started after another had ended, and ended too: instances that ran side by side and fell together are
    /// one. Numbered cases of a test are called in other words each; what is started again in other words is known by
    /// who starts it, or by what it does.
    pub(super) fn faults(&self, now: BootTime) -> u32 {
        let words = self.lives.back().map(|end| end.words);
        let is_service = self.is_unasked || self.serves;
        let faults = self.lives.iter().filter(|end| end.fault && (is_service || Some(end.words) == words));
        row(faults.filter(|end| now.since(end.at) <= DEFAULT.within))
    }

    /// Short lives of late, one after the other.
    pub(super) fn short_lives(&self, now: BootTime) -> u32 {
        row(self.lives.iter().filter(|end| 1 < end.weight && now.since(end.at) <= DEFAULT.within))
    }

    /// In exactly these words it was started again soon after each of its last ends: how often.
    pub(super) fn soon_again(&self) -> usize {
        let again =
            self.lives.iter().rev().zip(self.lives.iter().rev().skip(1)).take_while(|(end, before)| {
                end.words == before.words
                    && before.at <= end.start
                    && end.start.since(before.at) <= RESTARTS_WITHIN
            });
        again.count()
    }
}

fn row<'a>(ends: impl Iterator<Item = &'a End>) -> u32 {
    let mut last = BootTime(0);
    let mut row = 0;
    for end in ends {
        if last <= end.start {
            last = end.at;
            row += 1;
        }
    }
    row
}

/// The default, or what the rules of the owner ask for instead.
fn asked_for(context: &Context<'_>, process: &Process) -> Vec<Exits> {
    let choose::Owner::One(policy) = choose::owner(context.policies, process) else {
        return vec![DEFAULT];
    };
    let mut asked: Vec<Exits> = policy
        .rules
        .iter()
        .flat_map(|rule| &rule.when)
        .filter(|condition| condition.class == Class::CrashLoop)
        .map(|condition| condition.exits.clone().unwrap_or(DEFAULT))
        .collect();
    if asked.is_empty() {
        asked.push(DEFAULT);
    }
    asked
}

/// Do these ends make a loop, as `exits` counts? Short lives count double in the default only.
pub fn enough_ends<'a>(ends: impl IntoIterator<Item = &'a End>, exits: &Exits, now: BootTime) -> bool {
    let is_default = *exits == DEFAULT;
    let mut last = BootTime(0);
    ends.into_iter()
        .filter(|end| now.since(end.at) <= exits.within && !exits.codes_not_in.contains(&end.code))
        // What ran side by side and fell together is one end.
        .filter(|end| {
            last <= end.start && {
                last = end.at;
                true
            }
        })
        .map(|end| if is_default { end.weight } else { 1 })
        .sum::<u32>()
        >= exits.min
}
