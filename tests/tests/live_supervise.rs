//! `healer supervise` as a real process, against the agent's side of the socket.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::{
    fmt::Write as _,
    io::Read as _,
    os::unix::process::ExitStatusExt as _,
    process::{Child, Command, Stdio},
    time::Duration,
};

use healer_tests::{binary::healer, scratch::Scratch};
use healer_userspace::{
    engine::command::ActionKey,
    identity::process::ProcessId,
    signal::Fact,
    supervise::{
        Name,
        protocol::Restart,
        server::{RestartAnswer, Supervisors, Told},
    },
};
use tokio::sync::mpsc;

struct Agent {
    supervisors: Supervisors,
    told: mpsc::Receiver<Told>,
}

impl Agent {
    fn start(state: &Scratch) -> Self {
        let (sender, told) = mpsc::channel(64);
        let supervisors = Supervisors::listen(state.path(), sender).unwrap();
        Self { supervisors, told }
    }

    /// The next fact that `pick` wants.
    async fn until<T>(&mut self, mut pick: impl FnMut(&Told) -> Option<T>) -> T {
        let seen = async {
            loop {
                let told = self.told.recv().await.unwrap();
                if let Some(picked) = pick(&told) {
                    return picked;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(20), seen).await.unwrap()
    }

    async fn registered(&mut self) -> ProcessId {
        self.until(|told| matches!(told.fact, Fact::Registered(_)).then_some(told.child?)).await
    }

    /// The facts until its end.
    async fn until_deregistered(&mut self) -> Vec<&'static str> {
        let mut facts = Vec::new();
        self.until(|told| {
            facts.push(told.fact.name());
            matches!(told.fact, Fact::Deregistered).then_some(())
        })
        .await;
        facts
    }

    async fn restart(&self, key: &str, target: ProcessId) -> RestartAnswer {
        let restart =
            Restart { key: ActionKey(key.to_owned()), target, grace_ms: 5_000, signal: libc::SIGTERM };
        let name = web();
        let order = self.supervisors.order_restart(&name, restart);
        tokio::time::timeout(Duration::from_secs(20), order).await.unwrap()
    }
}

fn web() -> Name {
    "web".parse().unwrap()
}

/// Kills the supervisor and its last known child.
struct Supervised {
    process: Child,
    child: Option<ProcessId>,
}

impl Supervised {
    fn start(state: &Scratch, command: &[&str]) -> Self {
        let process = Command::new(healer())
            .arg("--state-dir")
            .arg(state.path())
            .args(["supervise", "--name", "web", "--"])
            .args(command)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self { process, child: None }
    }

    fn signal(&self, signal: i32) {
        signal_to(self.process.id(), signal);
    }

