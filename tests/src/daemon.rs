//! A container runtime of a test's own: its end, and what it leaves behind if it can clear up no more.

use std::{
    fs::{self, File},
    io,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use healer_userspace::identity::procfs;
use rustix::{
    mount::{UnmountFlags, unmount},
    process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal},
};

use crate::supervised::lives;

pub(crate) const UP_WITHIN: Duration = Duration::from_secs(30);
pub(crate) const STEP: Duration = Duration::from_millis(50);

/// With its log after that of its lives before.
pub(crate) fn spawn(command: &mut Command, home: &Path) -> io::Result<Child> {
    let log = File::options().create(true).append(true).open(home.join("log"))?;
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).process_group(0).spawn()
}

/// For whoever wonders why it is not up.
pub(crate) fn log(home: &Path) -> String {
    fs::read_to_string(home.join("log")).unwrap_or_default()
}

pub(crate) fn has_ended(daemon: &mut Child) -> bool {
    daemon.try_wait().is_ok_and(|ended| ended.is_some())
}

/// What it runs lives on.
pub(crate) fn kill(daemon: &mut Child) {
    daemon.kill().expect("it is our child");
    daemon.wait().expect("it is our child");
}

/// Politely, if it listens.
pub(crate) fn end(daemon: &mut Child) {
    // Whoever has been reaped has no pid any more.
    if has_ended(daemon) {
        return;
    }
    if let Some(pid) = Pid::from_raw(daemon.id().cast_signed()) {
        kill_process(pid, Signal::TERM).ok();
    }
    for _look in 0..300 {
        if has_ended(daemon) {
            return;
        }
        thread::sleep(STEP);
    }
    daemon.kill().ok();
    daemon.wait().ok();
}

/// Shims and containers that outlive their daemon, and their mounts: nothing, if it ended in peace.
pub(crate) fn clear(home: &Path, cgroup: &str) {
    for _look in 0..100 {
        let left: Vec<u32> =
            procfs::pids(Path::new("/proc")).filter(|pid| is_of(*pid, home, cgroup) && lives(*pid)).collect();
        if left.is_empty() {
            break;
        }
        for pid in left {
            kill_if_of(pid, home, cgroup);
        }
        thread::sleep(STEP);
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    // The fifth field is the mount's place (proc(5)); who lies on others stands after them.
    let places = mounts.lines().rev().filter_map(|line| line.split(' ').nth(4));
    for place in places.filter(|place| Path::new(place).starts_with(home)) {
        unmount(place, UnmountFlags::DETACH).ok();
    }
}

fn kill_if_of(pid: u32, home: &Path, cgroup: &str) {
    let raw = Pid::from_raw(pid.cast_signed());
    // Held before the look: its number goes to nobody else.
    let held = raw.and_then(|raw| pidfd_open(raw, PidfdFlags::empty()).ok());
    if let Some(held) = held.filter(|_| is_of(pid, home, cgroup)) {
        pidfd_send_signal(&held, Signal::KILL).ok();
    }
}

/// Was it told of a place in `home`, as shims are of their daemon's socket, or is it in the daemon's part of the cgroups?
fn is_of(pid: u32, home: &Path, cgroup: &str) -> bool {
    let says = |file: &str, part: &str| {
        let text = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        String::from_utf8_lossy(&text).contains(part)
    };
    says("cmdline", &format!("{}/", home.display())) || says("cgroup", &format!("/{cgroup}/"))
}
