//! What every kernel must call alike, with the same certainty; the healthy neighbour is not named. Needs root.
//! And what every rung must: each is forced on the agent, and what it shows as missing is not said.
//!
//! guest: an_oom_kill_names_its_victim_and_who_asked_for_more a_fault_in_a_thread_is_a_crash_with_its_address
//! guest: a_program_started_again_and_again_to_fail_is_a_crash_loop
//! guest: a_blow_by_cgroup_kill_is_told_from_others_and_healed
//! systemd guest: an_oom_kill_names_its_victim_and_who_asked_for_more a_fault_in_a_thread_is_a_crash_with_its_address
//! systemd guest: a_program_started_again_and_again_to_fail_is_a_crash_loop
//! systemd guest: a_blow_by_cgroup_kill_is_told_from_others_and_healed
//! old guest: a_fault_in_a_thread_is_a_crash_with_its_address an_oom_kill_names_its_victim_and_who_asked_for_more
//! old guest: a_program_started_again_and_again_to_fail_is_a_crash_loop

use std::{path::Path, process::Command};

use healer_tests::{
    binary::healer,
    cgroup::{MemoryCgroup, V2Cgroup},
    home::{Agent, Home, count, until},
    ladder::{Shown, agent_on},
    policies::restarting,
    scratch::Scratch,
    supervised::{Supervised, name},
    victim::{HOGS, Victim, built},
};
use healer_userspace::{
    fault::{Fault, victim::Victim as FaultVictim},
    sense::Level,
};
use serde_json::Value;

const LIMIT: u64 = 64 << 20;
const FOREVER: [&str; 2] = ["sleep", "1000"];

/// What an agent can say of these failures beside their classes, which are always the same.
#[derive(Clone, Copy)]
struct Tells {
    level: Level,
    limit: bool,
    address: bool,
    killer: bool,
}

const BEST: Tells = Tells { level: Level::TpBtf, limit: true, address: true, killer: true };

const EVERY: [Tells; 4] = [
    BEST,
    Tells { level: Level::RawTp, ..BEST },
    Tells { level: Level::Tracepoint, limit: false, address: false, ..BEST },
    Tells { level: Level::User, address: false, killer: false, ..BEST },
];

/// A home for an agent, and the name of what it heals.
struct Node {
    tells: Tells,
    home: Home,
    name: String,
}

impl Node {
    fn of(tells: &Tells) -> Self {
        let name = name();
        Self { tells: *tells, home: Home::new(&restarting(&format!("'{name}*'"))), name }
    }

    /// What is expected of it and what it shows are one thing.
    fn shows_what_it_lacks(&self) {
        let (tells, shown) = (self.tells, Shown::by(&self.home));
        shown.is_of(tells.level);
        let limit = shown.tells("oom_kill", "mem_cgroup.memory.max");
        let address = shown.tells("signal_sent", "kernel_siginfo._sifields._sigfault._addr");
        let killer = shown.tells("signal_sent", "");
        assert_eq!((limit, address, killer), (tells.limit, tells.address, tells.killer), "{:?}", tells.level);
    }
}

