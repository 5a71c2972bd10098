//! What became of a victim, and what was said and done meanwhile.

use std::{collections::BTreeMap, fs, path::Path, thread, time::Duration};

use anyhow::Context as _;
use healer_userspace::{clock, engine::time::BootTime, fault::victim::Victim};
use serde_json::Value;

use super::{
    apart::{Apart, Line},
    row::Row,
};
use crate::cgroup::memory_dir;

const STEP: Duration = Duration::from_millis(20);
/// The leaks are over by then.
const LONGEST: Duration = Duration::from_secs(75);
/// After the first death: does anybody strike again?
const AFTERWARDS: Duration = Duration::from_secs(4);
/// Who the victims are; a shell or nsenter on the way to them is none.
const ACTORS: [&str; 4] = ["leak", "neighbour", "leak-neighbour", "leak-fast"];

#[derive(Default)]
pub(super) struct Course {
    cgroup: String,
    limit: u64,
    /// Bytes that were left, at each look.
    left: Vec<(BootTime, u64)>,
    lines: Vec<Line>,
    /// Who has died, and when that was seen.
    dead: Vec<(String, BootTime)>,
    alive: BTreeMap<u32, String>,
    /// By the kernel.
    killed: u64,
}

impl Course {
    /// Until somebody has died, and a while on.
    pub(super) fn follow(victim: Victim, apart: &Apart) -> anyhow::Result<Self> {
        let path = victim.cgroup.path().to_owned();
        let leaf = Path::new(&path).file_name().context("a cgroup has a name")?;
        let dir = memory_dir(leaf).context("the memory cgroup of the victim")?;
        let mut course = Self { cgroup: path, limit: victim.fault.memory, ..Self::default() };
        // What they say of their own beginning.
        drop(apart.lines());
        let began = clock::boot();
        while clock::boot().since(began) < LONGEST {
            course.look(&victim, &dir, apart);
            let is_over = |(_, at): &(String, BootTime)| AFTERWARDS < clock::boot().since(*at);
            if course.dead.first().is_some_and(is_over) {
                break;
            }
            thread::sleep(STEP);
        }
        Ok(course)
    }

    fn look(&mut self, victim: &Victim, dir: &Path, apart: &Apart) {
        let now = clock::boot();
        let left = self.limit.saturating_sub(taken(dir));
        apart.show(self.limit, left);
        self.left.push((now, left));
        self.lines.extend(apart.lines());
        self.killed = number(&dir.join("memory.oom_control"), "oom_kill")
            .or_else(|| number(&dir.join("memory.events"), "oom_kill"))
            .unwrap_or(self.killed);
        let members: BTreeMap<u32, String> =
            victim.cgroup.members().into_iter().filter_map(|pid| Some((pid, actor(pid)?))).collect();
        for (pid, name) in &self.alive {
            if !members.contains_key(pid) {
                self.dead.push((name.clone(), now));
            }
        }
        // It takes its name a moment after its start.
        self.alive = members;
    }

    pub(super) fn row_of(&self, scene: &str, peer: &str, apart: &Apart) -> Row {
        let said: Vec<&Line> = self.lines.iter().filter(|line| line.of == peer).collect();
        let blows: Vec<(&Line, &str)> =
            said.iter().filter_map(|line| Some((*line, blow(&line.text)?))).collect();
        let first = blows.first().map(|(line, _)| line.at);
        let mut signals: Vec<&str> = blows.iter().map(|(_, signal)| *signal).collect();
        signals.dedup();
        let did = if signals.is_empty() { "nothing".to_owned() } else { signals.join(", then ") };
        let explained = first.map_or("nothing".to_owned(), |first| explained(&said, first));
        self.row(scene, peer, first, did, explained).at_cost_of(apart.pid_of(peer))
    }

