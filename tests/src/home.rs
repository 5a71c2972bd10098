//! `healer run` as users run it: a state directory of its own, a port of its own, and what it writes down.
//!
//! The agent senses the whole machine: every question here is about a workload that the test started.

use std::{
    ffi::OsStr,
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::Duration,
};

use healer_userspace::{clock, engine::time::BootTime};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::{binary::healer, rights, scratch::Scratch};

/// Generous: other work runs on the machine.
pub const PATIENCE: Duration = Duration::from_secs(60);
const STEP: Duration = Duration::from_millis(10);

/// What outlives an agent: the state directory and the policy. Removed on drop.
pub struct Home {
    scratch: Scratch,
    state: PathBuf,
    lives: AtomicU32,
}

impl Home {
    /// # Panics
    /// If the directory cannot be made.
    #[must_use]
    pub fn new(policy: &str) -> Self {
        let scratch = Scratch::new();
        let state = scratch.path().join("state");
        let home = Self { scratch, state, lives: AtomicU32::new(0) };
        home.write_policy(policy);
        home
    }

    /// The state directory lies elsewhere, for example on a small disk.
    #[must_use]
    pub fn with_state(policy: &str, state: PathBuf) -> Self {
        Self { state, ..Self::new(policy) }
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        self.scratch.path()
    }

    #[must_use]
    pub fn scratch(&self) -> &Scratch {
        &self.scratch
    }

    #[must_use]
    pub fn state(&self) -> &Path {
        &self.state
    }

    #[must_use]
    pub fn policy(&self) -> PathBuf {
        self.path().join("policy.yaml")
    }

    /// # Panics
    /// If it cannot be written.
    pub fn write_policy(&self, text: &str) {
        let new = self.path().join("policy.new");
        fs::write(&new, text).expect("the scratch directory can be written");
        fs::rename(new, self.policy()).expect("the policy can be replaced");
    }

    /// `healer run` on this home; the caller may add arguments.
    #[must_use]
    pub fn run_command(&self) -> Command {
        let mut command = rights::agent();
        self.add_run(&mut command);
        command
    }

    /// The words of `healer run` on this home, for a command that is a wrapper.
    pub fn add_run(&self, command: &mut Command) {
        command.arg("run").arg("--state-dir").arg(&self.state).args(["--listen", "127.0.0.1:0"]);
        command.arg("--policy").arg(self.policy());
    }

    /// Any other command, to its end.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn healer<S: AsRef<OsStr>>(&self, args: &[S]) -> Output {
        let mut command = Command::new(healer());
        command.arg("--state-dir").arg(&self.state).args(args);
        command.output().expect("healer can be started")
    }

    /// Starts an agent and waits until it is ready.
    #[must_use]
    pub fn agent(&self) -> Agent<'_> {
        self.agent_of(self.run_command())
    }

    /// As `agent`, with this configuration: the keys after `kind`.
    ///
    /// # Panics
    /// If it cannot be written.
    #[must_use]
    pub fn agent_with_config(&self, config: &str) -> Agent<'_> {
        let path = self.path().join("agent.yaml");
        let text = format!("apiVersion: healer.dev/v1alpha1\nkind: AgentConfig\n{config}\n");
        fs::write(&path, text).expect("the scratch directory can be written");
        let mut command = self.run_command();
        command.arg("--config").arg(path);
        self.agent_of(command)
    }

    /// As `agent`, with a fail point.
    #[must_use]
    pub fn agent_with_fail_point(&self, point: &str) -> Agent<'_> {
        let mut command = self.run_command();
        command.env("HEALER_FAIL_POINT", point);
        self.agent_of(command)
    }

    /// # Panics
    /// With its log, if it does not get ready.
    #[must_use]
    pub fn agent_of(&self, mut command: Command) -> Agent<'_> {
        let life = self.lives.fetch_add(1, Ordering::Relaxed);
        let log = self.path().join(format!("agent-{life}.log"));
        let file = fs::File::create(&log).expect("the scratch directory can be written");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
        let process = command.spawn().expect("healer can be started");
        let mut agent = Agent { home: self, process, log, status: None };
        agent.wait("ready", |agent| agent.log().lines().any(|line| line.contains("ready: ")).then_some(()));
        rights::are_kept(agent.pid());
        agent
    }

    /// All records of the audit so far, of every life.
    #[must_use]
    pub fn audit(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.state.join("audit.jsonl")).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Records about one workload.
    #[must_use]
    pub fn of(&self, workload: &str) -> Vec<Value> {
        self.audit().into_iter().filter(|record| record["workload"] == workload).collect()
    }
}

