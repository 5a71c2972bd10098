//! `expect.probe`: asks the living main processes of the policies that want it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    os::unix::{fs::MetadataExt as _, process::CommandExt as _},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use super::{Agent, listening};
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
    kubernetes::Kubelet,
    sense::poll::{sockets, work::life},
    signal::{
        Fact, Signal,
        work::{Life, Probed},
    },
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
    /// Questions under way.
    asking: Arc<Mutex<BTreeSet<ProcessId>>>,
    /// Whom healer could not ask, as was said once.
    unasked: Arc<Mutex<BTreeSet<ProcessId>>>,
}

/// Why there is no good answer.
#[derive(Debug, PartialEq, Eq)]
enum No {
    /// A bad one.
    Bad(String),
    /// None in time.
    Late,
    /// healer itself could not ask: that says nothing of the workload.
    NotAsked(String),
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
        // One fault, one answer: of several main processes the oldest is asked for all.
        let workloads = self.engine.world().iter().map(|(_, workload)| workload);
        let living = workloads.filter_map(|workload| workload.living.values().min_by_key(|one| one.start));
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
                *next = now + probe.period;
                self.start_probe(process, probe);
            }
        }
    }

    fn start_probe(&self, process: Process, probe: Probe) {
        let answers = self.answers.clone();
        let tell = move |process: Process, probed: Probed| {
            let signal = Signal { at: clock::boot(), process: Some(process), fact: Fact::Probed(probed) };
            // Closed only when the agent is on its way out.
            answers.send(signal).ok();
        };
        let id = process.id();
        if !locked(&self.probes.asking).insert(id) {
            // The program of the last question cannot even be killed (D state): one at a time all the same.
            tell(process, probed(&probe, (Err(No::Late), probe.timeout)).unwrap_or_default());
            return;
        }
        let (asking, unasked) = (Arc::clone(&self.probes.asking), Arc::clone(&self.probes.unasked));
        let kubelet = self.kubelet.clone();
        // A thread, because it may have to enter another network namespace, and a thread cannot come back.
        let asking = move || {
            let (answer, left) = ask_the_free(&process, &probe, &kubelet);
            match probed(&probe, answer) {
                Ok(probed) => {
                    locked(&unasked).remove(&id);
                    tell(process, probed);
                }
                Err(why) if locked(&unasked).insert(id) => tracing::warn!(
                    "{}[{}] cannot be asked ({}): {why}; nothing is concluded from that",
                    text::printable(&process.comm),
                    process.pid,
                    probe.ask
                ),
                Err(_) => {}
            }
            if let Some(mut left) = left {
                left.wait().ok();
            }
            locked(&asking).remove(&id);
        };
        if let Err(error) = thread::Builder::new().name("healer-probe".to_owned()).spawn(asking) {
            tracing::warn!("no thread for a probe: {error}");
        }
    }
}

fn locked(set: &Mutex<BTreeSet<ProcessId>>) -> MutexGuard<'_, BTreeSet<ProcessId>> {
    set.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whom a person has halted, with a freezer or a debugger, is not asked: no answer would be nobody's failure.
fn ask_the_free(
    process: &Process,
    probe: &Probe,
    kubelet: &Kubelet,
) -> ((Result<String, No>, Duration), Option<Child>) {
    let why = match life(Path::new("/proc"), Path::new("/sys/fs/cgroup"), process.pid) {
        Life::Frozen => "it is frozen",
        Life::Traced => "a debugger has it",
        Life::Free | Life::Stopped => return ask(process, probe, kubelet),
    };
    ((Err(No::NotAsked(why.to_owned())), Duration::ZERO), None)
}

/// The answer and how long it took; with it a program that has been killed and not ended yet.
fn ask(
    process: &Process,
    probe: &Probe,
    kubelet: &Kubelet,
) -> ((Result<String, No>, Duration), Option<Child>) {
    let (pid, began) = (process.pid, clock::boot());
    let (answer, left) = match &probe.ask {
        ProbeAsk::Http { port, path } => (http(pid, *port, path, probe.timeout), None),
        ProbeAsk::Tcp { port } => (connect(pid, *port, probe.timeout).map(|_| "connected".to_owned()), None),
        ProbeAsk::Exec { command } => exec(command, probe.timeout),
        ProbeAsk::Kubelet => (by_kubelet(kubelet.is_ready(&process.place)), None),
    };
    ((answer, clock::boot().since(began)), left)
}

fn by_kubelet(is_ready: Result<bool, String>) -> Result<String, No> {
    match is_ready {
        Ok(true) => Ok("ready".to_owned()),
        Ok(false) => Err(No::Bad("not ready".to_owned())),
        Err(why) => Err(No::NotAsked(why)),
    }
}

