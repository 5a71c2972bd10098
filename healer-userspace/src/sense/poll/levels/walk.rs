//! Which cgroups have a limit on their tasks or a quota of CPU: one walk for both.

use core::time::Duration;
use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use super::{pids, quotas};
use crate::engine::time::BootTime;

/// It begins so often, unless the last one is still under way.
const EVERY: Duration = Duration::from_secs(15);
const DEPTH_MAX: usize = 12;
/// Cgroups in one look, some 6 µs each: of more it goes on with the next look.
const AT_ONCE: usize = 1024;
/// What is found costs a descriptor each (tasks), or an open and a read a second (quotas).
const TASKS_MAX: usize = 16 * 1024;
const QUOTAS_MAX: usize = 1024;

pub(super) struct Walk {
    /// The hierarchies in which they are: the same one in v2.
    roots: Vec<Place>,
    begun: Option<BootTime>,
    /// Where it has not been yet.
    rest: Vec<Place>,
    found: Found,
}

#[derive(Clone, Debug)]
struct Place {
    dir: PathBuf,
    has_tasks: bool,
    has_quotas: bool,
    counts_links: bool,
    depth: usize,
}

/// What is written as the limit, by the cgroup's directory.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) tasks: BTreeMap<PathBuf, u64>,
    /// In percent of one CPU.
    pub(super) quotas: BTreeMap<PathBuf, u64>,
}

impl Walk {
    pub(super) fn new(cgroup: &Path) -> Self {
        let (tasks, cpu) = (mount(cgroup, "pids"), mount(cgroup, "cpu"));
        let place = |dir: PathBuf, has_tasks, has_quotas| {
            let counts_links = counts_links(&dir);
            Place { dir, has_tasks, has_quotas, counts_links, depth: 0 }
        };
        let roots = if tasks == cpu {
            vec![place(tasks, true, true)]
        } else {
            vec![place(tasks, true, false), place(cpu, false, true)]
        };
        Self { roots, begun: None, rest: Vec::new(), found: Found::default() }
    }

    /// All that it has found, once it is through.
    pub(super) fn go_on(&mut self, now: BootTime) -> Option<Found> {
        if self.rest.is_empty() {
            if self.begun.is_some_and(|at| now.since(at) < EVERY) {
                return None;
            }
            self.begun = Some(now);
            self.rest = self.roots.clone();
        }
        for _ in 0..AT_ONCE {
            let Some(place) = self.rest.pop() else { break };
            self.visit(place);
        }
        self.rest.is_empty().then(|| core::mem::take(&mut self.found))
    }

    fn visit(&mut self, Place { dir, has_tasks, has_quotas, counts_links, depth }: Place) {
        if depth < DEPTH_MAX {
            let place = |dir| Place { dir, has_tasks, has_quotas, counts_links, depth: depth + 1 };
            self.rest.extend(below(&dir, counts_links).into_iter().map(place));
        }
        let Found { tasks, quotas } = &mut self.found;
        if has_tasks
            && tasks.len() < TASKS_MAX
            && let Some(limit) = pids::limit_of(&dir)
        {
            tasks.insert(dir.clone(), limit);
        }
        if has_quotas
            && quotas.len() < QUOTAS_MAX
            && let Some(percent) = quotas::quota_of(&dir)
        {
            quotas.insert(dir, percent);
        }
    }
}

/// Where the cgroups of a controller are. v1 and hybrid have a directory for each; in v2 one of that name is a cgroup.
pub(super) fn mount(cgroup: &Path, controller: &str) -> PathBuf {
    let v1 = cgroup.join(controller);
    let is_v2 = cgroup.join("cgroup.controllers").exists();
    if !is_v2 && v1.is_dir() { v1 } else { cgroup.to_owned() }
}

/// Only the kernel's own promise it; of those that lxcfs shows each has two, whatever is below it.
fn counts_links(root: &Path) -> bool {
    const KERNELS: [u64; 2] = [libc::CGROUP_SUPER_MAGIC as u64, libc::CGROUP2_SUPER_MAGIC as u64];
    rustix::fs::statfs(root).is_ok_and(|found| KERNELS.contains(&(found.f_type as u64)))
}