/// A running agent; SIGTERM on drop.
pub struct Agent<'home> {
    home: &'home Home,
    process: Child,
    log: PathBuf,
    status: Option<ExitStatus>,
}

impl Agent<'_> {
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    #[must_use]
    pub fn home(&self) -> &Home {
        self.home
    }

    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// # Panics
    /// If it has ended.
    pub fn signal(&self, signal: Signal) {
        signal_to(self.pid(), signal);
    }

    /// Its status, once it has ended.
    ///
    /// # Panics
    /// If it does not end.
    pub fn end(&mut self) -> ExitStatus {
        let deadline = clock::boot() + PATIENCE;
        loop {
            if let Some(status) = self.ended() {
                return status;
            }
            assert!(clock::boot() < deadline, "the agent runs on:\n{}", self.log());
            thread::sleep(STEP);
        }
    }

    fn ended(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            self.status = self.process.try_wait().expect("the agent is our child");
        }
        self.status
    }

    /// Asks again and again, while the agent lives.
    ///
    /// # Panics
    /// With the log, if it does not come true.
    pub fn wait<T>(&mut self, what: &str, look: impl FnMut(&Self) -> Option<T>) -> T {
        self.wait_within(PATIENCE, what, look)
    }

    /// The same of what takes its time by design.
    ///
    /// # Panics
    /// With the log, if it does not come true.
    pub fn wait_within<T>(
        &mut self,
        patience: Duration,
        what: &str,
        mut look: impl FnMut(&Self) -> Option<T>,
    ) -> T {
        let deadline = clock::boot() + patience;
        loop {
            // Asked before the look: what was written just before the end counts.
            let ended = self.ended();
            if let Some(found) = look(self) {
                return found;
            }
            let log = self.log();
            assert!(ended.is_none(), "{what}: the agent has ended ({ended:?}):\n{log}");
            assert!(clock::boot() < deadline, "{what}: it did not come:\n{log}");
            thread::sleep(STEP);
        }
    }

    /// The first record of the workload that is `record` and says `part` somewhere.
    ///
    /// # Panics
    /// With the log, if it does not come.
    pub fn record(&mut self, workload: &str, record: &str, part: &str) -> Value {
        self.wait(&format!("{record} {part:?} of {workload}"), |agent| {
            agent.home.of(workload).into_iter().find(|found| is(found, record, part))
        })
    }

    /// A record about the agent itself.
    ///
    /// # Panics
    /// With the log, if it does not come.
    pub fn says(&mut self, event: &str, part: &str) -> Value {
        self.wait(&format!("{event} {part:?}"), |agent| {
            let mut records = agent.home.audit().into_iter();
            records.find(|found| found["event"] == event && is(found, "agent", part))
        })
    }

    /// What HTTP answers: status line, headers, body.
    ///
    /// # Panics
    /// If it does not answer.
    #[must_use]
    pub fn get(&self, path: &str) -> String {
        let log = self.log();
        let address = log.split("http://").nth(1).expect("the ready line names it");
        let end =
            address.find(|c: char| !c.is_ascii_digit() && c != '.' && c != ':').unwrap_or(address.len());
        let mut stream = TcpStream::connect(&address[..end]).expect("it listens");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: healer\r\nConnection: close\r\n\r\n").expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        answer
    }
}

impl Drop for Agent<'_> {
    fn drop(&mut self) {
        if self.ended().is_some() {
            return;
        }
        // It may be stopped.
        self.signal(Signal::CONT);
        self.signal(Signal::TERM);
        let deadline = clock::boot() + Duration::from_secs(10);
        while self.ended().is_none() && clock::boot() < deadline {
            thread::sleep(STEP);
        }
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// Is this such a record, and does its line contain `part`?
#[must_use]
pub fn is(found: &Value, record: &str, part: &str) -> bool {
    found["record"] == record && found.to_string().contains(part)
}

/// How many such records there are.
#[must_use]
pub fn count(records: &[Value], record: &str, part: &str) -> usize {
    records.iter().filter(|found| is(found, record, part)).count()
}

/// # Panics
/// If there is no such process.
pub fn signal_to(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(pid.cast_signed()).expect("a pid");
    kill_process(pid, signal).expect("the process is there");
}

/// Lets time pass.
pub fn pause(time: Duration) {
    thread::sleep(time);
}

/// # Panics
/// If it does not come true.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline: BootTime = clock::boot() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(clock::boot() < deadline, "{what}: it did not come");
        thread::sleep(STEP);
    }
}
