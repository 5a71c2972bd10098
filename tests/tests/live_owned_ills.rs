//! Units and containers that deadlock and that leak: named as their owner names them, restarted by it, verified; their
//! healthy twins are not touched, and the owner's own restart is not doubled.

use std::fs;

use healer_tests::{
    agent::{Agent, number_after, pids_in},
    dockerd::Dockerd,
    home::{Home, signal_to, until},
    lent::Group,
    machine::Machine,
    scratch::Scratch,
    supervised::{Programs, Supervised, lives, name},
    victim::built,
};
use rustix::process::Signal;

const MIB: u64 = 1 << 20;
/// A busy machine must not make it give up its looks.
const ROOM: &str = "overhead: {cpuPercent: 50, memory: 512Mi}\n";

/// The deadlocked and the leaking go by policies of their own.
fn policy(name: &str, who: &str) -> String {
    format!(
        "---\napiVersion: healer.dev/v1alpha1\nkind: HealPolicy\nmetadata: {{name: {name}}}\nspec:\n  mode: enforce\n  \
         match: {{{who}}}\n  expect: {{running: true}}\n  rules:\n    - {{name: stuck, when: [{{class: deadlock}}], \
         escalate: [{{do: restart, grace: 1s}}]}}\n    - {{name: leak, when: [{{class: memory_leak, timeToLimit: \
         {{under: 20s}}}}], escalate: [{{do: restart, grace: 1s}}]}}\n  verify: {{within: 20s, stableFor: 500ms}}\n"
    )
}

/// Told to fall ill, each in its way, once they are ready to hear it.
fn fall_ill(pids: &[u32]) {
    for pid in pids {
        until("it waits for its signal", || awaits_a_signal(*pid).then_some(()));
        signal_to(*pid, Signal::USR1);
    }
}

/// Not by what it blocks: what is waited for is let through meanwhile.
fn awaits_a_signal(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/wchan")).is_ok_and(|place| place.contains("sigtimedwait"))
}

/// The sentence names whom its owner names; what the owner did is read back; the successor is well.
fn is_healed(agent: &Agent, pid: u32, name: &str, says: &str, done: &str) -> u32 {
    agent.wait_for(&[&format!("ails[{pid}] of {name}"), says]);
    let done = agent.wait_for(&[done]);
    let after = number_after(&done, "main pid ");
    agent.wait_for(&["closed  healed", &format!("ails[{after}] has lived")]);
    assert_ne!(after, pid);
    after
}

#[test]
fn units_that_deadlock_or_leak_are_restarted_by_systemd() {
    let dir = Scratch::new();
    let program = built(&dir, "ails");
    // Ignored signals are inherited: systemd alone would wait for the last for 90 s.
    let start = |role: &str| match role {
        "deaf" => "/bin/sh -c 'trap \"\" TERM; exec /usr/local/bin/ails stuck'".to_owned(),
        how => format!("/usr/local/bin/ails {how}"),
    };
    let lines = |role: &str| format!("ExecStart={}\nRestart=always\nRestartSec=100ms", start(role));
    let roles = ["stuck", "leak", "turns", "steady", "deaf"];
    let services = roles.map(lines);
    let services: Vec<(&str, &str)> = roles.into_iter().zip(services.iter().map(String::as_str)).collect();
    let machine = Machine::boot(&services, &[&program]);
    let main = |unit: &str| {
        let of_it = || pids_in(&format!("/payload/system.slice/{unit}.service"));
        until(&format!("{unit} runs its program"), || {
            let pids = of_it();
            let runs = |pid: &u32| {
                std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm == "ails\n")
            };
            (pids.len() == 1 && pids.iter().all(runs)).then(|| pids[0])
        })
    };
    let pids = roles.map(main);
    // No memory controller reaches into the machine here: the limits are the test's own.
    let groups = [(); 2].map(|()| Group::of(&["memory"]));
    for (group, pid) in groups.iter().zip([pids[1], pids[3]]) {
        group.set_memory(256 * MIB);
        group.take(pid);
    }
    let names = "unit: [stuck.service, leak.service, turns.service, steady.service, deaf.service]";
    let bus = format!("{ROOM}runtimes: {{systemd: {}}}", machine.bus().display());
    let agent = Agent::start(&bus, &policy("units", names));
    fall_ill(&pids);
    for (pid, unit, says) in [
        (pids[0], "stuck", "threads wait for each other"),
        (pids[1], "leak", "leaks: "),
        (pids[4], "deaf", "threads wait for each other"),
    ] {
        let done = format!("systemd restarted {unit}.service: active (running)");
        let after = is_healed(&agent, pid, &format!("{unit}.service"), says, &done);
        assert_eq!(main(unit), after);
        assert_eq!(machine.systemctl(&["show", "-P", "NRestarts", unit]), "0", "systemd did not do it");
        assert_eq!(agent.lines(&[&format!("systemd restarted {unit}.service")]).len(), 1, "{}", agent.log());
    }
    agent.wait_for(&["systemd restarted deaf.service", "it had not ended in time: SIGKILL"]);
    for (unit, pid) in [("turns", pids[2]), ("steady", pids[3])] {
        assert_eq!(main(unit), pid, "the healthy one is not touched");
        assert_eq!(agent.lines(&[&format!("restarted {unit}.service")]), [""; 0], "{}", agent.log());
    }
}

