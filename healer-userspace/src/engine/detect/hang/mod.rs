//! Work waits and nobody does it, without any lock to show for it.
//!
//! That nothing ran is never enough (it may be idle), nor is that it ran all the time (it may be a batch job):
//! work must wait for it. What cannot run for want of a CPU is starved and not hung; what is frozen or traced
//! is not judged.

mod family;
mod pieces;
#[cfg(test)]
mod tests;

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use super::{
    Context, Detector, DetectorEntry, Finding,
    probe_failed::{Probes, subject},
    starved::lack,
};
use crate::{
    engine::{
        certificate::called,
        class::{Certainty, Class},
        diagnosis::{Detail, Diagnosis, Evidence},
        time::{BootTime, Human},
    },
    identity::process::ProcessId,
    signal::{
        Fact, Signal,
        work::{Asked, Hope, Life, Work, WorkSnapshot},
    },
    text,
};
use family::{Member, accepts_none, hope_of_all, is_held, leaves_unix, leaves_unix_queue, ticked, together};
use pieces::{Piece, SAME_SOCKETS, UNANSWERED, pieces};

pub(super) const ENTRY: DetectorEntry =
    DetectorEntry { name: "hang", classes: &[Class::Hang], build: || Box::new(Hang::default()) };

/// Nothing done for so long, with work waiting as long.
const LASTS: Duration = Duration::from_secs(10);
/// Of the time: timers and runtimes' housekeeping stay below, work does not.
const IDLE_PERCENT: u64 = 2;
/// Whoever gets this much of a CPU and does nothing with it does not lack it.
const FED_PERCENT: u64 = 10;
/// One look may fail to read a process; a cure shows in the next as well.
const ROUNDS_TO_CLEAR: u32 = 2;

#[derive(Default)]
struct Hang {
    /// By tracked process and member of its family.
    tracks: BTreeMap<(ProcessId, u32), Track>,
    probes: Probes,
    raised: BTreeMap<ProcessId, Raised>,
}

/// Since when, without a gap.
#[derive(Clone, Copy, Default)]
struct Track {
    idle: Option<BootTime>,
    spins: Option<BootTime>,
    /// Not one of its threads ran.
    rested: Option<BootTime>,
    starved: Option<BootTime>,
    /// Of the whole family.
    accepts_none: Option<BootTime>,
    answers_none: Option<BootTime>,
    /// It does not answer, and that is not because it works.
    silent: Option<BootTime>,
    /// When it was last seen to wait for whatever comes next.
    at_its_loop: Option<BootTime>,
}

struct Raised {
    comm: String,
    pieces: u32,
    certainty: Certainty,
    since: BootTime,
    /// When it was last judged hung.
    last: BootTime,
    /// When it last showed all that was told.
    shown: BootTime,
    missing: u32,
}

/// What a process does instead of its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Instead {
    /// No thread of it ran.
    Nothing(Duration),
    Spins(Duration),
    /// It takes requests and hardly runs, and not one byte goes back to anybody.
    AnswersNobody(Duration),
    /// Something else: only some of its work waits.
    Other,
}

impl Instead {
    fn is_nothing(self) -> bool {
        match self {
            Self::Nothing(_) | Self::Spins(_) => true,
            Self::AnswersNobody(_) | Self::Other => false,
        }
    }

    /// What two processes do, as one.
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Nothing(one), Self::Nothing(other)) => Self::Nothing(one.min(other)),
            (Self::Spins(one), Self::Spins(other)) => Self::Spins(one.min(other)),
            (spins @ Self::Spins(_), Self::Nothing(_)) | (Self::Nothing(_), spins @ Self::Spins(_)) => spins,
            (Self::AnswersNobody(_) | Self::Other, other) | (other, Self::AnswersNobody(_) | Self::Other) => {
                other
            }
        }
    }
}

/// What hangs, and what shows it.
struct Judged {
    work: Work,
    /// What waits at its unix sockets is not counted now: a timer may have ticked.
    may_have_ticked: bool,
    /// How many processes the numbers are of.
    members: usize,
    instead: Instead,
    pieces: Vec<Piece>,
}

