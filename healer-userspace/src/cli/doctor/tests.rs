use std::{fs, os::unix::net::UnixListener, path::PathBuf};

use super::*;
use crate::runtimes::CRI_SOCKETS;

/// A made-up node, and who listens there.
struct Node(PathBuf, Vec<UnixListener>);

impl Node {
    fn new(name: &str) -> Self {
        let id = std::process::id();
        let root = std::env::temp_dir().join(format!("healer-doctor-{id}-{name}"));
        fs::create_dir_all(&root).expect("created");
        Self(root, Vec::new())
    }

    fn with(self, path: &str, content: &str) -> Self {
        let path = self.0.join(path);
        fs::create_dir_all(path.parent().expect("has one")).expect("created");
        fs::write(path, content).expect("written");
        self
    }

    fn examine(&self, object: Option<usize>) -> Vec<Check> {
        self.examine_by(object, &Agent::default())
    }

    fn examine_by(&self, object: Option<usize>, agent: &Agent) -> Vec<Check> {
        examine(Root(&self.0), &self.0.join("state"), object, agent)
    }

    fn with_socket(mut self, path: &str) -> Self {
        let path = self.0.join(path);
        fs::create_dir_all(path.parent().expect("has one")).expect("created");
        self.1.push(UnixListener::bind(path).expect("bound"));
        self
    }

    /// The file stays when nobody listens any more.
    fn with_dead_socket(self, path: &str) -> Self {
        let mut node = self.with_socket(path);
        node.1.pop();
        node
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

fn healthy(name: &str) -> Node {
    let files = ["cgroup.kill", "cgroup.freeze", "memory.events", "memory.high", "memory.oom.group"];
    let files = files.into_iter().chain(["memory.pressure"]);
    let slice = |node: Node, file| node.with(&format!("sys/fs/cgroup/system.slice/{file}"), "");
    files
        .fold(Node::new(name), slice)
        .with("proc/sys/kernel/osrelease", "6.12.1-test\n")
        .with("proc/self/status", "Name:\thealer\nCapEff:\t000001ffffffffff\n")
        .with("proc/self/mountinfo", "30 24 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n")
        .with("proc/pressure/memory", "")
        .with("sys/kernel/btf/vmlinux", "BTF")
        .with("sys/kernel/tracing/events/sched/enable", "0")
        .with("sys/kernel/security/lockdown", "none [integrity] confidentiality\n")
}

fn state_of<'a>(checks: &'a [Check], name: &str) -> &'a Check {
    checks.iter().find(|check| check.name == name).expect(name)
}

#[test]
fn a_healthy_node_can_sense() {
    let checks = healthy("healthy").examine(Some(50_000));
    assert!(can_sense(&checks));
    let wrong: Vec<_> = checks
        .iter()
        .filter(|check| [State::Degraded, State::Missing].contains(&check.state))
        .filter(|check| check.name != "locked memory")
        .collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    assert_eq!(state_of(&checks, "cgroups").says, "v2 at /sys/fs/cgroup");
    let files = "cgroup.kill, cgroup.freeze, memory.events, memory.high, memory.oom.group, memory.pressure";
    assert_eq!(state_of(&checks, "cgroup files").says, files);
    assert_eq!(state_of(&checks, "lockdown").says, "integrity");
    assert_eq!(state_of(&checks, "kernel programs").says, "embedded, 49 KiB");
}

#[test]
fn each_thing_that_blinds_is_named_with_its_remedy() {
    let blind = |node: Node, object, name: &str, fix: &str| {
        let checks = node.examine(object);
        assert!(!can_sense(&checks), "{name}");
        let check = state_of(&checks, name);
        assert_eq!(check.state, State::Missing);
        assert!(check.fix.contains(fix), "{}", check.fix);
        assert!(!check.costs.is_empty() && !check.costs.contains("nothing is sensed"), "{}", check.costs);
    };
    blind(healthy("none"), None, "kernel programs", "cargo xtask build");
    let node = healthy("caps").with("proc/self/status", "CapEff:\t0000000000000000\n");
    blind(node, Some(1), "CAP_BPF", "run as root");
    let node = healthy("lock").with("sys/kernel/security/lockdown", "none integrity [confidentiality]");
    blind(node, Some(1), "lockdown", "lockdown=integrity");
}

