//! Once a second, and cheaply: how much is left of what processes run out of.
//!
//! Who is far from any limit is looked at in turn, a fifth of all processes a second; what is more than half used,
//! every second. File systems that may hang (NFS, FUSE) are not asked.

mod about;
mod crowd;
mod descriptors;
mod disks;
mod overlay;
mod pids;
mod ports;
mod quotas;
mod read_only;
mod walk;
mod writers;
mod zombies;

use core::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::{
    clock,
    engine::time::BootTime,
    signal::levels::{Level, LevelSnapshot, Resource},
};

pub use about::About;
use descriptors::Descriptors;
use disks::Disks;
pub(in crate::sense) use disks::mounted;
use pids::Pids;
use ports::Ports;
use quotas::Quotas;
pub use read_only::is_read_only;
use walk::Walk;
use zombies::ZombieWatch;

/// What is less used is well, and not told.
const WORTH_SAYING_PERCENT: u64 = 50;
/// From here on errors are expected: the sensor that sees them is armed.
const ARMS_PERCENT: u64 = 85;
/// Disks are kept fuller than anything else.
const DISK_WORTH_SAYING_PERCENT: u64 = 80;
const DISK_ARMS_PERCENT: u64 = 95;
/// Descriptors are taken and given back all the time, and a full table is no surprise.
const ARMS_LEFT: u64 = 64;

/// Remembers the looks before.
pub struct LevelPoller {
    descriptors: Descriptors,
    cgroups: Walk,
    pids: Pids,
    disks: Disks,
    ports: Ports,
    zombies: ZombieWatch,
    quotas: Quotas,
}

impl LevelPoller {
    /// `proc` is `/proc`, `cgroup` is `/sys/fs/cgroup`.
    #[must_use]
    pub fn new(proc: &Path, cgroup: &Path) -> Self {
        let proc: PathBuf = proc.to_owned();
        Self {
            descriptors: Descriptors::new(&proc),
            cgroups: Walk::new(cgroup),
            pids: Pids::new(&proc, cgroup),
            disks: Disks::new(&proc),
            ports: Ports::new(&proc),
            zombies: ZombieWatch::new(&proc),
            quotas: Quotas::new(&proc, cgroup),
        }
    }

    /// A process found no local port for this peer: for a while it is looked how many are left.
    pub fn watch_ports(&mut self, pid: u32, peer: SocketAddr) {
        self.ports.watch(clock::boot(), pid, peer);
    }

    /// One look.
    pub fn look(&mut self, now: BootTime) -> LevelSnapshot {
        if let Some(found) = self.cgroups.go_on(now) {
            self.pids.watch(found.tasks);
            self.quotas.watch(found.quotas);
        }
        let mut levels = Vec::new();
        self.descriptors.look(now, &mut levels);
        self.pids.look(&mut levels);
        self.disks.look(now, &mut levels);
        self.ports.look(now, &mut levels);
        levels.retain(is_worth_saying);
        LevelSnapshot { levels, zombies: self.zombies.look(now), quotas: self.quotas.look(now) }
    }
}

/// Why the errors of system calls should be watched in full: something is nearly used up.
#[must_use]
pub fn armed_by(snapshot: &LevelSnapshot) -> Option<String> {
    let is_near = |level: &&Level| {
        let left = level.limit.saturating_sub(level.used);
        let arms = if is_disk(&level.of) { DISK_ARMS_PERCENT } else { ARMS_PERCENT };
        arms <= level.percent() || (is_counted_in_ones(&level.of) && left <= ARMS_LEFT)
    };
    let nearest = snapshot.levels.iter().filter(is_near).max_by_key(|level| level.percent())?;
    Some(format!("{} used to {} %", named(&nearest.of), nearest.percent()))
}

fn is_worth_saying(level: &Level) -> bool {
    let least = if is_disk(&level.of) { DISK_WORTH_SAYING_PERCENT } else { WORTH_SAYING_PERCENT };
    least <= level.percent()
}

fn is_disk(of: &Resource) -> bool {
    matches!(of, Resource::Space { .. } | Resource::Inodes { .. })
}

fn is_counted_in_ones(of: &Resource) -> bool {
    matches!(of, Resource::Descriptors { .. } | Resource::Pids { .. } | Resource::UserProcesses { .. })
}

fn named(of: &Resource) -> String {
    match of {
        Resource::Descriptors { pid } => format!("descriptors of process {pid} are"),
        Resource::Files => "the machine's files are".to_owned(),
        Resource::Pids { cgroup } => format!("pids of {} are", crate::text::printable(cgroup)),
        Resource::UserProcesses { uid } => format!("processes of user {uid} are"),
        Resource::NodePids => "the machine's pids are".to_owned(),
        Resource::Space { mount, .. } => format!("{} is", crate::text::printable(mount)),
        Resource::Inodes { mount, .. } => format!("inodes of {} are", crate::text::printable(mount)),
        Resource::Ports { peer, port, .. } => format!("ports to {} are", SocketAddr::new(*peer, *port)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_limit_arms_and_a_far_one_does_not() {
        let of = || Resource::Space { mount: "/data".to_owned(), device: "8:1".to_owned() };
        let space = |used| Level::new(of(), used, 100);
        let snapshot = |levels| LevelSnapshot { levels, ..LevelSnapshot::default() };
        assert_eq!(armed_by(&snapshot(vec![space(94)])), None);
        let descriptors = Level::new(Resource::Descriptors { pid: 7 }, 15, 20);
        let words = armed_by(&snapshot(vec![descriptors, space(96)]));
        assert_eq!(words.unwrap(), "/data is used to 96 %");
    }
}
