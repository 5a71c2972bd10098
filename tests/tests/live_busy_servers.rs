//! Servers that others have written, under load in cgroups that they nearly fill by design: nothing is said of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::process::CommandExt as _,
    process::{Command, Stdio},
    time::Duration,
};

use healer_tests::{
    cgroup::MemoryCgroup,
    home::{Home, pause},
    idle::{free_port, nginx_command},
    policies::policy,
    postgres::{Cluster, QUITS_BY},
    scratch::Scratch,
    victim::Victim,
};
use rustix::process::{Pid, Signal, kill_process_group};

const TELL: &str = "
  rules:
    - {name: tell, when: [{class: memory_leak}, {class: memory_pressure}, {class: oom_kill}], escalate: [{do: notify}]}
";
const MIB: u64 = 1 << 20;
/// Two hundred megabytes of heap, kept to three quarters, the rest garbage: full every few seconds, by design.
const HEAP: &str = "
import java.util.ArrayList;
public class Heap {
    static byte[] garbage;
    public static void main(String[] args) throws Exception {
        ArrayList<byte[]> kept = new ArrayList<>();
        while (true) {
            kept.add(new byte[1 << 20]);
            if (kept.size() > 140) kept.subList(0, 70).clear();
            garbage = new byte[1 << 20];
            Thread.sleep(50);
        }
    }
}
";

/// A server or its load, in a memory cgroup of its own.
struct Boxed {
    /// Before the group: it must be empty to be removed.
    server: Victim,
    /// Each with its process group: what a shell has started would outlive it, and try for ever to connect.
    loads: Vec<Victim>,
    group: MemoryCgroup,
}

impl Boxed {
    fn new(mib: u64, command: &Command) -> Self {
        let group = MemoryCgroup::new();
        group.set_limit(mib * MIB);
        let mut inside = Command::new("sh");
        inside.args(["-c", &format!("echo $$ > {}; exec \"$@\"", group.procs().display()), "sh"]);
        inside.arg(command.get_program()).args(command.get_args());
        inside.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self { server: Victim::spawn(&mut inside), loads: Vec::new(), group }
    }

    /// Outside of the cgroup, again and again; with pauses, so that nobody starves on a small machine.
    fn loaded_by(mut self, load: &str) -> Self {
        let load = format!("while :; do {load}; sleep 0.5; done >/dev/null 2>&1");
        let mut command = Command::new("sh");
        command.args(["-c", &load]).process_group(0);
        self.loads.push(Victim::spawn(&mut command));
        self
    }

    fn pids(&self) -> BTreeSet<u64> {
        let members = fs::read_to_string(self.group.procs()).unwrap_or_default();
        members.lines().filter_map(|line| line.parse().ok()).collect()
    }
}

impl Drop for Boxed {
    fn drop(&mut self) {
        for load in &self.loads {
            // Not reaped yet: the group is still its own.
            if let Some(group) = Pid::from_raw(load.tgid().cast_signed()) {
                kill_process_group(group, Signal::KILL).ok();
            }
        }
    }
}

fn redis(dir: &Scratch) -> Boxed {
    let port = free_port().to_string();
    let mut command = Command::new("redis-server");
    command.args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--dir"]).arg(dir.path());
    command.args(["--maxmemory", "90mb", "--maxmemory-policy", "allkeys-lru"]);
    let load = format!("redis-benchmark -p {port} -t set,get -d 4096 -r 1000000 -n 8000 -c 8");
    Boxed::new(128, &command).loaded_by(&load)
}

fn nginx(dir: &Scratch) -> Boxed {
    let port = free_port();
    let load = format!("wrk -t1 -c16 -d1s http://127.0.0.1:{port}/");
    Boxed::new(64, &nginx_command(dir, port)).loaded_by(&load)
}

fn postgres(dir: &Scratch) -> Boxed {
    let cluster = Cluster::new(dir);
    let mut boxed = Boxed::new(128, &cluster.server(&["listen_addresses=", "shared_buffers=64MB"]));
    boxed.server.tell_first(QUITS_BY);
    let bench = cluster.pgbench();
    boxed.loaded_by(&format!("{bench} -i -s 3 postgres; {bench} -c 4 -R 150 -T 20 postgres"))
}

fn java(dir: &Scratch) -> Boxed {
    let source = dir.path().join("Heap.java");
    fs::write(&source, HEAP).expect("the scratch directory can be written");
    let built = Command::new("javac").arg("-d").arg(dir.path()).arg(&source).status();
    assert!(built.is_ok_and(|status| status.success()), "this test needs a JDK");
    let mut command = Command::new("java");
    command.args(["-Xms200m", "-Xmx200m", "-XX:+UseSerialGC", "-XX:ReservedCodeCacheSize=16m", "-cp"]);
    command.arg(dir.path()).arg("Heap");
    Boxed::new(272, &command)
}

#[test]
fn nothing_is_said_of_busy_servers() {
    let home = Home::new(&policy("shadow", "comm: \"*\"", TELL));
    let agent = home.agent();
    let dirs = [(); 4].map(|()| Scratch::new());
    let servers = BTreeMap::from([
        ("redis", redis(&dirs[0])),
        ("nginx", nginx(&dirs[1])),
        ("postgres", postgres(&dirs[2])),
        ("java", java(&dirs[3])),
    ]);
    let mut seen: BTreeMap<&str, BTreeSet<u64>> = BTreeMap::new();
    let seconds = if std::env::var_os("HEALER_FULL").is_some() { 300 } else { 45 };
    for _second in 0..seconds {
        for (name, server) in &servers {
            seen.entry(name).or_default().extend(server.pids());
        }
        pause(Duration::from_secs(1));
    }
    for (name, server) in &servers {
        assert!(!server.pids().is_empty(), "{name} runs:\n{}", agent.log());
        let is_its = |pid: &serde_json::Value| pid.as_u64().is_some_and(|pid| seen[name].contains(&pid));
        let mut said = home.audit();
        // Who gets no CPU on a busy machine is told so, and who writes to a disk that builds have filled: that is true.
        let is_the_machine =
            |found: &serde_json::Value| found["class"] == "starved" || found["class"] == "disk_full";
        said.retain(|found| {
            found["record"] == "diagnosis" && !is_the_machine(found) && is_its(&found["target"]["pid"])
        });
        assert!(said.is_empty(), "{name}: {said:?}");
    }
}
