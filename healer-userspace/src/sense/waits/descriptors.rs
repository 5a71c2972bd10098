//! The descriptors of a process, and what is behind them.

use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use super::{
    procfs::{Proc, numbers, state_of},
    shared::File,
};
use crate::patience::FILES;

/// Descriptors of one process looked at, at most.
const FDS_MAX: usize = 4096;

/// Of one process.
pub(crate) struct Open {
    /// By descriptor.
    pub(crate) files: Vec<(u32, File)>,
    /// All could be seen.
    pub(crate) is_whole: bool,
}

impl Proc {
    pub(crate) fn fds(&self, tgid: u32) -> Vec<u32> {
        let (_, mut fds) = self.descriptors_of(tgid);
        fds.truncate(FDS_MAX);
        fds
    }

    /// And where they are seen: a leader that has exited has let go of its files, its threads have not.
    fn descriptors_of(&self, tgid: u32) -> (PathBuf, Vec<u32>) {
        let leader = self.path(&tgid.to_string());
        let fds = numbers(&leader.join("fd"));
        let is_gone = || self.text(&format!("{tgid}/stat")).is_some_and(|text| state_of(&text) == Some("Z"));
        let thread = if fds.is_empty() && is_gone() { self.threads(tgid).first().copied() } else { None };
        let Some(thread) = thread else { return (leader, fds) };
        let files = self.path(&format!("{tgid}/task/{thread}"));
        let fds = numbers(&files.join("fd"));
        (files, fds)
    }

    /// What a descriptor is, such as `pipe:[4242]`.
    pub(crate) fn fd_target(&self, tgid: u32, fd: u32) -> Option<String> {
        let link = |files: PathBuf| fs::read_link(files.join(format!("fd/{fd}")));
        let target =
            link(self.path(&tgid.to_string())).or_else(|_| link(self.descriptors_of(tgid).0)).ok()?;
        Some(target.to_string_lossy().into_owned())
    }

    /// Inodes of the sockets among its descriptors.
    pub(crate) fn sockets(&self, tgid: u32) -> Vec<u32> {
        let inode = |fd: u32| {
            let target = self.fd_target(tgid, fd)?;
            target.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
        };
        self.fds(tgid).into_iter().filter_map(inode).collect()
    }

    /// Device and inode of a descriptor's file. A file that hangs has none.
    pub(crate) fn fd_inode(&self, tgid: u32, fd: u32) -> Option<File> {
        let path = self.path(&format!("{tgid}/fd/{fd}"));
        let path =
            if path.is_symlink() { path } else { self.descriptors_of(tgid).0.join(format!("fd/{fd}")) };
        if self.fd_target(tgid, fd)?.starts_with('/') {
            return FILES.ask(&tgid.to_string(), move || identity(&path)).flatten();
        }
        identity(&path)
    }

    /// Those of `wanted` that it has open. With `named` files that have a name are looked at too: their file system may
    /// hang.
    pub(crate) fn open_among(&self, tgid: u32, wanted: &BTreeSet<File>, named: bool) -> Open {
        let (files, fds) = self.descriptors_of(tgid);
        let mut is_whole = true;
        let mut by_name = Vec::new();
        let mut open = Vec::new();
        for fd in fds {
            let path = files.join(format!("fd/{fd}"));
            match fs::read_link(&path) {
                Ok(target) if target.has_root() => by_name.push((fd, path)),
                Ok(target) if !may_be_among(&target, wanted) => {}
                Ok(_) => open.extend(identity(&path).map(|file| (fd, file))),
                // Whoever hides one of them hides all.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => break,
                Err(_) => {}
            }
        }
        if named && !by_name.is_empty() {
            let look = move || {
                by_name.into_iter().filter_map(|(fd, path)| Some((fd, identity(&path)?))).collect::<Vec<_>>()
            };
            let found = FILES.ask(&tgid.to_string(), look);
            is_whole = found.is_some();
            open.extend(found.into_iter().flatten());
        }
        open.retain(|(_, file)| wanted.contains(file));
        Open { files: open, is_whole }
    }

    pub(crate) fn fd_info(&self, tgid: u32, fd: u32) -> String {
        let info = self.text(&format!("{tgid}/fdinfo/{fd}"));
        let of_a_thread = || {
            let thread = *self.threads(tgid).first()?;
            self.text(&format!("{tgid}/task/{thread}/fdinfo/{fd}"))
        };
        info.or_else(of_a_thread).unwrap_or_default()
    }
}

/// By the number in `pipe:[4242]`: most are somebody else's, and need no second look.
fn may_be_among(target: &Path, wanted: &BTreeSet<File>) -> bool {
    let number =
        target.to_str().and_then(|name| name.split_once('[')?.1.strip_suffix(']')?.parse::<u64>().ok());
    number.is_none_or(|number| wanted.iter().any(|(_, inode)| *inode == number))
}

/// Device and inode.
fn identity(path: &Path) -> Option<File> {
    let found = fs::metadata(path).ok()?;
    Some((found.dev(), found.ino()))
}
