//! An agent of a command's own: this binary, a temporary state directory, policies for the command's victims alone.

use core::time::Duration;
use std::{
    fs::File,
    os::unix::{fs::DirBuilderExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, bail};

use crate::{
    clock,
    control::{
        Request,
        client::{AskError, ask},
    },
    own_binary::ourselves,
    report::{
        incidents::Incident,
        view::{Sensor, SensorState, Workload},
    },
    text::printable,
};

const STARTED: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(20);

pub(super) struct Agent {
    child: Child,
    // Dropped after the agent has ended.
    directory: Directory,
}

impl Agent {
    /// `what` names its directory; `policies` and `config` are the text of files.
    pub(super) async fn start(what: &str, policies: &str, config: Option<&str>) -> anyhow::Result<Self> {
        let directory = Directory::create(what)?;
        let file = |name: &str, text: &str| {
            let path = directory.path().join(name);
            std::fs::write(&path, text).with_context(|| format!("write {}", path.display())).map(|()| path)
        };
        let policy = file("policies.yaml", policies)?;
        let log = File::create(directory.path().join("agent.log")).context("create the agent's log")?;
        let mut command = Command::new(ourselves());
        command.arg("--state-dir").arg(directory.path()).arg("run").arg("--policy").arg(&policy);
        if let Some(config) = config {
            command.arg("--config").arg(file("agent.yaml", config)?);
        }
        command.args(["--listen", "127.0.0.1:0"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).process_group(0);
        // SAFETY: prctl(2) is a plain system call: an agent without its demo has nothing to do.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM);
                Ok(())
            });
        }
        let child = command.spawn().context("start the agent")?;
        let mut agent = Self { child, directory };
        agent.wait_until_ready().await?;
        Ok(agent)
    }

    async fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        let (child, dir) = (&mut self.child, self.directory.path());
        let ready = until(STARTED, || match ask(dir, &Request::Status) {
            Ok(_) => Ok(true),
            Err(AskError::NoAgent { .. }) => match child.try_wait()? {
                None => Ok(false),
                Some(status) => bail!("the agent ended with {status}"),
            },
            Err(error) => Err(error.into()),
        });
        match ready.await {
            Ok(true) => Ok(()),
            Ok(false) => bail!("the agent was not ready within {} s: {}", STARTED.as_secs(), self.log()),
            Err(error) => Err(error.context(self.log())),
        }
    }

    /// One line; an error if the agent cannot see deaths.
    pub(super) fn ready(&self) -> anyhow::Result<String> {
        let answer = ask(self.state_dir(), &Request::Sensors)?;
        let sensors: Vec<Sensor> = serde_json::from_value(answer["sensors"].clone())?;
        let up = sensors.iter().filter(|sensor| sensor.state != SensorState::Down).count();
        let exits = sensors.iter().find(|sensor| sensor.name == "process_exit");
        if let Some(down) = exits.filter(|sensor| sensor.state == SensorState::Down) {
            let reason = down.reason.as_deref().unwrap_or("unknown reason");
            let remedy = down.remedy.as_deref().unwrap_or("`healer doctor` knows more");
            bail!("the agent cannot see processes end: {reason}; {remedy}");
        }
        Ok(format!("agent ready: {up} of {} sensors", sensors.len()))
    }

    pub(super) fn state_dir(&self) -> &Path {
        self.directory.path()
    }

    /// Without timelines.
    pub(super) fn incidents(&self) -> anyhow::Result<Vec<Incident>> {
        self.ask_incidents(None)
    }

    pub(super) fn incident(&self, id: &str) -> anyhow::Result<Incident> {
        let told = self.ask_incidents(Some(id.to_owned()))?;
        told.into_iter().next().with_context(|| format!("the agent does not know incident {id}"))
    }

    fn ask_incidents(&self, id: Option<String>) -> anyhow::Result<Vec<Incident>> {
        let answer = ask(self.state_dir(), &Request::Incidents { id })?;
        Ok(serde_json::from_value(answer["incidents"].clone())?)
    }

    /// Keys of what the agent follows.
    pub(super) fn workloads(&self) -> anyhow::Result<Vec<String>> {
        let answer = ask(self.state_dir(), &Request::Workloads)?;
        let workloads: Vec<Workload> = serde_json::from_value(answer["workloads"].clone())?;
        Ok(workloads.into_iter().map(|workload| workload.key).collect())
    }

    /// What `healer audit verify` finds wrong.
    pub(super) fn audit_is_whole(&self) -> Option<String> {
        let mut command = Command::new(ourselves());
        command.arg("--state-dir").arg(self.state_dir()).args(["audit", "verify"]);
        match command.output() {
            Ok(output) if output.status.success() => None,
            Ok(output) => {
                Some(format!("audit verify: {}", printable(&String::from_utf8_lossy(&output.stdout))))
            }
            Err(error) => Some(format!("audit verify: {error}")),
        }
    }

    /// The end of the agent's own words.
    pub(super) fn log(&self) -> String {
        let log = std::fs::read_to_string(self.state_dir().join("agent.log")).unwrap_or_default();
        let lines: Vec<_> = log.lines().rev().take(5).collect();
        lines.into_iter().rev().map(printable).collect::<Vec<_>>().join("\n")
    }

    /// Its state directory stays until the guard goes.
    pub(super) fn stop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_some()) {
            return;
        }
        if let Some(pid) = rustix::process::Pid::from_raw(self.child.id().cast_signed()) {
            rustix::process::kill_process(pid, rustix::process::Signal::TERM).ok();
        }
        for _wait in 0..150 {
            if self.child.try_wait().is_ok_and(|ended| ended.is_some()) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Goes with its guard.
struct Directory(PathBuf);

impl Directory {
    fn create(what: &str) -> anyhow::Result<Self> {
        let path = std::env::temp_dir().join(format!("healer-{what}-{}", std::process::id()));
        let made = std::fs::DirBuilder::new().mode(0o700).create(&path);
        made.with_context(|| format!("create {}", path.display()))?;
        Ok(Self(path))
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

/// False if it did not come true in time.
pub(super) async fn until(
    limit: Duration,
    mut check: impl FnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<bool> {
    let began = clock::boot();
    loop {
        if check()? {
            return Ok(true);
        }
        if limit < clock::boot().since(began) {
            return Ok(false);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
