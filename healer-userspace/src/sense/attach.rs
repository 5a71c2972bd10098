//! From the sensor table to attached programs: each sensor by the first way that works.

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
    path::Path,
};

use aya::{
    Btf, Ebpf,
    programs::{BtfTracePoint, Program, ProgramFd, RawTracePoint, TracePoint},
};
use healer_common::event::{COMPANIONS, EventKind, PROBES, Probe};

use super::{
    formats::Formats,
    govern::Hook,
    layout::Layout,
    load::in_words,
    rights::REMEDY,
    rung::{Level, Rung, SENSORS, Sensor, beside},
    status::{SensorStatus, Trouble},
    user::User,
};

/// What the running kernel offers.
pub(crate) struct Ground<'a> {
    /// The loaded object, or why there is none.
    pub(crate) ebpf: Result<&'a mut Ebpf, Trouble>,
    pub(crate) layout: &'a Layout,
    /// Why processes cannot be told by number.
    pub(crate) no_pids: Option<Trouble>,
    /// Why the layout names nothing.
    pub(crate) no_types: Option<Trouble>,
    /// Where typed programs hang on, in a table for `aya`.
    pub(crate) ids: &'a Result<Btf, aya::BtfError>,
    pub(crate) formats: &'a Formats,
    /// The best rung that may be tried.
    pub(crate) best: Level,
    pub(crate) tracefs: &'a Path,
    /// Of the sensors that the governor may give up: how each is attached. They are not attached yet.
    pub(crate) hooks: Vec<(EventKind, Hook)>,
}

/// Attaches every sensor by the first way that works; one that has none is a status.
pub(crate) fn attach_all(ground: &mut Ground<'_>, user: &mut User) -> Vec<(SensorStatus, Option<Rung>)> {
    SENSORS.iter().map(|sensor| attach(ground, sensor, user)).collect()
}

fn attach(ground: &mut Ground<'_>, sensor: &Sensor, user: &mut User) -> (SensorStatus, Option<Rung>) {
    let name = sensor.kind.name();
    let mut troubles = Vec::new();
    for rung in sensor.rungs {
        let climbed = if rung.level() < ground.best {
            let says = format!("{} was not tried: --sense-rung {}", rung.via(), ground.best.name());
            Err(Trouble::new(says, "leave the option out"))
        } else {
            climb(ground, *rung, sensor, user)
        };
        match climbed {
            Ok(missing) => {
                let trouble = together(&troubles).or_else(|| hides_symbols(ground, sensor.kind, *rung));
                let status = SensorStatus::working(name, rung.via(), missing, trouble);
                return (status, Some(*rung));
            }
            Err(trouble) => {
                if let Ok(ebpf) = &mut ground.ebpf {
                    take_down(ebpf, sensor.kind, *rung);
                }
                troubles.push(trouble);
            }
        }
    }
    let mut trouble =
        together(&troubles).unwrap_or_else(|| Trouble::new("no way to it is built in", "update healer"));
    trouble.reason = format!("{}; {}", trouble.reason, sensor.otherwise);
    (SensorStatus::down(name, &trouble), None)
}

/// Why the better ways were not taken, each remedy once; the last way's is the cheapest.
fn together(troubles: &[Trouble]) -> Option<Trouble> {
    let mut told: Vec<&Trouble> = Vec::new();
    for trouble in troubles {
        if !told.iter().any(|other| other.remedy == trouble.remedy) {
            told.push(trouble);
        }
    }
    let reasons: Vec<&str> = told.iter().map(|trouble| trouble.reason.as_str()).collect();
    let remedies: Vec<&str> = told.iter().rev().map(|trouble| trouble.remedy.as_str()).collect();
    (!told.is_empty()).then(|| Trouble::new(reasons.join("; "), remedies.join("; or ")))
}

