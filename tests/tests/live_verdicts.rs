//! What holds the hands back gives its reason everywhere: in the audit, in a metric, and to who asks why. Needs root and
//! gcc. Alone in its binary: an agent that is stopped on purpose loses records.

use healer_tests::{
    home::{Agent, Home, signal_to},
    lent::Group,
    policies::policy,
    supervised::{Supervised, lives, name},
    victim::{Victim, compile},
};
use rustix::process::Signal;
use serde_json::Value;

/// Two threads that wait for each other for ever: each has its lock before it asks for the other's.
const STUCK: &str = r#"
    #include <pthread.h>
    #include <unistd.h>
    static pthread_mutex_t a = PTHREAD_MUTEX_INITIALIZER, b = PTHREAD_MUTEX_INITIALIZER;
    static pthread_barrier_t both;
    static void *cross(void *arg) {
        pthread_mutex_lock(&b); pthread_barrier_wait(&both); pthread_mutex_lock(&a); return arg;
    }
    int main(void) {
        pthread_t t;
        pthread_barrier_init(&both, 0, 2);
        pthread_create(&t, 0, cross, 0);
        pthread_mutex_lock(&a); pthread_barrier_wait(&both); pthread_mutex_lock(&b);
    }"#;

const WAITS: &str = "#include <unistd.h>\nint main(void) { for (;;) pause(); }";

/// 4,000 signals to a child that ignores them: more than an agent that does not read can hold.
const CALLS: &str = r#"
    #include <signal.h>
    #include <sys/wait.h>
    #include <unistd.h>
    int main(void) {
        signal(SIGTERM, SIG_IGN);
        pid_t child = fork();
        if (!child) for (;;) pause();
        for (int i = 0; i < 4000; i++) { kill(child, SIGTERM); if (i % 100 == 0) usleep(1000); }
        kill(child, SIGKILL);
        wait(0);
    }"#;

/// What the gate said of this workload.
fn verdict(agent: &mut Agent<'_>, gate: &str, verdict: &str, of: &str) -> String {
    let record = agent.wait(&format!("{gate} {verdict} of {of}"), |agent| {
        let is_it = |record: &Value| {
            (&record["gate"], &record["verdict"]) == (&gate.into(), &verdict.into())
                && record["workload"].as_str().is_some_and(|workload| workload.contains(of))
        };
        agent.home().audit().into_iter().find(is_it)
    });
    record["reason"].as_str().expect("a verdict has a reason").to_owned()
}

/// The metric counts it, and `healer why` has the reason.
fn is_told(agent: &mut Agent<'_>, gate: &str, verdict: &str, of: &str, reason: &str) {
    let series = format!("healer_gate_verdicts_total{{gate=\"{gate}\",verdict=\"{verdict}\"}} ");
    let metrics = agent.get("/metrics");
    let count = metrics.lines().find_map(|line| line.strip_prefix(&series)).unwrap_or("0");
    assert!(count.parse::<u64>().is_ok_and(|count| 0 < count), "{series}{count}");
    let why = agent.wait(&format!("why {of}"), |agent| {
        let told = String::from_utf8_lossy(&agent.home().healer(&["why", of]).stdout).into_owned();
        told.contains(gate).then_some(told)
    });
    assert!(why.contains(reason), "{reason}\nis not in\n{why}");
}

fn rules(text: &str) -> String {
    format!("\n  rules:\n{text}  verify: {{within: 10s, stableFor: 500ms}}\n")
}

#[test]
fn every_verdict_has_its_reason_in_audit_metric_and_why() {
    let (excepted, slowed, well) = (name(), name(), name());
    let home = Home::new("");
    let program = compile(home.scratch(), &name(), WAITS);
    let path = program.display().to_string();
    let deaf = home.path().join("deaf");
    let slows = format!(
        "  expect: {{probe: {{exec: {{command: [test, '!', -e, {}]}}, period: 1s, failures: 1, startGrace: 1ms}}}}\n  \
         rules:\n    - {{name: stuck, when: [{{class: deadlock}}], escalate: [{{do: throttle, cpu: 20%, undoAfter: 10m}}]}}\n    \
         - {{name: deaf, when: [{{class: probe_failed}}], escalate: [{{do: restart}}]}}\n  \
         verify: {{within: 90s, stableFor: 60s}}\n",
        deaf.display()
    );
    let touched = home.path().join("touched");
    let policies = [
        policy(
            "enforce",
            &format!("supervise: [{excepted}, {well}]"),
            &rules("    - {name: down, when: [{class: down}], unless: [crash], escalate: [{do: restart}]}\n"),
        ),
        policy("enforce", &format!("supervise: {slowed}"), &slows),
        policy(
            "enforce",
            &format!("exe: {path}"),
            &format!(
                "  expect: {{running: true}}\n  rules:\n    - name: down\n      when: [{{class: down, for: 1s}}]\n      \
             escalate: [{{do: run_hook, command: [touch, {}]}}]\n",
                touched.display()
            ),
        ),
    ];
    let named = policies.iter().enumerate();
    let named = named.map(|(at, text)| text.replace("name: test", &format!("name: test-{at}")));
    home.write_policy(&named.collect::<Vec<_>>().join("---\n"));
    let mut waits = Victim::start(&program, &[]);
    let pid = waits.tgid();
    let mut agent = home.agent();
    let twin = Supervised::start(&home, &well, &["sleep", "1000"]);
    let crashes = Supervised::start(&home, &excepted, &["sh", "-c", "sleep 0.3; exit 3"]);
    let group = Group::new();
    let stuck = compile(home.scratch(), "stuck", STUCK).display().to_string();
    let slowed = Supervised::start(&home, &slowed, &[&stuck]);
    group.take(slowed.child());

    let reason = verdict(&mut agent, "unless", "hold", &crashes.name);
    assert!(
        reason.contains("crash is diagnosed for this workload, and the rule says unless crash"),
        "{reason}"
    );
    is_told(&mut agent, "unless", "hold", &crashes.name, &reason);
    // What slows it may be why it does not answer.
    agent.record(&slowed.workload(), "result", "throttle");
    std::fs::write(&deaf, "").expect("the scratch directory can be written");
    let reason = verdict(&mut agent, "self_effect", "hold", &slowed.name);
    assert!(reason.ends_with("in force on this workload, and probe_failed may come of that"), "{reason}");
    is_told(&mut agent, "self_effect", "hold", &slowed.name, &reason);

    let calls = compile(home.scratch(), "calls", CALLS);
    agent.signal(Signal::STOP);
    signal_to(pid, Signal::KILL);
    waits.wait();
    Victim::start(calls, &[]).wait();
    agent.signal(Signal::CONT);
    let reason = verdict(&mut agent, "evidence", "refuse", &path);
    assert!(reason.ends_with("records were lost and the diagnosis rests on what was not seen"), "{reason}");
    is_told(&mut agent, "evidence", "refuse", &pid.to_string(), &reason);
    assert!(!touched.exists(), "{}", agent.log());
    assert!(lives(twin.child()));
    assert_eq!(home.of(&twin.workload()), Vec::<Value>::new(), "{}", agent.log());
}
