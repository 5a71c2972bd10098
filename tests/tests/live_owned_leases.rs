//! What systemd and Docker keep account of is lent through them, and given back whatever becomes of healer.
//!
//! act rights: docker_pauses_and_slows_containers_and_a_killed_healer_leaves_nothing_behind

use std::fs;

use healer_tests::{
    dockerd::Dockerd,
    home::{Agent, Home, count},
    machine::Machine,
    scratch::Scratch,
    victim::built,
};
use rustix::process::Signal;

/// Sick by its probe, which needs no right of the agent's.
fn policy(name: &str, who: &str, rung: &str) -> String {
    format!(
        "apiVersion: healer.dev/v1alpha1\nkind: HealPolicy\nmetadata: {{name: {name}}}\nspec:\n  mode: enforce\n  \
         match: {{{who}}}\n  \
         expect: {{probe: {{exec: {{command: [/bin/false]}}, period: 1s, failures: 1, startGrace: 1ms}}}}\n  \
         rules:\n    - name: deaf\n      when: [{{class: probe_failed}}]\n      escalate: [{rung}]\n  \
         verify: {{within: 90s, stableFor: 60s}}\n---\n"
    )
}

fn agent<'a>(home: &'a Home, runtimes: &str) -> Agent<'a> {
    let path = home.path().join("agent.yaml");
    let text = format!("apiVersion: healer.dev/v1alpha1\nkind: AgentConfig\nruntimes: {{{runtimes}}}\n");
    fs::write(&path, text).expect("the scratch directory can be written");
    let mut command = home.run_command();
    command.arg("--config").arg(path);
    home.agent_of(command)
}

fn wait_for_results(agent: &mut Agent<'_>, wanted: usize) {
    agent.wait("the acts' results", |agent| {
        (wanted <= count(&agent.home().audit(), "result", "\"done\"")).then_some(())
    });
}

fn kill(mut agent: Agent<'_>) {
    agent.signal(Signal::KILL);
    agent.end();
}

/// Paused or not, CPU quota, CPU shares: what Docker itself says of a container.
fn account(docker: &Dockerd, name: &str) -> String {
    let format = "{{.State.Paused}} {{.HostConfig.CpuQuota}} {{.HostConfig.CpuShares}}";
    docker.docker(&["inspect", "--format", format, name])
}

#[test]
fn docker_pauses_and_slows_containers_and_a_killed_healer_leaves_nothing_behind() {
    let docker = Dockerd::start();
    for name in ["halted", "slow", "twin"] {
        docker.run(name, &["--label", &format!("tier={name}")], &["sleep", "100000"]);
    }
    let halt =
        policy("halted", "containerLabels: {tier: halted}", "{do: freeze, scope: container, undoAfter: 10m}");
    let slow = policy(
        "slow",
        "containerLabels: {tier: slow}",
        "{do: throttle, cpu: 20%, cpuWeight: 50, undoAfter: 10m}",
    );
    let home = Home::new(&(halt + &slow));
    let mut agent = agent(&home, &format!("docker: {}", docker.socket().display()));
    agent.wait("what Docker says", |_| {
        (account(&docker, "halted") == "true 0 0" && account(&docker, "slow") == "false 20000 512")
            .then_some(())
    });
    wait_for_results(&mut agent, 2);
    kill(agent);
    assert_eq!(account(&docker, "halted"), "true 0 0", "it is lent still");

    let output = home.healer(&["undo"]);
    let says = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && says.contains("of container"), "{says}");
    assert_eq!(account(&docker, "halted"), "false 0 0");
    // -1 is how Docker takes a quota back, 1024 what it gives without a word.
    assert_eq!(account(&docker, "slow"), "false -1 1024");
    assert_eq!(account(&docker, "twin"), "false 0 0", "never touched");
}

/// Memory, memory and swap, tasks: what Docker itself says of a container.
fn limits(docker: &Dockerd, name: &str) -> String {
    let format = "{{.HostConfig.Memory}} {{.HostConfig.MemorySwap}} {{.HostConfig.PidsLimit}}";
    docker.docker(&["inspect", "--format", format, name])
}

#[test]
fn docker_gives_more_and_a_killed_healer_leaves_nothing_behind() {
    let docker = Dockerd::start();
    for name in ["short", "twin"] {
        let tier = format!("tier={name}");
        let options = ["--label", tier.as_str(), "--memory", "64m", "--pids-limit", "100"];
        docker.run(name, &options, &["sleep", "100000"]);
    }
    let before = limits(&docker, "short");
    let rung = "{do: raise_limit, memoryMax: 1Gi, pidsMax: 140, by: 50%, undoAfter: 10m}";
    let home = Home::new(&policy("short", "containerLabels: {tier: short}", rung));
    let mut agent = agent(&home, &format!("docker: {}", docker.socket().display()));
    agent.wait("what Docker says", |_| {
        let says = limits(&docker, "short");
        (says.starts_with("100659200 ") && says.ends_with(" 140")).then_some(())
    });
    wait_for_results(&mut agent, 1);
    kill(agent);
    assert_ne!(limits(&docker, "short"), before, "it is lent still");

    let output = home.healer(&["undo"]);
    let says = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && says.contains("memory limit of container"), "{says}");
    // Swap as well.
    assert_eq!((limits(&docker, "short"), limits(&docker, "twin")), (before.clone(), before));
}

#[test]
fn systemd_slows_a_unit_and_the_next_healer_gives_it_back() {
    let dir = Scratch::new();
    let program = built(&dir, "fragile");
    let start = "ExecStart=/usr/local/bin/fragile";
    let machine = Machine::boot(&[("slow", start), ("twin", start)], &[&program]);
    let quota = |unit: &str| machine.systemctl(&["show", "-P", "CPUQuotaPerSecUSec", unit]);
    let rung = "{do: throttle, cpu: 20%, undoAfter: 10m}";
    let home = Home::new(&policy("slow", "unit: [slow.service]", rung));
    let bus = format!("systemd: {}", machine.bus().display());
    let mut first = agent(&home, &bus);
    first.wait("what systemd says", |_| (quota("slow") == "200ms").then_some(()));
    wait_for_results(&mut first, 1);
    kill(first);
    assert_eq!(quota("slow"), "200ms", "it is lent still");

    // The next one must not lend it anew.
    home.write_policy(&policy("slow", "unit: [slow.service]", rung).replace("enforce", "observe"));
    let mut next = agent(&home, &bus);
    next.wait("the undo", |next| {
        (count(&next.home().audit(), "undone", "healer had ended") == 1).then_some(())
    });
    assert_eq!((quota("slow").as_str(), quota("twin").as_str()), ("infinity", "infinity"));
}
