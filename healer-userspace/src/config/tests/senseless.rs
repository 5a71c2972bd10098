//! What parses but cannot be meant.

use super::{accepted, refused, rule, with_spec};

/// (spec, the one message it gets)
const SENSELESS: &[(&str, &str)] = &[
    ("mode: enforce", "5:9: enforce needs a match"),
    ("mode: enforce\nmatch: {}", "5:9: enforce needs a match"),
    ("match: {unit: []}", "5:17: unit: an empty list means nothing"),
    ("match: {exe: web}", "5:16: exe: \"web\" is not an absolute path"),
    ("match: {exe: [/bin/a, '/bin/*']}", "5:25: exe: \"/bin/*\" has a *"),
    (
        "match: {comm: a-very-long-process}",
        "5:17: comm: \"a-very-long-process\" is never seen: the kernel cuts it to 15 bytes, \"a-very-long-pro\"",
    ),
    ("match: {cgroup: system.slice}", "5:19: cgroup: \"system.slice\" starts with neither / nor *"),
    ("match: {podSelector: {}}", "5:24: podSelector: no labels mean nothing"),
    ("match: {avoid: [{}]}", "5:19: avoid: an empty item would leave out everybody"),
    ("match: {avoid: {avoid: {unit: x}}}", "5:19: unknown key \"avoid\" in avoid"),
    ("match: {unit: 7}", "5:17: unit: expected a string, found integer `7`: put it in quotes"),
    ("match: web", "5:10: match: expected a mapping, found \"web\""),
    ("expect: {listen: 8080}", "5:20: listen: expected a port such as 8080/tcp, found integer `8080`"),
    ("expect: {listen: 8080/sctp}", "5:20: listen: \"8080/sctp\" is no port"),
    ("expect: {dependsOn: [{port: 80}]}", "5:24: key \"service\" is missing in dependsOn"),
    ("expect: {dependsOn: [{service: db, port: 0}]}", "5:44: port: cannot be 0"),
    ("expect: {dependsOn: [{service: db, host: x}]}", "5:38: unknown key \"host\" in dependsOn"),
    ("expect: {dependsOn: [{service: db}, {service: db}]}", "5:39: dependsOn: db stands there twice"),
    ("expect: {dependsOn: []}", "5:23: dependsOn: an empty list means nothing"),
    ("expect: {running: yes}", "5:21: running: expected a boolean, found string \"yes\""),
    ("mode:", "5:7: mode: expected one of observe, shadow, enforce, found nothing"),
    ("mode: shadow\nmode: enforce", "6:3: key \"mode\" is given twice, first in line 5"),
    ("safety: {budget: {max: 0}}", "5:26: max: cannot be 0"),
    ("safety: {budget: {max: -1}}", "5:26: max: expected a whole number from 0 to 4294967295, found -1"),
    ("safety: {budget: {per: 0s}}", "5:26: per: cannot be zero"),
    ("safety: {backoff: {factor: 0.5}}", "5:30: factor: 0.5 is not between 1 and 100"),
    ("safety: {backoff: {initial: 10m}}", "5:21: backoff: max 300s is shorter than initial 600s"),
    ("verify: {signalBelow: 0%}", "5:25: signalBelow: 0% is not between 1% and 100%"),
    ("verify: {within: 30 s}", "5:20: within: \"30 s\" is no duration"),
    ("rules: [{when: [{class: down}], escalate: [{do: notify}]}]", "5:11: key \"name\" is missing in a rule"),
    ("rules: [{name: r, escalate: [{do: notify}]}]", "5:11: key \"when\" is missing in a rule"),
    ("rules: [{name: r, when: [], escalate: [{do: notify}]}]", "5:27: when: an empty list never matches"),
    (
        "rules: [{name: r, when: {class: down}, escalate: [{do: notify}]}]",
        "5:27: when: expected a list, found a mapping",
    ),
    ("rules: [{name: r, when: [{class: down}]}]", "5:11: key \"escalate\" is missing in a rule"),
    (
        "rules: [{name: r, when: [{class: down}], escalate: []}]",
        "5:54: escalate: an empty ladder does nothing",
    ),
];

#[test]
fn what_makes_no_sense_is_refused_where_it_stands() {
    for (spec, expected) in SENSELESS {
        let problems = refused("senseless", &with_spec(spec));
        assert!(
            problems.len() == 1 && problems[0].starts_with(expected),
            "{spec}: {problems:#?}\nwanted {expected}"
        );
    }
}

