//! Needs root and python3: servers that leave their work undone, beside others that are only idle, busy or slow.
//!
//! mostly waits

use std::{fs, net::TcpStream, path::Path, thread, time::Duration};

use healer_tests::{
    idle::{self, Idle, free_port},
    scratch::{Scratch, unique_name},
    victim::Victim,
    work::{Server, Stream, WorkWatch, send},
};
use healer_userspace::engine::{
    class::{Certainty, Class},
    diagnosis::Diagnosis,
};

/// Keeps what was seen as a trace, where somebody asks for it.
fn record(watch: &WorkWatch, name: &str, pid: u32) {
    if let Ok(dir) = std::env::var("HEALER_RECORD_TRACES") {
        let path = Path::new(&dir).join(format!("{name}.jsonl"));
        fs::write(path, watch.trace(pid)).expect("the directory for traces can be written");
    }
}

#[expect(clippy::print_stdout, reason = "what was said, for whoever reads the test's output")]
fn said<'a>(watch: &'a WorkWatch, name: &str, pid: u32, class: Class) -> Option<&'a Diagnosis> {
    let said = watch.said(pid, class);
    println!(
        "{name}: {}",
        said.map_or("-".to_owned(), |one| format!("{} {}", one.certainty.name(), one.sentence))
    );
    record(watch, name, pid);
    said
}

/// Back when all of it has stopped: a stop signal takes hold of a thread when that thread next runs, so that on a
/// busy machine the others still do some work.
fn stop(pid: u32) {
    use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
    let pid = Pid::from_raw(pid as i32).expect("a pid");
    kill_process(pid, Signal::STOP).expect("it is our child");
    waitid(WaitId::Pid(pid), WaitIdOptions::STOPPED | WaitIdOptions::NOWAIT).expect("it is our child");
}

/// Clients that say `line` and wait.
fn clients(server: &Server, count: usize, line: &str) -> Vec<TcpStream> {
    let streams: Vec<_> = (0..count).map(|_| server.answered()).collect();
    thread::sleep(Duration::from_millis(1500));
    streams.iter().for_each(|stream| send(stream, line));
    streams
}

#[test]
fn work_that_waits_is_a_hang_and_rest_is_none() {
    let mut watch = WorkWatch::default();

    let stopped = Server::start("healthy");
    let spinning = Server::start("spin");
    // Others on this machine must not keep the CPU from it.
    nice(spinning.pid(), -15);
    let deadlocked = Server::start("deadlock");
    let idle = Server::start("healthy");
    let long_poll = Server::start("healthy");
    let burning = Server::start("burn");
    let dir = Scratch::new();
    let (go_port, java_port) = (free_port(), free_port());
    let in_go = Server::of(idle::go(&dir, "healthy", go_port), go_port);
    let in_java = Server::of(idle::java(&dir, "healthy", java_port), java_port);
    let forked = Server::prefork();
    let one_stuck = Server::prefork();
    let stormed = Server::start("deadlock");
    let slow = Server::start("healthy");
    let at_rest = Idle::start();
    at_rest.all().for_each(|(name, pid)| watch.track(name, pid));
    let all = [
        ("in_go", &in_go),
        ("in_java", &in_java),
        ("stopped", &stopped),
        ("spinning", &spinning),
        ("deadlocked", &deadlocked),
        ("idle", &idle),
        ("long_poll", &long_poll),
        ("burning", &burning),
        ("forked", &forked),
        ("one_stuck", &one_stuck),
        ("stormed", &stormed),
        ("slow", &slow),
    ];
    all.iter().for_each(|(name, server)| watch.track(name, server.pid()));
    let _keep_alive: Vec<_> = (0..4).map(|_| idle.answered()).collect();
    let mut held = vec![stopped.answered(), stopped.answered()];
    let answered: Vec<_> = (0..4).map(|_| deadlocked.answered()).collect();
    let monitors: Vec<_> =
        [&in_go, &in_java].iter().flat_map(|server| (0..4).map(|_| server.answered())).collect();
    let polls: Vec<_> = (0..4).map(|_| long_poll.answered()).collect();
    // One for each worker, because it holds its worker.
    let workers: Vec<_> = (0..4).map(|_| forked.answered()).collect();
    let stuck = one_stuck.answered();
    let storm: Vec<_> = (0..4).map(|_| stormed.answered()).collect();
    watch.look_for(3);

    stop(stopped.pid());
    held.iter().for_each(|stream| send(stream, "ping\n"));
    held.push(stopped.connect());
    held.push(spinning.connect());
    held.iter().rev().take(1).for_each(|stream| send(stream, "ping\n"));
    held.push(spinning.connect());
    answered.iter().chain(&monitors).for_each(|stream| send(stream, "lock\n"));
    polls.iter().for_each(|stream| send(stream, "slow\n"));
    workers.iter().for_each(|stream| send(stream, "lock\n"));
    let _queued: Vec<_> = (0..2).map(|_| forked.connect()).collect();
    send(&stuck, "lock\n");
    let others: Vec<_> = (0..3).map(|_| one_stuck.answered()).collect();
    storm.iter().for_each(|stream| send(stream, "lock\n"));
    let _storm = Stream::start(&stormed, "lock\n", Duration::from_millis(500));
    let _slow = Stream::start(&slow, "slow\n", Duration::from_secs(1));
    for _ in 0..36 {
        others.iter().for_each(|stream| send(stream, "ping\n"));
        watch.look_for(1);
    }
    // A busy machine may keep the CPU from them: then they are starved and not hung for a while.
    let hung = [&stopped, &spinning, &deadlocked, &in_go, &in_java, &forked].map(Server::pid);
    for _ in 0..90 {
        if hung
            .iter()
            .all(|pid| watch.said(*pid, Class::Hang).is_some_and(|one| one.certainty == Certainty::Probable))
        {
            break;
        }
        watch.look_for(1);
    }

    let hang = |name, server: &Server| said(&watch, name, server.pid(), Class::Hang);
    let found = hang("stopped", &stopped).expect("stopped with waiting clients");
    assert_eq!(found.certainty, Certainty::Probable);
    assert!(found.sentence.contains("stopped by a signal"), "{}", found.sentence);
    let found = hang("spinning", &spinning).expect("spins while work waits");
    assert_eq!((found.certainty, found.detail.kind.as_deref()), (Certainty::Probable, Some("spinning")));
    let silent = [("deadlocked", &deadlocked), ("in_go", &in_go), ("in_java", &in_java)];
    for (name, server) in silent.into_iter().chain([("forked", &forked)]) {
        let found = hang(name, server).expect("requests in and nothing out");
        assert_eq!(
            (found.certainty, found.detail.kind.as_deref()),
            (Certainty::Probable, Some("unresponsive"))
        );
    }
    // It takes connections still: whether what they ask is ever answered by nature, nobody can see.
    hang("stormed", &stormed).expect("requests in and nothing out, and more of them");
    for (name, pid) in at_rest.all() {
        assert!(said(&watch, name, pid, Class::Hang).is_none(), "{name}");
    }
    let well = [("idle", &idle), ("long_poll", &long_poll), ("burning", &burning)];
    for (name, server) in well.into_iter().chain([("one_stuck", &one_stuck), ("slow", &slow)]) {
        assert!(hang(name, server).is_none(), "{name}");
    }
}

