//! The questions themselves, each with an end: what a healthy workload answers, and what its silence means.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use super::{super::listening, Question};
use crate::{
    action::host::reset_child,
    clock,
    engine::{
        policy::{Port, Probe, ProbeAsk},
        time::Human,
    },
    kubernetes::Kubelet,
    sense::poll::{sockets, work::life},
    signal::work::{Asked, Life, Probed},
    text,
};

/// Between two looks at a program that has not ended.
const STEP: Duration = Duration::from_millis(20);
/// Of an answer: the status line is at its beginning.
const ANSWER_MAX: usize = 512;

/// Why there is no good answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum No {
    /// A bad one.
    Bad(String),
    /// None in time.
    Late,
    /// healer itself could not ask: that says nothing of the workload.
    NotAsked(String),
}

/// Whom a person has halted, with a freezer or a debugger, is not asked: no answer would be nobody's failure.
pub(super) fn ask_the_free(
    question: &Question,
    kubelet: &Kubelet,
) -> ((Result<String, No>, Duration), Option<Child>) {
    let why = match life(Path::new("/proc"), Path::new("/sys/fs/cgroup"), question.process.pid) {
        Life::Frozen => "it is frozen",
        Life::Traced => "a debugger has it",
        Life::Free | Life::Stopped => return ask(question, kubelet),
    };
    ((Err(No::NotAsked(why.to_owned())), Duration::ZERO), None)
}

