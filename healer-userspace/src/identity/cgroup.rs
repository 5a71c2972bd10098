//! Which cgroup a process is in, and which path a cgroup id has. v1, v2 and hybrid layouts.

use std::{
    fs, io,
    os::unix::fs::{DirEntryExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use self::{pace::Pace, view::View};
use super::lru::Lru;
use crate::{engine::time::BootTime, text::lossy};

mod pace;
pub mod view;

const KEPT: usize = 8192;
/// Directories that one walk looks at.
const WALK_MAX: usize = 32_768;

/// Which tree a cgroup's id and path belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hierarchy {
    V2,
    /// The memory controller's own tree of cgroup v1.
    V1Memory,
    /// Where memory is controlled: [`Hierarchy::V1Memory`] if it is mounted, else v2.
    Memory,
}

/// A cgroup as the kernel names it: the inode number of its directory, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CgroupId {
    pub hierarchy: Hierarchy,
    pub id: u64,
}

/// `/proc/PID/cgroup`: one path per hierarchy (`cgroups(7)`), as far as identity asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    pub v2: Option<String>,
    pub memory: Option<String>,
    pub systemd: Option<String>,
}

impl Membership {
    pub fn parse(bytes: &[u8]) -> Self {
        let mut found = Self::default();
        for line in bytes.split(|byte| *byte == b'\n') {
            let mut parts = line.splitn(3, |byte| *byte == b':');
            let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
                continue;
            };
            match controllers {
                b"" => found.v2 = Some(clean(path, "")),
                b"name=systemd" => found.systemd = Some(clean(path, "systemd")),
                _ if controllers.split(|b| *b == b',').any(|c| c == b"memory") => {
                    found.memory = Some(clean(path, "memory"));
                }
                _ => {}
            }
        }
        found
    }

    /// The path that names the process: v2's; from its root the memory controller's, then
    /// systemd's. No hierarchy: the path belongs to none that has ids.
    pub fn path(&self) -> (Option<Hierarchy>, &str) {
        let below = |path: &'_ Option<String>| path.as_deref().is_some_and(|path| path != "/");
        if below(&self.v2) {
            return (Some(Hierarchy::V2), self.v2.as_deref().unwrap_or("/"));
        }
        if below(&self.memory) {
            let path = self.memory.as_deref().unwrap_or("/");
            return (Some(Hierarchy::V1Memory), path);
        }
        if below(&self.systemd) {
            return (None, self.systemd.as_deref().unwrap_or("/"));
        }
        let root = if self.v2.is_some() { Hierarchy::V2 } else { Hierarchy::V1Memory };
        (Some(root), "/")
    }
}

/// Without the mark of a removed cgroup, and whole if it lies outside our own cgroup namespace; where it cannot be made
/// so, without the `/..`.
fn clean(path: &[u8], controller: &str) -> String {
    let path = path.strip_suffix(b" (deleted)").unwrap_or(path);
    if let Some(whole) = View::of_controller(controller).whole(&lossy(path)) {
        return whole;
    }
    let mut rest = path;
    while let Some(above) = rest.strip_prefix(b"/..") {
        if !above.is_empty() && above[0] != b'/' {
            break;
        }
        rest = above;
    }
    if rest.is_empty() {
        return "/".to_owned();
    }
    lossy(rest)
}

/// Paths of cgroups by id. Removed ones stay until there is no more room, so that the dead are
/// still named.
pub struct Cgroups {
    v2: Option<PathBuf>,
    memory: Option<PathBuf>,
    known: Lru<(Hierarchy, u64), String>,
    /// Those that a walk did not find are removed: an id is not used again.
    gone: Lru<(Hierarchy, u64), ()>,
    pace: Pace,
}

impl Cgroups {
    /// Finds the mounts below `root` (`/sys/fs/cgroup`): pure v2, hybrid or pure v1.
    pub fn new(root: &Path) -> Self {
        let is_v2 = |path: &Path| path.join("cgroup.controllers").exists();
        let pure = is_v2(root);
        let unified = root.join("unified");
        let memory = root.join("memory");
        Self {
            v2: if pure { Some(root.to_owned()) } else { is_v2(&unified).then_some(unified) },
            memory: (!pure && memory.is_dir()).then_some(memory),
            known: Lru::new(KEPT),
            gone: Lru::new(KEPT),
            pace: Pace::default(),
        }
    }

    fn mount(&self, hierarchy: Hierarchy) -> Option<(Hierarchy, &Path)> {
        let v2 = || self.v2.as_deref().map(|path| (Hierarchy::V2, path));
        let v1 = || self.memory.as_deref().map(|path| (Hierarchy::V1Memory, path));
        match hierarchy {
            Hierarchy::V2 => v2(),
            Hierarchy::V1Memory => v1(),
            Hierarchy::Memory => v1().or_else(v2),
        }
    }

    /// The id of a living cgroup by its path; 0 if there is none. The path is remembered.
    pub fn id(&mut self, hierarchy: Hierarchy, path: &str) -> u64 {
        let Some((hierarchy, mount)) = self.mount(hierarchy) else {
            return 0;
        };
        let Ok(dir) = fs::metadata(mount.join(path.trim_start_matches('/'))) else {
            return 0;
        };
        self.learn(hierarchy, dir.ino(), path);
        dir.ino()
    }

