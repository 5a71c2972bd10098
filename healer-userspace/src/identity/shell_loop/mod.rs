//! Does a shell start this command again however it ends? Its own script is the evidence.
//!
//! `while true; do server; done` and `until nc -z db 5432; do sleep 1; done` look alike to the kernel: one parent, one
//! command, one status after the other. In the first the status is a failure; in the second it is an answer.

mod script;

use core::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};
use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _},
    os::{fd::AsRawFd as _, unix::fs::OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
};

use super::{
    lru::Lru,
    process::{Process, ProcessId},
    procfs::ProcDir,
};

/// A longer script is not read: nothing is said about its loops.
const SCRIPT_MAX: u64 = 64 * 1024;
const REMEMBERED: usize = 1024;
const READS_WITHIN: Duration = Duration::from_millis(100);
/// Readers that hang: more are not sent after them.
const READERS_MAX: usize = 4;
static READERS: AtomicUsize = AtomicUsize::new(0);
const SHELLS: [&str; 9] = ["sh", "dash", "bash", "ash", "ksh", "mksh", "yash", "zsh", "busybox"];

/// Answers by shell and command: a command that fails a thousand times a second is looked up once.
pub(super) struct ShellLoops(Lru<(ProcessId, Vec<String>), bool>);

impl ShellLoops {
    pub(super) fn new() -> Self {
        Self(Lru::new(REMEMBERED))
    }

    /// Writes down in `process.parent` whether it starts `process` again whatever its status says.
    pub(super) fn note(&mut self, proc: &Path, process: &mut Process) {
        let Some(parent) = &mut process.parent else {
            return;
        };
        let program = parent.exe.as_deref().unwrap_or(&parent.comm);
        if !SHELLS.contains(&base(program)) || process.args.is_empty() {
            return;
        }
        let shell = ProcessId { pid: parent.pid, start: parent.start };
        let key = (shell, process.args.clone());
        parent.restarts_it = match self.0.get(&key) {
            Some(known) => *known,
            None => {
                let (proc, args, exe) = (proc.to_owned(), process.args.clone(), process.exe.clone());
                let restarts = move || {
                    script_of(&proc, shell).is_ok_and(|text| script::restarts(&text, &args, exe.as_deref()))
                };
                let found = in_time(restarts).unwrap_or(false);
                self.0.insert(key, found);
                found
            }
        };
    }
}

/// The last part of a path.
fn base(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// What the shell was told to do: the text after `-c`, or its script file.
fn script_of(proc: &Path, shell: ProcessId) -> io::Result<String> {
    let dir = proc.join(shell.pid.to_string());
    let start = ProcDir::open(proc, shell.pid).and_then(|dir| dir.stat()).map(|stat| stat.start);
    let still_it = start.is_some_and(|start| ProcessId { pid: shell.pid, start } == shell);
    if !still_it {
        return Err(io::ErrorKind::NotFound.into());
    }
    let line = read(&dir.join("cmdline"))?;
    let mut args = line.split('\0').skip(1).peekable();
    // busybox sh
    args.next_if(|arg| SHELLS.contains(arg));
    while let Some(option) = args.next_if(|arg| arg.starts_with(['-', '+']) && arg.len() > 1) {
        if option.starts_with('-') && !option.starts_with("--") && option.contains('c') {
            return args.next().map(str::to_owned).ok_or_else(|| io::ErrorKind::NotFound.into());
        }
    }
    match args.next().filter(|file| !file.is_empty()) {
        Some(file) => read(&seen_from(&dir, file)),
        None => Err(io::ErrorKind::NotFound.into()),
    }
}

/// The path as the shell sees it: its root may be a container's.
fn seen_from(dir: &Path, file: &str) -> PathBuf {
    match file.strip_prefix('/') {
        Some(rest) => dir.join("root").join(rest),
        None => dir.join("cwd").join(file),
    }
}

/// A fifo or a device would block, or do something when it is opened: only a regular file is.
fn read(path: &Path) -> io::Result<String> {
    let handle = OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(path)?;
    if !handle.metadata()?.file_type().is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let file = File::open(format!("/proc/self/fd/{}", handle.as_raw_fd()))?;
    let mut bytes = Vec::new();
    file.take(SCRIPT_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > SCRIPT_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// In a thread that is not waited for long: a file on a server that is gone blocks its reader for ever.
fn in_time(work: impl FnOnce() -> bool + Send + 'static) -> Option<bool> {
    if READERS.fetch_add(1, Ordering::Relaxed) >= READERS_MAX {
        READERS.fetch_sub(1, Ordering::Relaxed);
        return None;
    }
    let (answer, answered) = mpsc::channel();
    let read = move || {
        // Nobody listens any more if it took too long.
        answer.send(work()).ok();
        READERS.fetch_sub(1, Ordering::Relaxed);
    };
    if thread::Builder::new().name("healer-script".to_owned()).spawn(read).is_err() {
        READERS.fetch_sub(1, Ordering::Relaxed);
        return None;
    }
    answered.recv_timeout(READS_WITHIN).ok()
}

#[cfg(test)]
mod tests;
