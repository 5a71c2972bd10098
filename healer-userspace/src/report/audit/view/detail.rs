//! What a diagnosis knows beyond its sentence: how the target ended, what counted, what proves it.

use core::time::Duration;

use serde::Serialize;

use crate::{
    engine::{
        certificate::{Cause, Certificate, CpuLimit},
        diagnosis::{Detail, End},
    },
    signal::{Aim, Exit, OomKill, OomScope, Party},
};

#[derive(Serialize)]
pub(super) struct DetailView<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    exit: Option<Exit>,
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate: Option<CertificateView<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ends: Vec<EndView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<&'a str>,
    evidence_count: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    time_to_limit_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    level: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    proof: Option<&'a serde_json::Value>,
}

pub(super) fn detail(it: &Detail) -> DetailView<'_> {
    DetailView {
        exit: it.exit,
        certificate: it.certificate.as_ref().map(certificate),
        ends: it.ends.iter().map(end).collect(),
        kind: it.kind.as_deref(),
        evidence_count: it.evidence_count,
        time_to_limit_ms: it.time_to_limit_ms,
        level: it.level,
        proof: it.proof.as_ref(),
    }
}

#[derive(Serialize)]
struct EndView {
    boot_ns: u64,
    code: i32,
    weight: u32,
    fault: bool,
    unasked: bool,
}

fn end(it: &End) -> EndView {
    EndView { boot_ns: it.at.0, code: it.code, weight: it.weight, fault: it.fault, unasked: it.unasked }
}

#[derive(Serialize)]
struct CertificateView<'a> {
    exit: Exit,
    #[serde(flatten)]
    cause: CauseView<'a>,
    uptime_ns: u64,
    ordinal: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    own: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    asked: Option<AskedView<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    child: Option<ChildView<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    leaker: Option<LeakerView<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu_limit: Option<CpuLimitView>,
}

/// Either the numbers, or since when it was warned.
#[derive(Default, Serialize)]
struct CpuLimitView {
    #[serde(skip_serializing_if = "Option::is_none")]
    limit_s: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    used_ns: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    warned_before_ns: Option<u64>,
}

#[derive(Serialize)]
struct LeakerView<'a> {
    #[serde(flatten)]
    party: PartyView<'a>,
    grown_bytes: u64,
    over_ns: u64,
}

#[derive(Serialize)]
struct ChildView<'a> {
    pid: u32,
    comm: &'a str,
    signal: i32,
    says: &'a str,
}

#[derive(Serialize)]
struct AskedView<'a> {
    signal: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<PartyView<'a>>,
    before_ns: u64,
}

fn certificate(it: &Certificate) -> CertificateView<'_> {
    CertificateView {
        exit: it.exit,
        cause: cause(&it.cause),
        uptime_ns: nanos(it.uptime),
        ordinal: it.ordinal,
        own: it.own.as_deref(),
        asked: it.asked.as_ref().map(|asked| AskedView {
            signal: asked.signal,
            by: asked.by.as_ref().map(party),
            before_ns: nanos(asked.before),
        }),
        child: it.child.as_ref().map(|child| ChildView {
            pid: child.id.pid,
            comm: &child.comm,
            signal: child.signal,
            says: &child.says,
        }),
        leaker: it.leaker.as_ref().map(|leaker| LeakerView {
            party: party(&leaker.party),
            grown_bytes: leaker.grown,
            over_ns: nanos(leaker.over),
        }),
        cpu_limit: it.cpu_limit.map(cpu_limit),
    }
}

fn cpu_limit(it: CpuLimit) -> CpuLimitView {
    match it {
        CpuLimit::Met(cpu) => CpuLimitView {
            limit_s: Some(cpu.limit_s),
            used_ns: Some(cpu.used_ms.saturating_mul(1_000_000)),
            ..CpuLimitView::default()
        },
        CpuLimit::Warned(before) => {
            CpuLimitView { warned_before_ns: Some(nanos(before)), ..CpuLimitView::default() }
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case", tag = "cause")]
enum CauseView<'a> {
    Exited,
    Crashed {
        fault_address: u64,
        #[serde(skip_serializing_if = "core::ops::Not::not")]
        by_seccomp: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        call: Option<&'a str>,
    },
    Killed {
        by: PartyView<'a>,
    },
    GroupSignal {
        by: PartyView<'a>,
        members: usize,
        aim: Aim,
        #[serde(skip_serializing_if = "Option::is_none")]
        process_group: Option<u32>,
    },
    ParentEnded {
        parent: PartyView<'a>,
        #[serde(skip_serializing_if = "core::ops::Not::not")]
        only_thread: bool,
    },
    NamespaceEnded {
        first: PartyView<'a>,
    },
    CgroupKill {
        by: PartyView<'a>,
    },
    OomKill {
        scope: OomScope,
        #[serde(skip_serializing_if = "core::ops::Not::not")]
        is_scope_guessed: bool,
        trigger: PartyView<'a>,
        memcg: &'a str,
        usage_bytes: u64,
        limit_bytes: u64,
    },
    Kernel,
    Unseen,
}

fn cause(it: &Cause) -> CauseView<'_> {
    match it {
        Cause::Exited => CauseView::Exited,
        Cause::Crashed { fault_address, by_seccomp, call } => CauseView::Crashed {
            fault_address: *fault_address,
            by_seccomp: *by_seccomp,
            call: call.as_deref(),
        },
        Cause::Killed { by } => CauseView::Killed { by: party(by) },
        Cause::GroupSignal { by, members, aim, process_group } => CauseView::GroupSignal {
            by: party(by),
            members: *members,
            aim: *aim,
            process_group: Some(*process_group).filter(|group| *group != 0),
        },
        Cause::ParentEnded { parent, only_thread } => {
            CauseView::ParentEnded { parent: party(parent), only_thread: *only_thread }
        }
        Cause::NamespaceEnded { first } => CauseView::NamespaceEnded { first: party(first) },
        Cause::CgroupKill { by } => CauseView::CgroupKill { by: party(by) },
        Cause::OomKill(kill) => oom_kill(kill),
        Cause::Kernel => CauseView::Kernel,
        Cause::Unseen => CauseView::Unseen,
    }
}

fn oom_kill(it: &OomKill) -> CauseView<'_> {
    CauseView::OomKill {
        scope: it.scope,
        is_scope_guessed: it.is_scope_guessed,
        trigger: party(&it.trigger),
        memcg: &it.memcg,
        usage_bytes: it.usage,
        limit_bytes: it.limit,
    }
}

#[derive(Serialize)]
struct PartyView<'a> {
    pid: u32,
    start_boot_ns: u64,
    comm: &'a str,
    uid: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    exe: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    workload: Option<&'a str>,
}

fn party(it: &Party) -> PartyView<'_> {
    PartyView {
        pid: it.id.pid,
        start_boot_ns: it.id.start.0,
        comm: &it.comm,
        uid: it.uid,
        exe: it.exe.as_deref(),
        workload: it.workload.as_deref(),
    }
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}
