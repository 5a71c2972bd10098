//! What the agent of a campaign may do: everything, to the campaign's victims.

use crate::{
    engine::{class::Class, detect},
    fault::PORT,
};

/// The limits of a node are for a node; here there is one failure a second, on purpose. What fails once, and not again
/// and again as it does in a service, is seen only while every call is watched.
pub(super) const CONFIG: &str = "\
apiVersion: healer.dev/v1alpha1
kind: AgentConfig
budget: {node: {max: 10000, per: 1h}}
breaker: {node: {tripAfter: 1000}}
storm: {targets: 10000}
overhead: {cpuPercent: 50, memory: 256Mi}
sensors: {syscallErrors: full}
";

/// Ended, if it is still there: the harshest test of who is innocent.
const STOPPED: [Class; 9] = [
    Class::Deadlock,
    Class::Hang,
    Class::MemoryPressure,
    Class::MemoryLeak,
    Class::FdExhaustion,
    Class::PidExhaustion,
    Class::DiskFull,
    Class::PortExhaustion,
    Class::ProbeFailed,
];
const RESTARTED: [Class; 2] = [Class::Down, Class::Crash];

pub(super) fn policies() -> String {
    let built = |class: &Class| detect::is_built(*class);
    let conditions = |classes: &[Class]| -> String {
        let each: Vec<_> =
            classes.iter().filter(|class| built(class)).map(|class| condition(*class)).collect();
        each.join(", ")
    };
    let told: Vec<_> = Class::ALL
        .iter()
        .copied()
        .filter(|class| !STOPPED.contains(class) && !RESTARTED.contains(class))
        .collect();
    let stuck: Vec<_> = STOPPED.iter().copied().filter(|class| *class != Class::MemoryLeak).collect();
    let services = |name: &str, matches: &str, more: &str| {
        format!(
            "\
apiVersion: healer.dev/v1alpha1
kind: HealPolicy
metadata: {{name: {name}}}
spec:
  mode: enforce
  match: {matches}{more}
  rules:
    - {{name: dead, when: [{restarted}], escalate: [{{do: restart, timeout: 10s}}, {{do: notify}}]}}
    - {{name: stuck, when: [{stuck}], escalate: [{{do: restart, timeout: 10s}}, {{do: notify}}]}}
    - {{name: told, when: [{told}], escalate: [{{do: notify}}]}}
  safety: {{budget: {{max: 1000, per: 1h}}, backoff: {{initial: 1s, max: 2s}}}}
  verify: {{within: 10s, stableFor: 1s}}
---
",
            restarted = conditions(&RESTARTED),
            stuck = conditions(&stuck),
            told = conditions(&told),
        )
    };
    let asked = services("asked", "{supervise: chaos-probe-*}", &probe());
    let others = "{supervise: chaos-*, avoid: [{supervise: chaos-probe-*}]}";
    let unasked = services("services", others, "");
    format!(
        "\
{asked}{unasked}apiVersion: healer.dev/v1alpha1
kind: HealPolicy
metadata: {{name: programs}}
spec:
  mode: enforce
  match: {{cgroup: /healer-fault-*}}
  rules:
    - {{name: sick, when: [{stopped}], escalate: [{{do: stop, grace: 1s, timeout: 5s}}, {{do: notify}}]}}
    - {{name: told, when: [{restarted}, {told}], escalate: [{{do: notify}}]}}
  safety: {{budget: {{max: 1000, per: 1h}}, backoff: {{initial: 1s, max: 2s}}}}
  verify: {{within: 10s, stableFor: 1s}}
",
        restarted = conditions(&RESTARTED),
        stopped = conditions(&STOPPED),
        told = conditions(&told),
    )
}

/// Three failures, a second apart: two are a hiccup.
fn probe() -> String {
    let ask = format!("{{tcp: {{port: {PORT}}}, period: 1s, timeout: 900ms, failures: 3, startGrace: 2s}}");
    format!("\n  expect: {{probe: {ask}}}")
}

fn condition(class: Class) -> String {
    // Acts on a forecast are opted in.
    let forecast = if class == Class::MemoryLeak { ", timeToLimit: {under: 20s}" } else { "" };
    format!("{{class: {class}{forecast}}}")
}
