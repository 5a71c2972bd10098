//! Needs root: memory that runs out, slowly, fast and at once, beside programs that only use it. One agent sees all.

use std::{thread, time::Duration};

use healer_tests::{
    binary::healer,
    home::{Agent, Home, is},
    lent::Group,
};
use healer_userspace::{
    clock,
    fault::{Fault, victim::Victim},
};
use serde_json::Value;

const TOLD: &str = "
  rules:
    - name: tell
      when:
        - {class: memory_leak}
        - {class: memory_pressure}
        - {class: oom_kill}
        - {class: cpu_throttled}
        - {class: starved}
      escalate: [{do: notify}]
";
/// The leaks of the short form are over by then.
const LONGEST: Duration = Duration::from_secs(50);

fn policies(stopped: &str, slowed: &str) -> String {
    let head = |name: &str| {
        format!("apiVersion: healer.dev/v1alpha1\nkind: HealPolicy\nmetadata: {{name: {name}}}\n")
    };
    let stop = "
  rules:
    - name: leak
      when: [{class: memory_leak, timeToLimit: {under: 20s}}]
      escalate: [{do: stop, grace: 1s}, {do: notify}]
  verify: {within: 10s, stableFor: 1s}
";
    let slow = stop.replace("{do: stop", "{do: throttle, cpu: 20%, undoAfter: 1m}, {do: stop");
    let slow = slow.replace("within: 10s", "within: 5s");
    let of = |name: &str, cgroup: &str, rest: &str| {
        format!("---\n{}spec:\n  mode: enforce\n  match: {{cgroup: \"{cgroup}\"}}{rest}", head(name))
    };
    format!(
        "{}spec:\n  mode: shadow\n  match: {{comm: \"*\"}}{TOLD}{}{}",
        head("rest"),
        of("stopped", stopped, stop),
        of("slowed", slowed, &slow)
    )
}

fn start(home: &Home, name: &str) -> Victim {
    let fault = Fault::by_name(name).expect("it is in the table");
    Victim::of_binary(&healer(), fault, home.state()).expect("this test needs root and a memory controller")
}

/// Of a class, about somebody in this cgroup.
fn said<'a>(audit: &'a [Value], class: &str, victim: &Victim) -> Vec<&'a Value> {
    let is_about = |found: &&Value| {
        found["class"] == class && found["target"]["cgroup"].as_str() == Some(victim.cgroup.path())
    };
    audit.iter().filter(|found| found["record"] == "diagnosis").filter(is_about).collect()
}

#[expect(clippy::print_stdout, reason = "what was said, for whoever reads the test's output")]
fn one<'a>(audit: &'a [Value], class: &str, victim: &Victim) -> &'a Value {
    let found = said(audit, class, victim);
    let first = found.first().copied().unwrap_or_else(|| panic!("{}: no {class}", victim.fault.name));
    println!("{}: {}", victim.fault.name, first["sentence"].as_str().unwrap_or_default());
    first
}

fn at(record: &Value) -> f64 {
    record["detected_boot_ns"].as_f64().expect("it says when") / 1e9
}

/// Told so many seconds before the kernel killed it.
#[expect(clippy::print_stdout, reason = "the figure that counts")]
fn lead(audit: &[Value], victim: &Victim) -> f64 {
    let lead = at(one(audit, "oom_kill", victim)) - at(one(audit, "memory_leak", victim));
    println!("{}: {lead:.1} s ahead", victim.fault.name);
    lead
}

fn wait_for_ends(agent: &mut Agent<'_>, victims: &mut [&mut Victim]) {
    let began = clock::boot();
    while clock::boot().since(began) < 2 * LONGEST {
        if victims.iter_mut().all(|victim| victim.ended().expect("our child").is_some()) {
            // The agent tells of the last one.
            thread::sleep(Duration::from_secs(2));
            return;
        }
        thread::sleep(Duration::from_millis(100));
    }
    panic!("a leak without an end:\n{}", agent.log());
}

