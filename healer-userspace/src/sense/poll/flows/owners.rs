//! Whose descriptor a socket is: looked up for the few of which it matters.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use crate::{engine::time::BootTime, sense::waits::Proc};

/// Every process of the namespace and its descriptors are read: seldom, and not again for who was not found.
const AGAIN: Duration = Duration::from_secs(5);
const STRANGERS_MAX: usize = 4096;

#[derive(Default)]
pub(super) struct Owners {
    /// By inode.
    known: BTreeMap<u32, u32>,
    strangers: BTreeSet<u32>,
    looked: Option<BootTime>,
}

impl Owners {
    pub(super) fn of(&self, inode: u32) -> Option<u32> {
        self.known.get(&inode).copied()
    }

    pub(super) fn find(&mut self, now: BootTime, proc: &Proc, pids: &[u32], wanted: &BTreeSet<u32>) {
        self.known.retain(|inode, _| wanted.contains(inode));
        self.strangers.retain(|inode| wanted.contains(inode));
        let is_new = |inode: &&u32| !self.known.contains_key(*inode) && !self.strangers.contains(*inode);
        let missing: BTreeSet<u32> = wanted.iter().filter(is_new).copied().collect();
        if missing.is_empty() || self.looked.is_some_and(|at| now.since(at) < AGAIN) {
            return;
        }
        self.looked = Some(now);
        for pid in pids.iter().copied() {
            for (inode, _) in sockets_of(proc, pid).filter(|(inode, _)| missing.contains(inode)) {
                // What was inherited is the ancestor's, which mostly has the lower pid.
                self.known.entry(inode).or_insert(pid);
            }
        }
        let found = &self.known;
        self.strangers.extend(missing.into_iter().filter(|inode| !found.contains_key(inode)));
        while STRANGERS_MAX < self.strangers.len() {
            self.strangers.pop_first();
        }
    }
}

/// Inodes and descriptors.
pub(super) fn sockets_of(proc: &Proc, pid: u32) -> impl Iterator<Item = (u32, u32)> {
    proc.fds(pid).into_iter().filter_map(move |fd| {
        let target = proc.fd_target(pid, fd)?;
        let inode = target.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()?;
        Some((inode, fd))
    })
}
