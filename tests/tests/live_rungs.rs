//! Needs root: the whole agent on each rung gives the same classes.
//!
//! old guest: the_same_failures_are_the_same_classes_on_every_rung

use std::{
    collections::BTreeSet,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use healer_tests::{
    binary::healer,
    home::Home,
    ladder::{Shown, agent_on},
    policies::restarting,
    scratch::Scratch,
    supervised::{Supervised, name},
};
use healer_userspace::{clock, sense::Level};

const PATIENCE: Duration = Duration::from_secs(30);

/// Ended on drop, and so is its child.
struct Running(Child);

impl Running {
    fn start(state: &Path, level: Level, args: &[&str]) -> Self {
        let mut command = Command::new(healer());
        command.arg("--state-dir").arg(state).args(args).env("HEALER_SENSE_RUNG", level.name());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(pid) = rustix::process::Pid::from_raw(self.0.id().cast_signed()) {
            rustix::process::kill_process(pid, rustix::process::Signal::TERM).ok();
        }
        self.0.wait().ok();
    }
}

fn ask(state: &Path, what: &[&str]) -> Option<serde_json::Value> {
    let output = Command::new(healer()).arg("--state-dir").arg(state).args(what).output().unwrap();
    output.status.success().then(|| serde_json::from_slice(&output.stdout).unwrap())
}

/// Asks until the answer is `wanted`.
fn until<T>(what: &str, mut wanted: impl FnMut() -> Option<T>) -> T {
    let deadline = clock::boot() + PATIENCE;
    loop {
        if let Some(found) = wanted() {
            return found;
        }
        assert!(clock::boot() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn found(state: &Path) -> BTreeSet<(String, String, String)> {
    let answer = ask(state, &["incidents", "--json"]).unwrap_or_default();
    let word =
        |incident: &serde_json::Value, name: &str| incident[name].as_str().unwrap_or_default().to_owned();
    let incidents = answer["incidents"].as_array().cloned().unwrap_or_default();
    incidents
        .iter()
        .map(|incident| (word(incident, "workload"), word(incident, "class"), word(incident, "certainty")))
        .filter(|(workload, ..)| workload.contains("ladder-"))
        .collect()
}

/// What three commands that fail under `supervise`, each in its way, are found to be.
fn wanted() -> BTreeSet<(String, String, String)> {
    [("killed", "down"), ("nothing", "down"), ("status", "crash")]
        .map(|(name, class)| (format!("supervise/ladder-{name}"), class.to_owned(), "proved".to_owned()))
        .into()
}

fn assert_incidents_on(level: Level) {
    let dir = Scratch::new();
    let state = dir.path();
    let agent = Running::start(state, level, &["run", "--listen", "127.0.0.1:0"]);
    let sensors = until("the agent is up", || ask(state, &["sensors", "--json"]));
    assert_eq!(sensors["sensors"][0]["self_check"], "truthful", "{level:?}: {sensors}");
    let fail = |name: &str, script: &str| {
        Running::start(state, level, &["supervise", "--name", name, "--", "/bin/sh", "-c", script])
    };
    // A fault would need a compiler; the shell gets its signal from another process. They live long enough for a slow
    // machine to introduce them: of a child that ended before, all that its supervisor says is that it is down.
    let commands = [
        fail("ladder-status", "sleep 4; exit 1"),
        fail("ladder-nothing", "sleep 4; exit 0"),
        fail("ladder-killed", "pid=$$; (sleep 4; kill -9 $pid) & exec sleep 60"),
    ];
    let mut last = BTreeSet::new();
    let deadline = clock::boot() + PATIENCE;
    while last != wanted() {
        assert!(clock::boot() < deadline, "{level:?}: {last:?}");
        std::thread::sleep(Duration::from_millis(50));
        last = found(state);
    }
    drop(commands);
    drop(agent);
}

#[test]
fn a_node_without_types_and_tracefs_goes_on_without_programs() {
    let home = Home::new(&restarting("nobody"));
    let mut agent = agent_on(&home, Level::User);
    let shown = Shown::by(&home);
    shown.is_of(Level::User);
    for (name, via) in [("process_exit", "connector"), ("socket_state", "sock_diag"), ("task_scan", "proc")] {
        let one = shown.row(name);
        assert_eq!(one["via"], via, "{one}");
        let reason = one["reason"].as_str().unwrap_or_default();
        assert!(reason.contains("does not describe its types"), "{one}");
    }
    let service = Supervised::start(&home, &name(), &["/bin/sh", "-c", "sleep 4; exit 1"]);
    let crash = agent.record(&service.workload(), "diagnosis", "\"class\":\"crash\"");
    assert_eq!(crash["certainty"], "proved", "{crash}");
}

#[test]
fn the_same_failures_are_the_same_classes_on_every_rung() {
    for level in [Level::TpBtf, Level::RawTp, Level::Tracepoint, Level::User] {
        assert_incidents_on(level);
    }
}