#[test]
fn without_types_the_sensors_take_lesser_ways() {
    let node = healthy("btf");
    fs::remove_file(node.0.join("sys/kernel/btf/vmlinux")).expect("removed");
    let checks = node.examine(Some(1));
    assert!(can_sense(&checks));
    let types = state_of(&checks, "kernel types (BTF)");
    assert_eq!(types.state, State::Degraded);
    assert!(types.fix.contains("CONFIG_DEBUG_INFO_BTF") && types.costs.contains("tracepoint"), "{types:?}");
    assert!(!types.costs.contains("no deadlocks"), "the tasks are looked at in /proc: {types:?}");
}

#[test]
fn a_pid_namespace_of_its_own_is_told_with_its_remedy() {
    let with = |namespace: &str| {
        let node = healthy(&format!("pids-{namespace}"));
        fs::create_dir_all(node.0.join("proc/self/ns")).expect("made");
        let link = node.0.join("proc/self/ns/pid");
        std::os::unix::fs::symlink(format!("pid:[{namespace}]"), link).expect("linked");
        let checks = node.examine(Some(1));
        state_of(&checks, "pid namespace").clone()
    };
    assert_eq!(with("4026531836").state, State::Ok);
    let own = with("4026532449");
    assert_eq!(own.state, State::Missing);
    assert!(own.fix.contains("hostPID") && own.fix.contains("--pid=host"), "{own:?}");
}

#[test]
fn root_of_a_user_namespace_is_told_that_it_is_not_the_machines() {
    let node = healthy("users");
    fs::create_dir_all(node.0.join("proc/self/ns")).expect("made");
    let link = node.0.join("proc/self/ns/user");
    std::os::unix::fs::symlink("user:[4026532448]", link).expect("linked");
    let checks = node.examine(Some(1));
    assert!(!can_sense(&checks));
    let check = state_of(&checks, "user namespace");
    assert!(check.fix.contains("hostUsers") && check.fix.contains("unshare"), "{check:?}");
}

#[test]
fn an_older_wide_right_includes_the_narrow_ones() {
    let admin = format!("CapEff:\t{:016x}\n", 1_u64 << 21);
    let checks = healthy("admin").with("proc/self/status", &admin).examine(Some(1));
    assert!(can_sense(&checks));
    assert_eq!(state_of(&checks, "CAP_BPF").says, "held as part of a wider right");
    assert_eq!(state_of(&checks, "CAP_KILL").state, State::Degraded);
}

#[test]
fn a_hybrid_hierarchy_and_a_missing_tracefs_degrade() {
    let mounts = "\
31 24 0:27 / /sys/fs/cgroup/unified rw shared:9 - cgroup2 cgroup2 rw
32 24 0:28 / /sys/fs/cgroup/memory rw shared:10 - cgroup cgroup rw,memory
";
    let node = healthy("hybrid").with("proc/self/mountinfo", mounts);
    let node = node
        .with("sys/fs/cgroup/unified/a/cgroup.kill", "")
        .with("sys/fs/cgroup/unified/a/cgroup.freeze", "");
    fs::remove_dir_all(node.0.join("sys/kernel/tracing")).expect("removed");
    let checks = node.examine(Some(1));
    assert!(can_sense(&checks));
    let cgroups = state_of(&checks, "cgroups");
    assert_eq!(cgroups.state, State::Degraded);
    assert_eq!(cgroups.says, "hybrid: v2 at /sys/fs/cgroup/unified, v1 for memory");
    let files = state_of(&checks, "cgroup files");
    assert_eq!(files.says, "no memory.events, memory.high, memory.oom.group, memory.pressure");
    assert!(files.costs.contains("slows a group") && files.fix.contains("unified"), "{files:?}");
    let tracefs = state_of(&checks, "tracefs");
    assert_eq!(tracefs.fix, "mount -t tracefs tracefs /sys/kernel/tracing");
}

#[test]
fn a_socket_is_found_and_a_plain_file_is_none() {
    let node = healthy("sockets").with("run/containerd/containerd.sock", "");
    let checks = node.with_socket("var/run/docker.sock").examine(Some(1));
    assert_eq!(state_of(&checks, "docker").state, State::Ok);
    assert_eq!(state_of(&checks, CRI).state, State::Absent);
}

const CRI: &str = "container runtime (CRI)";

#[test]
fn every_place_of_the_container_runtime_is_looked_at() {
    for (number, path) in CRI_SOCKETS.iter().enumerate() {
        let node = healthy(&format!("cri-{number}")).with_socket(path.trim_start_matches('/'));
        let checks = node.examine(Some(1));
        let check = state_of(&checks, CRI);
        assert_eq!((check.state, check.says.as_str()), (State::Ok, *path));
    }
}

