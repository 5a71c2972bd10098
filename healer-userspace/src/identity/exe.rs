//! Which path an executable has, when only its device and inode are known.

use std::path::Path;

use rustix::fs::{Stat, Statx, makedev, stat};

use super::lru::Lru;

const KEPT: usize = 4096;

/// An executable file as `stat(2)` names it. Kernel records use the same encoding of the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ExeId {
    pub dev: u64,
    pub ino: u64,
}

impl ExeId {
    pub fn of(file: &Stat) -> Self {
        Self { dev: file.st_dev, ino: file.st_ino }
    }

    pub fn known(file: &Statx) -> Self {
        Self { dev: makedev(file.stx_dev_major, file.stx_dev_minor), ino: file.stx_ino }
    }

    /// `None`: no such file in our own mount namespace.
    pub fn at(path: &str) -> Option<Self> {
        stat(Path::new(path)).ok().map(|file| Self::of(&file))
    }
}

/// Paths of executables seen running, so that a dead process has one.
pub(crate) struct ExePaths(Lru<ExeId, Known>);

struct Known {
    path: String,
    /// The path led to the file in our own mount namespace: it can be checked again.
    checkable: bool,
}

impl ExePaths {
    pub(crate) fn new() -> Self {
        Self(Lru::new(KEPT))
    }

    pub(crate) fn learn(&mut self, id: ExeId, path: &str) {
        if self.0.get(&id).is_some_and(|known| known.path == path) {
            return;
        }
        let known = Known { path: path.to_owned(), checkable: ExeId::at(path) == Some(id) };
        self.0.insert(id, known);
    }

    /// Its path is known, or is the one that was given to `execve(2)`, and leads to it from here.
    pub(crate) fn leads_to(&mut self, id: ExeId, filename: Option<&str>) -> bool {
        if self.path(id).is_some() {
            return self.0.get(&id).is_some_and(|known| known.checkable);
        }
        let there = filename.filter(|name| name.starts_with('/') && ExeId::at(name) == Some(id));
        if let Some(path) = there {
            self.0.insert(id, Known { path: path.to_owned(), checkable: true });
        }
        there.is_some()
    }

    /// Inode numbers are reused: a path that could be checked once is checked each time, and
    /// forgotten when it leads elsewhere.
    pub(crate) fn path(&mut self, id: ExeId) -> Option<String> {
        let known = self.0.get(&id)?;
        if known.checkable && ExeId::at(&known.path) != Some(id) {
            self.0.remove(&id);
            return None;
        }
        Some(known.path.clone())
    }
}

/// The path of a dead process whose executable was never seen, by the name given to
/// `execve(2)`: the name itself if it leads to that file, or leads nowhere from here (another
/// mount namespace). One that leads to another file is a script or has been replaced.
pub(crate) fn path_by_filename(filename: &str, id: Option<ExeId>) -> Option<String> {
    if !filename.starts_with('/') {
        return None;
    }
    match (ExeId::at(filename), id) {
        (Some(there), Some(id)) if there != id => None,
        _ => Some(filename.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::fixture::Tree;

    #[test]
    fn a_path_is_given_as_long_as_it_leads_to_the_file() {
        let tree = Tree::new();
        let path = tree.file("bin/web", "v1");
        let id = ExeId::at(&path).unwrap();
        let mut exes = ExePaths::new();
        exes.learn(id, &path);
        assert_eq!(exes.path(id).as_deref(), Some(&*path));
        std::fs::rename(&path, tree.root().join("elsewhere")).unwrap();
        tree.file("bin/web", "v2");
        assert_eq!(exes.path(id), None);
    }

    #[test]
    fn a_path_of_another_mount_namespace_is_kept_unchecked() {
        let mut exes = ExePaths::new();
        let id = ExeId { dev: 1, ino: 2 };
        exes.learn(id, "/no/such/file/here");
        assert_eq!(exes.path(id).as_deref(), Some("/no/such/file/here"));
    }

    #[test]
    fn a_file_name_counts_unless_it_leads_to_another_file() {
        let tree = Tree::new();
        let script = tree.file("run.py", "#!/usr/bin/python3\n");
        let id = ExeId::at(&script);
        let other = Some(ExeId { dev: 1, ino: 2 });
        assert_eq!(path_by_filename(&script, id), Some(script.clone()));
        assert_eq!(path_by_filename(&script, other), None);
        let inside = "/only/in/the/container";
        assert_eq!(path_by_filename(inside, other).as_deref(), Some(inside));
        assert_eq!(path_by_filename("./run.py", id), None);
    }
}