impl Judged {
    fn certainty(&self) -> Certainty {
        certainty(self.instead, &self.pieces, self.work.hope.is_some())
    }
}

impl Detector for Hang {
    fn observe(&mut self, context: &Context<'_>, signal: &Signal, found: &mut Vec<Finding>) {
        match (&signal.fact, &signal.process) {
            (Fact::Work(snapshot), _) => self.looked(context, signal.at, snapshot, found),
            (Fact::Probed(probed), Some(process)) if probed.asked == Asked::Probe => {
                self.probes.note(context, signal.at, process, probed);
            }
            (Fact::Execed, Some(process)) => self.probes.execed(context, signal.at, process),
            (Fact::Exited(_), Some(process)) => {
                self.probes.forget(process.id());
                self.tracks.retain(|(id, _), _| *id != process.id());
                if let Some(raised) = self.raised.remove(&process.id()) {
                    found.push(cleared(process.id(), &raised, "has ended"));
                }
            }
            (_, _) => {}
        }
    }
}

impl Hang {
    fn looked(
        &mut self,
        context: &Context<'_>,
        at: BootTime,
        snapshot: &WorkSnapshot,
        found: &mut Vec<Finding>,
    ) {
        // Of them nothing begins and nothing is over.
        let unseen: BTreeSet<ProcessId> = snapshot.unseen.iter().map(|one| one.process.id()).collect();
        let mut before = core::mem::take(&mut self.tracks);
        let mut families: BTreeMap<ProcessId, Vec<Member<'_>>> = BTreeMap::new();
        for work in snapshot.processes.iter().filter(|work| !unseen.contains(&work.process.id())) {
            let key = (work.process.id(), work.pid);
            let track = before.remove(&key).unwrap_or_default().next(at, work, snapshot.wall_ms);
            self.tracks.insert(key, track);
            families.entry(key.0).or_default().push(Member::new(at, work, track));
        }
        let hung: BTreeMap<_, _> =
            families.iter().filter_map(|(id, members)| Some((*id, self.judge(at, *id, members)?))).collect();
        let is_held = |id, raised: &Raised| {
            let is_recent = at.since(raised.last) <= 2 * LASTS;
            families.get(&id).is_some_and(|members| is_held(members) || (is_recent && leaves_unix(members)))
        };
        self.clear(|id| hung.contains_key(&id) || unseen.contains(&id), is_held, found);
        for (id, judged) in hung {
            self.say(context, at, id, &judged, found);
        }
    }