#[test]
fn containers_that_deadlock_or_leak_are_restarted_by_docker() {
    let dir = Scratch::new();
    let program = built(&dir, "ails");
    let docker = Dockerd::start();
    let mount = format!("{}:/ails:ro", program.display());
    let roles = ["stuck", "leak", "turns", "steady"];
    for role in roles {
        let options =
            ["--label", "tier=front", "--memory", "256m", "--memory-swap", "256m", "--restart", "always"];
        let files = ["-v", &mount, "-v", "/lib:/lib:ro", "-v", "/lib64:/lib64:ro"];
        docker.run_program(role, &[&options[..], &files].concat(), &["/ails", role]);
    }
    let pids = roles.map(|role| docker.pid(role));
    let policies = policy("labelled", "containerLabels: {tier: front}, avoid: [{container: leak}]")
        + &policy("named", "container: leak");
    let agent =
        Agent::start(&format!("{ROOM}runtimes: {{docker: {}}}", docker.socket().display()), &policies);
    fall_ill(&pids);
    for (pid, name, says) in [(pids[0], "stuck", "threads wait for each other"), (pids[1], "leak", "leaks: ")]
    {
        let done = format!("docker restarted container {name}: running");
        let after = is_healed(&agent, pid, name, says, &done);
        assert_eq!(docker.pid(name), after);
        let restarts = docker.docker(&["inspect", "--format", "{{.RestartCount}}", name]);
        assert_eq!(restarts, "0", "Docker did not do it by itself");
        assert_eq!(agent.lines(&[&format!("docker restarted container {name}")]).len(), 1, "{}", agent.log());
    }
    for (name, pid) in [("turns", pids[2]), ("steady", pids[3])] {
        assert_eq!(docker.pid(name), pid, "the healthy one is not touched");
    }
}

/// Its master lives, and would start another one: the whole is restarted by whoever supervises it.
#[test]
fn a_worker_that_deadlocks_has_its_supervised_master_restarted() {
    let dir = Scratch::new();
    let program = built(&dir, "ails");
    let workers = Programs(program.canonicalize().expect("it is built"));
    let master = |how: &str| {
        let path = program.display();
        format!("trap 'kill $w; exit 0' TERM; while :; do {path} {how} & w=$!; wait $w; done")
    };
    let (sick, twin) = (name(), name());
    let home = Home::new(&policy("family", &format!("supervise: [{sick}, {twin}]")));
    let mut agent = home.agent();
    let twin = Supervised::start(&home, &twin, &["sh", "-c", &master("turns")]);
    let of_twin = until("the twin's worker", || workers.pids().first().copied());
    let sick = Supervised::start(&home, &sick, &["sh", "-c", &master("stuck")]);
    let worker = until("the worker", || workers.pids().into_iter().find(|pid| *pid != of_twin));
    let (before, of_sick) = (twin.child(), sick.child());
    fall_ill(&[worker, of_twin]);
    let said = agent.record(&sick.workload(), "diagnosis", "threads wait for each other");
    assert_eq!(said["target"]["pid"], worker, "{said}");
    agent.record(&sick.workload(), "result", "restarted by its supervisor");
    agent.record(&sick.workload(), "closed", "\"outcome\":\"healed\"");
    assert_ne!(sick.child(), of_sick);
    assert!(!lives(worker));
    assert_eq!((twin.child(), lives(of_twin)), (before, true), "the healthy one is not touched");
    assert!(home.of(&twin.workload()).iter().all(|record| record["event"] != "result"), "{}", agent.log());
}
