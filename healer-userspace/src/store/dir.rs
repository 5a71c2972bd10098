//! The state directory, held open: every file in it is reached through its descriptor and never through a symlink.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
};

use rustix::{
    fd::OwnedFd,
    fs::{AtFlags, FileType, Mode, OFlags, Stat, fstat, openat, renameat, statat, unlinkat},
    process::geteuid,
};

use super::StoreError;

/// `--state-dir`: a real directory of ours that nobody else may write to, mode 0700.
#[derive(Debug)]
pub struct StateDir {
    fd: OwnedFd,
    path: PathBuf,
}

/// How a file of the state directory is opened. All of them refuse symlinks (`O_NOFOLLOW`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Read,
    /// Created with mode 0600 if it is not there.
    ReadWrite,
    /// As `ReadWrite`; every write goes to the end (`O_APPEND`).
    Append,
    /// Created or emptied.
    Replace,
}

impl StateDir {
    /// Opens the directory, creating it (0700) and its parents if they are not there.
    ///
    /// # Errors
    /// In words, if it is a symlink or no directory, belongs to another user, or others may write to it.
    pub fn create(path: &Path) -> Result<Self, StoreError> {
        let path = plain(path);
        let failed = |source: io::Error| {
            if source.kind() == io::ErrorKind::PermissionDenied {
                let why =
                    format!("{source}: run healer as root, or give it a directory of yours by --state-dir");
                return StoreError::Directory { path: path.clone(), why };
            }
            StoreError::io("create state directory", &path, source)
        };
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            std::fs::create_dir_all(parent).map_err(failed)?;
        }
        match rustix::fs::mkdir(&path, Mode::RWXU) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => Self::open(&path),
            Err(errno) => Err(failed(errno.into())),
        }
    }

    /// Opens an existing state directory, for readers.
    ///
    /// # Errors
    /// As `create`, and if it is not there.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let path = plain(path);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::open(&path, flags, Mode::empty()).map_err(|errno| not_opened(&path, errno))?;
        let stat = fstat(&fd).map_err(|errno| StoreError::io("stat state directory", &path, errno.into()))?;
        match objection(&stat, geteuid().as_raw()) {
            Some(why) => Err(StoreError::Directory { path, why }),
            None => Ok(Self { fd, path }),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a regular file of ours by its plain name.
    ///
    /// # Errors
    /// `ELOOP` for a symlink, `InvalidInput` for anything but a regular file, else as openat(2).
    pub fn file(&self, name: &str, access: Access) -> io::Result<File> {
        // O_NONBLOCK: a fifo put in the file's place must not hang us; regular files ignore it.
        let common = OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let flags = match access {
            Access::Read => OFlags::RDONLY,
            Access::ReadWrite => OFlags::RDWR | OFlags::CREATE,
            Access::Append => OFlags::RDWR | OFlags::CREATE | OFlags::APPEND,
            Access::Replace => OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC,
        };
        let fd = openat(&self.fd, name, common | flags, Mode::RUSR | Mode::WUSR)?;
        if FileType::from_raw_mode(fstat(&fd)?.st_mode) != FileType::RegularFile {
            let says = format!("{name} is not a regular file");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, says));
        }
        Ok(File::from(fd))
    }

    /// As `file` for reading; None if there is no such file.
    ///
    /// # Errors
    /// As `file`.
    pub fn existing(&self, name: &str) -> io::Result<Option<File>> {
        match self.file(name, Access::Read) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Device and inode of a name, the name itself and not what it points to.
    pub fn inode(&self, name: &str) -> Option<(u64, u64)> {
        statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW).ok().map(|stat| (stat.st_dev, stat.st_ino))
    }

    /// Renames within the directory, atomically, over whatever has the new name.
    ///
    /// # Errors
    /// As renameat(2).
    pub fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        Ok(renameat(&self.fd, from, &self.fd, to)?)
    }

    /// # Errors
    /// As unlinkat(2).
    pub fn remove(&self, name: &str) -> io::Result<()> {
        Ok(unlinkat(&self.fd, name, AtFlags::empty())?)
    }

    /// Makes names durable: created and renamed files survive a power cut only after this.
    ///
    /// # Errors
    /// As fsync(2).
    pub fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::fsync(&self.fd)?)
    }
}

