//! Whom a freezer holds, where the kernel's iterators do not tell: by `/proc` a frozen thread of cgroup v2 looks like any
//! sleeper, one of v1 like any that waits for a disk (cgroups(7)).

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

pub(crate) const CGROUPS: &str = "/sys/fs/cgroup";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Freezer {
    V1,
    V2,
}

/// Remembers what the cgroups say: for one look at many processes.
pub(crate) struct Freezers {
    cgroup: PathBuf,
    known: BTreeMap<PathBuf, bool>,
}

impl Freezers {
    /// `cgroup` is [`CGROUPS`].
    pub(crate) fn new(cgroup: &Path) -> Self {
        Self { cgroup: cgroup.to_owned(), known: BTreeMap::new() }
    }

    /// `None`: nobody holds it, or it is gone. `proc` is `/proc`.
    pub(crate) fn of(&mut self, proc: &Path, pid: u32) -> Option<Freezer> {
        let text = fs::read_to_string(proc.join(format!("{pid}/cgroup"))).unwrap_or_default();
        text.lines().find_map(|line| self.by_line(line))
    }

    /// `HIERARCHY:CONTROLLERS:PATH`; v2 has no controllers.
    fn by_line(&mut self, line: &str) -> Option<Freezer> {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?);
        let inside = path.trim_start_matches('/');
        if controllers.split(',').any(|name| name == "freezer") {
            let dir = self.cgroup.join(controllers).join(inside);
            return self.ask(dir, is_frozen_v1).then_some(Freezer::V1);
        }
        if !controllers.is_empty() {
            return None;
        }
        let mounts = [self.cgroup.clone(), self.cgroup.join("unified")];
        let holds = |mount: &PathBuf| self.ask(mount.join(inside), |dir| is_frozen_v2(mount, dir));
        mounts.iter().any(holds).then_some(Freezer::V2)
    }

    fn ask(&mut self, dir: PathBuf, look: impl FnOnce(&Path) -> bool) -> bool {
        if let Some(known) = self.known.get(&dir) {
            return *known;
        }
        let is_frozen = look(&dir);
        self.known.insert(dir, is_frozen);
        is_frozen
    }
}

fn is_frozen_v1(dir: &Path) -> bool {
    fs::read_to_string(dir.join("freezer.state")).is_ok_and(|state| state.trim() != "THAWED")
}

/// As long as one of its threads cannot be frozen, as it waits for a disk, the group is not; the others are held already.
fn is_frozen_v2(mount: &Path, dir: &Path) -> bool {
    let events = fs::read_to_string(dir.join("cgroup.events")).unwrap_or_default();
    let is_asked =
        |above: &Path| fs::read_to_string(above.join("cgroup.freeze")).is_ok_and(|asked| asked.trim() == "1");
    events.lines().any(|line| line == "frozen 1")
        || dir.ancestors().take_while(|above| *above != mount).any(is_asked)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::fixture::{Fake, Tree};

    fn freezer_of(tree: &Tree, pid: u32) -> Option<Freezer> {
        Freezers::new(&tree.root().join("cgroup")).of(&tree.root().join("proc"), pid)
    }

    #[test]
    fn a_frozen_group_holds_whoever_is_in_it_or_below() {
        let tree = Tree::new();
        for (pid, cgroup) in [(7, "/frozen"), (8, "/freezing/below"), (9, "/well"), (10, "/")] {
            tree.process(&Fake::new(pid, "web").in_cgroup(cgroup));
        }
        tree.file("cgroup/frozen/cgroup.events", "populated 1\nfrozen 1\n");
        tree.file("cgroup/freezing/cgroup.freeze", "1\n");
        tree.file("cgroup/freezing/below/cgroup.events", "populated 1\nfrozen 0\n");
        tree.file("cgroup/well/cgroup.events", "populated 1\nfrozen 0\n");
        tree.file("cgroup/well/cgroup.freeze", "0\n");
        let held = [7, 8, 9, 10, 11].map(|pid| freezer_of(&tree, pid));
        assert_eq!(held, [Some(Freezer::V2), Some(Freezer::V2), None, None, None]);
    }

    #[test]
    fn so_does_a_group_of_v1_that_is_not_thawed() {
        let tree = Tree::hybrid();
        tree.file("proc/7/cgroup", "5:freezer:/held\n0::/well\n");
        tree.file("proc/8/cgroup", "5:freezer:/well\n0::/well\n");
        tree.file("cgroup/freezer/held/freezer.state", "FREEZING\n");
        tree.file("cgroup/freezer/well/freezer.state", "THAWED\n");
        assert_eq!([7, 8].map(|pid| freezer_of(&tree, pid)), [Some(Freezer::V1), None]);
    }
}