/// Attaches by one way; gives the fields that will be missing.
fn climb(
    ground: &mut Ground<'_>,
    rung: Rung,
    sensor: &Sensor,
    user: &mut User,
) -> Result<Vec<String>, Trouble> {
    let kind = sensor.kind;
    if let (Some(trouble), true) = (&ground.no_pids, rung.tells_pids()) {
        return Err(trouble.clone());
    }
    let mut missing: Vec<String> = rung.lacks().iter().map(|field| (*field).to_owned()).collect();
    match rung {
        Rung::TpBtf { program } | Rung::RawTp { program, .. } => {
            missing.extend(hang_all(ground, rung, sensor, program)?);
            missing.extend(lacking_argument(ground.layout, kind).map(str::to_owned));
        }
        Rung::Tracepoint { .. } if kind == EventKind::TcpRetransmit && !user.is_completing_sockets() => {
            return Err(Trouble::new(
                "by the tracepoint nobody knows whose connection it is unless socket_state is attached by its own",
                "see what is said of socket_state",
            ));
        }
        Rung::Tracepoint { program, .. } => missing.extend(hang_all(ground, rung, sensor, program)?),
        Rung::Connector { .. } => user.listen(kind)?,
        Rung::KernelLog { .. } => user.read_log(kind)?,
        Rung::SocketDiag { .. } => user.ask_sockets(kind)?,
    }
    if hides_symbols(ground, kind, rung).is_some() {
        missing.push("kallsyms:mem_cgroup_out_of_memory".to_owned());
    }
    if matches!(rung, Rung::Tracepoint { .. }) {
        missing.extend(user.complete(kind).map(str::to_owned));
    }
    Ok(missing)
}

/// What an older kernel does not hand to its tracepoint, by the argument's name in the newer.
fn lacking_argument(layout: &Layout, kind: EventKind) -> Option<&'static str> {
    match kind {
        EventKind::OomKill if !layout.victim_is_task => Some("mark_victim.task"),
        // Whether it ends a process that no policy follows.
        EventKind::SignalSent if !layout.prunes_well => Some("sighand_struct.action"),
        EventKind::TcpRetransmit if !layout.has_retransmit_error => Some("tcp_retransmit_skb.err"),
        // The end of the last thread is told by the count of those that live.
        EventKind::ProcessExit
        | EventKind::ProcessExec
        | EventKind::SignalSent
        | EventKind::OomKill
        | EventKind::SocketState
        | EventKind::TcpRetransmit
        | EventKind::SyscallError
        | EventKind::ReclaimStall
        | EventKind::TaskHung => None,
    }
}

/// Attaches the rung's program and its companions; gives what will be missing. Who has companions goes on with those
/// whose hooks this kernel has.
fn hang_all(
    ground: &mut Ground<'_>,
    rung: Rung,
    sensor: &Sensor,
    program: &str,
) -> Result<Vec<String>, Trouble> {
    let kind = sensor.kind;
    let own = (program.to_owned(), probe_of(kind)?);
    let all: Vec<_> = companions(kind, program).chain([own]).collect();
    let (there, absent): (Vec<_>, Vec<_>) = all.iter().partition(|(_, probe)| has_hook(ground, rung, probe));
    let mut missing: Vec<String> = if there.is_empty() { Vec::new() } else { in_words_all(&absent) };
    for (program, probe) in if there.is_empty() { all.iter().collect() } else { there } {
        missing.extend(needed(ground, rung, probe, program)?);
        let is_governed = sensor.given_up.is_some() && probe.program == kind.name();
        let hook = hang(ground, rung, program, probe, is_governed)?;
        ground.hooks.extend(hook.map(|hook| (kind, hook)));
    }
    missing.sort();
    missing.dedup();
    Ok(missing)
}

fn in_words_all(absent: &[&(String, &Probe)]) -> Vec<String> {
    absent.iter().map(|(_, probe)| format!("{}:{}", probe.category, probe.tracepoint)).collect()
}

/// Without types or tracefs nothing is known of single hooks.
fn has_hook(ground: &Ground<'_>, rung: Rung, probe: &Probe) -> bool {
    if matches!(rung, Rung::Tracepoint { .. }) {
        let events = ground.tracefs.join("events");
        return !events.is_dir() || events.join(probe.category).join(probe.tracepoint).exists();
    }
    ground.no_types.is_some() || ground.layout.has_tracepoint(probe.tracepoint)
}

