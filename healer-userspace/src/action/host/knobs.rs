//! What a lease turns: files of control groups, stopped processes, limits. Read and set by identity, never by a name
//! that somebody else may have by now.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    os::fd::OwnedFd,
};

use rustix::{
    fs::{Mode, OFlags, fstat, openat},
    process::{Pid, PidfdFlags, Resource, Rlimit, Signal},
};

use super::{Later, scope::stat_of};
use crate::{engine::lease::Knob, identity::process::ProcessId, runtimes::lent};

const VALUE_MAX: u64 = 4096;

/// What Kubernetes' API server has, read and set as the other knobs are.
pub trait Afar: Send + Sync {
    fn read_afar<'a>(&'a self, knob: &'a Knob) -> Later<'a, io::Result<Option<String>>>;
    /// Returns once the server shows it.
    fn set_afar<'a>(&'a self, knob: &'a Knob, value: &'a str) -> Later<'a, io::Result<()>>;
}

/// Turning and looking; what `healer undo` needs without an agent.
pub trait Knobs {
    /// As the kernel shows it; None: what it belongs to is gone.
    ///
    /// # Errors
    /// It is there and cannot be read.
    fn read(&self, knob: &Knob) -> io::Result<Option<String>>;
    /// # Errors
    /// It is gone, or the kernel refuses.
    fn set(&self, knob: &Knob, value: &str) -> io::Result<()>;
    /// Has the kernel carried it out? A freezer takes its time.
    fn is_settled(&self, knob: &Knob) -> bool;
}

/// This one.
pub struct Machine;

impl Knobs for Machine {
    fn read(&self, knob: &Knob) -> io::Result<Option<String>> {
        match knob {
            Knob::Cgroup { file, .. } => match directory(knob)? {
                Some(dir) => Ok(Some(of_freezer(file, content(&dir, file)?))),
                None => Ok(None),
            },
            Knob::Running(id) => Ok(match state(*id) {
                None | Some(b'Z' | b'X') => None,
                Some(b'T') => Some("stopped".to_owned()),
                Some(_) => Some("running".to_owned()),
            }),
            Knob::OpenFiles(id) => of_process(*id, "limits", open_files),
            Knob::OomScoreAdj(id) => of_process(*id, "oom_score_adj", |text| Some(text.trim().to_owned())),
            Knob::Unit { .. } | Knob::Container { .. } => lent::read(knob),
            Knob::Cordon { .. } | Knob::Taint { .. } | Knob::Condition { .. } => Err(is_afar()),
        }
    }

    fn set(&self, knob: &Knob, value: &str) -> io::Result<()> {
        match knob {
            Knob::Cgroup { file, .. } => {
                let dir = directory(knob)?.ok_or(io::ErrorKind::NotFound)?;
                fits(&dir, file, value)?;
                write(&dir, file, value)
            }
            Knob::Running(id) => {
                let signal = if value == "stopped" { Signal::STOP } else { Signal::CONT };
                signal_to(*id, signal)
            }
            Knob::OpenFiles(id) => set_open_files(*id, value),
            Knob::OomScoreAdj(id) => {
                let dir = process(*id)?;
                write(&dir, "oom_score_adj", value)
            }
            Knob::Unit { .. } | Knob::Container { .. } => lent::set(knob, value),
            Knob::Cordon { .. } | Knob::Taint { .. } | Knob::Condition { .. } => Err(is_afar()),
        }
    }

    fn is_settled(&self, knob: &Knob) -> bool {
        let Knob::Cgroup { file, .. } = knob else {
            return true;
        };
        let Ok(Some(dir)) = directory(knob) else {
            return true;
        };
        let now = |file: &str| content(&dir, file).unwrap_or_default();
        match file.as_str() {
            // The file shows the wish at once (cgroup-v2.rst).
            "cgroup.freeze" => {
                let frozen = now("cgroup.events").lines().any(|line| line == "frozen 1");
                frozen == (now(file) == "1")
            }
            "freezer.state" => now(file) != "FREEZING",
            _ => true,
        }
    }
}

fn is_afar() -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, "only Kubernetes' API server has it")
}

/// A group that is still being frozen is a frozen one (freezer-subsystem.rst).
fn of_freezer(file: &str, value: String) -> String {
    if file == "freezer.state" && value == "FREEZING" { "FROZEN".to_owned() } else { value }
}