/// # Errors
/// Why healer could not ask.
fn probed(probe: &Probe, (answer, took): (Result<String, No>, Duration)) -> Result<Probed, String> {
    let (ok, late) = (answer.is_ok(), answer == Err(No::Late));
    let says = match answer {
        Ok(says) | Err(No::Bad(says)) => says,
        Err(No::Late) => format!("no answer in {}", Human(probe.timeout)),
        Err(No::NotAsked(why)) => return Err(why),
    };
    let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    Ok(Probed { ok, what: probe.ask.to_string(), late, says, took_ms })
}

/// In the network namespace of `pid`, wherever it listens.
fn connect(pid: u32, port: u16, timeout: Duration) -> Result<TcpStream, No> {
    let enter = || {
        let theirs = File::open(format!("/proc/{pid}/ns/net"))?;
        let own = std::fs::metadata("/proc/thread-self/ns/net")?;
        let is_other = theirs.metadata()?.ino() != own.ino();
        if is_other { sockets::enter(&theirs) } else { Ok(()) }
    };
    enter().map_err(|error: io::Error| No::NotAsked(format!("enter its network namespace: {error}")))?;
    let deadline = clock::boot() + timeout;
    let mut refusal = No::Late;
    for address in listening::addresses(Path::new("/proc"), pid, port) {
        let left = deadline.since(clock::boot());
        if left.is_zero() {
            break;
        }
        match TcpStream::connect_timeout(&SocketAddr::new(address, port), left).map_err(no) {
            Ok(stream) => return Ok(stream),
            Err(No::Late) => return Err(No::Late),
            Err(why) if !matches!(refusal, No::NotAsked(_)) => refusal = why,
            // Where it listens healer could not ask: what another address says proves nothing.
            Err(_) => {}
        }
    }
    Err(refusal)
}

/// Whose fault an error of a socket is (connect(2)).
fn no(error: io::Error) -> No {
    const OURS: [i32; 9] = [
        libc::EMFILE,
        libc::ENFILE,
        libc::ENOMEM,
        libc::ENOBUFS,
        libc::EPERM,
        libc::EACCES,
        libc::EADDRNOTAVAIL,
        libc::EAFNOSUPPORT,
        libc::EINVAL,
    ];
    if matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock) {
        No::Late
    } else if error.raw_os_error().is_some_and(|errno| OURS.contains(&errno)) {
        No::NotAsked(error.to_string())
    } else {
        No::Bad(error.to_string())
    }
}

fn http(pid: u32, port: u16, path: &str, timeout: Duration) -> Result<String, No> {
    let deadline = clock::boot() + timeout;
    let failed = no;
    let mut stream = connect(pid, port, timeout)?;
    let host = stream.peer_addr().map_err(failed)?;
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: healer\r\nConnection: close\r\n\r\n");
    stream.set_write_timeout(Some(timeout)).map_err(failed)?;
    stream.write_all(request.as_bytes()).map_err(failed)?;
    let mut answer = Vec::new();
    while !answer.contains(&b'\n') && answer.len() < ANSWER_MAX {
        let left = deadline.since(clock::boot());
        if left.is_zero() {
            return Err(No::Late);
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
fn status(answer: &[u8]) -> Result<String, No> {
    let line = answer.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = text::lossy(line.trim_ascii());
    let status = line.strip_prefix("HTTP/1.").and_then(|rest| rest.split(' ').nth(1)?.parse::<u16>().ok());
    match status {
        Some(status @ 200..=399) => Ok(format!("status {status}")),
        Some(status) => Err(No::Bad(format!("status {status}"))),
        None if line.is_empty() => Err(No::Bad("the connection was closed without an answer".to_owned())),
        None => Err(No::Bad("the answer is not HTTP".to_owned())),
    }
}

/// By its exit status; a program that is late is killed, and given back to be waited for.
fn exec(command: &[String], timeout: Duration) -> (Result<String, No>, Option<Child>) {
    let deadline = clock::boot() + timeout;
    let mut child = match spawn(command) {
        Ok(child) => child,
        Err(error) => return (Err(No::NotAsked(format!("its program cannot be started: {error}"))), None),
    };
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return (Ok("status 0".to_owned()), None),
            Ok(Some(status)) => return (Err(No::Bad(status.to_string())), None),
            Ok(None) if clock::boot() < deadline => thread::sleep(STEP),
            Ok(None) => {
                let group = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
                if let Some(group) = group {
                    // It is not reaped yet: the number is still its own.
                    rustix::process::kill_process_group(group, rustix::process::Signal::KILL).ok();
                }
                return (Err(No::Late), Some(child));
            }
            Err(error) => return (Err(No::NotAsked(error.to_string())), None),
        }
    }
}

fn spawn(command: &[String]) -> io::Result<Child> {
    let (program, arguments) = command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.process_group(0).spawn()
}

#[cfg(test)]
mod tests;
