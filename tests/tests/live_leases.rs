//! What is lent is given back, whatever becomes of healer; the neighbour is never touched.
//!
//! one third guest: limits_and_weights_are_lent_and_given_back the_next_rung_meets_the_patient_as_it_was
//! one third guest: what_a_killed_healer_has_lent_is_given_back_by_the_next
//! act rights: limits_and_weights_are_lent_and_given_back

use std::fs;

use healer_tests::{
    home::{Home, count, until},
    lent::Group,
    victim::{Victim, built},
};
use rustix::process::Signal;

/// A program that does not answer its probe, alone in its group; each with a name of its own.
struct Patient {
    group: Group,
    victim: Victim,
    program: String,
}

impl Patient {
    fn new(home: &Home, name: &str) -> Self {
        let program = home.path().join(name);
        fs::copy(built(home.scratch(), "hog"), &program).unwrap();
        let victim = Victim::start(&program, &[]);
        let group = Group::new();
        group.take(victim.tgid());
        Self { group, victim, program: program.display().to_string() }
    }

    fn state(&self) -> char {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.victim.tgid())).unwrap();
        stat.rsplit(") ").next().unwrap().chars().next().unwrap()
    }

    fn oom_score_adj(&self) -> String {
        format!("/proc/{}/oom_score_adj", self.victim.tgid())
    }

    fn is_untouched(&mut self) -> bool {
        self.victim.try_wait().is_none()
            && self.state() != 'T'
            && !self.group.is_frozen()
            && self.group.quota() == "-1"
    }
}

/// One policy: nobody listens on port 9.
fn policy(name: &str, exe: &str, rung: &str) -> String {
    format!(
        "apiVersion: healer.dev/v1alpha1\nkind: HealPolicy\nmetadata: {{name: {name}}}\nspec:\n  mode: enforce\n  \
         match: {{exe: {exe}}}\n  \
         expect: {{probe: {{tcp: {{port: 9}}, period: 1s, timeout: 500ms, failures: 1, startGrace: 1ms}}}}\n  \
         rules:\n    - name: deaf\n      when: [{{class: probe_failed}}]\n      escalate: [{rung}]\n  \
         verify: {{within: 90s, stableFor: 60s}}\n---\n"
    )
}

fn undone(home: &Home, part: &str) -> usize {
    count(&home.audit(), "undone", part)
}

const THROTTLE: &str = "{do: throttle, cpu: 20%, undoAfter: 10m}";
const FREEZE: &str = "{do: freeze, scope: cgroup, undoAfter: 10m}";

/// A home with a slow one, a halted one and their neighbour; both leases are in force.
fn with_both(test: impl FnOnce(&Home, healer_tests::home::Agent<'_>, &Patient, &Patient)) {
    let home = Home::new("");
    let slow = Patient::new(&home, "slow");
    let halted = Patient::new(&home, "halted");
    let mut neighbour = Patient::new(&home, "neighbour");
    let text = policy("slow", &slow.program, THROTTLE) + &policy("halted", &halted.program, FREEZE);
    home.write_policy(&text);
    let mut agent = home.agent();
    agent.wait("both leases", |_| (slow.group.quota() == "20000" && halted.group.is_frozen()).then_some(()));
    let done = |home: &Home| count(&home.audit(), "result", "\"done\"");
    agent.wait("both results", |agent| (2 <= done(agent.home())).then_some(()));
    agent.wait("both in `healer status`", |agent| {
        let says = String::from_utf8_lossy(&agent.home().healer(&["status"]).stdout).into_owned();
        (says.contains("LENT") && says.contains("\nthrottle ") && says.contains("\nfreeze ")).then_some(())
    });
    test(&home, agent, &slow, &halted);
    assert_eq!((slow.group.quota().as_str(), halted.group.is_frozen()), ("-1", false));
    assert!(neighbour.is_untouched());
}

#[test]
fn what_a_killed_healer_has_lent_is_given_back_by_the_next() {
    with_both(|home, mut agent, slow, halted| {
        agent.signal(Signal::KILL);
        agent.end();
        drop(agent);
        assert_eq!((slow.group.quota().as_str(), halted.group.is_frozen()), ("20000", true));
        let mut next = home.agent();
        next.wait("both undone", |next| (undone(next.home(), "healer had ended") == 2).then_some(()));
        assert_eq!((slow.group.quota().as_str(), halted.group.is_frozen()), ("-1", false));
        // It may be lent anew: this life ends by itself.
        next.signal(Signal::TERM);
        next.end();
    });
}

#[test]
fn what_a_killed_healer_has_lent_is_given_back_by_hand() {
    with_both(|home, mut agent, slow, halted| {
        let asked = home.healer(&["undo", "i99"]);
        assert!(String::from_utf8_lossy(&asked.stdout).contains("nothing is lent"), "the agent answers");
        agent.signal(Signal::KILL);
        agent.end();
        drop(agent);
        assert!(halted.group.is_frozen());
        let doctor = home.healer(&["doctor"]);
        let says = String::from_utf8_lossy(&doctor.stdout);
        assert!(says.contains("no healer runs, and "), "{says}");
        let output = home.healer(&["undo"]);
        let says = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && says.contains("throttle: ") && says.contains("freeze: "),
            "{says}"
        );
        assert_eq!(slow.group.quota(), "-1");
        assert_eq!(undone(home, "somebody asked"), 2);
        let again = home.healer(&["undo"]);
        assert_eq!(String::from_utf8_lossy(&again.stdout), "nothing is lent\n");
        let whole = home.healer(&["audit", "verify"]);
        assert!(whole.status.success(), "{}", String::from_utf8_lossy(&whole.stderr));
    });
}

