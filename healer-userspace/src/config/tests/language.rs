//! Each word that is built, each that is not, and how a fault reads.

use core::time::Duration;

use super::{super::load, Directory, WHOLE, accepted, everything, refused, rule, with_spec};
use crate::engine::{
    class::{Certainty, Class},
    policy::{ActionName, Match, Mode, Scope, Unless},
};

#[test]
fn every_word_of_the_language_that_is_built() {
    let policy = accepted("whole", WHOLE);
    assert_eq!((policy.name.as_str(), policy.mode), ("payments-api", Mode::Enforce));
    assert_eq!(policy.matches.supervise, ["web"]);
    assert_eq!(policy.matches.units, ["web.service", "db@*"]);
    assert_eq!(policy.matches.pod_labels, [("app".to_owned(), "api".to_owned())]);
    assert_eq!(policy.avoid[0].pod_labels, [("tier".to_owned(), "db".to_owned())]);
    assert_eq!(policy.expect.running, Some(true));
    let ports: Vec<String> = policy.expect.listen.iter().map(ToString::to_string).collect();
    assert_eq!(ports, ["53/udp", "8080/tcp"]);
    let needs: Vec<String> = policy.expect.depends_on.iter().map(ToString::to_string).collect();
    assert_eq!(needs, ["payments/postgres:5432", "unit/redis.service"]);
    let [stuck, crashing] = &policy.rules[..] else { panic!("{:?}", policy.rules) };
    assert_eq!(stuck.when[0].certainty, Certainty::Proved);
    assert_eq!(stuck.when[1].certainty, Certainty::Probable);
    assert_eq!(stuck.when[1].hold, Some(Duration::from_secs(30)));
    assert_eq!(stuck.when[1].min_evidence, Some(2));
    assert_eq!(stuck.unless, [Unless::Class(Class::Starved), Unless::EvidenceLost]);
    let actions: Vec<_> = stuck.escalate.iter().map(|rung| rung.action).collect();
    assert_eq!(actions, [ActionName::Stop, ActionName::Kill, ActionName::Restart, ActionName::Notify]);
    assert_eq!((stuck.escalate[0].signal, stuck.escalate[1].scope), (Some(libc::SIGINT), Scope::Container));
    let exits = crashing.when[0].exits.as_ref().unwrap();
    assert_eq!((exits.min, exits.within.as_secs(), &exits.codes_not_in[..]), (4, 120, &[0, 143][..]));
    assert_eq!(crashing.escalate[0].command, ["/bin/true", "x"]);
    assert_eq!(policy.safety.budget.max, 3);
    assert_eq!(policy.safety.backoff.factor, 1.5);
    assert_eq!(policy.safety.breaker.trip_after, 2);
    assert_eq!(policy.verify.stable_for, Duration::from_secs(30));
    assert!(!policy.verify.listen);
}

#[test]
fn what_is_left_out_has_its_default() {
    let policy = accepted("least", &with_spec("{}"));
    assert_eq!(policy.mode, Mode::Shadow);
    assert_eq!(policy.matches, Match::default());
    assert_eq!(policy.safety, Default::default());
    assert_eq!(policy.verify, Default::default());
    let policy = accepted(
        "exits",
        &rule("{name: r, when: [{class: crash_loop, exits: {}}], escalate: [{do: restart}]}"),
    );
    let exits = policy.rules[0].when[0].exits.as_ref().unwrap();
    assert_eq!((exits.min, exits.within.as_secs()), (3, 300));
    let last = policy.rules[0].escalate.last().unwrap();
    assert_eq!(last.action, ActionName::Notify, "the last rung is always a notification");
}