/// One failure, and what the agent of each node says of it.
type Failure = fn(&mut [(&Node, Agent<'_>)]);

fn by_the_best(failure: Failure) {
    let node = Node::of(&BEST);
    failure(&mut [(&node, node.home.agent())]);
}

fn by_every_rung(failure: Failure) {
    let nodes = EVERY.each_ref().map(Node::of);
    let mut agents = nodes.each_ref().map(|node| (node, agent_on(&node.home, node.tells.level)));
    nodes.iter().for_each(Node::shows_what_it_lacks);
    failure(&mut agents);
}

/// The first diagnosis of this class that `is_it` wants. Its certainty is this one by every rung.
fn diagnosed(
    (node, agent): &mut (&Node, Agent<'_>),
    (class, certainty): (&str, &str),
    is_it: impl Fn(&Value) -> bool,
) -> Value {
    let found = agent.wait(class, |agent| {
        let mut records = agent.home().audit().into_iter();
        records.find(|record| record["record"] == "diagnosis" && record["class"] == class && is_it(record))
    });
    assert_eq!(found["certainty"], certainty, "{:?}: {found}", node.tells.level);
    found
}

/// That its sentence has these words if the rung tells so much, and else not.
fn says_if(tells: bool, words: &str, found: &Value, of: &Node) {
    let says = found["sentence"].as_str().unwrap_or_default();
    assert_eq!(says.contains(words), tells, "{:?}: {words:?} and {found}", of.tells.level);
}

fn is_about(record: &Value, pid: u32) -> bool {
    record["target"]["pid"] == pid
}

fn an_oom_kill(agents: &mut [(&Node, Agent<'_>)]) {
    let (dir, group) = (Scratch::new(), MemoryCgroup::new());
    group.set_limit(LIMIT);
    let start = |program: &Path| Victim::spawn(Command::new("/bin/sh").args(["-c", &group.run(program)]));
    let mut hog = start(&built(&dir, "hog"));
    hog.has_taken(HOGS);
    let leak = start(&built(&dir, "leak"));
    let pid = hog.tgid();
    for agent in agents {
        let found = diagnosed(agent, ("oom_kill", "proved"), |record| is_about(record, pid));
        says_if(true, "its memory cgroup", &found, agent.0);
        says_if(true, &format!("when leak[{}]", leak.tgid()), &found, agent.0);
        says_if(agent.0.tells.limit, "of 64.0 MiB used", &found, agent.0);
    }
    hog.wait();
}

fn a_fault(agents: &mut [(&Node, Agent<'_>)]) {
    let dir = Scratch::new();
    let victim = Victim::start(built(&dir, "segv"), &[]);
    for agent in agents {
        let found = diagnosed(agent, ("crash", "proved"), |record| is_about(record, victim.tgid()));
        says_if(true, "crashed with SIGSEGV", &found, agent.0);
        says_if(agent.0.tells.address, "at address 0x1230", &found, agent.0);
        says_if(agent.0.tells.address, "at address", &found, agent.0);
    }
}

fn a_crash_loop(agents: &mut [(&Node, Agent<'_>)]) {
    let fault = Fault::by_name("crash-loop").unwrap();
    let dir = Scratch::new();
    let parent = FaultVictim::of_binary(&healer(), fault, dir.path()).unwrap();
    let is_child = |record: &Value| record["target"]["parent"]["pid"] == parent.pid();
    for agent in agents {
        let found = diagnosed(agent, ("crash_loop", "probable"), is_child);
        says_if(true, "SIGABRT", &found, agent.0);
    }
}

/// Of a child that ends before, its supervisor's word is all that there is.
fn is_introduced(home: &Home, name: &str, child: u32) -> bool {
    let says = home.healer(&["why", &child.to_string()]);
    String::from_utf8_lossy(&says.stdout).contains(&format!("{name} is running (pid {child})"))
}

fn a_blow_by_cgroup_kill(agents: &mut [(&Node, Agent<'_>)]) {
    let group = V2Cgroup::new();
    let inside = format!("echo $$ > {}/cgroup.procs; exec sleep 1000", group.path().display());
    let services = agents.iter().map(|(Node { home, name, .. }, _)| {
        let service = Supervised::start(home, name, &["sh", "-c", &inside]);
        (service, Supervised::start(home, &format!("{name}-twin"), &FOREVER))
    });
    let services: Vec<_> = services.collect();
    let before: Vec<_> = services.iter().map(|(service, twin)| (service.child(), twin.child())).collect();
    until("the move", || before.iter().all(|(child, _)| group.has(*child)).then_some(()));
    for ((node, _), (child, _)) in agents.iter().zip(&before) {
        until("the introduction", || is_introduced(&node.home, &node.name, *child).then_some(()));
    }
    group.kill();
    let by_us = format!("[{}] (uid 0)", std::process::id());
    for ((agent, (service, neighbour)), (child, twin)) in agents.iter_mut().zip(&services).zip(before) {
        let (workload, home) = (service.workload(), &agent.0.home);
        let found = diagnosed(agent, ("down", "proved"), |record| record["workload"] == *workload);
        says_if(agent.0.tells.killer, "killed by cgroup.kill, written by ", &found, agent.0);
        says_if(agent.0.tells.killer, &by_us, &found, agent.0);
        says_if(!agent.0.tells.killer, "ended by SIGKILL, whose sender was not seen", &found, agent.0);
        agent.1.record(&workload, "closed", "\"outcome\":\"healed\"");
        assert_eq!(count(&home.of(&workload), "intent", "restart"), 1);
        assert_ne!(service.child(), child);
        assert_eq!(neighbour.child(), twin);
        assert_eq!(home.of(&neighbour.workload()), Vec::<Value>::new());
    }
}

#[test]
fn an_oom_kill_names_its_victim_and_who_asked_for_more() {
    by_the_best(an_oom_kill);
}

#[test]
fn an_oom_kill_is_the_same_by_every_rung() {
    by_every_rung(an_oom_kill);
}

#[test]
fn a_fault_in_a_thread_is_a_crash_with_its_address() {
    by_the_best(a_fault);
}

#[test]
fn a_fault_in_a_thread_is_the_same_by_every_rung() {
    by_every_rung(a_fault);
}

#[test]
fn a_program_started_again_and_again_to_fail_is_a_crash_loop() {
    by_the_best(a_crash_loop);
}

#[test]
fn a_crash_loop_is_the_same_by_every_rung() {
    by_every_rung(a_crash_loop);
}

#[test]
fn a_blow_by_cgroup_kill_is_told_from_others_and_healed() {
    by_the_best(a_blow_by_cgroup_kill);
}

#[test]
fn a_blow_by_cgroup_kill_is_the_same_by_every_rung() {
    by_every_rung(a_blow_by_cgroup_kill);
}
