//! `expect.probe`: asks the living main processes of the policies that want it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    os::unix::{fs::MetadataExt as _, process::CommandExt as _},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use super::Agent;
use crate::{
    clock,
    engine::{
        policy::{
            Probe, ProbeAsk,
            choose::{self, Owner},
        },
        time::{BootTime, Human},
    },
    identity::process::{Process, ProcessId},
    sense::poll::sockets,
    signal::{Fact, Signal, work::Probed},
    text,
};

/// Between two looks at a program that has not ended.
const STEP: Duration = Duration::from_millis(20);
/// Of an answer: the status line is at its beginning.
const ANSWER_MAX: usize = 512;

/// Who was asked, and how it went.
#[derive(Default)]
pub(super) struct Probes {
    next: BTreeMap<ProcessId, BootTime>,
    failing: BTreeSet<ProcessId>,
}

impl Probes {
    pub(super) fn is_failing(&self, id: ProcessId) -> bool {
        self.failing.contains(&id)
    }

    /// An answer came by.
    pub(super) fn note(&mut self, signal: &Signal) {
        if let (Fact::Probed(probed), Some(process)) = (&signal.fact, &signal.process) {
            if probed.ok {
                self.failing.remove(&process.id());
            } else {
                self.failing.insert(process.id());
            }
        }
    }
}

impl Agent {
    /// Starts whatever probe is due. At most once a second.
    pub(super) fn probe(&mut self) {
        let now = clock::boot();
        let policies = self.engine.policies();
        if policies.policies.iter().all(|policy| policy.expect.probe.is_none()) {
            self.probes = Probes::default();
            return;
        }
        let living = self.engine.world().iter().flat_map(|(_, workload)| workload.living.values());
        let asked: Vec<(Process, Probe)> = living
            .filter_map(|process| match choose::owner(policies, process) {
                Owner::One(policy) => Some((process.clone(), policy.expect.probe.clone()?)),
                Owner::None | Owner::Clash(..) => None,
            })
            .collect();
        let ids: BTreeSet<_> = asked.iter().map(|(process, _)| process.id()).collect();
        self.probes.next.retain(|id, _| ids.contains(id));
        self.probes.failing.retain(|id| ids.contains(id));
        for (process, probe) in asked {
            let next = self.probes.next.entry(process.id()).or_insert(now);
            if *next <= now {
                // The timeout is never longer than the period: one question at a time.
                *next = now + probe.period;
                self.start_probe(process, probe);
            }
        }
    }

    fn start_probe(&self, process: Process, probe: Probe) {
        let answers = self.answers.clone();
        // A thread, because it may have to enter another network namespace, and a thread cannot come back.
        let asking = move || {
            let probed = ask(process.pid, &probe);
            let signal = Signal { at: clock::boot(), process: Some(process), fact: Fact::Probed(probed) };
            // Closed only when the agent is on its way out.
            answers.send(signal).ok();
        };
        if let Err(error) = thread::Builder::new().name("healer-probe".to_owned()).spawn(asking) {
            tracing::warn!("no thread for a probe: {error}");
        }
    }
}

fn ask(pid: u32, probe: &Probe) -> Probed {
    let began = clock::boot();
    let answer = match &probe.ask {
        ProbeAsk::Http { port, path } => http(pid, *port, path, probe.timeout),
        ProbeAsk::Tcp { port } => connect(pid, *port, probe.timeout)
            .map(|_| "connected".to_owned())
            .map_err(|error| in_words(&error, probe.timeout)),
        ProbeAsk::Exec { command } => exec(command, probe.timeout),
    };
    let took = clock::boot().since(began);
    Probed {
        ok: answer.is_ok(),
        what: probe.ask.to_string(),
        says: answer.unwrap_or_else(|says| says),
        took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
    }
}

/// In the network namespace of `pid`.
fn connect(pid: u32, port: u16, timeout: Duration) -> io::Result<TcpStream> {
    let theirs = File::open(format!("/proc/{pid}/ns/net"))?;
    let own = std::fs::metadata("/proc/thread-self/ns/net")?;
    if theirs.metadata()?.ino() != own.ino() {
        sockets::enter(&theirs)?;
    }
    TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), timeout)
}

fn in_words(error: &io::Error, timeout: Duration) -> String {
    let is_late = matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock);
    if is_late { no_answer(timeout) } else { error.to_string() }
}

fn no_answer(timeout: Duration) -> String {
    format!("no answer in {}", Human(timeout))
}

