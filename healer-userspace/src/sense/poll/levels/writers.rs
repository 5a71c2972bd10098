//! Who writes to a disk that fills up.

use core::time::Duration;
use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use super::disks;
use crate::{
    engine::time::BootTime,
    identity::{
        process::ProcessId,
        procfs::{self, ProcDir},
    },
    signal::levels::User,
};

/// So often, if it is soon full: some 20 ms.
const EVERY: Duration = Duration::from_secs(3);
/// So often, if it is not: then it is known whose writing is new.
const UNHURRIED: Duration = Duration::from_secs(30);
/// Soon is within ten minutes, at the pace of the last second.
const SOON_IN_LOOKS: u64 = 600;
const TOLD: usize = 3;
/// Of one process.
const FILES_MAX: usize = 256;

#[derive(Default)]
pub(super) struct Writers {
    asked: Option<BootTime>,
    /// Bytes that each had written at the last look.
    written: BTreeMap<ProcessId, u64>,
    users: Vec<User>,
}

impl Writers {
    /// Asked anew only while it fills up: by `growth` since the look before, with `left` free.
    pub(super) fn of(
        &mut self,
        now: BootTime,
        proc: &Path,
        devices: &[u64],
        growth: u64,
        left: u64,
    ) -> Vec<User> {
        let every = every(growth, left);
        if every.is_some_and(|every| self.asked.is_none_or(|at| every <= now.since(at))) {
            let holders = Holders::default().on(proc, devices);
            self.note(now, holders.into_iter().filter_map(|pid| written_by(proc, pid)).collect());
        }
        self.users.clone()
    }

    /// Who had begun before the last look and was not seen there is met now: what he wrote in his life is no news.
    fn note(&mut self, now: BootTime, all: Vec<(ProcessId, String, u64)>) {
        let last = self.asked.replace(now);
        let mut written = BTreeMap::new();
        let mut users = Vec::new();
        for (id, comm, bytes) in all {
            let is_new = last.is_some_and(|last| last < id.start);
            let before = self.written.get(&id).copied().unwrap_or(if is_new { 0 } else { bytes });
            written.insert(id, bytes);
            users.push(User { pid: id.pid, comm, used: bytes.saturating_sub(before) });
        }
        users.retain(|user| 0 < user.used);
        users.sort_by_key(|user| core::cmp::Reverse(user.used));
        users.truncate(TOLD);
        self.written = written;
        if !users.is_empty() {
            self.users = users;
        }
    }
}

fn every(growth: u64, left: u64) -> Option<Duration> {
    let is_soon = left < growth.saturating_mul(SOON_IN_LOOKS);
    (0 < growth).then_some(if is_soon { EVERY } else { UNHURRIED })
}

/// Mounts that may hang, by mount namespace: their files are never asked.
#[derive(Default)]
struct Holders(BTreeMap<PathBuf, Vec<String>>);

impl Holders {
    /// Whoever holds a file on one of them open.
    fn on(mut self, proc: &Path, devices: &[u64]) -> Vec<u32> {
        let pids = procfs::pids(proc);
        pids.filter(|pid| self.holds_file(proc, *pid, devices)).collect()
    }

    fn holds_file(&mut self, proc: &Path, pid: u32, devices: &[u64]) -> bool {
        let Ok(namespace) = fs::read_link(proc.join(format!("{pid}/ns/mnt"))) else {
            return false;
        };
        let far: &[String] = self.0.entry(namespace).or_insert_with(|| disks::far_ids(proc, pid));
        let fds = fs::read_dir(proc.join(format!("{pid}/fd"))).into_iter().flatten().flatten();
        let near = fds.take(FILES_MAX).filter(|fd| {
            let id = || disks::mount_id(proc, pid, &fd.file_name().to_string_lossy());
            far.is_empty() || id().is_some_and(|id| !far.contains(&id))
        });
        near.map(|fd| fs::metadata(fd.path()))
            .any(|file| file.is_ok_and(|file| file.is_file() && devices.contains(&file.dev())))
    }
}

/// `wchar` of `/proc/PID/io`: bytes given to write(2), also to file systems in memory.
fn written_by(proc: &Path, pid: u32) -> Option<(ProcessId, String, u64)> {
    let text = fs::read_to_string(proc.join(format!("{pid}/io"))).ok()?;
    let bytes = text.lines().find_map(|line| line.strip_prefix("wchar: "))?.parse().ok()?;
    let stat = ProcDir::open(proc, pid)?.stat()?;
    Some((ProcessId { pid, start: stat.start }, stat.comm, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn one(pid: u32, began: u64, bytes: u64) -> (ProcessId, String, u64) {
        (ProcessId { pid, start: BootTime(began * SECOND) }, format!("p{pid}"), bytes)
    }

    #[test]
    fn what_was_written_in_a_long_life_is_not_written_now() {
        let mut writers = Writers::default();
        writers.note(BootTime(100 * SECOND), vec![one(7, 1, 1 << 40), one(8, 2, 500)]);
        assert!(writers.users.is_empty(), "nobody knows yet");
        let late = one(9, 3, 1 << 41);
        let young = one(10, 101, 4000);
        let all = vec![one(7, 1, (1 << 40) + 10), one(8, 2, 900), late, young];
        writers.note(BootTime(103 * SECOND), all);
        let told: Vec<_> = writers.users.iter().map(|user| (user.pid, user.used)).collect();
        assert_eq!(told, [(10, 4000), (8, 400), (7, 10)]);
    }

    #[test]
    fn a_disk_that_is_long_from_full_is_seldom_looked_through() {
        assert_eq!(every(0, 5), None, "it does not fill up");
        assert_eq!(every(10, 5_999), Some(EVERY));
        assert_eq!(every(10, 6_000), Some(UNHURRIED));
    }

    #[test]
    fn files_are_found_by_their_device() {
        let file =
            fs::File::create(std::env::temp_dir().join(format!("healer-writers-{}", std::process::id())));
        let device = file.as_ref().unwrap().metadata().unwrap().dev();
        let holds = |devices: &[u64]| {
            Holders::default().on(Path::new("/proc"), devices).contains(&std::process::id())
        };
        assert!(holds(&[device, u64::MAX]) && holds(&[u64::MAX, device]));
        assert!(!holds(&[u64::MAX]));
        fs::remove_file(std::env::temp_dir().join(format!("healer-writers-{}", std::process::id()))).unwrap();
    }
}