    /// What shows most that it hangs, of one process or of all together; `None` if nothing does, or something else
    /// explains it.
    fn judge(&self, at: BootTime, id: ProcessId, members: &[Member<'_>]) -> Option<Judged> {
        let probe = self.probes.get(id).filter(|probe| probe.is_failing());
        let (accepts_none, rests) = (accepts_none(at, members), leaves_unix_queue(at, members));
        let hope = hope_of_all(members, probe.is_some());
        let may_have_ticked = ticked(at, members);
        let judged = |mut work: Work, instead, members| {
            work.backlog = work.backlog.filter(|_| accepts_none);
            work.unix.backlog = work.unix.backlog.filter(|_| rests);
            if work.backlog.is_some() || work.unix.backlog.is_some() || probe.is_some() {
                // What waits for all of them, one that goes on may take.
                work.hope = work.hope.or(hope);
            }
            let pieces = pieces(&work, instead, probe, 1 < members);
            work.hope = work.hope.filter(|hope| may_go_on(*hope, instead, &pieces));
            (!pieces.is_empty()).then_some(Judged { work, may_have_ticked, members, instead, pieces })
        };
        let alone = members.iter().filter(|member| !member.is_excused);
        let alone = alone.filter_map(|member| judged(member.own_work(at), member.instead, 1));
        let all = together(at, members).and_then(|(sum, instead, count)| judged(sum, instead, count));
        // Of two that say as much the earlier, so that a single process is named.
        let weight = |one: &Judged| (one.certainty(), one.pieces.len());
        let more = |one: Judged, other: Judged| if weight(&one) < weight(&other) { other } else { one };
        alone.chain(all).reduce(more)
    }

    fn say(
        &mut self,
        context: &Context<'_>,
        at: BootTime,
        id: ProcessId,
        judged: &Judged,
        found: &mut Vec<Finding>,
    ) {
        let count = judged.pieces.len() as u32;
        let raised = self.raised.entry(id).or_insert(Raised {
            comm: judged.work.process.comm.clone(),
            pieces: 0,
            certainty: Certainty::Suspected,
            since: at,
            last: at,
            shown: at,
            missing: 0,
        });
        raised.missing = 0;
        raised.last = at;
        // Hope delays, and takes nothing back.
        let was_told = raised.certainty == Certainty::Probable && raised.pieces <= count;
        let has_hope = judged.work.hope.is_some() && !was_told && at.since(raised.since) <= Hope::LASTS;
        let certainty = certainty(judged.instead, &judged.pieces, has_hope);
        if (raised.certainty, raised.pieces) <= (certainty, count) {
            raised.shown = at;
        } else if judged.may_have_ticked && at.since(raised.shown) <= 2 * LASTS {
            return;
        }
        // Less than before is news too: a rule may want more.
        if (raised.pieces, raised.certainty) != (count, certainty) {
            (raised.pieces, raised.certainty) = (count, certainty);
            let diagnosis = Box::new(diagnosis(context, at, judged, certainty));
            found.push(Finding::Raised { subject: subject(id), diagnosis });
        }
    }

    fn clear(
        &mut self,
        is_hung: impl Fn(ProcessId) -> bool,
        is_held: impl Fn(ProcessId, &Raised) -> bool,
        found: &mut Vec<Finding>,
    ) {
        self.raised.retain(|id, raised| {
            raised.missing = if is_hung(*id) { 0 } else { raised.missing + u32::from(!is_held(*id, raised)) };
            let is_over = ROUNDS_TO_CLEAR <= raised.missing;
            if is_over {
                found.push(cleared(*id, raised, "does its work again"));
            }
            !is_over
        });
    }
}

impl Track {
    fn next(self, at: BootTime, work: &Work, wall_ms: u64) -> Self {
        let began = at - Duration::from_millis(wall_ms);
        let going_on = |holds: bool, since: Option<BootTime>| holds.then_some(since.unwrap_or(began));
        let rests = work.runs == 0 || work.ran_ms * 100 <= wall_ms * IDLE_PERCENT;
        let is_fed = wall_ms * FED_PERCENT <= work.ran_ms * 100;
        let lacks = lack(work, wall_ms).is_some() && !is_fed;
        Self {
            idle: going_on(rests && !work.moved, self.idle),
            spins: going_on(0 < work.spinning && !work.moved, self.spins),
            rested: going_on(work.rested, self.rested),
            accepts_none: going_on(!work.accepted, self.accepts_none),
            answers_none: going_on(!work.answered, self.answers_none),
            silent: going_on(!work.answered && !is_fed, self.silent),
            starved: if lacks { Some(at) } else { self.starved },
            at_its_loop: if work.at_its_loop { Some(at) } else { self.at_its_loop },
        }
    }