/// The directory of that device and inode; None if it is gone or another one.
fn directory(knob: &Knob) -> io::Result<Option<OwnedFd>> {
    let Knob::Cgroup { dir, dev, inode, .. } = knob else {
        return Ok(None);
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::open(dir.as_str(), flags, Mode::empty()) {
        Ok(found) => {
            let stat = fstat(&found)?;
            Ok((stat.st_dev == *dev && stat.st_ino == *inode).then_some(found))
        }
        Err(rustix::io::Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

pub(super) fn content(dir: &OwnedFd, file: &str) -> io::Result<String> {
    let fd = openat(dir, file, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    let mut text = String::new();
    File::from(fd).take(VALUE_MAX).read_to_string(&mut text)?;
    Ok(text.trim_end().to_owned())
}

fn write(dir: &OwnedFd, file: &str, value: &str) -> io::Result<()> {
    let fd = openat(dir, file, OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    File::from(fd).write_all(value.as_bytes())
}

/// A limit below what is used makes the kernel of cgroup v2 kill (`memory_max_write`, mm/memcontrol.c); v1 refuses it.
fn fits(dir: &OwnedFd, file: &str, value: &str) -> io::Result<()> {
    if file != "memory.max" {
        return Ok(());
    }
    let used: u64 = content(dir, "memory.current")?.parse().unwrap_or(0);
    match value.parse::<u64>() {
        Ok(limit) if limit <= used => {
            let words = format!("{used} bytes are in use: a limit of {limit} would kill");
            Err(io::Error::new(io::ErrorKind::ResourceBusy, words))
        }
        Ok(_) | Err(_) => Ok(()),
    }
}

fn state(id: ProcessId) -> Option<u8> {
    let stat = stat_of(id.pid)?;
    // By the clock tick: the kernel's records tell more of the start than /proc does.
    (ProcessId { pid: id.pid, start: stat.start } == id).then_some(stat.state)
}

/// `/proc/PID`, held open, of this very process.
fn process(id: ProcessId) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = rustix::fs::open(format!("/proc/{}", id.pid), flags, Mode::empty())?;
    // Read after the directory was opened: it is of one process for ever.
    match state(id) {
        Some(_) => Ok(dir),
        None => Err(io::ErrorKind::NotFound.into()),
    }
}

fn of_process(
    id: ProcessId,
    file: &str,
    value: impl FnOnce(&str) -> Option<String>,
) -> io::Result<Option<String>> {
    let Ok(dir) = process(id) else {
        return Ok(None);
    };
    match content(&dir, file) {
        Ok(text) => Ok(value(&text)),
        Err(_) if state(id).is_none() => Ok(None),
        Err(error) => Err(error),
    }
}

/// `Max open files            1024                 524288               files` (proc_pid_limits(5))
fn open_files(limits: &str) -> Option<String> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    let mut words = line.split_ascii_whitespace();
    Some(format!("{}:{}", words.next()?, words.next()?))
}

fn set_open_files(id: ProcessId, value: &str) -> io::Result<()> {
    let limits =
        value.split_once(':').and_then(|(soft, hard)| Some((soft.parse().ok()?, hard.parse().ok()?)));
    let (soft, hard) = limits.ok_or(io::ErrorKind::InvalidInput)?;
    let held = process(id)?;
    let pid = Pid::from_raw(id.pid.cast_signed()).ok_or(io::ErrorKind::NotFound)?;
    let limit = Rlimit { current: Some(soft), maximum: Some(hard) };
    let done = rustix::process::prlimit(Some(pid), Resource::Nofile, limit);
    drop(held);
    done.map(drop).map_err(|error| match error {
        rustix::io::Errno::PERM => {
            let words = "a process of another user, or more than its hard limit, needs CAP_SYS_RESOURCE";
            io::Error::new(io::ErrorKind::PermissionDenied, words)
        }
        other => other.into(),
    })
}

fn signal_to(id: ProcessId, signal: Signal) -> io::Result<()> {
    let pid = Pid::from_raw(id.pid.cast_signed()).ok_or(io::ErrorKind::NotFound)?;
    let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
    if state(id).is_none() {
        return Err(io::ErrorKind::NotFound.into());
    }
    Ok(rustix::process::pidfd_send_signal(pidfd, signal)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_of_open_files_are_read() {
        let text = "Limit   Soft Limit  Hard Limit  Units\nMax open files            1024                 524288               files     \n";
        assert_eq!(open_files(text).as_deref(), Some("1024:524288"));
        assert_eq!(open_files(""), None);
    }

    #[test]
    fn another_directory_of_the_same_name_is_gone() {
        let dir = std::env::temp_dir().to_string_lossy().into_owned();
        let knob = Knob::Cgroup { dir, dev: 0, inode: 0, file: "x".into() };
        assert_eq!(Machine.read(&knob).unwrap(), None);
        assert!(Machine.set(&knob, "1").is_err());
    }

    #[test]
    fn a_process_is_stopped_and_let_go_by_its_start() {
        let mut sleep = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let start = stat_of(sleep.id()).unwrap().start;
        let knob = Knob::Running(ProcessId { pid: sleep.id(), start });
        let reads = |value: &str| {
            (0..500).any(|_| {
                std::thread::sleep(core::time::Duration::from_millis(2));
                Machine.read(&knob).unwrap().as_deref() == Some(value)
            })
        };
        Machine.set(&knob, "stopped").unwrap();
        assert!(reads("stopped"));
        let another = Knob::Running(ProcessId { pid: sleep.id(), start: crate::engine::time::BootTime(1) });
        assert_eq!(Machine.read(&another).unwrap(), None);
        assert!(Machine.set(&another, "running").is_err());
        Machine.set(&knob, "running").unwrap();
        assert!(reads("running"));
        sleep.kill().unwrap();
        sleep.wait().unwrap();
    }
}