/// The answer and how long it took; with it a program that has been killed and not ended yet.
fn ask(question: &Question, kubelet: &Kubelet) -> ((Result<String, No>, Duration), Option<Child>) {
    let Question { process, mains, probe } = question;
    let (pid, began) = (process.pid, clock::boot());
    let (answer, left) = match &probe.ask {
        ProbeAsk::Http { port, path } => (http(pid, *port, path, probe.timeout), None),
        ProbeAsk::Tcp { port } => (connect(pid, *port, probe.timeout).map(|_| "connected".to_owned()), None),
        ProbeAsk::Exec { command } => exec(command, probe.timeout),
        ProbeAsk::Kubelet => (by_kubelet(kubelet.is_ready(&process.place)), None),
        ProbeAsk::Listen { ports } => (listen(mains, ports), None),
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

/// The ports are held by one of them, whichever.
fn listen(mains: &[u32], ports: &[Port]) -> Result<String, No> {
    let mut left = ports.to_vec();
    for pid in mains {
        let missing = listening::missing(Path::new("/proc"), *pid, &left);
        left = missing.map_err(|error| No::NotAsked(error.to_string()))?;
        if left.is_empty() {
            return Ok("on all of them".to_owned());
        }
    }
    Err(No::Bad(format!("not on {}", Port::list(&left))))
}

/// # Errors
/// Why healer could not ask.
pub(super) fn probed(
    probe: &Probe,
    (answer, took): (Result<String, No>, Duration),
) -> Result<Probed, String> {
    let (ok, late) = (answer.is_ok(), answer == Err(No::Late));
    let says = match answer {
        Ok(says) | Err(No::Bad(says)) => says,
        Err(No::Late) => format!("no answer in {}", Human(probe.timeout)),
        Err(No::NotAsked(why)) => return Err(why),
    };
    let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    Ok(Probed { ok, asked: probe.ask.asked(), what: probe.ask.to_string(), late, says, took_ms })
}

/// The last question has not ended, and the next one is due. healer's own slow look at ports says nothing.
pub(super) fn not_over(probe: &Probe) -> Option<Probed> {
    match probe.ask.asked() {
        Asked::Probe => probed(probe, (Err(No::Late), probe.timeout)).ok(),
        Asked::Listen => None,
    }
}

/// In the network namespace of `pid`, wherever it listens.
fn connect(pid: u32, port: u16, timeout: Duration) -> Result<TcpStream, No> {
    enter(pid)?;
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

/// The calling thread, for good.
fn enter(pid: u32) -> Result<(), No> {
    // The link asks for PTRACE_MODE_READ (namespaces(7)), the entry for CAP_SYS_ADMIN (setns(2)).
    let theirs = File::open(format!("/proc/{pid}/ns/net"));
    let theirs = theirs.map_err(|error| no_entry(&error, "CAP_SYS_PTRACE"))?;
    sockets::enter(&theirs).map_err(|error| no_entry(&error, "CAP_SYS_ADMIN"))
}

fn no_entry(error: &io::Error, right: &str) -> No {
    No::NotAsked(if error.kind() == io::ErrorKind::PermissionDenied {
        format!(
            "healer may not enter its network namespace: give healer {right} (deploy/README.md), \
             or have exec or kubelet asked, which need no right"
        )
    } else {
        format!("enter its network namespace: {error}")
    })
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
    // SAFETY: it is async-signal-safe, and nothing is shared with it.
    unsafe {
        command.pre_exec(|| {
            reset_child();
            Ok(())
        });
    }
    command.process_group(0).spawn()
}

#[cfg(test)]
mod tests {
    use std::{io::BufRead as _, net::TcpListener};

    use super::*;
    use crate::{engine::policy::Protocol, identity::process::Process, kubernetes::Cluster};

    fn probe(ask: ProbeAsk) -> Probe {
        Probe { timeout: Duration::from_millis(300), ..Probe::each_second(ask) }
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

    fn asked(ask: ProbeAsk) -> Result<Probed, String> {
        let pid = std::process::id();
        let process = Process { pid, ..Process::default() };
        let question = Question { process, mains: vec![pid], probe: probe(ask) };
        let (learnt, _) = tokio::sync::mpsc::channel(1);
        let (answer, left) = super::ask(&question, &Cluster::default().kubelet(learnt));
        left.into_iter().for_each(|mut left| drop(left.wait()));
        probed(&question.probe, answer)
    }

    fn get(answer: Option<&'static str>) -> Probed {
        let port = server(answer);
        asked(ProbeAsk::Http { port, path: "/livez".into() }).unwrap()
    }

    #[test]
    fn http_goes_by_the_status() {
        assert!(get(Some("HTTP/1.1 204 No Content\r\n\r\n")).ok);
        assert_eq!(get(Some("HTTP/1.1 503 Not now\r\n\r\n")).says, "status 503");
        assert_eq!(get(Some("SSH-2.0-x\r\n")).says, "the answer is not HTTP");
        let none = get(None);
        assert_eq!((none.says.as_str(), none.late), ("no answer in 300ms", true));
    }

    #[test]
    fn tcp_goes_by_the_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(asked(ProbeAsk::Tcp { port }).unwrap().ok);
        drop(listener);
        let elsewhere = TcpListener::bind("127.0.0.9:0").unwrap();
        let port_there = elsewhere.local_addr().unwrap().port();
        assert!(asked(ProbeAsk::Tcp { port: port_there }).unwrap().ok, "it is asked where it listens");
        let refused = asked(ProbeAsk::Tcp { port }).unwrap();
        assert!(!refused.ok && !refused.late, "{refused:?}");
    }

    #[test]
    fn ports_go_by_who_holds_them() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let open = Port { number: listener.local_addr().unwrap().port(), protocol: Protocol::Tcp };
        let shut = Port { number: 1, protocol: Protocol::Tcp };
        let held = asked(ProbeAsk::Listen { ports: vec![open] }).unwrap();
        assert_eq!((held.ok, held.asked), (true, Asked::Listen));
        let not_held = asked(ProbeAsk::Listen { ports: vec![shut, open] }).unwrap();
        assert_eq!((not_held.ok, not_held.says.as_str()), (false, "not on 1/tcp"));
        // Nobody has this pid: it has just ended, and another one may hold them.
        assert!(matches!(listen(&[u32::MAX], &[open]), Err(No::NotAsked(_))));
    }

    #[test]
    fn exec_goes_by_the_exit_status_and_is_ended_in_time() {
        let run = |words: &[&str]| {
            let command = words.iter().map(|word| (*word).to_owned()).collect();
            asked(ProbeAsk::Exec { command })
        };
        assert!(run(&["true"]).unwrap().ok);
        assert_eq!(run(&["false"]).unwrap().says, "exit status: 1");
        assert_eq!(run(&["sleep", "30"]).unwrap().says, "no answer in 300ms");
    }

    #[test]
    fn a_program_that_is_asked_has_the_limit_that_healer_had() {
        let had = crate::nofile::raise_from_less().to_string();
        let is = |limit: &str| {
            let script = format!("test \"$(ulimit -n)\" = {limit}");
            asked(ProbeAsk::Exec { command: vec!["sh".to_owned(), "-c".to_owned(), script] }).unwrap().ok
        };
        assert!(is(&had));
        assert!(!is("7"), "it is the limit that is compared");
    }

    #[test]
    fn what_healer_cannot_ask_is_no_answer_of_the_workload() {
        let command = vec!["/nonexistent".to_owned()];
        let why = asked(ProbeAsk::Exec { command }).unwrap_err();
        assert!(why.contains("cannot be started"), "{why}");
        // Nobody has this pid.
        let why = connect(u32::MAX, 1, Duration::from_millis(10)).unwrap_err();
        assert!(matches!(&why, No::NotAsked(says) if says.contains("network namespace")), "{why:?}");
    }

    #[test]
    fn a_namespace_that_may_not_be_entered_names_the_right_and_is_no_failed_probe() {
        let of = |errno| {
            let why = no_entry(&io::Error::from_raw_os_error(errno), "CAP_SYS_ADMIN");
            probed(&probe(ProbeAsk::Tcp { port: 1 }), (Err(why), Duration::ZERO)).unwrap_err()
        };
        for errno in [libc::EPERM, libc::EACCES] {
            assert!(of(errno).contains("give healer CAP_SYS_ADMIN"), "{}", of(errno));
        }
        assert!(!of(libc::ENOENT).contains("CAP_SYS_ADMIN"), "it has just ended");
        // Its own: no right is asked for.
        assert_eq!(enter(std::process::id()), Ok(()));
    }
}