    fn instead(self, at: BootTime) -> Instead {
        let lasted =
            |since: Option<BootTime>| since.map(|since| at.since(since)).filter(|for_| LASTS <= *for_);
        match (lasted(self.idle), lasted(self.spins), lasted(self.silent)) {
            (Some(for_), _, _) => Instead::Nothing(for_),
            (None, Some(for_), _) => Instead::Spins(for_),
            (None, None, Some(for_)) => Instead::AnswersNobody(for_),
            (None, None, None) => Instead::Other,
        }
    }
}

fn cleared(id: ProcessId, raised: &Raised, what: &str) -> Finding {
    Finding::Cleared {
        subject: subject(id),
        class: Class::Hang,
        says: format!("{}[{}] {what}", text::printable(&raised.comm), id.pid),
    }
}

fn diagnosis(context: &Context<'_>, at: BootTime, judged: &Judged, certainty: Certainty) -> Diagnosis {
    let Judged { work, instead, pieces, .. } = judged;
    let kind = if matches!(instead, Instead::Spins(_)) { "spinning" } else { "unresponsive" };
    let evidence =
        pieces.iter().map(|piece| Evidence { signal: piece.source.to_owned(), at, says: piece.says.clone() });
    Diagnosis {
        class: Class::Hang,
        certainty,
        target: work.process.clone(),
        related: Vec::new(),
        fault_at: at - pieces.iter().map(|piece| piece.lasted).max().unwrap_or_default(),
        detected_at: context.now,
        sentence: sentence(judged, certainty),
        evidence: evidence.collect(),
        lost: 0,
        from_absence: false,
        detail: Detail {
            kind: Some(kind.to_owned()),
            evidence_count: independent(pieces) as u32,
            ..Detail::default()
        },
    }
}

/// Who does work, though no answer of it was seen, may be at what is never answered by nature: its own sockets alone
/// do not make that probable. Nor does a queue behind the one request that is in hand.
fn certainty(instead: Instead, pieces: &[Piece], has_hope: bool) -> Certainty {
    let independent = independent(pieces);
    let is_silent = pieces.len() > independent && pieces.iter().any(|piece| piece.source == UNANSWERED);
    let is_enough = 2 <= independent || (is_silent && instead.is_nothing());
    if is_enough && !has_hope { Certainty::Probable } else { Certainty::Suspected }
}

/// Whoever waits for an answer itself may be held up by somebody else, and whoever sleeps for a time may be slow; for
/// long neither is.
fn may_go_on(hope: Hope, instead: Instead, pieces: &[Piece]) -> bool {
    let of_now = pieces.iter().filter(|piece| piece.source != SAME_SOCKETS);
    // A stream that is never read by nature ends no hope: as much must be old as would do without it.
    let is_young = of_now.filter(|piece| Hope::LASTS < piece.lasted).count() < independent(pieces).min(2);
    let waits = match hope {
        Hope::Peer => matches!(instead, Instead::Nothing(_) | Instead::AnswersNobody(_)),
        Hope::Timer => matches!(instead, Instead::Nothing(_)) && independent(pieces) < 2,
    };
    is_young && waits
}

fn independent(pieces: &[Piece]) -> usize {
    pieces.iter().filter(|piece| piece.source != SAME_SOCKETS).count()
}

fn sentence(judged: &Judged, certainty: Certainty) -> String {
    let Judged { work, members, instead, pieces, .. } = judged;
    let process = &work.process;
    let member = match (members, work.pid == process.pid) {
        (2.., _) => format!(" ({members} of its processes)"),
        (_, true) => String::new(),
        (_, false) => format!(" (its process {}[{}])", text::printable(&work.comm), work.pid),
    };
    let does = match (*instead, work.condition) {
        (Instead::Nothing(for_), Life::Stopped) => {
            format!("is stopped by a signal and has not run for {}", Human(for_))
        }
        (Instead::Nothing(for_), _) if work.runs == 0 => format!("has not run for {}", Human(for_)),
        (Instead::Nothing(for_), _) => format!("has hardly run for {}", Human(for_)),
        (Instead::Spins(for_), _) => format!("has spun on the CPU for {} and moved no byte", Human(for_)),
        (Instead::AnswersNobody(for_), _) => format!("has answered nobody for {}", Human(for_)),
        (Instead::Other, _) => "runs, but leaves work undone".to_owned(),
    };
    let said: Vec<_> = pieces.iter().map(|piece| piece.says.as_str()).collect();
    let hope = match work.hope.filter(|_| certainty == Certainty::Suspected) {
        Some(Hope::Peer) => "; it waits itself for somebody else",
        Some(Hope::Timer) => "; one of its threads sleeps until a time that it has set",
        None => "",
    };
    format!("{}{member} {does} while work waits: {}{hope}", called(process), said.join("; "))
}
