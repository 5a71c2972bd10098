//! The abnormal ends of one workload or command, and when they make a loop.

use core::time::Duration;
use std::collections::VecDeque;

use crate::{
    engine::{
        class::Class,
        detect::Context,
        diagnosis::End,
        policy::{Exits, choose},
        time::BootTime,
    },
    identity::process::{Process, ProcessId},
};

pub const DEFAULT: Exits = Exits { min: 3, within: Duration::from_secs(300), codes_not_in: Vec::new() };
const MAX_ENDS: usize = 64;

#[derive(Default)]
pub(super) struct Ends {
    pub(super) lives: VecDeque<End>,
    pub(super) last: Option<ProcessId>,
    pub(super) said_at: Option<BootTime>,
}

impl Ends {
    pub(super) fn add(&mut self, end: End) {
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

    pub(super) fn was_said(&self, now: BootTime) -> bool {
        self.said_at.is_some_and(|at| now.since(at) <= DEFAULT.within)
    }

    /// One was started after another had ended, and ended too: instances that ran side by side and fell together are
    /// one.
    pub(super) fn keep_faulting(&self, now: BootTime) -> bool {
        let mut last = BootTime(0);
        let mut row = 0;
        for end in self.lives.iter().filter(|end| end.fault && now.since(end.at) <= DEFAULT.within) {
            if last <= end.start {
                last = end.at;
                row += 1;
            }
        }
        DEFAULT.min <= row
    }
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