fn http(pid: u32, port: u16, path: &str, timeout: Duration) -> Result<String, String> {
    let deadline = clock::boot() + timeout;
    let failed = |error: io::Error| in_words(&error, timeout);
    let mut stream = connect(pid, port, timeout).map_err(failed)?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUser-Agent: healer\r\nConnection: close\r\n\r\n"
    );
    stream.set_write_timeout(Some(timeout)).map_err(failed)?;
    stream.write_all(request.as_bytes()).map_err(failed)?;
    let mut answer = Vec::new();
    while !answer.contains(&b'\n') && answer.len() < ANSWER_MAX {
        let left = deadline.since(clock::boot());
        if left.is_zero() {
            return Err(no_answer(timeout));
        }
        stream.set_read_timeout(Some(left)).map_err(failed)?;
        let mut chunk = [0; ANSWER_MAX];
        match stream.read(&mut chunk) {
            Ok(0) => break,
            Ok(got) => answer.extend_from_slice(&chunk[..got]),
            // A signal, such as that of a child's end; the deadline stands.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(error)),
        }
    }
    status(&answer)
}

/// `HTTP/1.1 204 No Content`
fn status(answer: &[u8]) -> Result<String, String> {
    let line = answer.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = text::lossy(line.trim_ascii());
    let status = line.strip_prefix("HTTP/1.").and_then(|rest| rest.split(' ').nth(1)?.parse::<u16>().ok());
    match status {
        Some(status @ 200..=399) => Ok(format!("status {status}")),
        Some(status) => Err(format!("status {status}")),
        None if line.is_empty() => Err("the connection was closed without an answer".to_owned()),
        None => Err("the answer is not HTTP".to_owned()),
    }
}

fn exec(command: &[String], timeout: Duration) -> Result<String, String> {
    let deadline = clock::boot() + timeout;
    let (program, arguments) = command.split_first().ok_or("no program")?;
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .map_err(|error| format!("cannot be started: {error}"))?;
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok("status 0".to_owned()),
            Ok(Some(status)) => return Err(status.to_string()),
            Ok(None) if clock::boot() < deadline => thread::sleep(STEP),
            Ok(None) => {
                let group = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
                if let Some(group) = group {
                    // It is not reaped yet: the number is still its own.
                    rustix::process::kill_process_group(group, rustix::process::Signal::KILL).ok();
                }
                child.wait().ok();
                return Err(no_answer(timeout));
            }
            Err(error) => return Err(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{io::BufRead as _, net::TcpListener};

    use super::*;

    fn probe(ask: ProbeAsk) -> Probe {
        let timeout = Duration::from_millis(300);
        Probe { ask, period: Duration::from_secs(1), timeout, failures: 1, start_grace: Duration::ZERO }
    }

    /// A server that reads a request and then says `answer`, if anything.
    fn server(answer: Option<&'static str>) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = String::new();
            io::BufReader::new(&stream).read_line(&mut request).unwrap();
            assert!(request.starts_with("GET /livez "), "{request}");
            if let Some(answer) = answer {
                stream.write_all(answer.as_bytes()).unwrap();
            } else {
                thread::sleep(Duration::from_secs(2));
            }
        });
        port
    }

    fn get(answer: Option<&'static str>) -> Probed {
        let port = server(answer);
        ask(std::process::id(), &probe(ProbeAsk::Http { port, path: "/livez".into() }))
    }

    #[test]
    fn http_goes_by_the_status() {
        assert!(get(Some("HTTP/1.1 204 No Content\r\n\r\n")).ok);
        assert_eq!(get(Some("HTTP/1.1 503 Not now\r\n\r\n")).says, "status 503");
        assert_eq!(get(Some("SSH-2.0-x\r\n")).says, "the answer is not HTTP");
        assert_eq!(get(None).says, "no answer in 300ms");
    }

    #[test]
    fn tcp_goes_by_the_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(ask(std::process::id(), &probe(ProbeAsk::Tcp { port })).ok);
        drop(listener);
        assert!(!ask(std::process::id(), &probe(ProbeAsk::Tcp { port })).ok);
    }

    #[test]
    fn exec_goes_by_the_exit_status_and_is_ended_in_time() {
        let run = |words: &[&str]| {
            let command = words.iter().map(|word| (*word).to_owned()).collect();
            ask(std::process::id(), &probe(ProbeAsk::Exec { command }))
        };
        assert!(run(&["true"]).ok);
        assert_eq!(run(&["false"]).says, "exit status: 1");
        assert_eq!(run(&["sleep", "30"]).says, "no answer in 300ms");
        assert!(run(&["/nonexistent"]).says.starts_with("cannot be started"));
    }
}