#[test]
fn memory_that_runs_out_is_told_in_time_and_use_of_memory_is_not() {
    let home = Home::new(&policies("/none", "/nobody"));
    let mut agent = home.agent();
    let is_full = std::env::var_os("HEALER_FULL").is_some();
    let healthy = ["plateau", "saw", "cache", "stream"].map(|name| start(&home, name));
    let mut leaks = ["leak", "leak-saw", "leak-fast", "sudden"].map(|name| start(&home, name));
    let mut slow = is_full.then(|| start(&home, "leak-slow"));
    let (killed, spared) = (start(&home, "leak-neighbour"), start(&home, "leak-neighbour"));
    let slowed = start(&home, "leak");
    // The leak's own group has no CPU controller where the hierarchies differ.
    let cpu = Group::of(&["cpu"]);
    cpu.take(slowed.pid());
    home.write_policy(&policies(spared.cgroup.path(), slowed.cgroup.path()));
    let (thrash, throttled) = (start(&home, "thrash"), start(&home, "throttled"));
    agent.says("reload", "3 policies");
    let mut ending: Vec<&mut Victim> = leaks.iter_mut().chain(&mut slow).collect();
    wait_for_ends(&mut agent, &mut ending);
    let audit = home.audit();

    let [leak, saw, fast, sudden] = &leaks;
    assert!(10.0 <= lead(&audit, leak));
    assert!(5.0 <= lead(&audit, saw));
    if let Some(slow) = &slow {
        assert!(10.0 <= lead(&audit, slow));
    }
    assert!(one(&audit, "oom_kill", fast)["sentence"].to_string().contains("had grown by"));
    one(&audit, "oom_kill", sudden);
    one(&audit, "memory_pressure", &thrash);

    let neighbour = one(&audit, "oom_kill", &killed);
    let leaker = &neighbour["detail"]["certificate"]["leaker"];
    assert_eq!(
        (&neighbour["target"]["comm"], &leaker["comm"]),
        (&"neighbour".into(), &"leak-neighbour".into())
    );
    let blamed = one(&audit, "memory_leak", &killed);
    assert_eq!(blamed["target"]["pid"], leaker["pid"]);
    assert!(blamed["related"].to_string().contains("\"comm\":\"neighbour\""), "{blamed}");

    one(&audit, "memory_leak", &spared);
    assert!(said(&audit, "oom_kill", &spared).is_empty(), "stopped before anybody was killed");
    let acts = |what: &str| {
        let of_it = |found: &&Value| is(found, what, "") && found["target"]["comm"] == "leak-neighbour";
        audit.iter().filter(of_it).count()
    };
    assert_eq!(acts("intent"), 1, "{}", agent.log());
    agent.wait("the neighbour to go on alone", |_| (spared.cgroup.members().len() == 1).then_some(()));

    one(&audit, "memory_leak", &slowed);
    assert!(said(&audit, "oom_kill", &slowed).is_empty(), "stopped before the kernel killed it");
    let course: Vec<_> =
        audit.iter().filter(|found| found["target"]["cgroup"] == slowed.cgroup.path()).collect();
    let incident = &course[0]["incident"];
    let of_it = |what: &str, part: &str| {
        audit.iter().position(|found| found["incident"] == *incident && is(found, what, part))
    };
    let course = [
        of_it("intent", "\"throttle\""),
        of_it("undone", "it did not help"),
        of_it("intent", "\"stop\""),
        of_it("verification", "\"healed\""),
    ];
    assert!(course.is_sorted() && course[0].is_some(), "{course:?}:\n{}", agent.log());
    assert_eq!(cpu.quota(), "-1");

    for victim in &healthy {
        for class in ["memory_leak", "memory_pressure", "oom_kill"] {
            assert!(said(&audit, class, victim).is_empty(), "{}: {class}", victim.fault.name);
        }
    }
    let held_back = agent.wait("the CPU quota", |agent| {
        let audit = agent.home().audit();
        said(&audit, "cpu_throttled", &throttled).first().map(|found| (*found).clone())
    });
    assert!(held_back["sentence"].to_string().contains("held back by the CPU limit"), "{held_back}");
    let starved = start(&home, "starved");
    agent.wait("starvation by hogs", |agent| {
        (!said(&agent.home().audit(), "starved", &starved).is_empty()).then_some(())
    });
}
