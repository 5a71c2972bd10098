//! `healer run` as a process of the test's own, and its log.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use healer_userspace::clock;

use crate::{rights, scratch::Scratch};

/// Generous: other work runs on the machine.
const PATIENCE: Duration = Duration::from_secs(60);
const STEP: Duration = Duration::from_millis(20);

/// Ended and reaped on drop.
pub struct Agent {
    process: Child,
    log: PathBuf,
    state: Scratch,
}

impl Agent {
    /// Starts with `config` (the keys after `kind`) and `policy`, and waits for `ready`.
    ///
    /// # Panics
    /// With the log, if it does not get ready.
    #[must_use]
    pub fn start(config: &str, policy: &str) -> Self {
        let state = Scratch::new();
        let write = |name: &str, text: &str| {
            let path = state.path().join(name);
            fs::write(&path, text).expect("the scratch directory can be written");
            path
        };
        let config = format!("apiVersion: healer.dev/v1alpha1\nkind: AgentConfig\n{config}\n");
        let (config, policy) = (write("agent.yaml", &config), write("policy.yaml", policy));
        let log = state.path().join("log");
        let process = rights::agent()
            .arg("--state-dir")
            .arg(state.path().join("state"))
            .args(["run", "--listen", "127.0.0.1:0", "--config"])
            .arg(config)
            .arg("--policy")
            .arg(policy)
            .stderr(fs::File::create(&log).expect("the scratch directory can be written"))
            .stdin(Stdio::null())
            .spawn()
            .expect("healer starts");
        let agent = Self { process, log, state };
        agent.wait_for(&[" ready: "]);
        rights::are_kept(agent.process.id());
        agent
    }

    /// The first line of the log that has all of `parts`; waits for it.
    ///
    /// # Panics
    /// With the whole log, if none comes.
    pub fn wait_for(&self, parts: &[&str]) -> String {
        let deadline = clock::boot() + PATIENCE;
        while clock::boot() < deadline {
            if let Some(line) = self.lines(parts).into_iter().next() {
                return line;
            }
            thread::sleep(STEP);
        }
        panic!("no line with {parts:?} in\n{}", self.log());
    }

    /// All lines that have all of `parts`, so far.
    #[must_use]
    pub fn lines(&self, parts: &[&str]) -> Vec<String> {
        let log = self.log();
        let has_all = |line: &&str| parts.iter().all(|part| line.contains(part));
        log.lines().filter(has_all).map(str::to_owned).collect()
    }

    /// What is kept of the incident that this line of the log is about; waits for it.
    ///
    /// # Panics
    /// With the log, if nothing is kept.
    #[must_use]
    pub fn evidence(&self, line: &str) -> String {
        let incident = line.split_ascii_whitespace().find(|word| is_incident(word)).unwrap_or_default();
        let file = self.state.path().join(format!("state/capture-{incident}.txt"));
        let deadline = clock::boot() + PATIENCE;
        while clock::boot() < deadline {
            if let Ok(text) = fs::read_to_string(&file) {
                return text;
            }
            thread::sleep(STEP);
        }
        panic!("nothing is kept of {incident:?} ({line}):\n{}", self.log());
    }

    /// What `healer why` says; waits until it knows of this process.
    ///
    /// # Panics
    /// With the log, if it never does.
    #[must_use]
    pub fn why(&self, pid: u32) -> String {
        let deadline = clock::boot() + PATIENCE;
        while clock::boot() < deadline {
            let mut command = Command::new(crate::binary::healer());
            command.arg("--state-dir").arg(self.state.path().join("state")).args(["why", &pid.to_string()]);
            let told = command.output().expect("healer can be started");
            if told.status.success() {
                return String::from_utf8_lossy(&told.stdout).into_owned();
            }
            thread::sleep(STEP);
        }
        panic!("healer why {pid} knows nothing:\n{}", self.log());
    }

    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if let Some(pid) = rustix::process::Pid::from_raw(self.process.id().cast_signed()) {
            rustix::process::kill_process(pid, rustix::process::Signal::TERM).ok();
        }
        for _look in 0..250 {
            if self.process.try_wait().is_ok_and(|ended| ended.is_some()) {
                return;
            }
            thread::sleep(STEP);
        }
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

fn is_incident(word: &str) -> bool {
    word.strip_prefix('i').is_some_and(|number| number.parse::<u64>().is_ok())
}

/// The number after `word ` in a line of the log.
///
/// # Panics
/// If there is none.
#[must_use]
pub fn number_after(line: &str, word: &str) -> u32 {
    let rest = line.split(word).nth(1).unwrap_or_default().trim_start();
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or_else(|_| panic!("no number after {word:?} in {line:?}"))
}

/// Pids of the living members of cgroups whose path ends with `end`.
#[must_use]
pub fn pids_in(end: &str) -> Vec<u32> {
    let pids = healer_userspace::identity::procfs::pids(Path::new("/proc"));
    let is_in = |pid: &u32| {
        let cgroups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        cgroups.lines().any(|line| line.starts_with("0::") && line.ends_with(end))
    };
    pids.filter(is_in).collect()
}
