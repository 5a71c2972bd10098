//! What may happen to a machine, as values.

use proptest::prelude::*;

/// How many kinds of workload [`super::machine`] has.
pub(crate) const WORKLOADS: usize = 10;

#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    /// A new main process, whoever started it.
    Start(usize),
    End(usize, End),
    /// A process that began before the present one ends, or one that was never seen.
    EndOfAnother(usize, End),
    Signal(usize, i32, bool),
    StopAsked(usize),
    Probed(usize, bool),
    SupervisorGone(usize),
    SupervisorBack(usize, bool),
    Lost(u8),
    Pass(u16),
    LongPass(u16),
    Pause,
    Resume,
    Maintenance(bool),
    Disk(Disk),
    Hands(Hands),
    Reload(u8),
    AgentDies,
    /// SIGTERM: what is lent goes back first.
    AgentStops,
    UndoAsked,
    KnobsStuck(bool),
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum End {
    Status(u8),
    Fault,
    Killed,
    Oom,
    GroupKilled,
    CgroupKilled,
    Unseen,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Disk {
    Writes,
    Refuses,
    /// Takes its time: intents stay on their way.
    Hangs,
}

/// How the next acts end.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Hands {
    Succeed,
    SucceedWithSuccessor,
    Fail,
    Refuse,
    DoNotKnow,
    TakeTheirTime,
    /// It is done at once, and they say so late, if healer lives so long.
    SpeakLate,
}

pub(crate) fn sequence() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(step(), 1..150)
}

fn step() -> impl Strategy<Value = Step> {
    let who = 0..WORKLOADS;
    let signal = prop::sample::select(vec![1, 2, 9, 11, 15]);
    prop_oneof![
        6 => who.clone().prop_map(Step::Start),
        8 => (who.clone(), end()).prop_map(|(who, how)| Step::End(who, how)),
        2 => (who.clone(), end()).prop_map(|(who, how)| Step::EndOfAnother(who, how)),
        2 => (who.clone(), signal, any::<bool>()).prop_map(|(who, signal, ignored)| Step::Signal(who, signal, ignored)),
        1 => who.clone().prop_map(Step::StopAsked),
        8 => (who.clone(), prop::bool::weighted(0.2)).prop_map(|(who, ok)| Step::Probed(who, ok)),
        1 => who.clone().prop_map(Step::SupervisorGone),
        2 => (who, any::<bool>()).prop_map(|(who, waits)| Step::SupervisorBack(who, waits)),
        1 => any::<u8>().prop_map(Step::Lost),
        8 => (0_u16..2000).prop_map(Step::Pass),
        2 => any::<u16>().prop_map(Step::LongPass),
        1 => Just(Step::Pause),
        1 => Just(Step::Resume),
        1 => prop::bool::weighted(0.3).prop_map(Step::Maintenance),
        2 => prop_oneof![Just(Disk::Writes), Just(Disk::Refuses), Just(Disk::Hangs)].prop_map(Step::Disk),
        3 => hands().prop_map(Step::Hands),
        1 => any::<u8>().prop_map(Step::Reload),
        1 => Just(Step::AgentDies),
        1 => Just(Step::AgentStops),
        1 => Just(Step::UndoAsked),
        1 => any::<bool>().prop_map(Step::KnobsStuck),
    ]
}

fn end() -> impl Strategy<Value = End> {
    prop_oneof![
        3 => any::<u8>().prop_map(End::Status),
        2 => Just(End::Fault),
        2 => Just(End::Killed),
        1 => Just(End::Oom),
        1 => Just(End::GroupKilled),
        1 => Just(End::CgroupKilled),
        1 => Just(End::Unseen),
    ]
}

fn hands() -> impl Strategy<Value = Hands> {
    prop_oneof![
        1 => Just(Hands::Succeed),
        2 => Just(Hands::SucceedWithSuccessor),
        1 => Just(Hands::Fail),
        1 => Just(Hands::Refuse),
        1 => Just(Hands::DoNotKnow),
        1 => Just(Hands::TakeTheirTime),
        1 => Just(Hands::SpeakLate),
    ]
}
