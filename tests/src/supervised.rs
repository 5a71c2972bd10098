//! `healer supervise` as users run it, with its child.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
};

use rustix::process::Signal;

use crate::{
    binary::healer,
    home::{Home, signal_to, until},
    scratch::unique_name,
};

/// A supervisor and its child, both killed on drop.
pub struct Supervised {
    /// No other test of this machine has it.
    pub name: String,
    process: Child,
}

impl Supervised {
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn start<S: AsRef<OsStr>>(home: &Home, name: &str, argv: &[S]) -> Self {
        let mut command = Command::new(healer());
        command.arg("--state-dir").arg(home.state()).args(["supervise", "--name", name, "--"]).args(argv);
        Self::spawn(name, &mut command)
    }

    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn spawn(name: &str, command: &mut Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self { name: name.to_owned(), process: command.spawn().expect("healer can be started") }
    }

    /// As audit records have it.
    #[must_use]
    pub fn workload(&self) -> String {
        format!("supervise/{}", self.name)
    }

    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// The living child, once it runs its own program.
    #[must_use]
    pub fn child(&self) -> u32 {
        until("the child", || self.child_now())
    }

    /// The living child that is not `before`.
    #[must_use]
    pub fn successor(&self, before: u32) -> u32 {
        until("the successor", || self.child_now().filter(|pid| *pid != before))
    }

    #[must_use]
    pub fn child_now(&self) -> Option<u32> {
        let own = fs::read_link(format!("/proc/{}/exe", self.pid())).ok();
        children(self.pid()).into_iter().find(|pid| {
            // Between fork and exec it is still a copy of the supervisor.
            let exe = fs::read_link(format!("/proc/{pid}/exe")).ok();
            lives(*pid) && exe.is_some() && exe != own
        })
    }

    /// # Panics
    /// If it does not end.
    pub fn end(&mut self) -> ExitStatus {
        until("the supervisor's end", || self.process.try_wait().expect("it is our child"))
    }

    pub fn has_ended(&mut self) -> bool {
        self.process.try_wait().expect("it is our child").is_some()
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        if self.has_ended() {
            return;
        }
        // The supervisor first: it must not hear of its child's end.
        let children = children(self.pid());
        self.process.kill().ok();
        self.process.wait().ok();
        for child in children.into_iter().filter(|pid| lives(*pid)) {
            signal_to(child, Signal::KILL);
        }
    }
}

/// Everything that runs a test's own executable, killed on drop.
pub struct Programs(pub PathBuf);

impl Programs {
    #[must_use]
    pub fn pids(&self) -> Vec<u32> {
        let proc = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = proc.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let is_it = |pid: &u32| {
            fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == self.0) && lives(*pid)
        };
        pids.filter(is_it).collect()
    }
}

impl Drop for Programs {
    fn drop(&mut self) {
        for pid in self.pids() {
            signal_to(pid, Signal::KILL);
        }
    }
}

/// A name for `healer supervise` that no other test of this machine uses.
#[must_use]
pub fn name() -> String {
    unique_name()
}

/// Not gone, and no zombie.
#[must_use]
pub fn lives(pid: u32) -> bool {
    state_and_parent(pid).is_some_and(|(state, _)| state != "Z" && state != "X")
}

fn children(parent: u32) -> Vec<u32> {
    let proc = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = proc.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| state_and_parent(*pid).is_some_and(|(_, found)| found == parent)).collect()
}

/// Comm may hold anything: the fields begin after the last parenthesis (proc(5)).
fn state_and_parent(pid: u32) -> Option<(String, u32)> {
    let stat = fs::read(Path::new("/proc").join(pid.to_string()).join("stat")).ok()?;
    let stat = String::from_utf8_lossy(&stat);
    let mut fields = stat[stat.rfind(')')? + 1..].split_ascii_whitespace();
    Some((fields.next()?.to_owned(), fields.next()?.parse().ok()?))
}