    /// The path, if it has been seen.
    pub fn known(&mut self, cgroup: CgroupId) -> Option<String> {
        let (hierarchy, _) = self.mount(cgroup.hierarchy)?;
        self.known.get(&(hierarchy, cgroup.id)).cloned()
    }

    /// The path, if need be by looking at every cgroup, as often as the number of them allows.
    pub fn find(&mut self, cgroup: CgroupId, now: BootTime) -> Option<String> {
        if let Some(path) = self.known(cgroup) {
            return Some(path);
        }
        let (hierarchy, _) = self.mount(cgroup.hierarchy)?;
        let key = (hierarchy, cgroup.id);
        if cgroup.id == 0 || self.gone.peek(&key).is_some() || !self.pace.allows(now) {
            return None;
        }
        let walked = self.walk_for(Some(key), now);
        match &walked.found {
            // Of more than are kept it may have made room for others already.
            Some(path) => self.learn(hierarchy, cgroup.id, path),
            None if walked.is_whole => self.gone.insert(key, ()),
            None => {}
        }
        walked.found
    }

    /// Memory is controlled by v2.
    pub fn is_memory_in_v2(&self) -> bool {
        self.memory.is_none() && self.v2.is_some()
    }

    /// Those at or above this one that have a memory limit, in bytes, the nearest first.
    pub fn limited(&self, path: &str) -> Vec<(String, u64)> {
        let Some((_, mount)) = self.mount(Hierarchy::Memory) else {
            return Vec::new();
        };
        let all = Path::new(path.trim_start_matches('/')).ancestors();
        let limited = all.filter_map(|inside| {
            let limit = memory_limit(&mount.join(inside))?;
            Some((format!("/{}", inside.display()), limit))
        });
        limited.collect()
    }

    /// Learns every cgroup there is, up to a bound.
    pub fn walk(&mut self, now: BootTime) {
        self.walk_for(None, now);
    }

    fn walk_for(&mut self, wanted: Option<(Hierarchy, u64)>, now: BootTime) -> Walked {
        let mut walked = Walked { wanted, found: None, dirs: 0, is_whole: true };
        for hierarchy in [Hierarchy::V2, Hierarchy::V1Memory] {
            if let Some((_, mount)) = self.mount(hierarchy) {
                let mount = mount.to_owned();
                self.walk_mount(hierarchy, &mount, &mut walked);
            }
        }
        self.pace.charge(walked.dirs, now);
        walked
    }

    fn walk_mount(&mut self, hierarchy: Hierarchy, mount: &Path, walked: &mut Walked) {
        match fs::metadata(mount) {
            Ok(root) => self.meet(hierarchy, root.ino(), "/", walked),
            Err(_) => walked.is_whole = false,
        }
        let mut waiting = vec![String::new()];
        let mut left = WALK_MAX;
        while let Some(parent) = waiting.pop() {
            let children = children(&mount.join(parent.trim_start_matches('/'))).unwrap_or_else(|error| {
                // One that goes away meanwhile has no children to be seen; who has no descriptors left sees none.
                walked.is_whole &= error.kind() == io::ErrorKind::NotFound;
                Vec::new()
            });
            for (id, name) in children {
                if left == 0 {
                    walked.is_whole = false;
                    return;
                }
                left -= 1;
                let path = format!("{parent}/{name}");
                self.meet(hierarchy, id, &path, walked);
                waiting.push(path);
            }
        }
    }

    fn meet(&mut self, hierarchy: Hierarchy, id: u64, path: &str, walked: &mut Walked) {
        walked.dirs += 1;
        if walked.wanted == Some((hierarchy, id)) {
            walked.found = Some(path.to_owned());
        }
        self.learn(hierarchy, id, path);
    }

    /// Keeps what another source told: a process that outlived its cgroup still knows the path.
    pub fn remember(&mut self, cgroup: CgroupId, path: &str) {
        if let Some((hierarchy, _)) = self.mount(cgroup.hierarchy) {
            self.learn(hierarchy, cgroup.id, path);
        }
    }

    fn learn(&mut self, hierarchy: Hierarchy, id: u64, path: &str) {
        let key = (hierarchy, id);
        if self.known.get(&key).is_none_or(|known| known != path) {
            self.known.insert(key, path.to_owned());
        }
    }
}

/// What one look at every cgroup has come to.
struct Walked {
    wanted: Option<(Hierarchy, u64)>,
    found: Option<String>,
    dirs: usize,
    /// Every directory could be read.
    is_whole: bool,
}

/// The path itself, or one of a cgroup inside.
pub(super) fn is_below(path: &str, above: &str) -> bool {
    let inside = path.strip_prefix(above.trim_end_matches('/'));
    inside.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// v1 rounds the limit of those that have none to whole pages (`PAGE_COUNTER_MAX`, include/linux/page_counter.h).
const NO_LIMIT: u64 = 1 << 62;

fn memory_limit(dir: &Path) -> Option<u64> {
    let v2 = fs::read_to_string(dir.join("memory.max"));
    let text = v2.or_else(|_| fs::read_to_string(dir.join("memory.limit_in_bytes"))).ok()?;
    // `max` is none.
    text.trim().parse().ok().filter(|limit| *limit < NO_LIMIT)
}

fn children(dir: &Path) -> io::Result<Vec<(u64, String)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.push((entry.ino(), entry.file_name().to_string_lossy().into_owned()));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