/// Optional fields that the program will do without.
fn needed(ground: &Ground<'_>, rung: Rung, probe: &Probe, program: &str) -> Result<Vec<String>, Trouble> {
    if matches!(rung, Rung::Tracepoint { .. }) {
        let optional = ground.formats.missing(program);
        return optional.map_err(|why| Trouble::new(why, "mount tracefs at /sys/kernel/tracing"));
    }
    needed_fields(ground, probe)
}

/// Programs tell the OOM killer of a cgroup from that of the machine by who called it.
fn hides_symbols(ground: &Ground<'_>, kind: EventKind, rung: Rung) -> Option<Trouble> {
    let needs_them = kind == EventKind::OomKill && rung.program().is_some();
    (needs_them && !ground.layout.tells_oom_scope()).then(|| {
        Trouble::new(
            "the kernel's symbols are hidden: whether a cgroup or the node ran out of memory is not told",
            "give healer CAP_SYSLOG, and let kernel.kptr_restrict be 1 at most",
        )
    })
}

/// In a pid namespace of its own healer would take others for those whom the kernel names, and itself for a stranger.
pub(crate) fn foreign_pids() -> Trouble {
    Trouble::new(
        "healer is in a pid namespace of its own, where processes have other numbers than the kernel tells",
        "run it in the host's: hostPID: true in Kubernetes, --pid=host with Docker",
    )
}

fn probe_of(kind: EventKind) -> Result<&'static Probe, Trouble> {
    let probe = PROBES.iter().find(|probe| probe.kind == kind);
    probe.ok_or_else(|| Trouble::new("the event has no probe", "update healer"))
}

/// The other programs of a sensor, of the same variant as `program`, and their hooks.
fn companions(kind: EventKind, program: &str) -> impl Iterator<Item = (String, &'static Probe)> {
    let variant = program.strip_prefix(kind.name()).unwrap_or_default();
    let others = COMPANIONS.iter().filter(move |probe| probe.kind == kind);
    others.map(move |probe| (format!("{}{variant}", probe.program), probe))
}

/// All programs of a sensor read what the table says under its name.
fn needed_fields(ground: &Ground<'_>, probe: &Probe) -> Result<Vec<String>, Trouble> {
    if let Some(trouble) = &ground.no_types {
        return Err(trouble.clone());
    }
    let layout = ground.layout;
    if !layout.has_tracepoint(probe.tracepoint) {
        return Err(Trouble::new(
            format!(
                "this kernel has no tracepoint {}:{} with typed arguments",
                probe.category, probe.tracepoint
            ),
            "run a kernel built with tracepoints and BTF",
        ));
    }
    let (required, optional) = layout.missing(probe.kind.name());
    if required.is_empty() {
        return Ok(optional);
    }
    Err(Trouble::new(
        format!("this kernel has no {}", required.join(", ")),
        "report the kernel's version: healer must learn its layout",
    ))
}

