//! What of a process's memory is code (`/proc/PID/maps`, proc_pid_maps(5)).

use std::{fs, os::unix::fs::MetadataExt as _, path::PathBuf};

use crate::sense::waits::Proc;

const LINES_MAX: usize = 8192;
/// The symbol table of a bigger file would cost too much memory.
const FILE_MAX: u64 = 64 << 20;

#[derive(Default)]
pub(super) struct Maps(Vec<Code>);

pub(super) struct Code {
    from: u64,
    to: u64,
    offset: u64,
    inode: u64,
    pub(super) path: String,
}

impl Maps {
    pub(super) fn of(proc: &Proc, pid: u32) -> Self {
        Self::parse(&proc.patiently(pid, format!("{pid}/maps")).unwrap_or_default())
    }

    pub(super) fn parse(text: &str) -> Self {
        Self(text.lines().take(LINES_MAX).filter_map(code).collect())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The code that an address lies in.
    pub(super) fn find(&self, address: u64) -> Option<&Code> {
        self.0.iter().find(|code| (code.from..code.to).contains(&address))
    }
}

impl Code {
    /// Name of the file, and where in it.
    pub(super) fn place(&self, address: u64) -> String {
        let file = self.path.rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or("generated code");
        format!("{file}+{:#x}", self.offset_of(address))
    }

    pub(super) fn offset_of(&self, address: u64) -> u64 {
        address - self.from + self.offset
    }

    /// By a name that shows this very file. `map_files` does so also if it has been deleted, but is for CAP_SYS_ADMIN and
    /// CAP_CHECKPOINT_RESTORE alone (proc_pid_map_files(5)); the others may show another one by now.
    pub(super) fn file(&self, pid: u32) -> Option<PathBuf> {
        let link = PathBuf::from(format!("/proc/{pid}/map_files/{:x}-{:x}", self.from, self.to));
        if fs::metadata(&link).is_ok_and(|file| is_readable(&file)) {
            return Some(link);
        }
        let others =
            [format!("/proc/{pid}/exe"), format!("/proc/{pid}/root{}", self.path)].map(PathBuf::from);
        others
            .into_iter()
            .find(|path| fs::metadata(path).is_ok_and(|file| self.is_of(&file) && is_readable(&file)))
    }

    /// The device is not compared: overlayfs and btrfs show one here and another in `maps`.
    fn is_of(&self, file: &fs::Metadata) -> bool {
        file.ino() == self.inode
    }
}

fn is_readable(file: &fs::Metadata) -> bool {
    file.is_file() && file.len() <= FILE_MAX
}

fn code(line: &str) -> Option<Code> {
    let mut words = line.split_ascii_whitespace();
    let (from, to) = words.next()?.split_once('-')?;
    let is_code = words.next()?.as_bytes().get(2) == Some(&b'x');
    let offset = words.next()?;
    let inode = words.nth(1)?.parse().ok()?;
    let path = words.next().unwrap_or_default();
    let number = |text: &str| u64::from_str_radix(text, 16).ok();
    let (from, to, offset) = (number(from)?, number(to)?, number(offset)?);
    is_code.then(|| Code { from, to, offset, inode, path: path.to_owned() })
}
