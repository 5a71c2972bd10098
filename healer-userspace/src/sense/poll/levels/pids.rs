//! Tasks against the limits on them: `pids.max` of cgroups (v1 and v2), and the machine's.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use super::{WORTH_SAYING_PERCENT, crowd, walk};
use crate::{
    identity::procfs::ProcDir,
    sense::poll::cpu::Kept,
    signal::levels::{Level, Resource, percent},
};

/// Who fills it is asked once it is so full.
const USERS_PERCENT: u64 = 80;

pub(super) struct Pids {
    proc: PathBuf,
    cgroup: PathBuf,
    /// Those with a limit.
    limited: BTreeMap<PathBuf, Limited>,
    loadavg: Option<Kept>,
    node_limit: u64,
}

struct Limited {
    current: Kept,
    limit: u64,
    /// Forks that were refused up to the last look at them.
    refused: Option<u64>,
}

impl Pids {
    pub(super) fn new(proc: &Path, cgroup: &Path) -> Self {
        Self {
            proc: proc.to_owned(),
            cgroup: cgroup.to_owned(),
            limited: BTreeMap::new(),
            loadavg: Kept::open(&proc.join("loadavg")),
            node_limit: node_limit(proc),
        }
    }

    /// From now on these, and their limits; who was among them before is known.
    pub(super) fn watch(&mut self, limits: BTreeMap<PathBuf, u64>) {
        let mut known = core::mem::take(&mut self.limited);
        self.limited.extend(limits.into_iter().filter_map(|(dir, limit)| {
            // What was opened in a cgroup that was removed says ENODEV, also if one of that name was made again (a
            // restart).
            let living = known.remove(&dir).filter(|limited| limited.current.number().is_some());
            let limited = living.or_else(|| Limited::open(&dir))?;
            Some((dir, Limited { limit, ..limited }))
        }));
    }

    pub(super) fn look(&mut self, levels: &mut Vec<Level>) {
        let (proc, root) = (&self.proc, &self.cgroup);
        for (dir, limited) in &mut self.limited {
            let Some(used) = limited.current.number() else { continue };
            if percent(used, limited.limit) < WORTH_SAYING_PERCENT {
                continue;
            }
            // It may have been raised.
            let Some(limit_now) = limit_of(dir) else { continue };
            limited.limit = limit_now;
            let level = of_cgroup(proc, root, dir, used, limit_now);
            levels.push(Level { refused: limited.refused_since(dir), ..level });
        }
        levels.extend(self.node());
    }

    /// `/proc/loadavg`: `0.1 0.2 0.3 running/all last`.
    fn node(&self) -> Option<Level> {
        let text = self.loadavg.as_ref()?.read()?;
        let used = text.split(['/', ' ']).nth(4)?.parse().ok()?;
        Some(Level::new(Resource::NodePids, used, self.node_limit))
    }
}

impl Limited {
    fn open(dir: &Path) -> Option<Self> {
        Some(Self { current: Kept::open(&dir.join("pids.current"))?, limit: u64::MAX, refused: None })
    }

    /// `max N` of `pids.events`: also while nobody watches calls that fail.
    fn refused_since(&mut self, dir: &Path) -> u64 {
        let text = fs::read_to_string(dir.join("pids.events")).unwrap_or_default();
        let now = text.lines().find_map(|line| line.strip_prefix("max ")).and_then(number);
        let before = core::mem::replace(&mut self.refused, now);
        before.zip(now).map_or(0, |(before, now)| now.saturating_sub(before))
    }
}

/// The lower of `kernel.pid_max` and `kernel.threads-max`.
pub(super) fn node_limit(proc: &Path) -> u64 {
    let read = |name: &str| read_number(&proc.join("sys/kernel").join(name)).unwrap_or(u64::MAX);
    read("pid_max").min(read("threads-max"))
}

/// `None`: it has none, which is written `max`.
pub(super) fn limit_of(dir: &Path) -> Option<u64> {
    Kept::open(&dir.join("pids.max"))?.number()
}

fn of_cgroup(proc: &Path, root: &Path, dir: &Path, used: u64, limit: u64) -> Level {
    let inside = dir.strip_prefix(walk::mount(root, "pids")).unwrap_or(dir);
    let mut level = Level::new(Resource::Pids { cgroup: format!("/{}", inside.display()) }, used, limit);
    if USERS_PERCENT <= level.percent() {
        level.users = crowd::users(proc, dir);
        level.pid = level.users.first().map_or(0, |user| user.pid);
    }
    level
}

