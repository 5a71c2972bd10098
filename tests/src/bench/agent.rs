//! healer as a process of its own: started, ready, measured, stopped.

use std::{
    io::{BufRead, BufReader, Read as _, Write as _},
    net::{Ipv4Addr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use healer_userspace::clock;

use super::load::servers::free_port;
use crate::{binary, scratch::Scratch};

/// Until it must have ended by itself.
const PATIENCE: Duration = Duration::from_secs(5);

const SAMPLED: &str =
    "apiVersion: healer.dev/v1alpha1\nkind: AgentConfig\nsensors: {syscallErrors: sampled}\n";

/// A running agent; ended on drop.
pub struct Agent {
    process: Child,
    port: u16,
    state: PathBuf,
    /// From the start of the process to its line `ready`.
    pub to_ready: Duration,
    _own: Option<Scratch>,
}

impl Agent {
    /// With the default policy and a state directory of its own.
    ///
    /// # Errors
    /// With its last words, if it does not become ready.
    pub fn start() -> anyhow::Result<Self> {
        let own = Scratch::new();
        let mut agent = Self::start_in(own.path(), &[])?;
        agent._own = Some(own);
        Ok(agent)
    }

    /// As [`Agent::start`], watching a slice of each second of system calls: the governor would begin in full and
    /// change its mind in the middle of a load.
    ///
    /// # Errors
    /// With its last words, if it does not become ready.
    pub fn start_sampled() -> anyhow::Result<Self> {
        let own = Scratch::new();
        let config = own.path().join("agent.yaml");
        std::fs::write(&config, SAMPLED)?;
        let mut agent = Self::start_in(own.path(), &["--config", &config.display().to_string()])?;
        agent._own = Some(own);
        Ok(agent)
    }

    /// With these arguments of `healer run`.
    ///
    /// # Errors
    /// With its last words, if it does not become ready.
    pub fn start_in(state: &Path, args: &[&str]) -> anyhow::Result<Self> {
        let port = free_port()?;
        let mut command = Command::new(binary::healer());
        command.arg("--state-dir").arg(state).args(["run", "--listen", &format!("127.0.0.1:{port}")]);
        command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let started = clock::boot();
        let mut process = command.spawn().context("start healer")?;
        let mut log = BufReader::new(process.stderr.take().context("its stderr")?);
        let ready = until_ready(&mut log);
        let to_ready = clock::boot().since(started);
        let agent = Self { process, port, state: state.to_owned(), to_ready, _own: None };
        ready?;
        // It goes on talking, and must not wait for a reader.
        thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        Ok(agent)
    }

    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Signals that it has taken in, as it counts them itself.
    ///
    /// # Errors
    /// Its metrics cannot be read.
    pub fn signals(&self) -> anyhow::Result<f64> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut page = String::new();
        stream.read_to_string(&mut page)?;
        let lines = page.lines().filter(|line| line.starts_with("healer_signals_total"));
        Ok(lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum())
    }

    /// Ends it by SIGTERM; gives its audit, one record a line.
    ///
    /// # Errors
    /// It does not end, or its audit cannot be read.
    pub fn end(mut self) -> anyhow::Result<Vec<serde_json::Value>> {
        ensure!(self.stop(), "healer does not end by SIGTERM");
        let audit = std::fs::read_to_string(self.state.join("audit.jsonl")).context("read the audit")?;
        audit.lines().map(|line| serde_json::from_str(line).context("read an audit record")).collect()
    }

    /// Whether SIGTERM was enough.
    fn stop(&mut self) -> bool {
        let pid = rustix::process::Pid::from_child(&self.process);
        if self.process.try_wait().is_ok_and(|ended| ended.is_some()) {
            return true;
        }
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).ok();
        let start = clock::boot();
        while clock::boot().since(start) < PATIENCE {
            if self.process.try_wait().is_ok_and(|ended| ended.is_some()) {
                return true;
            }
            thread::sleep(Duration::from_millis(5));
        }
        self.process.kill().ok();
        self.process.wait().ok();
        false
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.stop();
    }
}

fn until_ready(log: &mut impl BufRead) -> anyhow::Result<()> {
    let mut words = String::new();
    loop {
        let before = words.len();
        ensure!(0 < log.read_line(&mut words).context("read its log")?, "healer ended:\n{words}");
        let line = &words[before..];
        if line.contains("ready") && line.contains("sensors attached") {
            return complete(line);
        }
    }
}

/// `N of M sensors attached`: a figure of half a healer would be a lie.
fn complete(line: &str) -> anyhow::Result<()> {
    let numbers: Vec<&str> = line.split(' ').filter(|word| word.parse::<u32>().is_ok()).collect();
    if let [up, all, ..] = numbers[..]
        && up != all
    {
        bail!("{up} of {all} sensors are attached: see `healer doctor`; it needs root");
    }
    Ok(())
}
