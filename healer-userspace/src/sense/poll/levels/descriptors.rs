//! Open files of each process against its own limit, and of the machine.

use core::time::Duration;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use super::WORTH_SAYING_PERCENT;
use crate::{
    engine::time::BootTime,
    identity::procfs,
    sense::poll::cpu::{Kept, small},
    signal::levels::{Level, Resource, percent},
};

/// A look at all processes takes so many seconds.
const TURN: usize = 5;
/// A limit is read again so often, and whenever it seems near: prlimit(2) may change it.
const LIMIT_HOLDS: Duration = Duration::from_secs(30);
/// Whoever has none is a thread of the kernel, mostly.
const NONE_HOLDS: Duration = Duration::from_secs(60);

pub(super) struct Descriptors {
    proc: PathBuf,
    file_nr: Option<Kept>,
    /// Those still to be looked at in this turn.
    queue: Vec<u32>,
    share: usize,
    limits: BTreeMap<u32, (BootTime, u64)>,
    /// Those without any descriptor, and when that was seen.
    without: BTreeMap<u32, BootTime>,
    near: Vec<u32>,
}

impl Descriptors {
    pub(super) fn new(proc: &Path) -> Self {
        Self {
            proc: proc.to_owned(),
            file_nr: Kept::open(&proc.join("sys/fs/file-nr")),
            queue: Vec::new(),
            share: 0,
            limits: BTreeMap::new(),
            without: BTreeMap::new(),
            near: Vec::new(),
        }
    }

    pub(super) fn look(&mut self, now: BootTime, levels: &mut Vec<Level>) {
        if self.queue.is_empty() {
            let living: BTreeSet<u32> = procfs::pids(&self.proc).collect();
            self.limits.retain(|pid, _| living.contains(pid));
            self.without.retain(|pid, seen| living.contains(pid) && now.since(*seen) < NONE_HOLDS);
            self.queue = living.into_iter().filter(|pid| !self.without.contains_key(pid)).collect();
            self.share = self.queue.len() / TURN + 1;
        }
        let rest = self.queue.len().saturating_sub(self.share);
        let mut turn = self.queue.split_off(rest);
        turn.append(&mut self.near);
        turn.sort_unstable();
        turn.dedup();
        for pid in turn {
            if let Some(level) = self.level(now, pid) {
                if WORTH_SAYING_PERCENT <= level.percent() {
                    self.near.push(pid);
                }
                levels.push(level);
            }
        }
        let files = self.file_nr.as_ref().and_then(Kept::read);
        levels.extend(files.as_deref().and_then(of_machine));
    }

    fn level(&mut self, now: BootTime, pid: u32) -> Option<Level> {
        let used = open_files(&self.proc, pid)?;
        if used == 0 {
            self.without.insert(pid, now);
            return None;
        }
        let kept = self.limits.get(&pid).filter(|(read, limit)| {
            now.since(*read) < LIMIT_HOLDS && percent(used, *limit) < WORTH_SAYING_PERCENT
        });
        let limit = match kept {
            Some((_, limit)) => *limit,
            None => {
                let limit = soft_limit(&self.proc, pid, "Max open files")?;
                self.limits.insert(pid, (now, limit));
                limit
            }
        };
        let level = Level::new(Resource::Descriptors { pid }, used, limit);
        Some(Level { pid, ..level })
    }
}

/// How many files the machine has open, as one look.
pub(super) fn files(proc: &Path) -> Option<Level> {
    of_machine(&small(&proc.join("sys/fs/file-nr")).ok()?)
}

/// `fs.file-nr`: allocated, unused (always 0), and the most that there may be.
fn of_machine(text: &str) -> Option<Level> {
    let mut numbers = text.split_ascii_whitespace().filter_map(|number| number.parse().ok());
    let (used, limit) = (numbers.next()?, numbers.nth(1)?);
    Some(Level::new(Resource::Files, used, limit))
}

/// Since 6.2 the size of `/proc/PID/fd` is the number of open files; before, they are counted.
pub(super) fn open_files(proc: &Path, pid: u32) -> Option<u64> {
    static IS_TOLD: OnceLock<bool> = OnceLock::new();
    let dir = proc.join(format!("{pid}/fd"));
    let size = fs::metadata(&dir).ok()?.size();
    let is_told = || fs::metadata("/proc/self/fd").is_ok_and(|own| own.size() != 0);
    if size != 0 || *IS_TOLD.get_or_init(is_told) {
        return Some(size);
    }
    Some(fs::read_dir(&dir).ok()?.count() as u64)
}

/// A line of `/proc/PID/limits`; `None` if there is no limit.
pub(super) fn soft_limit(proc: &Path, pid: u32, name: &str) -> Option<u64> {
    let text = small(&proc.join(format!("{pid}/limits"))).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_files_are_counted_and_limited() {
        let proc = Path::new("/proc");
        let before = open_files(proc, std::process::id()).unwrap();
        let _files: Vec<_> = (0..20).map(|_| fs::File::open("/dev/null").unwrap()).collect();
        assert!(before + 15 <= open_files(proc, std::process::id()).unwrap());
        let limit = soft_limit(proc, std::process::id(), "Max open files").unwrap();
        let own = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        assert_eq!(Some(limit), own.current);
    }

    #[test]
    fn a_turn_meets_everybody() {
        let mut descriptors = Descriptors::new(Path::new("/proc"));
        let mut levels = Vec::new();
        for second in 0..=TURN as u64 {
            descriptors.look(BootTime(second), &mut levels);
        }
        assert!(levels.iter().any(|level| level.pid == std::process::id()));
        assert!(levels.iter().any(|level| level.of == Resource::Files));
    }
}