#[derive(Debug, thiserror::Error)]
enum HangError {
    #[error("the object has no such program")]
    NoProgram,
    #[error("the kernel did not take it")]
    Program(#[from] aya::programs::ProgramError),
    #[error("the kernel did not take it")]
    Hook(#[from] io::Error),
}

/// Loads the program and attaches it; a governed one is only tried, and comes back as a hook.
fn hang(
    ground: &mut Ground<'_>,
    rung: Rung,
    program: &str,
    probe: &Probe,
    is_governed: bool,
) -> Result<Option<Hook>, Trouble> {
    let (ids, tracefs) = (ground.ids, ground.tracefs);
    let ebpf = ground.ebpf.as_mut().map_err(|trouble| trouble.clone())?;
    let hung = match rung {
        Rung::TpBtf { .. } => {
            let ids = ids.as_ref().map_err(unreadable)?;
            tp_btf(ebpf, program, probe.tracepoint, ids, is_governed)
        }
        Rung::RawTp { .. } => raw_tp(ebpf, program, probe.tracepoint, is_governed),
        Rung::Tracepoint { .. } => tracepoints(ebpf, program, probe, tracefs, is_governed),
        Rung::Connector { .. } | Rung::KernelLog { .. } | Rung::SocketDiag { .. } => Ok(None),
    };
    hung.map_err(|error| {
        let what = format!("{program} on {}:{}", probe.category, probe.tracepoint);
        let words = in_words(&error);
        let is_old = words.contains("invalid func unknown");
        let remedy = if is_old { "run a newer kernel: this one lacks a helper" } else { REMEDY };
        Trouble::new(format!("{what}: {words}"), remedy)
    })
}

fn tp_btf(
    ebpf: &mut Ebpf,
    name: &str,
    tracepoint: &str,
    ids: &Btf,
    is_governed: bool,
) -> Result<Option<Hook>, HangError> {
    let program: &mut BtfTracePoint = ebpf.program_mut(name).ok_or(HangError::NoProgram)?.try_into()?;
    program.load(tracepoint, ids)?;
    if is_governed {
        return tried(Hook::typed(own(program.fd()?)?));
    }
    program.attach()?;
    Ok(None)
}

fn raw_tp(
    ebpf: &mut Ebpf,
    name: &str,
    tracepoint: &str,
    is_governed: bool,
) -> Result<Option<Hook>, HangError> {
    let program: &mut RawTracePoint = ebpf.program_mut(name).ok_or(HangError::NoProgram)?.try_into()?;
    program.load()?;
    if is_governed {
        return tried(Hook::raw(own(program.fd()?)?, tracepoint)?);
    }
    program.attach(tracepoint)?;
    Ok(None)
}

/// What it needs beside it first.
fn tracepoints(
    ebpf: &mut Ebpf,
    name: &str,
    probe: &Probe,
    tracefs: &Path,
    is_governed: bool,
) -> Result<Option<Hook>, HangError> {
    for beside in beside(name) {
        tracepoint(ebpf, beside.program)?.attach(beside.category, beside.tracepoint)?;
    }
    let program = tracepoint(ebpf, name)?;
    if is_governed {
        let event = format!("{}/{}", probe.category, probe.tracepoint);
        return tried(Hook::classic(own(program.fd()?)?, tracefs, &event)?);
    }
    program.attach(probe.category, probe.tracepoint)?;
    Ok(None)
}

fn tracepoint<'e>(ebpf: &'e mut Ebpf, name: &str) -> Result<&'e mut TracePoint, HangError> {
    let program: &mut TracePoint = ebpf.program_mut(name).ok_or(HangError::NoProgram)?.try_into()?;
    program.load()?;
    Ok(program)
}

fn own(program: &ProgramFd) -> io::Result<OwnedFd> {
    program.as_fd().try_clone_to_owned()
}

fn tried(hook: Hook) -> Result<Option<Hook>, HangError> {
    hook.attach()?;
    Ok(Some(hook))
}

/// Detaches and unloads programs whose records are not used any more. One that cannot be unloaded
/// only costs.
pub(crate) fn take_down(ebpf: &mut Ebpf, kind: EventKind, rung: Rung) {
    let Some(program) = rung.program() else {
        return;
    };
    for (companion, _) in companions(kind, program) {
        unload(ebpf, &companion);
    }
    beside(program).for_each(|beside| unload(ebpf, beside.program));
    unload(ebpf, program);
}

fn unload(ebpf: &mut Ebpf, program: &str) {
    let unloaded = match ebpf.program_mut(program) {
        Some(Program::BtfTracePoint(program)) => program.unload(),
        Some(Program::RawTracePoint(program)) => program.unload(),
        Some(Program::TracePoint(program)) => program.unload(),
        _ => Ok(()),
    };
    unloaded.ok();
}

pub(crate) fn unreadable(error: &aya::BtfError) -> Trouble {
    Trouble::new(
        format!("the tracepoints' ids could not be handed on: {error}"),
        "report the kernel's version",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_that_failed_is_told_and_the_cheapest_remedy_first() {
        let no_types = Trouble::new("no types", "run another kernel");
        let no_tracefs = Trouble::new("no tracefs", "mount it");
        let both = together(&[no_types.clone(), no_types.clone(), no_tracefs]).unwrap();
        assert_eq!(both, Trouble::new("no types; no tracefs", "mount it; or run another kernel"));
        assert_eq!(together(std::slice::from_ref(&no_types)), Some(no_types));
        assert_eq!(together(&[]), None);
    }
}