    pub(super) fn row_of_healer(&self, scene: &str, audit: &[Value], pid: u32) -> Row {
        let is_its = |found: &&Value| found["target"]["cgroup"].as_str() == Some(&self.cgroup);
        let diagnoses = || audit.iter().filter(|found| found["record"] == "diagnosis").filter(is_its);
        let first = diagnoses().next();
        let at = first.and_then(|found| found["detected_boot_ns"].as_u64()).map(BootTime);
        let sentences: Vec<&str> = diagnoses().filter_map(|found| found["sentence"].as_str()).collect();
        let incident = first.map(|found| &found["incident"]);
        let results = audit.iter().filter(|found| found["record"] == "result");
        let of_it = results.filter(|found| Some(&found["incident"]) == incident);
        let did: Vec<&str> = of_it.filter_map(|found| found["says"].as_str()).collect();
        let did = if did.is_empty() { "nothing".to_owned() } else { did.join("; ") };
        let explained = if sentences.is_empty() { "nothing".to_owned() } else { sentences.join(" — ") };
        self.row(scene, "healer", at, did, explained).at_cost_of(Some(pid))
    }

    fn row(&self, scene: &str, who: &str, first: Option<BootTime>, did: String, explained: String) -> Row {
        let died = self.dead.first();
        let ahead = first.zip(died).map(|(first, (_, died))| died.0 as f64 / 1e9 - first.0 as f64 / 1e9);
        let left = first.and_then(|first| self.left.iter().rfind(|(at, _)| *at <= first));
        let by = if 0 < self.killed { "the kernel" } else { who };
        Row {
            scene: scene.to_owned(),
            who: who.to_owned(),
            left_mib: left.map(|(_, bytes)| *bytes as f64 / f64::from(1 << 20)),
            ahead_s: ahead,
            did,
            died: died.map_or("nobody".to_owned(), |(name, _)| format!("{name}, by {by}")),
            explained,
            ..Row::default()
        }
    }
}

/// What cannot be had back: usage without the page cache.
fn taken(dir: &Path) -> u64 {
    let used =
        ["memory.usage_in_bytes", "memory.current"].map(|file| fs::read_to_string(dir.join(file)).ok());
    let used = used.into_iter().flatten().find_map(|text| text.trim().parse::<u64>().ok()).unwrap_or(0);
    let stat = dir.join("memory.stat");
    let cache = ["active_file", "inactive_file"].map(|name| number(&stat, name).unwrap_or(0));
    used.saturating_sub(cache.iter().sum())
}

/// `NAME NUMBER`, a line of it.
fn number(file: &Path, name: &str) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    lines.find(|(key, _)| *key == name)?.1.trim().parse().ok()
}

fn actor(pid: u32) -> Option<String> {
    let comm = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    ACTORS.contains(&comm.trim_end()).then(|| comm.trim_end().to_owned())
}

/// The signal, if this line says that one is sent.
fn blow(line: &str) -> Option<&'static str> {
    let line = line.to_lowercase();
    let sends = |signal: &str| {
        ["sending SIG to process", "sending SIG to the victim", "escalating to SIG"]
            .into_iter()
            .any(|form| line.contains(&form.replace("SIG", signal)))
    };
    [("sigterm", "SIGTERM"), ("sigkill", "SIGKILL")]
        .into_iter()
        .find_map(|(signal, shown)| sends(signal).then_some(shown))
}

/// What was written around the first blow, the beginning of it.
fn explained(said: &[&Line], at: BootTime) -> String {
    const AROUND: Duration = Duration::from_millis(500);
    const SHOWN: usize = 400;
    let near = said.iter().filter(|line| line.at.since(at) < AROUND && at.since(line.at) < AROUND);
    let is_frame = |c: char| "<>=-# ".contains(c);
    let words: Vec<&str> =
        near.map(|line| line.text.trim_matches(is_frame)).filter(|text| !text.is_empty()).collect();
    let mut text: String = words.join("; ").chars().take(SHOWN).collect();
    if words.join("; ").chars().count() != text.chars().count() {
        text += &format!("… ({} lines)", words.len());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_blows_are_blows() {
        assert_eq!(blow("sending SIGTERM when mem <= 10.00% and swap <= 10.00%,"), None);
        assert_eq!(blow("[ OK ] Sending SIGTERM to leak: 1"), None);
        assert_eq!(blow("sending SIGTERM to process 4 uid 0 \"leak\": badness 700"), Some("SIGTERM"));
        assert_eq!(blow("  Sending SIGKILL to the victim; total response time: 1ms"), Some("SIGKILL"));
        assert_eq!(blow("escalating to SIGKILL after 2.4 seconds"), Some("SIGKILL"));
    }
}
