//! Does a shell start this command again however it ends? Its own script is the evidence.
//!
//! `while true; do server; done` and `until nc -z db 5432; do sleep 1; done` look alike to the kernel: one parent, one
//! command, one status after the other. In the first the status is a failure; in the second it is an answer.

mod script;

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use super::{
    lru::Lru,
    process::{Process, ProcessId},
    procfs::ProcDir,
};

/// A longer script is not read: nothing is said about its loops.
const SCRIPT_MAX: u64 = 64 * 1024;
const REMEMBERED: usize = 1024;
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
                let found = script_of(proc, shell)
                    .is_ok_and(|text| script::restarts(&text, &process.args, process.exe.as_deref()));
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

fn read(path: &Path) -> io::Result<String> {
    let file = File::open(path)?;
    // A fifo or a device would block or never end.
    let kind = file.metadata()?.file_type();
    if !kind.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut bytes = Vec::new();
    file.take(SCRIPT_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > SCRIPT_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests;
