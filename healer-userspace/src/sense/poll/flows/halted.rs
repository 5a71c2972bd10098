//! Servers that may not run: stopped or frozen. Each is asked once in a look, however many clients it has.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::Whose;
use crate::{
    sense::{freezer::Freezers, poll::work::life_by},
    signal::work::Life,
};

pub(super) struct Halted {
    proc: PathBuf,
    freezers: Freezers,
    known: BTreeMap<u32, bool>,
}

impl Halted {
    /// `proc` is `/proc`, `cgroup` is `/sys/fs/cgroup`.
    pub(super) fn new(proc: &Path, cgroup: &Path) -> Self {
        Self { proc: proc.to_owned(), freezers: Freezers::new(cgroup), known: BTreeMap::new() }
    }

    pub(super) fn is(&mut self, server: Whose) -> bool {
        let Self { proc, freezers, known } = self;
        let Some(pid) = server.pid else { return false };
        *known.entry(pid).or_insert_with(|| match life_by(freezers, proc, pid) {
            Life::Stopped | Life::Frozen => true,
            Life::Free | Life::Traced => false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::fixture::{Fake, Tree};

    #[test]
    fn who_is_frozen_is_halted_and_is_asked_once() {
        let tree = Tree::new();
        tree.process(&Fake::new(7, "web").in_cgroup("/frozen"));
        tree.process(&Fake::new(8, "web").in_cgroup("/well"));
        tree.file("cgroup/frozen/cgroup.events", "populated 1\nfrozen 1\n");
        tree.file("cgroup/well/cgroup.events", "populated 1\nfrozen 0\n");
        let new = || Halted::new(&tree.root().join("proc"), &tree.root().join("cgroup"));
        let whose = |pid| Whose { pid, cgroup: 5 };
        let mut halted = new();
        let mut all = || [Some(7), Some(8), None].map(|pid| halted.is(whose(pid)));
        assert_eq!(all(), [true, false, false]);
        tree.file("cgroup/frozen/cgroup.events", "populated 1\nfrozen 0\n");
        assert_eq!(all(), [true, false, false]);
        assert!(!new().is(whose(Some(7))), "the next look");
    }
}
