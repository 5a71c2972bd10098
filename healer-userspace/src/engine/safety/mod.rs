//! The gates, in order. Every verdict carries its reason. To add one: write the file, add its line to [`GATES`].

mod backoff;
mod breaker;
mod budget;
pub mod canary;
mod cascade;
mod evidence;
mod journal_writable;
pub mod ledger;
mod maintenance;
mod pause;
mod protected;
mod second_look;
mod self_effect;
mod stale;
pub mod storm;
mod unless;

pub use breaker::PROBING;
use canary::Canaries;
pub(super) use cascade::{is_interim, may_be_anothers_fault};
use ledger::Ledger;
pub use stale::STALE;
use storm::Storms;

use super::{
    cascade::Root,
    class::Class,
    command::Look,
    diagnosis::Diagnosis,
    policy::{Mode, Policy, PolicySet, Rule, Rung, maintenance::WallClock},
    report::Verdict,
    time::BootTime,
    unanswered::Awaited,
};
use crate::identity::process::{Process, WorkloadKey};

pub struct GateEntry {
    pub name: &'static str,
    pub judge: fn(&Proposal<'_>, &Facts<'_>) -> Ruling,
}

/// The order is meaning: the cheapest and most general refusal comes first, the second look last.
pub const GATES: &[GateEntry] = &[
    GateEntry { name: "pause", judge: pause::judge },
    GateEntry { name: "maintenance", judge: maintenance::judge },
    GateEntry { name: "protected", judge: protected::judge },
    GateEntry { name: "journal_writable", judge: journal_writable::judge },
    GateEntry { name: "evidence", judge: evidence::judge },
    GateEntry { name: "unless", judge: unless::judge },
    GateEntry { name: "cascade", judge: cascade::judge },
    GateEntry { name: "self_effect", judge: self_effect::judge },
    GateEntry { name: STALE, judge: stale::judge },
    GateEntry { name: "budget", judge: budget::judge },
    GateEntry { name: "backoff", judge: backoff::judge },
    GateEntry { name: "breaker", judge: breaker::judge },
    GateEntry { name: "canary", judge: canary::judge },
    GateEntry { name: "storm", judge: storm::judge },
    GateEntry { name: "second_look", judge: second_look::judge },
];

/// What is about to be done, and why.
pub struct Proposal<'a> {
    pub now: BootTime,
    pub diagnosis: &'a Diagnosis,
    pub workload: &'a WorkloadKey,
    pub target: &'a Process,
    pub policy: &'a Policy,
    pub rule: &'a Rule,
    pub rung: &'a Rung,
    /// A further rung of the same incident: the ladder itself is the patience.
    pub escalating: bool,
    /// It has happened, and is not what the workload suffers from now.
    pub has_passed: bool,
    pub mode: Mode,
}

/// What the gates may look at besides.
pub struct Facts<'a> {
    pub policies: &'a PolicySet,
    pub ledger: &'a Ledger,
    pub canaries: &'a Canaries,
    pub storms: &'a Storms,
    /// That run now, or should; who asks has them counted.
    pub workloads: &'a dyn Fn() -> usize,
    /// Since when this engine looks on.
    pub born: BootTime,
    /// Unknown in a recorded trace.
    pub wall: Option<WallClock>,
    /// Why acting is paused, if it is.
    pub paused: Option<&'a str>,
    /// By its annotation, if the API server has told.
    pub pod_is_paused: Option<bool>,
    /// Why the journal cannot be written, if it cannot.
    pub journal_error: Option<&'a str>,
    /// Records lost since the fault.
    pub lost: u64,
    /// Something that the workload uses fails: it is not its own fault.
    pub root: Option<&'a Root>,
    /// Until then it may recover by itself, because what it uses is well again.
    pub recovers_until: Option<BootTime>,
    /// Something that it uses has not answered yet: it may be that it fails.
    pub awaited: Option<&'a Awaited>,
    /// Classes now diagnosed for this workload.
    pub active: &'a [Class],
    /// Acts of this mode on other workloads that are intended and not over: not yet in the ledger.
    pub under_way: u32,
    /// Of these, on this workload: in shadow several incidents of one are followed side by side.
    pub under_way_here: u32,
    /// No signal reaches the target: it was told to die already, and cannot.
    pub deaf: bool,
    /// Another act on this workload is under way.
    pub busy: Option<&'a str>,
    /// What an act for another incident has turned on this workload, and not turned back yet.
    pub lent: Option<&'a str>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ruling {
    pub verdict: Verdict,
    pub reason: String,
    /// For a hold: when to ask again.
    pub until: Option<BootTime>,
}

impl Ruling {
    fn pass(reason: impl Into<String>) -> Self {
        Self { verdict: Verdict::Pass, reason: reason.into(), until: None }
    }

    fn hold(until: Option<BootTime>, reason: impl Into<String>) -> Self {
        Self { verdict: Verdict::Hold, reason: reason.into(), until }
    }

    fn refuse(reason: impl Into<String>) -> Self {
        Self { verdict: Verdict::Refuse, reason: reason.into(), until: None }
    }
}

/// What the hands must find true at the moment of the blow.
pub fn looks(proposal: &Proposal<'_>, active: &[Class], target_is_dead: bool) -> Vec<Look> {
    second_look::looks(proposal, active, target_is_dead)
}