/// (condition, rung, the one message they get)
const SENSELESS_RULES: &[(&str, &str, &str)] = &[
    (
        "class: crash, exits: {min: 2}",
        "do: notify",
        "exits: counts the ends of a crash_loop, not of class crash",
    ),
    ("class: crash_loop, exits: {codes: {notIn: [256]}}", "do: notify", "notIn: 256 is no exit code"),
    ("class: hang, minEvidence: 0", "do: notify", "minEvidence: cannot be 0"),
    (
        "class: crash, timeToLimit: {under: 5s}",
        "do: notify",
        "timeToLimit: class crash does not approach a limit",
    ),
    ("class: unkillable", "do: kill", "no signal ends what is unkillable: kill would be in vain"),
    ("class: memory_leak, timeToLimit: {}", "do: notify", "key \"under\" is missing in timeToLimit"),
    ("class: memory_leak", "do: stop", "memory_leak is a forecast: before stop it must be said"),
    ("class: memory_leak, timeToLimit: {under: 21s}", "do: kill", "under: a forecast more than 20s ahead"),
    ("class: down", "grace: 3s", "key \"do\" is missing in a rung"),
    ("class: down", "do: run_hook", "run_hook needs a command"),
    ("class: down", "do: run_hook, command: []", "command: names no program"),
    ("class: down", "do: restart, scope: group", "scope: restart takes none, only stop and kill and freeze"),
    ("class: down", "do: kill, signal: TERM", "signal: kill takes none, only stop"),
    ("class: down", "do: notify, command: [a]", "command: notify takes none, only restart and run_hook"),
    ("class: down", "do: stop, signal: KILL", "signal: KILL cannot be a first signal: use `do: kill`"),
    ("class: down", "do: stop, grace: 30s", "the grace of 30s does not end before the timeout of 30s"),
    ("class: down", "do: freeze, scope: pod", "scope: pod is for stop and kill alone"),
    ("class: down", "do: notify, timeout: 0s", "timeout: cannot be zero"),
    ("class: hang", "do: throttle", "throttle needs one of cpu, cpuWeight and memoryHigh"),
    ("class: hang", "do: raise_limit, by: 10%", "raise_limit needs one of memoryMax, pidsMax and openFiles"),
    ("class: hang", "do: throttle, cpu: 0%", "cpu: 0% is not between 1% and 100000%"),
    ("class: hang", "do: throttle, cpu: 20", "cpu: expected a share such as 20%, found integer `20`"),
    ("class: hang", "do: throttle, memoryHigh: 100%", "memoryHigh: 100% is not between 1% and 99%"),
    ("class: hang", "do: throttle, cpu: 20%, scope: cgroup", "scope: throttle takes none"),
    ("class: hang", "do: stop, undoAfter: 5m", "undoAfter: stop takes none, only freeze and throttle and"),
    ("class: hang", "do: freeze, undoAfter: 2d", "undoAfter: what is lent for more than a day is no lease"),
    ("class: hang", "do: freeze, memoryMax: 1Gi", "memoryMax: freeze takes none, only raise_limit"),
    ("class: hang", "do: raise_limit, memoryMax: 1G", "memoryMax: \"1G\" is no amount: write it as 512Mi"),
    ("class: hang", "do: protect, oomScoreAdj: -1000", "oomScoreAdj: -1000 is not between -999 and 1000"),
];

#[test]
fn rules_that_make_no_sense_are_refused() {
    for (condition, rung, expected) in SENSELESS_RULES {
        let text = rule(&format!("{{name: r, when: [{{{condition}}}], escalate: [{{{rung}}}]}}"));
        let problems = refused("rules", &text);
        let message = problems[0].split_once(": ").unwrap().1;
        assert!(problems.len() == 1 && message.starts_with(expected), "{condition} {rung}: {problems:#?}");
    }
    let leak = "{name: r, when: [{class: memory_leak, timeToLimit: {under: 60s}}], escalate: [{do: notify}]}";
    accepted("leak", &rule(leak));
}

#[test]
fn maintenance_has_two_ends_that_belong_together() {
    let windows = "[{from: \"22:00\", to: \"22:00\"}, {from: \"22:00\", to: 2026-12-01T22:00:00Z}, {days: mon, from: 2026-12-01T22:00:00Z, to: 2026-12-02T22:00:00Z}, {from: 2026-12-02T22:00:00Z, to: 2026-12-01T22:00:00Z}, {from: \"24:00\", to: \"3:00\"}, {days: [sunday], to: \"03:00\"}]";
    let problems = refused("maintenance", &with_spec(&format!("safety:\n  maintenance: {windows}")));
    let says = |part: &str| assert!(problems.iter().any(|one| one.contains(part)), "{part}: {problems:#?}");
    says("from and to are the same");
    says("give two times of the day, or two dates");
    says("days: they are of times of the day, not of dates");
    says("it ends before it begins");
    says("\"24:00\" is no time: write it as");
    says("unknown word \"sunday\"");
    says("key \"from\" is missing in maintenance");
}