#[test]
fn a_healer_that_stops_gives_back_first_and_keeps_what_somebody_else_has_set() {
    with_both(|home, mut agent, slow, _| {
        slow.group.set_quota(55_000);
        agent.signal(Signal::TERM);
        assert!(agent.end().success());
        assert_eq!(slow.group.quota(), "55000", "somebody else's change wins");
        assert_eq!(undone(home, "somebody else has set it"), 1);
        assert_eq!(undone(home, "healer stops"), 2);
        slow.group.set_quota_free();
    });
}

/// By time, and by hand while the agent runs.
#[test]
fn a_lease_expires_and_ends_when_asked() {
    let home = Home::new("");
    let slow = Patient::new(&home, "slow");
    let stopped = Patient::new(&home, "stopped");
    let mut neighbour = Patient::new(&home, "neighbour");
    let text = policy("slow", &slow.program, "{do: throttle, cpu: 30%, undoAfter: 2s}")
        + &policy("stopped", &stopped.program, "{do: freeze, undoAfter: 10m}");
    home.write_policy(&text);
    let mut agent = home.agent();
    agent.wait("the quota", |_| (slow.group.quota() == "30000").then_some(()));
    agent.wait("the signal", |_| (stopped.state() == 'T').then_some(()));
    agent.wait("the end of its time", |agent| (undone(agent.home(), "its time is over") == 1).then_some(()));
    assert_eq!(slow.group.quota(), "-1");
    assert_eq!(stopped.state(), 'T', "its own time is not over");
    let output = home.healer(&["undo"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    until("it runs again", || (stopped.state() != 'T').then_some(()));
    agent.wait("its record", |agent| (undone(agent.home(), "somebody asked") == 1).then_some(()));
    assert!(neighbour.is_untouched());
}

/// More of what it runs out of, and less of what others need: each as it was, afterwards.
#[test]
fn limits_and_weights_are_lent_and_given_back() {
    let home = Home::new("");
    let patients = ["pids", "memory", "light", "shielded"].map(|name| Patient::new(&home, name));
    let mut twin = Patient::new(&home, "twin");
    for group in [&patients[0].group, &patients[1].group, &twin.group] {
        group.set_pids_max(100);
        group.set_memory(64 << 20);
    }
    let rungs = [
        "{do: raise_limit, pidsMax: 140, by: 80%, undoAfter: 10m}",
        "{do: raise_limit, memoryMax: 1Gi, by: 50%, undoAfter: 10m}",
        "{do: throttle, cpuWeight: 50, undoAfter: 10m}",
        "{do: protect, oomScoreAdj: 100, undoAfter: 10m}",
    ];
    for one in [&patients[3], &twin] {
        fs::write(one.oom_score_adj(), "500").unwrap();
    }
    let adj = |one: &Patient| fs::read_to_string(one.oom_score_adj()).unwrap().trim().to_owned();
    let policies = patients.iter().zip(["pids", "memory", "light", "shielded"]).zip(rungs);
    let text: String = policies.map(|((one, name), rung)| policy(name, &one.program, rung)).collect();
    home.write_policy(&text);
    let states = || {
        let [pids, memory, light, shielded] = &patients;
        (pids.group.pids_max(), memory.group.memory() >> 20, light.group.weight(), adj(shielded))
    };
    let before = states();
    let mut agent = home.agent();
    let weight = if twin.group.is_v2() { "50" } else { "512" };
    let lent = ("140".into(), 95, weight.into(), "100".into());
    agent.wait("all four", |_| (states() == lent).then_some(()));
    agent.wait("their results", |agent| {
        (4 <= count(&agent.home().audit(), "result", "\"done\"")).then_some(())
    });
    assert_eq!((twin.group.pids_max().as_str(), twin.group.memory()), ("100", 64 << 20));
    assert_eq!(adj(&twin), "500");
    assert!(twin.is_untouched());
    agent.signal(Signal::TERM);
    agent.end();
    assert_eq!((states(), undone(&home, "healer stops")), (before, 4));
}

/// A lease did not help: it is over before the next rung, which kills what could not be killed while it was frozen.
#[test]
fn the_next_rung_meets_the_patient_as_it_was() {
    let home = Home::new("");
    let mut halted = Patient::new(&home, "halted");
    let mut neighbour = Patient::new(&home, "neighbour");
    let rungs = "{do: freeze, scope: cgroup}, {do: kill, scope: cgroup, timeout: 20s}";
    let text = policy("halted", &halted.program, rungs)
        .replace("within: 90s, stableFor: 60s", "within: 2s, stableFor: 1s");
    home.write_policy(&text);
    let mut agent = home.agent();
    agent.wait("its end", |_| halted.victim.try_wait());
    agent.wait("the undo", |agent| (undone(agent.home(), "freeze") == 1).then_some(()));
    let records = home.audit();
    let place = |record: &str, part: &str| {
        let found = records.iter().position(|found| healer_tests::home::is(found, record, part));
        found.unwrap_or_else(|| panic!("no {record} {part}:\n{}", agent.log()))
    };
    assert!(place("result", "\"done\"") < place("undone", "freeze"));
    assert!(place("undone", "freeze") < place("intent", "\"kill\""));
    assert!(neighbour.is_untouched());
}