#[test]
fn what_is_lent_has_its_bounds() {
    let policy = accepted(
        "lent",
        &rule(
            "{name: r, when: [{class: memory_leak, timeToLimit: {under: 60s}}], escalate: [\
             {do: freeze, scope: cgroup}, {do: throttle, memoryHigh: 95%, cpu: 150%, cpuWeight: 10, undoAfter: 90s}, \
             {do: raise_limit, memoryMax: 1Gi, pidsMax: 500, openFiles: 4096, by: 25%}, \
             {do: protect, oomScoreAdj: -300}, {do: thaw}]}",
        ),
    );
    let [freeze, throttle, raise, protect, thaw, notify] = &policy.rules[0].escalate[..] else { panic!() };
    assert_eq!((freeze.action, freeze.scope), (ActionName::Freeze, Scope::Cgroup));
    let terms = &throttle.terms;
    assert_eq!((terms.memory_high, terms.cpu, terms.cpu_weight), (Some(95), Some(150), Some(10)));
    assert_eq!(terms.undo_after, Some(Duration::from_secs(90)));
    let terms = &raise.terms;
    assert_eq!((terms.memory_max, terms.pids_max, terms.open_files), (Some(1 << 30), Some(500), Some(4096)));
    assert_eq!((terms.by, protect.terms.oom_score_adj), (Some(25), Some(-300)));
    assert_eq!((thaw.action, notify.action), (ActionName::Thaw, ActionName::Notify));
    assert_eq!(accepted("below", &with_spec("verify: {signalBelow: 50%}")).verify.signal_below, Some(50));
}

#[test]
fn a_taint_keeps_new_pods_away_and_ends_none() {
    let of = |rung: &str| rule(&format!("{{name: r, when: [{{class: down}}], escalate: [{rung}]}}"));
    let policy =
        accepted("taint", &of("{do: taint, taint: \"example.com/sick:PreferNoSchedule\", undoAfter: 1h}"));
    let rung = &policy.rules[0].escalate[0];
    assert_eq!(rung.action, ActionName::Taint);
    assert_eq!(rung.terms.taint.as_deref(), Some("example.com/sick:PreferNoSchedule"));
    for (rung, words) in [
        ("{do: taint, taint: \"sick:NoExecute\"}", "NoSchedule or PreferNoSchedule"),
        ("{do: taint, taint: sick}", "NoSchedule or PreferNoSchedule"),
        ("{do: taint, taint: \"Example.com/sick:NoSchedule\"}", "NoSchedule or PreferNoSchedule"),
        ("{do: taint, taint: \"a..b/sick:NoSchedule\"}", "NoSchedule or PreferNoSchedule"),
        ("{do: taint, taint: \"node.kubernetes.io/x:NoSchedule\"}", "Kubernetes' own"),
        ("{do: cordon, taint: \"x:NoSchedule\"}", "only taint"),
    ] {
        let problems = refused("taint", &of(rung));
        assert!(problems.iter().any(|problem| problem.contains(words)), "{rung}: {problems:?}");
    }
}

/// The example of the language's design, with much that nothing answers to yet.
#[test]
fn a_known_key_without_an_answer_is_not_supported_yet() {
    let problems = refused("later", include_str!("later.yaml"));
    let later: Vec<&str> =
        problems.iter().filter_map(|problem| problem.strip_suffix(" is not supported yet")).collect();
    assert_eq!(later.len(), problems.len(), "{problems:#?}");
    let expected = ["4:38: key \"namespace\" in metadata"];
    assert_eq!(later, expected);
}

#[test]
fn all_faults_of_a_file_are_told_at_once() {
    let text = "apiVersion: healer.dev/v2\nkind: HealPolicy\nmetadata: {nam: p}\nspec:\n  mode: enforced\n  verify:\n    stabelFor: 30s\n    within: 30\n  rules:\n    - {name: r, when: [{class: deadlok}, {class: crash, for: 5}], escalate: [{do: restrat}, {do: run_hook}]}\n---\nkind: HealPolcy\n";
    let expected = [
        "1:13: apiVersion \"healer.dev/v2\" is not known: this healer reads healer.dev/v1alpha1",
        "3:11: key \"name\" is missing in metadata",
        "3:12: unknown key \"nam\" in metadata; did you mean \"name\"?",
        "5:9: mode: unknown word \"enforced\"; did you mean \"enforce\"?",
        "7:5: unknown key \"stabelFor\" in verify; did you mean \"stableFor\"?",
        "8:13: within: expected a duration such as 30s, found integer `30`",
        "10:32: class: unknown word \"deadlok\"; did you mean \"deadlock\"?",
        "10:62: for: expected a duration such as 30s, found integer `5`",
        "10:83: do: unknown word \"restrat\"; did you mean \"restart\"?",
        "10:93: run_hook needs a command: [program, argument, …]",
        "12:1: unknown kind \"HealPolcy\"; did you mean \"HealPolicy\"?",
    ];
    assert_eq!(refused("all", text), expected);
}

