//! Does a shell start this command again however it ends? Its own script is the evidence. Is its parent a supervisor of
//! services? Its program says so.
//!
//! `while true; do server; done` and `until nc -z db 5432; do sleep 1; done` look alike to the kernel: one parent, one
//! command, one status after the other. In the first the status is a failure; in the second it is an answer, unless
//! what is waited for is a server of one's own. A tool whose file does not know `listen` serves nobody in any loop.

mod script;

use core::{
    hash::{Hash as _, Hasher as _},
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};
use std::{
    fs::{File, OpenOptions},
    hash::DefaultHasher,
    io::{self, Read as _},
    os::{fd::AsRawFd as _, unix::fs::OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
};

use super::{
    lru::Lru,
    nature::{Nature, SHELLS, base, hash_shape, nature, program},
    process::{Parent, Process, ProcessId},
    procfs::ProcDir,
};

/// Programs that start services again, and little else: of runit, s6, daemontools, OpenRC and perp.
const SUPERVISORS: [&str; 5] = ["runsv", "s6-supervise", "supervise", "supervise-daemon", "perpd"];
/// A longer script is not read: nothing is said about its loops.
const SCRIPT_MAX: u64 = 64 * 1024;
const REMEMBERED: usize = 1024;
const READS_WITHIN: Duration = Duration::from_millis(100);
/// Readers that hang: more are not sent after them.
const READERS_MAX: usize = 4;
static READERS: AtomicUsize = AtomicUsize::new(0);

/// What of a program is looked through for a name: that of an import stands near its beginning.
const PROGRAM_MAX: u64 = 4 << 20;

/// What a shell makes of the status of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Says {
    Restarts,
    UntilItEndsWell,
    Nothing,
}

/// Answers by shell and command: a command that fails a thousand times a second is looked up once.
pub(super) struct ShellLoops(Lru<(ProcessId, u64), Says>);

impl ShellLoops {
    pub(super) fn new() -> Self {
        Self(Lru::new(REMEMBERED))
    }

    /// Writes down in `process.parent` whether it starts `process` again whatever its status says.
    pub(super) fn note(&mut self, proc: &Path, process: &mut Process) {
        let Some(parent) = &process.parent else {
            return;
        };
        let supervises = is_supervisor(parent);
        let is_shell = !supervises && SHELLS.contains(&base(parent.exe.as_deref().unwrap_or(&parent.comm)));
        let says = match (is_shell, process.args.is_empty()) {
            (true, true) => Says::Nothing,
            (true, false) => {
                self.of_script(proc, ProcessId { pid: parent.pid, start: parent.start }, process)
            }
            // What healer itself starts, a probe, a hook, it asks.
            (false, _) if parent.pid == std::process::id() => Says::Nothing,
            (false, _) => Says::UntilItEndsWell,
        };
        if let Some(parent) = &mut process.parent {
            parent.restarts_it = says == Says::Restarts;
            parent.may_restart_it = says == Says::UntilItEndsWell;
            parent.supervises = supervises;
        }
    }

    fn of_script(&mut self, proc: &Path, shell: ProcessId, process: &Process) -> Says {
        let mut shape = DefaultHasher::new();
        process.exe.hash(&mut shape);
        hash_shape(&process.args, &mut shape);
        let key = (shell, shape.finish());
        if let Some(known) = self.0.get(&key) {
            return *known;
        }
        let (proc, process) = (proc.to_owned(), process.clone());
        let says = in_time(move || of_script(&proc, shell, &process)).unwrap_or(Says::Nothing);
        self.0.insert(key, says);
        says
    }
}

/// By its program: a name that it gives itself anybody may take.
fn is_supervisor(parent: &Parent) -> bool {
    let program = base(parent.exe.as_deref().unwrap_or_default());
    match program {
        "busybox" => parent.comm == "runsv",
        // Supervisor is a script.
        _ if program.starts_with("python") => parent.comm == "supervisord",
        _ => SUPERVISORS.contains(&program),
    }
}

fn of_script(proc: &Path, shell: ProcessId, process: &Process) -> Says {
    let Ok(text) = script_of(proc, shell) else {
        return Says::Nothing;
    };
    let says = script::says(&text, &process.args, process.exe.as_deref());
    let serves_nobody = || {
        let file =
            proc.join(shell.pid.to_string()).join("root").join(program(process).trim_start_matches('/'));
        nature(process) == Nature::Tool && !knows_listen(&file).unwrap_or(false)
    };
    if says != Says::Nothing && serves_nobody() { Says::Nothing } else { says }
}

/// Imports `listen` from the C library, or has the name in some other table.
fn knows_listen(program: &Path) -> io::Result<bool> {
    let bytes = bytes_of(program, PROGRAM_MAX)?;
    Ok(bytes.split(|byte| *byte == 0).any(|word| word == b"listen"))
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
    let bytes = bytes_of(path, SCRIPT_MAX + 1)?;
    if bytes.len() as u64 > SCRIPT_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// A fifo or a device would block, or do something when it is opened: only a regular file is.
fn bytes_of(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    let handle = OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(path)?;
    if !handle.metadata()?.file_type().is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let file = File::open(format!("/proc/self/fd/{}", handle.as_raw_fd()))?;
    let mut bytes = Vec::new();
    file.take(max).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// In a thread that is not waited for long: a file on a server that is gone blocks its reader for ever.
fn in_time(work: impl FnOnce() -> Says + Send + 'static) -> Option<Says> {
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