/// A group of the cpu controller, removed on drop.
struct CpuLimit(std::path::PathBuf);

impl CpuLimit {
    /// Five percent of a CPU, where the cpu controller is of v1 or v2.
    fn five_percent() -> Self {
        let v1 = Path::new("/sys/fs/cgroup/cpu");
        let limit = Self(if v1.is_dir() { v1 } else { Path::new("/sys/fs/cgroup") }.join(unique_name()));
        fs::create_dir(&limit.0).expect("this test needs root and a cpu controller");
        if v1.is_dir() {
            fs::write(limit.0.join("cpu.cfs_period_us"), "100000").expect("the period is taken");
            fs::write(limit.0.join("cpu.cfs_quota_us"), "5000").expect("the quota is taken");
        } else {
            fs::write("/sys/fs/cgroup/cgroup.subtree_control", "+cpu").ok();
            fs::write(limit.0.join("cpu.max"), "5000 100000").expect("the limit is taken");
        }
        limit
    }

    fn hold(&self, pid: u32) {
        fs::write(self.0.join("cgroup.procs"), pid.to_string()).expect("it may be moved");
    }
}

impl Drop for CpuLimit {
    fn drop(&mut self) {
        for _attempt in 0..100 {
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn a_throttled_server_is_throttled_and_not_hung() {
    let limit = CpuLimit::five_percent();
    let server = Server::start("healthy");
    let mut watch = WorkWatch::default();
    watch.track("throttled", server.pid());
    let _streams = clients(&server, 4, "ping\n");
    watch.look_for(2);
    limit.hold(server.pid());
    let busy: Vec<_> = (0..4).map(|_| server.connect()).collect();
    for _ in 0..14 {
        for stream in &busy {
            (0..20).for_each(|_| send(stream, "work\n"));
        }
        watch.look_for(1);
    }
    let found = said(&watch, "throttled", server.pid(), Class::CpuThrottled).expect("held back");
    assert!(found.sentence.contains("held back by the CPU limit"), "{}", found.sentence);
    assert!(watch.said(server.pid(), Class::Hang).is_none());
}

#[test]
fn whoever_gets_no_cpu_is_starved_and_the_users_are_named() {
    let cpus = thread::available_parallelism().map_or(1, usize::from);
    let server = Server::start("burn");
    nice(server.pid(), 19);
    let mut watch = WorkWatch::default();
    watch.track("starved", server.pid());
    watch.look_for(2);
    let _others: Vec<_> =
        (0..cpus * 2).map(|_| Victim::start("sh", &["-c", "while :; do :; done"])).collect();
    watch.look_for(12);
    let found = said(&watch, "starved", server.pid(), Class::Starved).expect("starved");
    assert!(found.sentence.contains("the CPU has "), "{}", found.sentence);
    assert!(watch.said(server.pid(), Class::Hang).is_none());
}

fn nice(pid: u32, nice: i32) {
    let pid = rustix::process::Pid::from_raw(pid as i32);
    rustix::process::setpriority_process(pid, nice).expect("it is our child");
}