#[test]
fn a_problem_reads_well() {
    let directory = Directory::new("reads");
    let file = directory.file("p.yaml", &with_spec("verify: {stabelFor: 30s}"));
    let problems = load::check(std::slice::from_ref(&file), &everything).unwrap_err().to_string();
    let expected = format!(
        "{}:5:12: unknown key \"stabelFor\" in verify; did you mean \"stableFor\"?\n    5 |   verify: {{stabelFor: 30s}}\n      |            ^",
        file.display()
    );
    assert_eq!(problems, expected);
}

#[test]
fn rule_names_are_unique() {
    let one = "{name: r, when: [{class: down}], escalate: [{do: notify}]}";
    let problems = refused("names", &with_spec(&format!("rules:\n  - {one}\n  - {one}")));
    assert_eq!(problems, ["7:7: rule name \"r\" is given twice in this policy"]);
}

#[test]
fn keys_of_the_agent_that_nothing_answers_to_yet() {
    let text = "apiVersion: healer.dev/v1alpha1\nkind: AgentConfig\nlisten: here\nstorm: {targets: 0, percent: 101}\noverhead: {cpuPercent: 200, memory: 9Xi}\nsensors: {tasks: {}, syscallErrors: most}\nsinks: {webhook: {url: \"https://x\"}}\nruntimes: {crio: /x}\nbudget: {node: {max: 0}}\nprotct: {}\n";
    let expected = [
        "3:9: listen: \"here\" is no address with a port, such as 127.0.0.1:9469",
        "4:18: targets: cannot be 0",
        "4:30: percent: 101 is more than all",
        "5:24: cpuPercent: 200 is no share of a CPU from 0.01 to 100 percent",
        "5:37: memory: \"9Xi\" is no amount of memory, such as 64Mi",
        "6:11: key \"tasks\" in sensors is not supported yet",
        "6:37: syscallErrors: unknown word \"most\"; one of governed, full, sampled, off",
        "7:24: sinks.webhook.url: https is not supported yet; give an http address, such as http://127.0.0.1:9093/api/v2/alerts, if need be of a proxy that itself speaks https",
        "8:12: unknown key \"crio\" in runtimes; did you mean \"cri\"?",
        "9:22: max: cannot be 0",
        "10:1: unknown key \"protct\" in AgentConfig; did you mean \"protect\"?",
    ];
    assert_eq!(refused("agent-keys", text), expected);
}

#[test]
fn a_class_without_a_sensor_is_a_warning() {
    let directory = Directory::new("sensor");
    let file = directory
        .file("p.yaml", &rule("{name: r, when: [{class: hang}, {class: down}], escalate: [{do: notify}]}"));
    let loaded = load::check(&[file], &|class| class != Class::Hang).unwrap();
    let [warning] = &loaded.warnings[..] else { panic!("{:?}", loaded.warnings) };
    assert!(warning.to_string().contains(":6:32: no sensor for class hang yet"), "{warning}");
}

/// Whoever is to run must be somebody: of what a cgroup or a comm matches nobody says which process is the main one.
#[test]
fn expectations_of_nobody_in_particular_are_a_warning() {
    let directory = Directory::new("nobody");
    let warned = |matches: &str| {
        let text = rule("{name: r, when: [{class: down}], escalate: [{do: notify}]}")
            .replace("spec:\n", &format!("spec:\n  match: {{{matches}}}\n  expect: {{running: true}}\n"));
        let file = directory.file("p.yaml", &text);
        let loaded = load::check(&[file], &|_| true).unwrap();
        loaded.warnings.iter().any(|warning| warning.to_string().contains("knows no main process"))
    };
    assert!(warned("comm: nginx") && warned("cgroup: /system.slice/web.service"));
    assert!(
        !warned("unit: web")
            && !warned("cgroup: /kubepods*/**")
            && !warned("comm: nginx, exe: /usr/sbin/nginx")
    );
}