/// A cgroup has two links and one for each below it (`kernfs_refresh_inode`, fs/kernfs/inode.c): most have none, and
/// need not be listed with all their files.
fn below(dir: &Path, counts_links: bool) -> Vec<PathBuf> {
    if counts_links && fs::metadata(dir).is_ok_and(|found| found.nlink() == 2) {
        return Vec::new();
    }
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let dirs = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    dirs.map(|entry| entry.path()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::fixture::Tree;

    fn seconds(count: u64) -> BootTime {
        BootTime(count * 1_000_000_000)
    }

    /// Below the root of the cgroups, with the limits.
    fn told(tree: &Tree, found: Option<Found>) -> [Vec<(String, u64)>; 2] {
        let root = tree.roots().cgroup;
        let found = found.expect("it is through");
        [found.tasks, found.quotas].map(|limits| {
            let short = |dir: PathBuf| dir.strip_prefix(&root).unwrap().display().to_string();
            limits.into_iter().map(|(dir, limit)| (short(dir), limit)).collect()
        })
    }

    #[test]
    fn in_v2_one_walk_finds_both_wherever_they_are() {
        let tree = Tree::new();
        tree.file("cgroup/cpu/pids/deep/pids.max", "10\n");
        tree.file("cgroup/cpu/cpu.max", "20000 100000\n");
        tree.file("cgroup/free/pids.max", "max\n");
        tree.file("cgroup/free/cpu.max", "max 100000\n");
        tree.file("cgroup/pids/pids.max", "7\n");
        let mut walk = Walk::new(&tree.roots().cgroup);
        assert_eq!(walk.roots.len(), 1);
        let [tasks, quotas] = told(&tree, walk.go_on(seconds(1)));
        assert_eq!(tasks, [("cpu/pids/deep".to_owned(), 10), ("pids".to_owned(), 7)]);
        assert_eq!(quotas, [("cpu".to_owned(), 20)]);
    }

    #[test]
    fn in_v1_each_controller_has_its_own_tree_and_no_other_is_walked() {
        let tree = Tree::hybrid();
        tree.file("cgroup/cpu/a/cpu.cfs_quota_us", "50000\n");
        tree.file("cgroup/cpu/a/cpu.cfs_period_us", "100000\n");
        tree.file("cgroup/cpu/a/pids.max", "1\n");
        tree.file("cgroup/pids/b/c/pids.max", "10\n");
        tree.file("cgroup/memory/d/pids.max", "1\n");
        let mut walk = Walk::new(&tree.roots().cgroup);
        let [tasks, quotas] = told(&tree, walk.go_on(seconds(1)));
        assert_eq!(tasks, [("pids/b/c".to_owned(), 10)]);
        assert_eq!(quotas, [("cpu/a".to_owned(), 50)]);
    }

    #[test]
    fn links_are_counted_by_the_kernels_own_cgroups_alone() {
        let tree = Tree::new();
        tree.file("cgroup/a/pids.max", "10\n");
        let walk = Walk::new(&tree.roots().cgroup);
        assert!(walk.roots.iter().all(|root| !root.counts_links), "a tree made up in files");
        let (leaf, root) = (tree.roots().cgroup.join("a"), tree.roots().cgroup);
        assert!(below(&leaf, true).is_empty() && below(&leaf, false).is_empty());
        assert_eq!(below(&root, false), [leaf]);
    }

    #[test]
    fn it_begins_anew_after_its_time_and_not_before() {
        let tree = Tree::new();
        tree.file("cgroup/a/pids.max", "10\n");
        let mut walk = Walk::new(&tree.roots().cgroup);
        assert_eq!(told(&tree, walk.go_on(seconds(1)))[0].len(), 1);
        tree.file("cgroup/b/pids.max", "10\n");
        assert_eq!(walk.go_on(seconds(15)), None);
        assert_eq!(told(&tree, walk.go_on(seconds(16)))[0].len(), 2);
    }

    #[test]
    fn more_than_one_look_can_bear_is_found_by_the_looks_after_it() {
        let tree = Tree::new();
        for number in 0..AT_ONCE {
            tree.file(&format!("cgroup/{number}/pids.max"), "10\n");
        }
        let mut walk = Walk::new(&tree.roots().cgroup);
        assert_eq!(walk.go_on(seconds(1)), None, "the root is one more");
        assert_eq!(told(&tree, walk.go_on(seconds(2)))[0].len(), AT_ONCE);
    }
}