/// The limits that hold `pid`, as full as they are just now: whichever is used up refuses it a new task.
pub(super) fn limits_of(proc: &Path, cgroup: &Path, pid: u32) -> Vec<Level> {
    let text = fs::read_to_string(proc.join(format!("{pid}/cgroup"))).unwrap_or_default();
    let mount = walk::mount(cgroup, "pids");
    let inside = text.lines().find_map(|line| line.split_once(":pids:").map(|(_, path)| path));
    let inside = inside.or_else(|| text.lines().find_map(|line| line.strip_prefix("0::")));
    let inside = PathBuf::from(inside.unwrap_or_default().trim_start_matches('/'));
    let mut levels = Vec::new();
    for part in inside.ancestors() {
        let dir = mount.join(part);
        if let (Some(used), Some(limit)) =
            (read_number(&dir.join("pids.current")), read_number(&dir.join("pids.max")))
        {
            levels.push(of_cgroup(proc, cgroup, &dir, used, limit));
        }
    }
    levels.extend(of_user(proc, pid));
    levels
}

/// `RLIMIT_NPROC` counts the tasks of the real user (getrlimit(2)); root and CAP_SYS_RESOURCE are above it.
fn of_user(proc: &Path, pid: u32) -> Option<Level> {
    let limit = super::descriptors::soft_limit(proc, pid, "Max processes")?;
    let uid = uid_of(proc, pid).filter(|uid| *uid != 0)?;
    let of_them = crate::identity::procfs::pids(proc).filter(|one| uid_of(proc, *one) == Some(uid));
    let threads =
        of_them.filter_map(|one| ProcDir::open(proc, one)?.stat()).map(|stat| u64::from(stat.threads));
    let level = Level::new(Resource::UserProcesses { uid }, threads.sum(), limit);
    Some(Level { pid, ..level })
}

fn uid_of(proc: &Path, pid: u32) -> Option<u32> {
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata(proc.join(pid.to_string())).ok().map(|dir| dir.uid())
}

fn read_number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok().as_deref().and_then(number)
}

fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::time::BootTime;

    #[test]
    fn only_limited_cgroups_are_watched_and_a_raised_limit_counts() {
        let root = std::env::temp_dir().join(format!("healer-pids-{}", std::process::id()));
        let group = root.join("pids/a/b");
        fs::create_dir_all(&group).unwrap();
        fs::write(root.join("pids/a/pids.max"), "max\n").unwrap();
        fs::write(group.join("pids.max"), "10\n").unwrap();
        fs::write(group.join("pids.current"), "9\n").unwrap();
        let mut pids = Pids::new(Path::new("/proc"), &root);
        let mut walk = walk::Walk::new(&root);
        pids.watch(walk.go_on(BootTime(0)).unwrap().tasks);
        let look = |pids: &mut Pids| {
            let mut levels = Vec::new();
            pids.look(&mut levels);
            levels.retain(|level| matches!(level.of, Resource::Pids { .. }));
            levels
        };
        let levels = look(&mut pids);
        assert_eq!(levels.len(), 1);
        assert_eq!((levels[0].used, levels[0].limit), (9, 10));
        assert_eq!(levels[0].of, Resource::Pids { cgroup: "/a/b".to_owned() });
        for (events, told) in [("max 41\n", 0), ("max 44\n", 3), ("max 44\n", 0)] {
            fs::write(group.join("pids.events"), events).unwrap();
            assert_eq!(look(&mut pids)[0].refused, told, "what was before the first look is no news");
        }
        fs::write(group.join("pids.max"), "100\n").unwrap();
        assert_eq!(look(&mut pids)[0].limit, 100);
        assert_eq!(look(&mut pids), [], "nine of a hundred");
        fs::remove_dir_all(root).unwrap();
    }
    /// The same file, another inode: what was opened of the old one would tell of it for ever.
    #[test]
    fn a_cgroup_that_was_made_again_is_opened_anew_and_one_that_was_not_is_kept() {
        let root = std::env::temp_dir().join(format!("healer-pids-again-{}", std::process::id()));
        let group = root.join("pids/web");
        let file = group.join("pids.current");
        fs::create_dir_all(&group).unwrap();
        fs::write(&file, "9\n").unwrap();
        let mut pids = Pids::new(Path::new("/proc"), &root);
        let watch = |pids: &mut Pids| {
            pids.watch(BTreeMap::from([(group.clone(), 10)]));
            pids.limited[&group].current.number()
        };
        assert_eq!(watch(&mut pids), Some(9));
        fs::write(&file, "gone").unwrap();
        fs::remove_file(&file).unwrap();
        fs::write(&file, "3\n").unwrap();
        assert_eq!(pids.limited[&group].current.number(), None, "of the old one");
        assert_eq!(watch(&mut pids), Some(3));
        pids.limited.values_mut().for_each(|limited| limited.refused = Some(5));
        assert_eq!(watch(&mut pids), Some(3));
        assert_eq!(pids.limited[&group].refused, Some(5), "what is known of it is kept");
        pids.watch(BTreeMap::new());
        assert!(pids.limited.is_empty(), "it has no limit any more");
        fs::remove_dir_all(root).unwrap();
    }
}