    /// Exit status and what it said on stderr.
    async fn end(&mut self) -> (i32, String) {
        let status = loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                break status;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        let mut words = String::new();
        let mut stderr = self.process.stderr.take().unwrap();
        stderr.read_to_string(&mut words).unwrap();
        if let Some(signal) = status.signal() {
            write!(words, " (killed by {signal})").unwrap();
        }
        (status.code().unwrap_or(-1), words)
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        if self.process.try_wait().is_ok_and(|status| status.is_none()) {
            if let Some(child) = self.child {
                signal_to(child.pid, libc::SIGKILL);
            }
            self.process.kill().ok();
            self.process.wait().ok();
        }
    }
}

fn signal_to(pid: u32, signal: i32) {
    let pid = rustix::process::Pid::from_raw(pid.cast_signed()).unwrap();
    let signal = rustix::process::Signal::from_named_raw(signal).unwrap();
    rustix::process::kill_process(pid, signal).ok();
}

fn alive(id: ProcessId) -> bool {
    std::fs::read_to_string(format!("/proc/{}/stat", id.pid)).is_ok_and(|stat| !stat.contains(") Z "))
}

const FOREVER: &[&str] = &["sleep", "1000"];

#[tokio::test(flavor = "current_thread")]
async fn without_an_agent_the_command_just_runs() {
    let state = Scratch::new();
    for (script, status) in [("exit 3", 3), ("kill -9 $$", 137), ("exit 0", 0)] {
        let (code, words) = Supervised::start(&state, &["sh", "-c", script]).end().await;
        assert_eq!(code, status);
        assert_eq!(words.lines().count(), 1, "{words}");
        assert!(words.contains("no agent"), "{words}");
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_command_that_cannot_run_is_told_as_shells_do() {
    let state = Scratch::new();
    let (code, words) = Supervised::start(&state, &["/no/such/command"]).end().await;
    assert_eq!(code, 127, "{words}");
    let (code, words) = Supervised::start(&state, &["/etc/passwd"]).end().await;
    assert_eq!(code, 126, "{words}");
    assert!(words.contains("cannot run /etc/passwd"), "{words}");
}

#[tokio::test(flavor = "current_thread")]
async fn a_killed_child_is_restarted_once_per_key_and_then_released() {
    let state = Scratch::new();
    let mut agent = Agent::start(&state);
    let mut service = Supervised::start(&state, FOREVER);
    let first = agent.registered().await;
    signal_to(first.pid, libc::SIGKILL);
    let exit = agent.until(|told| if let Fact::Exited(exit) = &told.fact { Some(*exit) } else { None }).await;
    assert_eq!(exit.signal, Some(libc::SIGKILL));

    let RestartAnswer::Restarted { child, already } = agent.restart("k1", first).await else {
        panic!("not restarted")
    };
    service.child = Some(child);
    assert!(!already && alive(child) && child.pid != first.pid);
    let again = agent.restart("k1", first).await;
    assert_eq!(again, RestartAnswer::Restarted { child, already: true });
    let stale = agent.restart("k2", first).await;
    assert!(matches!(stale, RestartAnswer::Refused { .. }), "{stale:?}");

    signal_to(child.pid, libc::SIGSEGV);
    agent.until(|told| matches!(told.fact, Fact::Exited(_)).then_some(())).await;
    assert!(agent.supervisors.release(&web(), "the plan is over"));
    assert_eq!(service.end().await, (139, String::new()));
}

#[tokio::test(flavor = "current_thread")]
async fn a_living_child_is_stopped_before_its_successor_starts() {
    let state = Scratch::new();
    let mut agent = Agent::start(&state);
    let deaf = "trap '' TERM; echo ready; exec sleep 1000";
    let mut service = Supervised::start(&state, &["sh", "-c", deaf]);
    let first = agent.registered().await;
    until_deaf(first).await;
    let began = std::time::Duration::from_secs(4);
    let order = tokio::time::timeout(began, agent.restart("k1", first));
    let answer = order.await.expect("the grace of 5 s is not waited out");
    let RestartAnswer::Restarted { child, .. } = answer else { panic!("{answer:?}") };
    service.child = Some(child);
    assert!(!alive(first) && alive(child));
}

async fn until_deaf(id: ProcessId) {
    use healer_userspace::supervise::child::{Disposition, disposition};
    while disposition(id.pid, libc::SIGTERM) != Some(Disposition::Ignored) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_stop_that_was_asked_for_is_announced_and_ends_it() {
    let state = Scratch::new();
    let mut agent = Agent::start(&state);
    let mut service = Supervised::start(&state, FOREVER);
    service.child = Some(agent.registered().await);
    service.signal(libc::SIGTERM);
    let facts = agent.until_deregistered().await;
    assert_eq!(facts, ["stop_asked", "exited", "deregistered"]);
    assert_eq!(service.end().await.0, 143);
}

/// What a supervisor that waits for an order, its child being dead, says when it gets this signal.
async fn said_while_it_waits(signal: i32) -> Vec<&'static str> {
    let state = Scratch::new();
    let mut agent = Agent::start(&state);
    let mut service = Supervised::start(&state, FOREVER);
    signal_to(agent.registered().await.pid, libc::SIGKILL);
    agent.until(|told| matches!(told.fact, Fact::Exited(_)).then_some(())).await;
    service.signal(signal);
    let facts = agent.until_deregistered().await;
    service.end().await;
    facts
}

#[tokio::test(flavor = "current_thread")]
async fn who_is_stopped_while_it_waits_says_so_and_who_is_killed_has_no_word() {
    assert_eq!(said_while_it_waits(libc::SIGTERM).await, ["stop_asked", "deregistered"]);
    assert_eq!(said_while_it_waits(libc::SIGKILL).await, ["deregistered"]);
}

#[tokio::test(flavor = "current_thread")]
async fn a_reload_is_no_stop() {
    let state = Scratch::new();
    let mut agent = Agent::start(&state);
    let script = "trap ': > \"$0\"' HUP; while :; do sleep 0.02; done";
    let mark = state.path().join("reloaded");
    let mut service = Supervised::start(&state, &["sh", "-c", script, mark.to_str().unwrap()]);
    let child = agent.registered().await;
    service.child = Some(child);
    use healer_userspace::supervise::child::{Disposition, disposition};
    while disposition(child.pid, libc::SIGHUP) != Some(Disposition::Caught) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    service.signal(libc::SIGHUP);
    while !mark.exists() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(agent.told.try_recv().is_err(), "nothing was announced");
    signal_to(child.pid, libc::SIGKILL);
    agent.until(|told| matches!(told.fact, Fact::Exited(_)).then_some(())).await;
}

#[tokio::test(flavor = "current_thread")]
async fn a_second_supervisor_of_the_name_is_refused_in_words() {
    let state = Scratch::new();
    let mut agent = Agent::start(&state);
    let mut first = Supervised::start(&state, FOREVER);
    first.child = Some(agent.registered().await);
    let mut second = Supervised::start(&state, FOREVER);
    let (code, words) = second.end().await;
    assert_eq!(code, 2);
    assert!(words.contains("the name web is taken"), "{words}");
}

/// Dropping the runtime drops every connection: to the supervisor, the agent is dead.
fn one_life<T>(life: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().build().unwrap().block_on(life)
}

#[test]
fn a_restarted_agent_finds_the_waiting_supervisor_and_its_last_key() {
    let state = Scratch::new();
    let mut service = Supervised::start(&state, FOREVER);
    let (first, second) = one_life(async {
        let mut agent = Agent::start(&state);
        let first = agent.registered().await;
        signal_to(first.pid, libc::SIGKILL);
        (first, agent.restart_when_dead("k1", first).await)
    });
    let RestartAnswer::Restarted { child: second, .. } = second else { panic!("{second:?}") };
    service.child = Some(second);
    signal_to(second.pid, libc::SIGKILL);
    one_life(find_it_waiting(&state, &mut service, first, second));
}

async fn find_it_waiting(state: &Scratch, service: &mut Supervised, first: ProcessId, second: ProcessId) {
    let mut agent = Agent::start(state);
    let (child, last_key) = agent
        .until(|told| {
            if let Fact::Registered(it) = &told.fact {
                Some((told.child?, it.last_key.clone()))
            } else {
                None
            }
        })
        .await;
    assert_eq!((child, last_key.as_deref()), (second, Some("k1")));
    let repeated = RestartAnswer::Restarted { child, already: true };
    assert_eq!(agent.restart("k1", first).await, repeated);
    let answer = agent.restart("k2", child).await;
    let RestartAnswer::Restarted { child, already } = answer else { panic!("{answer:?}") };
    service.child = Some(child);
    assert!(!already && alive(child));
}

impl Agent {
    async fn restart_when_dead(&mut self, key: &str, target: ProcessId) -> RestartAnswer {
        self.until(|told| matches!(told.fact, Fact::Exited(_)).then_some(())).await;
        self.restart(key, target).await
    }
}

#[tokio::test(flavor = "current_thread")]
async fn the_child_outlives_a_killed_supervisor() {
    let state = Scratch::new();
    let mut agent = Agent::start(&state);
    let service = Supervised::start(&state, FOREVER);
    let child = agent.registered().await;
    service.signal(libc::SIGKILL);
    agent.until_deregistered().await;
    assert!(alive(child));
    signal_to(child.pid, libc::SIGKILL);
}

/// A terminal whose session is led by the supervisor, as under `ssh -t`.
fn in_a_terminal(state: &Scratch, script: &str, mark: &str) -> (std::fs::File, Supervised) {
    use std::os::{
        fd::{AsRawFd as _, FromRawFd as _},
        unix::process::CommandExt as _,
    };
    let keyboard = std::fs::File::options().read(true).write(true).open("/dev/ptmx").unwrap();
    // SAFETY: ioctls of pty(7) on an open descriptor; the last one returns a new descriptor that nobody owns.
    let screen = unsafe {
        let unlocked = 0;
        libc::ioctl(keyboard.as_raw_fd(), libc::TIOCSPTLCK, &raw const unlocked);
        let peer = libc::ioctl(keyboard.as_raw_fd(), libc::TIOCGPTPEER, libc::O_RDWR | libc::O_NOCTTY);
        std::fs::File::from_raw_fd(peer)
    };
    let mut command = Command::new(healer());
    command.arg("--state-dir").arg(state.path()).args(["supervise", "--name", "web", "--"]);
    command.args(["sh", "-c", script, mark]).stdin(screen.try_clone().unwrap());
    let terminal = screen.as_raw_fd();
    // SAFETY: setsid(2) and ioctl(2) are plain system calls; `screen` outlives the spawn.
    unsafe {
        command.pre_exec(move || {
            libc::setsid();
            libc::ioctl(terminal, libc::TIOCSCTTY, 0);
            Ok(())
        });
    }
    let process = command.stderr(Stdio::piped()).spawn().unwrap();
    (keyboard, Supervised { process, child: None })
}

#[tokio::test(flavor = "current_thread")]
async fn ctrl_c_reaches_the_child_once_and_is_a_stop_that_was_asked_for() {
    use healer_userspace::supervise::child::{Disposition, disposition};
    use std::io::Write as _;
    let state = Scratch::new();
    let mut agent = Agent::start(&state);
    let mark = state.path().join("interrupts");
    let script =
        "trap 'echo once >> \"$0\"' INT; n=0; while [ $n -lt 20 ]; do sleep 0.02; n=$((n+1)); done; exit 5";
    let (mut keyboard, mut service) = in_a_terminal(&state, script, mark.to_str().unwrap());
    let child = agent.registered().await;
    while disposition(child.pid, libc::SIGINT) != Some(Disposition::Caught) {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    keyboard.write_all(b"\x03").unwrap();
    agent.until(|told| matches!(told.fact, Fact::StopAsked { signal: libc::SIGINT }).then_some(())).await;
    assert_eq!(service.end().await.0, 5, "it ends with its child and is not restarted");
    assert_eq!(std::fs::read_to_string(mark).unwrap(), "once\n");
}