/// Without a trailing slash: `link/` would be followed in spite of `O_NOFOLLOW` (open(2)).
fn plain(path: &Path) -> PathBuf {
    path.components().collect()
}

fn not_opened(path: &Path, errno: rustix::io::Errno) -> StoreError {
    let is_link = path.is_symlink();
    match errno {
        rustix::io::Errno::LOOP | rustix::io::Errno::NOTDIR if is_link => StoreError::Directory {
            path: path.to_owned(),
            why: "it is a symbolic link; name the real directory".into(),
        },
        rustix::io::Errno::NOTDIR => {
            StoreError::Directory { path: path.to_owned(), why: "it is not a directory".into() }
        }
        other => StoreError::io("open state directory", path, other.into()),
    }
}

fn objection(stat: &Stat, uid: u32) -> Option<String> {
    let mode = stat.st_mode & 0o7777;
    if stat.st_uid != uid {
        return Some(format!(
            "it belongs to uid {}, healer runs as uid {uid}: give it its own directory",
            stat.st_uid
        ));
    }
    if mode & 0o022 != 0 {
        return Some(format!(
            "others may write to it (mode {mode:04o}): chmod 0700 it, and look at what is in it first"
        ));
    }
    None
}

#[cfg(test)]
mod tests {
    use std::{
        fs::Permissions,
        os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
    };

    use super::*;
    use crate::store::scratch::Scratch;

    fn says(result: Result<StateDir, StoreError>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn is_created_for_us_alone() {
        let scratch = Scratch::new("dir-create");
        let path = scratch.path().join("a/b/state");
        let dir = StateDir::create(&path).unwrap();
        assert_eq!(path.metadata().unwrap().mode() & 0o7777, 0o700);
        dir.file("f", Access::Append).unwrap();
        assert_eq!(path.join("f").metadata().unwrap().mode() & 0o7777, 0o600);
        StateDir::create(&path).unwrap();
    }

    #[test]
    fn symlinks_are_refused() {
        let scratch = Scratch::new("dir-link");
        let link = scratch.path().join("link");
        symlink(scratch.path(), &link).unwrap();
        assert!(says(StateDir::create(&link)).contains("symbolic link"));
        assert!(says(StateDir::create(&link.join(""))).contains("symbolic link"));

        let dir = StateDir::create(&scratch.path().join("state")).unwrap();
        symlink("/etc/hostname", dir.path().join("f")).unwrap();
        for access in [Access::Read, Access::ReadWrite, Access::Append, Access::Replace] {
            let error = dir.file("f", access).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::ELOOP));
        }
    }

    #[test]
    fn what_others_may_write_to_is_refused() {
        let scratch = Scratch::new("dir-mode");
        let path = scratch.path().join("state");
        StateDir::create(&path).unwrap();
        for mode in [0o770, 0o707, 0o1777] {
            std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            assert!(says(StateDir::create(&path)).contains("others may write"));
        }
    }

    #[test]
    fn another_users_directory_is_refused() {
        let scratch = Scratch::new("dir-owner");
        let dir = StateDir::create(&scratch.path().join("state")).unwrap();
        let stat = fstat(&dir.fd).unwrap();
        assert_eq!(objection(&stat, stat.st_uid), None);
        assert!(objection(&stat, stat.st_uid + 1).unwrap().contains("belongs to uid"));
    }

    #[test]
    fn a_file_is_no_state_directory() {
        let scratch = Scratch::new("dir-file");
        let path = scratch.path().join("f");
        std::fs::write(&path, "").unwrap();
        assert!(says(StateDir::create(&path)).contains("not a directory"));
    }
}
