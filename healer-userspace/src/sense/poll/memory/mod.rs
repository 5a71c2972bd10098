//! How much of their memory limit cgroups use, who grew, and how short the node is.
//!
//! A cgroup with room costs one read of an open file a second: 1 µs. Its `memory.stat`, its pressure and its
//! processes are looked at only near the limit, and then up to four times a second.

mod again;
mod group;
mod members;
mod node;
mod reclaim;
mod tree;
mod trend;
mod trigger;
mod users;

use core::time::Duration;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

pub use again::short_again;
pub(super) use members::members;
pub use reclaim::ReclaimMap;
pub use trigger::Trigger;

use super::{JITTER, beat};
use crate::{
    engine::time::BootTime,
    signal::{
        levels::percent,
        memory::{CgroupMemory, MemorySnapshot},
    },
    text::printable,
};
use group::{Around, Group};
use node::Node;
use tree::{Change, Tree};

pub const CALM: Duration = Duration::from_secs(1);
/// Near the limit.
pub const NEAR: Duration = Duration::from_millis(250);

/// Cgroups with a limit that are looked at: each costs up to three descriptors.
const GROUPS_MAX: usize = 1024;

/// From here on calls fail for want of memory: the sensor that sees them is armed.
const ARMS_PERCENT: u64 = 85;

/// Why the errors of system calls should be watched in full; page cache is no reason.
#[must_use]
pub fn armed_by(snapshot: &MemorySnapshot) -> Option<String> {
    let taken = |cgroup: &CgroupMemory| percent(cgroup.anon, cgroup.limit);
    let nearest = snapshot.cgroups.iter().max_by_key(|cgroup| taken(cgroup))?;
    let taken = taken(nearest);
    (ARMS_PERCENT <= taken).then(|| format!("memory of {} used to {taken} %", printable(&nearest.cgroup)))
}

/// Remembers the looks before.
pub struct MemoryPoller {
    proc: PathBuf,
    tree: Tree,
    groups: BTreeMap<String, Group>,
    node: Node,
    reclaim: Option<ReclaimMap>,
    left_out: usize,
    node_due: BootTime,
}

impl MemoryPoller {
    /// `proc` is `/proc`, `cgroup` is `/sys/fs/cgroup`.
    pub fn new(proc: &Path, cgroup: &Path, reclaim: Option<ReclaimMap>) -> Self {
        Self {
            proc: proc.to_owned(),
            tree: Tree::new(cgroup),
            groups: BTreeMap::new(),
            node: Node::new(proc),
            reclaim,
            left_out: 0,
            node_due: BootTime(0),
        }
    }

    /// Looks at whatever is due.
    pub fn look(&mut self, now: BootTime) -> MemorySnapshot {
        self.follow_tree(now);
        let around = Around { proc: &self.proc, tree: &self.tree, reclaim: self.reclaim.as_ref() };
        let mut cgroups = Vec::new();
        let mut gone = Vec::new();
        for (path, group) in &mut self.groups {
            if now < group.due {
                continue;
            }
            match group.look(now, &around) {
                Some(told) => cgroups.extend(told),
                None => gone.push(path.clone()),
            }
        }
        gone.iter().for_each(|path| drop(self.groups.remove(path)));
        let mut node = None;
        if self.node_due <= now {
            self.node_due = beat(now, CALM);
            node = self.node.look(now, self.reclaim.as_ref());
        }
        MemorySnapshot { cgroups, node }
    }

    /// Somebody waits for memory: whoever is near its limit, and the node, is looked at with the next look.
    pub fn hurry(&mut self) {
        self.node_due = BootTime(0);
        self.groups.values_mut().filter(|group| group.is_near()).for_each(|group| group.due = BootTime(0));
    }

    pub fn due(&self) -> BootTime {
        let groups = self.groups.values().map(|group| group.due);
        groups.chain([self.node_due]).min().unwrap_or(self.node_due)
    }

    /// Cgroups looked at, and those with a limit for which there is no room.
    pub fn counts(&self) -> (usize, usize) {
        (self.groups.len(), self.left_out)
    }

    /// What is not seen, in words.
    pub fn trouble(&self) -> Option<String> {
        if 0 < self.left_out {
            return Some(format!(
                "{} cgroups with a limit are not looked at: {GROUPS_MAX} are",
                self.left_out
            ));
        }
        self.tree.trouble()
    }

    fn follow_tree(&mut self, now: BootTime) {
        for change in self.tree.changes(now) {
            match change {
                Change::Limited(path, limit) => self.limited(path, limit),
                Change::Unlimited(path) => {
                    self.groups.remove(&path);
                }
                Change::Walked => self.left_out = 0,
            }
        }
    }

    fn limited(&mut self, path: String, limit: u64) {
        if let Some(known) = self.groups.get_mut(&path) {
            known.limit = limit;
        } else if GROUPS_MAX <= self.groups.len() {
            self.left_out += 1;
        } else if let Some(group) = Group::open(&self.tree, &path, limit) {
            self.groups.insert(path, group);
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
