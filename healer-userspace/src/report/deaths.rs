//! The last ends that were no plain success, for `healer why`: most are nobody's incident, and somebody asks all the
//! same who did it. In memory only.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::{
    incidents::is_named,
    wall::{Now, rfc3339},
};
use crate::{
    engine::{death::Death, diagnosis::Evidence, time::BootTime},
    text,
};

/// Ends by a signal, and those with a status: a build or a test run that fails a thousand times pushes out no kill.
const CAP: usize = 400;
/// With [`CAP`], a few hundred kilobytes at most.
const TEXT_MAX: usize = 400;
/// A supervisor tells its child's end again, under its name.
const TOLD_AGAIN_WITHIN: usize = 32;

#[derive(Debug, Default)]
pub struct Deaths {
    by_signal: VecDeque<Death>,
    by_status: VecDeque<Death>,
}

/// One end, as the control socket and `--json` give it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    pub pid: u32,
    pub start_boot_ns: u64,
    pub boot_ns: u64,
    /// RFC 3339.
    pub time: String,
    pub comm: String,
    pub workload: String,
    /// One line for a person.
    pub sentence: String,
    /// What the kernel told before the end.
    pub evidence: Vec<Piece>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    pub signal: String,
    pub boot_ns: u64,
    pub time: String,
    pub says: String,
}

impl Deaths {
    pub fn add(&mut self, mut death: Death) {
        death.workload.0 = clipped(&text::printable(&death.workload.0));
        death.sentence = clipped(&death.sentence);
        for piece in &mut death.evidence {
            piece.says = clipped(&piece.says);
        }
        let deaths = if death.by_signal { &mut self.by_signal } else { &mut self.by_status };
        if let Some(known) =
            deaths.iter_mut().rev().take(TOLD_AGAIN_WITHIN).find(|known| known.id == death.id)
        {
            *known = death;
            return;
        }
        if deaths.len() == CAP {
            deaths.pop_front();
        }
        deaths.push_back(death);
    }

    /// Newest first: of a workload's name or key or a program's name, else of a pid.
    pub fn about(&self, target: &str, now: Now) -> Vec<End> {
        let named = |death: &Death| is_named(&death.workload.0, target) || death.comm == target;
        let found = match target.parse::<u32>() {
            Ok(pid) if !self.iter().any(named) => self.newest(|death| death.id.pid == pid),
            Ok(_) | Err(_) => self.newest(named),
        };
        found.into_iter().map(|death| end(death, now)).collect()
    }

    fn iter(&self) -> impl Iterator<Item = &Death> {
        self.by_signal.iter().chain(&self.by_status)
    }

    fn newest(&self, wanted: impl Fn(&Death) -> bool) -> Vec<&Death> {
        let mut found: Vec<_> = self.iter().filter(|death| wanted(death)).collect();
        found.sort_by_key(|death| core::cmp::Reverse(death.at));
        found
    }
}

fn end(death: &Death, now: Now) -> End {
    End {
        pid: death.id.pid,
        start_boot_ns: death.id.start.0,
        boot_ns: death.at.0,
        time: rfc3339(now, death.at),
        comm: text::printable(&death.comm).into_owned(),
        workload: death.workload.0.clone(),
        sentence: death.sentence.clone(),
        evidence: death.evidence.iter().map(|evidence| piece(evidence, now)).collect(),
    }
}

fn piece(Evidence { signal, at: BootTime(boot_ns), says }: &Evidence, now: Now) -> Piece {
    let time = rfc3339(now, BootTime(*boot_ns));
    Piece { signal: signal.clone(), boot_ns: *boot_ns, time, says: says.clone() }
}

fn clipped(text: &str) -> String {
    match text.char_indices().nth(TEXT_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::process::{ProcessId, WorkloadKey};

    const NOW: Now = Now { boot: BootTime(1_000_000), wall: jiff::Timestamp::UNIX_EPOCH };

    fn death(pid: u32, at: u64, by_signal: bool) -> Death {
        Death {
            at: BootTime(at),
            id: ProcessId { pid, start: BootTime(1) },
            comm: "sleep".into(),
            workload: WorkloadKey(format!("program//usr/bin/sleep@/g{pid}<bash")),
            by_signal,
            sentence: format!("sleep[{pid}] ended"),
            evidence: Vec::new(),
        }
    }

    #[test]
    fn an_end_is_found_by_pid_and_by_name_newest_first() {
        let mut deaths = Deaths::default();
        for death in [death(7, 1, true), death(8, 2, false), death(9, 3, true)] {
            deaths.add(death);
        }
        let pids =
            |target: &str| -> Vec<u32> { deaths.about(target, NOW).iter().map(|end| end.pid).collect() };
        assert_eq!(pids("8"), [8]);
        assert_eq!(pids("sleep"), [9, 8, 7]);
        assert_eq!(pids("nobody"), [0_u32; 0]);
    }

    #[test]
    fn a_number_may_be_a_name() {
        let mut deaths = Deaths::default();
        deaths.add(Death { workload: WorkloadKey::supervise("8"), ..death(7, 1, true) });
        deaths.add(death(8, 2, true));
        assert_eq!(deaths.about("8", NOW)[0].pid, 7);
    }

    #[test]
    fn failures_push_out_no_kill_and_there_is_an_end_to_both() {
        let mut deaths = Deaths::default();
        deaths.add(death(1, 1, true));
        for number in 2..9999 {
            deaths.add(death(number, u64::from(number), false));
        }
        assert_eq!(deaths.about("1", NOW).len(), 1);
        assert_eq!(deaths.iter().count(), CAP + 1);
    }

    #[test]
    fn what_is_told_again_under_a_name_is_one_end() {
        let mut deaths = Deaths::default();
        deaths.add(death(7, 1, true));
        deaths.add(Death { workload: WorkloadKey::supervise("web"), ..death(7, 2, true) });
        let found = deaths.about("7", NOW);
        assert_eq!((found.len(), found[0].workload.as_str()), (1, "supervise/web"));
    }

    #[test]
    fn texts_have_an_end() {
        let mut deaths = Deaths::default();
        deaths.add(Death { sentence: "ö".repeat(9999), ..death(7, 1, true) });
        assert_eq!(deaths.about("7", NOW)[0].sentence.chars().count(), TEXT_MAX + 1);
    }
}