#[test]
fn a_container_runtime_that_has_died_does_not_hide_one_that_answers() {
    let (dead, live) = ("run/cri-dockerd.sock", "run/containerd/containerd.sock");
    let node = healthy("cri-dead").with_dead_socket(dead);
    let checks = node.examine(Some(1));
    let alone = state_of(&checks, CRI);
    assert_eq!(alone.state, State::Degraded);
    assert!(
        alone.says.starts_with("/run/cri-dockerd.sock: ") && alone.fix.contains("{cri: PATH}"),
        "{alone:?}"
    );
    let checks = node.with_socket(live).examine(Some(1));
    let check = state_of(&checks, CRI);
    assert_eq!((check.state, check.says.as_str()), (State::Ok, "/run/containerd/containerd.sock"));

    let both = healthy("cri-both").with_socket("run/cri-dockerd.sock").with_socket(live);
    let checks = both.examine(Some(1));
    assert_eq!(state_of(&checks, CRI).says, "/run/cri-dockerd.sock");
}

#[test]
fn what_the_administrator_names_is_looked_at() {
    let node = healthy("named").with_socket("run/podman/podman.sock").with("etc/kube.yaml", "");
    let checks = node.examine(Some(1));
    let podman = state_of(&checks, "docker");
    assert_eq!(podman.state, State::Degraded);
    assert!(podman.fix.contains("runtimes: {docker: /run/podman/podman.sock}"), "{podman:?}");
    assert_eq!(state_of(&checks, "kubernetes").state, State::Absent);

    let mut agent = Agent::default();
    agent.runtimes.docker = "/run/podman/podman.sock".into();
    agent.kubernetes.kubeconfig = Some("/etc/kube.yaml".into());
    let checks = node.examine_by(Some(1), &agent);
    assert_eq!(state_of(&checks, "docker").state, State::Ok);
    assert_eq!(state_of(&checks, "kubernetes").says, "kubeconfig /etc/kube.yaml");
    agent.kubernetes.kubeconfig = Some("/etc/none.yaml".into());
    assert_eq!(state_of(&node.examine_by(Some(1), &agent), "kubernetes").state, State::Degraded);
}

#[test]
fn of_docker_and_podman_the_one_that_is_not_asked_is_told() {
    let podman = "run/podman/podman.sock";
    let node = healthy("both").with_socket("var/run/docker.sock").with_socket(podman);
    let checks = node.examine(Some(1));
    assert_eq!(state_of(&checks, "docker").state, State::Ok);
    let beside = state_of(&checks, "podman");
    assert_eq!(beside.state, State::Degraded);
    assert!(beside.fix.contains("[podman, restart, NAME]"), "{beside:?}");

    let names_podman = |checks: &[Check]| checks.iter().any(|check| check.name == "podman");
    let alone = healthy("alone").with_socket("var/run/docker.sock");
    assert!(!names_podman(&alone.examine(Some(1))));
    let mut agent = Agent::default();
    agent.runtimes.docker = "/run/podman/podman.sock".into();
    let node = healthy("podman").with_socket(podman);
    assert!(!names_podman(&node.examine_by(Some(1), &agent)));
}

#[test]
fn a_state_directory_open_to_others_is_told() {
    use std::os::unix::fs::PermissionsExt as _;
    let node = healthy("open").with("state/x", "");
    fs::set_permissions(node.0.join("state"), fs::Permissions::from_mode(0o755)).expect("set");
    let checks = node.examine(Some(1));
    let state = state_of(&checks, "state directory");
    assert_eq!(state.state, State::Degraded);
    assert!(state.fix.starts_with("chmod 0700 "), "{}", state.fix);
}

#[test]
fn the_page_shows_costs_and_fixes_under_what_is_wrong() {
    let checks = [
        Check::ok("kernel", "Linux 6.12"),
        Check::missing("CAP_BPF", "not held", "no kernel programs", "run as root").needed(),
        Check::absent("docker", "no socket at /x", "no restart"),
    ];
    assert_eq!(
        render(&checks, Paint(false)),
        "\
ok       kernel   Linux 6.12
missing  CAP_BPF  not held
                  costs: no kernel programs
                  fix: run as root
absent   docker   no socket at /x
                  costs: no restart

healer cannot sense by kernel programs here, only by what needs none: see what is missing above.
"
    );
}
