//! A cgroup of one's own, on v1, v2 and hybrid machines; it goes with its guard, members and all.

use core::time::Duration;
use std::{
    fs::{File, OpenOptions},
    io,
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use rustix::process::{Pid, PidfdFlags, Signal};

use crate::action::host::{Domain, scope};

const MOUNT: &str = "/sys/fs/cgroup";
const PREFIX: &str = "healer-fault-";
const PERIOD_US: u32 = 100_000;

pub struct Limits {
    /// Bytes.
    pub memory: u64,
    pub processes: u32,
    /// Percent of one CPU.
    pub cpu: Option<u32>,
}

/// One directory per hierarchy that exists here: v2, and v1 memory and pids, and cpu where it is limited.
#[derive(Debug)]
pub struct Cgroup {
    directories: Vec<PathBuf>,
    /// Below the v2 mount, else below that of v1 memory.
    path: String,
}

impl Cgroup {
    /// # Errors
    /// Of mkdir(2): not root, or a read-only mount. `Unsupported` if nothing here can limit memory.
    pub fn create(name: &str, limits: &Limits) -> io::Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let leaf = format!("{PREFIX}{}-{count}-{name}", std::process::id());
        let mut cgroup = Self { directories: Vec::new(), path: String::new() };
        let mut bounded = false;
        for parent in parents()? {
            if parent.kind == Kind::V1Cpu && limits.cpu.is_none() {
                continue;
            }
            remove_left_overs(&parent.dir);
            let dir = parent.dir.join(&leaf);
            std::fs::create_dir(&dir).map_err(|error| with_path(&error, "create", &dir))?;
            if cgroup.directories.is_empty() {
                cgroup.path = format!("{}/{leaf}", parent.path.trim_end_matches('/'));
            }
            bounded |= parent.limit(&dir, limits);
            cgroup.directories.push(dir);
        }
        if bounded {
            Ok(cgroup)
        } else {
            let words = "no memory controller here: the fault could not be bounded";
            Err(io::Error::new(io::ErrorKind::Unsupported, words))
        }
    }

    /// As a person and a policy see it.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Open cgroup.procs files, for a child between fork(2) and execve(2).
    ///
    /// # Errors
    /// Of open(2).
    pub fn doors(&self) -> io::Result<Doors> {
        let open = |dir: &PathBuf| OpenOptions::new().write(true).open(dir.join("cgroup.procs"));
        self.directories.iter().map(open).collect::<io::Result<_>>().map(Doors)
    }

    /// Living members.
    pub fn members(&self) -> Vec<u32> {
        self.domain().and_then(|domain| scope::pids(&domain).ok()).unwrap_or_default()
    }

    /// Kills everybody inside and waits up to 2 s for their end.
    pub fn kill(&self) {
        let Some(domain) = self.domain() else { return };
        // Also by pidfd: cgroup.kill misses a process whose leader has ended (see action/kill.rs).
        scope::kill_at_once(&domain).ok();
        for _pass in 0..100 {
            let members = self.members();
            if members.is_empty() {
                return;
            }
            members.into_iter().for_each(|pid| self.kill_member(pid));
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// By pidfd, and only if it is still a member once it is held.
    fn kill_member(&self, pid: u32) {
        let raw = Pid::from_raw(pid.cast_signed());
        let held = raw.and_then(|raw| rustix::process::pidfd_open(raw, PidfdFlags::empty()).ok());
        if let Some(held) = held
            && self.members().contains(&pid)
        {
            rustix::process::pidfd_send_signal(&held, Signal::KILL).ok();
        }
    }

    fn domain(&self) -> Option<Domain> {
        let dir = self.directories.first()?.clone();
        Some(Domain::Cgroup { path: self.path.clone(), dir })
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        self.kill();
        for dir in &self.directories {
            // The last member may not be reaped yet: its cgroup stays busy for a moment.
            for _pass in 0..100 {
                match std::fs::remove_dir(dir) {
                    Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                        std::thread::sleep(Duration::from_millis(20));
                    }
                    Ok(()) | Err(_) => break,
                }
            }
        }
    }
}

pub struct Doors(Vec<File>);

impl Doors {
    /// Moves the calling process in. Async-signal-safe.
    ///
    /// # Errors
    /// Of write(2).
    pub fn enter(&self) -> io::Result<()> {
        for door in &self.0 {
            // SAFETY: the descriptor is open, the buffer one byte long; "0" is the writer itself (cgroups(7)).
            if unsafe { libc::write(door.as_raw_fd(), b"0".as_ptr().cast(), 1) } != 1 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(())
    }
}

/// Where our directory goes in one hierarchy.
struct Place {
    dir: PathBuf,
    path: String,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    V2,
    V1Memory,
    V1Pids,
    V1Cpu,
}

impl Place {
    /// True if memory is limited now. Without a pids controller only time and memory are bounded.
    fn limit(&self, dir: &Path, limits: &Limits) -> bool {
        let write = |file: &str, value: String| std::fs::write(dir.join(file), value).is_ok();
        let (memory, processes) = (limits.memory.to_string(), limits.processes.to_string());
        let quota = limits.cpu.map(|percent| percent * PERIOD_US / 100);
        match self.kind {
            Kind::V2 => {
                write("pids.max", processes);
                if let Some(quota) = quota {
                    write("cpu.max", format!("{quota} {PERIOD_US}"));
                }
                write("memory.swap.max", "0".to_owned());
                write("memory.max", memory)
            }
            Kind::V1Memory => {
                let limited = write("memory.limit_in_bytes", memory.clone());
                write("memory.memsw.limit_in_bytes", memory);
                limited
            }
            Kind::V1Pids => {
                write("pids.max", processes);
                false
            }
            Kind::V1Cpu => {
                write("cpu.cfs_period_us", PERIOD_US.to_string());
                if let Some(quota) = quota {
                    write("cpu.cfs_quota_us", quota.to_string());
                }
                false
            }
        }
    }
}

/// v2 at its root, the only cgroup that may have members and children with controllers; v1 below our own, so that
/// limits on us hold for our faults too.
fn parents() -> io::Result<Vec<Place>> {
    let mount = Path::new(MOUNT);
    let own = std::fs::read_to_string("/proc/self/cgroup")?;
    let mut places = Vec::new();
    let hybrid = mount.join("unified");
    let v2 = if hybrid.is_dir() { hybrid } else { mount.to_owned() };
    if v2.join("cgroup.controllers").is_file() {
        // Refused where the controllers are v1's: then those are used.
        for controller in ["+memory", "+pids", "+cpu"] {
            std::fs::write(v2.join("cgroup.subtree_control"), controller).ok();
        }
        places.push(Place { dir: v2, path: "/".to_owned(), kind: Kind::V2 });
    }
    for (name, kind) in [("memory", Kind::V1Memory), ("pids", Kind::V1Pids), ("cpu", Kind::V1Cpu)] {
        if let Some(path) = own_v1(&own, name)
            && mount.join(name).is_dir()
        {
            let dir = mount.join(name).join(path.trim_start_matches('/'));
            places.push(Place { dir, path: path.to_owned(), kind });
        }
    }
    Ok(places)
}

fn own_v1<'a>(cgroups: &'a str, controller: &str) -> Option<&'a str> {
    cgroups.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        controllers.split(',').any(|name| name == controller).then_some(path)
    })
}

/// Empty directories of a run that was killed; rmdir(2) leaves those that are in use alone.
fn remove_left_overs(parent: &Path) {
    let entries = std::fs::read_dir(parent).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| is_abandoned(&entry.file_name().to_string_lossy())) {
        std::fs::remove_dir(entry.path()).ok();
    }
}

/// Its maker is in its name: one who still lives may be about to fill it.
fn is_abandoned(name: &str) -> bool {
    let maker = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
    maker.is_some_and(|pid| !Path::new("/proc").join(pid).exists())
}

fn with_path(error: &io::Error, tried: &str, path: &Path) -> io::Error {
    io::Error::new(error.kind(), format!("cannot {tried} {}: {error}", path.display()))
}
