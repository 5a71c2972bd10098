//! The shape of a HealPolicy file: flat structs with optional keys, exactly what is built.
//! What a key means and its default: `policies/README.md`; what a shape allows beyond types: `check`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    key::{Items, Key, Many},
    kind::KindName,
    moment::{MomentText, Weekday},
    value::{ExactPath, ObjectName, Pattern, Percent, Period, PortName, Quantity, SignalName, UnlessWord},
};
use crate::engine::{
    class::{Certainty, Class},
    policy::{ActionName, Mode, Scope},
};

/// A mapping of a file: every key is optional here, so that all faults are found in one pass.
macro_rules! shape {
    ($(#[$meta:meta])* $name:ident { $($(#[$key_meta:meta])* $key:ident: $type:ty,)* }) => {
        #[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
        $(#[$meta])*
        #[serde(default, rename_all = "camelCase", deny_unknown_fields)]
        pub(super) struct $name { $($(#[$key_meta])* pub(super) $key: Key<$type>,)* }
    };
}
pub(super) use shape;

shape! {
    /// Who is healed, of what, and how far healer may go.
    #[schemars(extend("required" = ["apiVersion", "kind", "metadata", "spec"]))]
    HealPolicy {
        /// healer.dev/v1alpha1
        api_version: String,
        /// HealPolicy
        kind: String,
        metadata: Metadata,
        spec: Spec,
    }
}

shape! {
    #[schemars(extend("required" = ["name"]))]
    Metadata {
        /// Names the policy in incidents, the audit and metrics; unique on the node.
        name: ObjectName,
    }
}

shape! {
    Spec {
        /// Default: shadow.
        mode: Mode,
        /// Who. Keys AND, values of a list OR. Absent: everybody (refused in enforce).
        r#match: Who,
        /// Desired state.
        expect: Expect,
        /// The first rule that matches answers a diagnosis.
        rules: Items<Rule>,
        /// How often healer may act.
        safety: Safety,
        /// What counts as healed.
        verify: Verify,
    }
}

/// The keys that say who, once for `match` and once for each item of `match.avoid`.
macro_rules! who {
    ($(#[$meta:meta])* $name:ident { $($extra:tt)* }) => {
        shape! {
            $(#[$meta])*
            $name {
                /// Name given to `healer supervise`; may have *.
                supervise: Many<Pattern>,
                /// Kubernetes namespaces; may have *.
                namespaces: Many<Pattern>,
                /// Labels that the pod has.
                pod_selector: BTreeMap<String, String>,
                /// Container name; may have *.
                container: Many<Pattern>,
                /// Labels that the container has.
                container_labels: BTreeMap<String, String>,
                /// systemd unit; without a suffix, .service is meant; may have *.
                unit: Many<Pattern>,
                /// Absolute path of the executable, exactly.
                exe: Many<ExactPath>,
                /// cgroup path: * stays within one part of the path, ** crosses parts.
                cgroup: Many<Pattern>,
                /// Name of the process, 15 bytes at most; may have *. A process can choose its own.
                comm: Many<Pattern>,
                $($extra)*
            }
        }
    };
}

who! {
    Who {
        /// Whoever matches one of these is left out.
        avoid: Many<Avoid>,
    }
}

who! { Avoid {} }

shape! {
    Expect {
        /// A living main process is wanted; false: none is missed, even if it is cut down. `healer supervise` implies true.
        running: bool,
        /// Listening ports, such as 8080/tcp.
        listen: Many<PortName>,
        /// Asked again and again; failing is class probe_failed, and evidence for hang.
        probe: Probe,
        /// What it uses on this node, beside what is seen: if that fails, it is not healed for it.
        depends_on: Items<DependsOn>,
    }
}

shape! {
    #[schemars(extend("required" = ["service"]))]
    DependsOn {
        /// Another workload: its name, or namespace/name of a Deployment, StatefulSet, DaemonSet or pod; may have *.
        service: Pattern,
        /// It listens there. Default: wherever.
        port: u16,
    }
}

shape! {
    /// Exactly one of http, tcp, exec and kubelet.
    Probe {
        /// GET, answered with a status from 200 to 399.
        http: HttpProbe,
        /// A connection that comes about.
        tcp: TcpProbe,
        /// A program that ends with status 0.
        exec: ExecProbe,
        /// true: of a pod, whether the kubelet's own readiness probe has it for ready.
        kubelet: bool,
        /// From one to the next, 1s at least. Default: 10s.
        period: Period,
        /// No answer by then is a failure. Default: 2s.
        timeout: Period,
        /// So many in a row. Default: 3.
        failures: u32,
        /// After the start of the process nothing counts so long, unless it has answered once. Default: 60s.
        start_grace: Period,
    }
}

shape! {
    #[schemars(extend("required" = ["port"]))]
    HttpProbe {
        /// Where the workload listens, in its network namespace.
        port: u16,
        /// Default: /
        path: String,
    }
}

shape! {
    #[schemars(extend("required" = ["port"]))]
    TcpProbe {
        /// Where the workload listens, in its network namespace.
        port: u16,
    }
}

shape! {
    #[schemars(extend("required" = ["command"]))]
    ExecProbe {
        /// Program and arguments; no shell.
        command: Items<String>,
    }
}

shape! {
    #[schemars(extend("required" = ["name", "when", "escalate"]))]
    Rule {
        /// Names the rule in incidents and the audit; unique in the policy.
        name: ObjectName,
        /// Items OR, keys of one item AND.
        when: Items<When>,
        /// Not while one of these classes holds for the target, or (evidence_lost) records were dropped.
        unless: Many<UnlessWord>,
        /// What is kept of the patient before anything is done to it. Default: of deadlock and hang all but log lines.
        capture: Capture,
        /// The ladder: a rung that does not heal goes to the next; the last is always a notification.
        escalate: Items<Rung>,
    }
}

shape! {
    Capture {
        /// Of its threads, and who waits for whom. Default: true.
        stacks: bool,
        /// Descriptors and TCP connections. Default: true.
        sockets: bool,
        /// Of its log, the last so many, 1000 at most. Default: 20.
        log_lines: u32,
        /// No longer than this, 2s at most. Default: 800ms.
        max_time: Period,
    }
}

shape! {
    #[schemars(extend("required" = ["class"]))]
    When {
        class: Class,
        /// At least this sure. Default: proved for deadlock, probable elsewhere.
        certainty: Certainty,
        /// How long the finding must last. Default: not at all.
        r#for: Period,
        /// What a crash loop is. Default: 3 abnormal ends within 5m.
        exits: Exits,
        /// Of the class: hang is unresponsive or spinning; network_isolation is of a workload, netns or node;
        /// dependency_failure refuses, unreachable, no_answer, frozen or stale; unkillable uninterruptible or frozen.
        kind: KindName,
        /// Independent pieces of evidence, at least.
        min_evidence: u32,
        /// A forecast: the limit is that near.
        time_to_limit: TimeToLimit,
    }
}

shape! {
    Exits {
        /// Default: 3.
        min: u32,
        /// Default: 5m.
        within: Period,
        codes: Codes,
    }
}

shape! {
    Codes {
        /// Exit codes that are no failure. Default: none.
        not_in: Items<i32>,
    }
}

shape! {
    #[schemars(extend("required" = ["under"]))]
    TimeToLimit {
        /// More than 20s only before rungs that can be undone.
        under: Period,
    }
}

shape! {
    #[schemars(extend("required" = ["do"]))]
    Rung {
        r#do: ActionName,
        /// stop, kill, freeze, thaw and protect. Default: process.
        scope: Scope,
        /// Between the polite and the final signal. Default: 10s; evict the pod's own.
        grace: Period,
        /// The act itself must be over by then. Default: 30s; evict 10m.
        timeout: Period,
        /// First signal of stop. Default: TERM.
        signal: SignalName,
        /// Program and arguments of run_hook or restart; no shell.
        command: Items<String>,
        /// freeze, throttle, raise_limit, protect, cordon, taint and condition: given back after this long at the latest.
        /// Default: 5m; cordon, taint and condition 30m.
        undo_after: Period,
        /// throttle: memory.high, in percent of the memory limit. cgroup v2 only.
        memory_high: Percent,
        /// throttle: in percent of one CPU.
        cpu: Percent,
        /// throttle: against others that want the CPU, as cpu.weight; 100 is what everybody has.
        cpu_weight: u32,
        /// raise_limit: so much of the present limit is added. Default: 50%.
        by: Percent,
        /// raise_limit: the cgroup's memory, never beyond this.
        memory_max: Quantity,
        /// raise_limit: the cgroup's processes and threads, never beyond this.
        pids_max: u32,
        /// raise_limit: open files of the process, never beyond this.
        open_files: u32,
        /// protect: -999 to 1000. Default: -500.
        oom_score_adj: i32,
        /// evict: false deletes a pod that its PodDisruptionBudget has kept until the timeout. Default: true.
        #[serde(rename = "respectPDB")]
        respect_pdb: bool,
        /// evict: true ends a pod, too, that no controller would make again elsewhere. Default: false.
        without_controller: bool,
        /// taint: key and effect, NoSchedule or PreferNoSchedule. Default: healer.dev/sick:NoSchedule.
        taint: String,
        /// condition, or notify, which then sets it too: its type, such as WorkloadStuck.
        condition: String,
    }
}

shape! {
    Safety {
        budget: Budget,
        backoff: Backoff,
        breaker: Breaker,
        canary: Canary,
        /// By whoever owns the workload.
        pause: Pause,
        /// Nobody is touched meanwhile.
        maintenance: Items<Maintenance>,
    }
}

shape! {
    #[schemars(extend("required" = ["annotation"]))]
    Pause {
        /// A pod that has it, with any value but "false", is not touched, such as healer.dev/pause.
        annotation: String,
    }
}

shape! {
    /// Planned work, in UTC.
    #[schemars(extend("required" = ["from", "to"]))]
    Maintenance {
        /// mon to sun; of a night, the day on which it begins. Default: every day.
        days: Many<Weekday>,
        /// Of the day such as "22:00", or a date such as 2026-12-01T22:00:00Z.
        from: MomentText,
        /// As from.
        to: MomentText,
    }
}

shape! {
    /// Of the policy's workloads with one fault, some are healed first.
    Canary {
        /// So many. Default: 1.
        instances: u32,
        /// They must stay well so long, then come the rest. Default: 60s.
        soak: Period,
    }
}

shape! {
    Budget {
        /// Acts on one workload. Default: 5.
        max: u32,
        /// In any window this long. Default: 1h.
        per: Period,
    }
}

shape! {
    Backoff {
        /// Wait before the second act; the first is immediate. Default: 10s.
        initial: Period,
        /// Each wait is this many times the one before. Default: 2.
        factor: f64,
        /// Longest wait. Default: 5m.
        max: Period,
        /// Quiet for this long: the next act is a first one again. Default: 10m.
        reset_after: Period,
    }
}

shape! {
    Breaker {
        /// Failed verifications that trip it. Default: 3.
        trip_after: u32,
        /// Counted in this window. Default: 30m.
        within: Period,
        /// One try after this long. Default: 10m.
        probe_after: Period,
    }
}

shape! {
    Verify {
        /// Time for the cure to show. Default: 60s.
        within: Period,
        /// The process, or its successor, lives. Default: true.
        alive: bool,
        /// The ports of expect.listen are back. Default: true.
        listen: bool,
        /// A finding that has a number, such as the use of a limit, is over once that is below this.
        signal_below: Percent,
        /// It stays well for this long. Default: 10s.
        stable_for: Period,
    }
}
