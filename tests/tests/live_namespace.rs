//! Hands in a cgroup namespace of their own, as a pod has it: others' paths lead out of it by `/..`, from below one parent.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command},
    sync::Arc,
    thread,
    time::Duration,
};

use healer_tests::cgroup::MemoryCgroup;
use healer_userspace::{
    action::{self, host::linux::Linux},
    engine::{
        class::Class,
        command::{Act, ActionKey, ActionOutcome, IncidentId, Look},
        policy::{ActionName, Mode, Protect, Rung, Scope, Terms},
    },
    identity::{
        cgroup::Membership,
        process::{Process, ProcessId, WorkloadKey},
    },
    supervise::{child::start_of, server::Supervisors},
};

/// Moves us back out, before the cgroup is removed with all who are in it.
struct Guest(PathBuf);

impl Guest {
    fn enter(cgroup: &MemoryCgroup) -> Self {
        let door = cgroup.procs();
        let home = door.parent().and_then(Path::parent).unwrap().join("cgroup.procs");
        fs::write(door, std::process::id().to_string()).unwrap();
        Self(home)
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        fs::write(&self.0, std::process::id().to_string()).ok();
    }
}

#[test]
fn a_neighbours_cgroup_is_found_whole_and_killed_and_its_twin_is_not() {
    let (own, sick, healthy) = (MemoryCgroup::new(), MemoryCgroup::new(), MemoryCgroup::new());
    let (mut patient, mut twin) = (sleeper(&sick), sleeper(&healthy));
    // By hand: how paths lie is looked at once in a process' life, and that is to be in there.
    let whole = path_below_the_root(patient.id(), &sick);
    let guest = Guest::enter(&own);
    // SAFETY: of all namespaces only this thread's cgroup namespace is another one; descriptors stay shared.
    let unshared = unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWCGROUP) };
    unshared.expect("this test needs root");
    let lines = fs::read_to_string(format!("/proc/{}/cgroup", patient.id())).unwrap();
    assert!(lines.contains(":/../"), "seen from below a neighbour: {lines}");
    assert_eq!(path_of(patient.id()), whole);

    let ActionOutcome::Done { says } = kill_cgroup_of(patient.id()) else { panic!("it was not found") };
    assert!(says.contains(&whole), "{says}");
    patient.wait().unwrap();
    assert!(twin.try_wait().unwrap().is_none(), "the healthy one is not touched");
    twin.kill().unwrap();
    twin.wait().unwrap();
    drop(guest);
}

fn sleeper(cgroup: &MemoryCgroup) -> Child {
    let child = Command::new("sh").args(["-c", &cgroup.run(Path::new("sleep 300"))]).spawn().unwrap();
    wait_for_member(cgroup, child.id());
    child
}

fn wait_for_member(cgroup: &MemoryCgroup, pid: u32) {
    for _look in 0..6000 {
        let members = fs::read_to_string(cgroup.procs()).unwrap();
        if members.lines().any(|line| line == pid.to_string()) {
            return;
        }
        thread::sleep(Duration::from_millis(5));
    }
    panic!("it has not joined its cgroup");
}

fn path_below_the_root(pid: u32, cgroup: &MemoryCgroup) -> String {
    let door = cgroup.procs();
    let name = door.parent().and_then(Path::file_name).unwrap().to_str().unwrap();
    let lines = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let line = lines.lines().find(|line| line.ends_with(name)).expect("its own cgroup");
    line.splitn(3, ':').nth(2).unwrap().to_owned()
}

fn path_of(pid: u32) -> String {
    let lines = fs::read(format!("/proc/{pid}/cgroup")).unwrap();
    Membership::parse(&lines).path().1.to_owned()
}

fn kill_cgroup_of(pid: u32) -> ActionOutcome {
    let target = ProcessId { pid, start: start_of(pid).unwrap() };
    let act = Act {
        key: ActionKey("k".to_owned()),
        incident: IncidentId(1),
        class: Class::Hang,
        mode: Mode::Enforce,
        rung: Rung {
            action: ActionName::Kill,
            scope: Scope::Cgroup,
            grace: None,
            timeout: Some(Duration::from_secs(30)),
            signal: None,
            command: Vec::new(),
            terms: Terms::default(),
        },
        workload: WorkloadKey("program/x".to_owned()),
        target: Process { pid, start: target.start, ..Process::default() },
        ignores_signal: false,
        look: vec![Look::SameProcess(target), Look::NotProtected(target)],
        turns: Vec::new(),
        incident_json: "{}".to_owned(),
    };
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build().unwrap();
    let (told, _never_told) = tokio::sync::mpsc::channel(1);
    let host = Arc::new(Linux::new(Supervisors::unbound(told), Protect::default()));
    runtime.block_on(action::perform(&act, &*host))
}
