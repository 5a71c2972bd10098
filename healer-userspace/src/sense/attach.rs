//! THE SENSOR TABLE: for each sensor the ways to attach it, the best first.

use aya::{Btf, Ebpf, programs::BtfTracePoint};
use healer_common::event::{EventKind, PROBES, Probe};

use super::{
    layout::Layout,
    load::in_words,
    rights::REMEDY,
    status::{SensorStatus, Trouble},
};

/// A way to get at a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rung {
    /// A program on the tracepoint with typed arguments: direct loads, all fields.
    TpBtf { program: &'static str },
}

impl Rung {
    /// The name that `healer sensors` shows.
    #[must_use]
    pub const fn via(self) -> &'static str {
        match self {
            Self::TpBtf { .. } => "tp_btf",
        }
    }

    /// The program that this way needs, if it is one of ours.
    #[must_use]
    pub const fn program(self) -> Option<&'static str> {
        match self {
            Self::TpBtf { program } => Some(program),
        }
    }
}

/// A sensor, and the ways to attach it.
pub struct Sensor {
    pub kind: EventKind,
    pub rungs: &'static [Rung],
}

/// Every sensor that hangs on a kernel hook. The object test walks it.
pub const SENSORS: &[Sensor] = &[
    Sensor { kind: EventKind::ProcessExit, rungs: &[Rung::TpBtf { program: "process_exit" }] },
    Sensor { kind: EventKind::ProcessExec, rungs: &[Rung::TpBtf { program: "process_exec" }] },
    Sensor { kind: EventKind::SignalSent, rungs: &[Rung::TpBtf { program: "signal_sent" }] },
    Sensor { kind: EventKind::OomKill, rungs: &[Rung::TpBtf { program: "oom_kill" }] },
];

/// Attaches every sensor by the first way that works; one that fails is a status.
pub(crate) fn attach_all(
    ebpf: &mut Ebpf,
    layout: &Layout,
    ids: &Result<Btf, aya::BtfError>,
) -> Vec<SensorStatus> {
    SENSORS
        .iter()
        .map(|sensor| match ids {
            Ok(ids) => attach(ebpf, sensor, layout, ids),
            Err(error) => SensorStatus::down(sensor.kind.name(), &unreadable(error)),
        })
        .collect()
}

fn attach(ebpf: &mut Ebpf, sensor: &Sensor, layout: &Layout, ids: &Btf) -> SensorStatus {
    let name = sensor.kind.name();
    let mut first_trouble = None;
    for rung in sensor.rungs {
        match climb(ebpf, *rung, sensor.kind, layout, ids) {
            Ok(missing) => return SensorStatus::working(name, rung.via(), missing),
            Err(trouble) => first_trouble = first_trouble.or(Some(trouble)),
        }
    }
    let no_way = || Trouble::new("no way to attach it is built in", "update healer");
    SensorStatus::down(name, &first_trouble.unwrap_or_else(no_way))
}

/// Attaches by one way; gives the fields that will be missing.
fn climb(
    ebpf: &mut Ebpf,
    rung: Rung,
    kind: EventKind,
    layout: &Layout,
    ids: &Btf,
) -> Result<Vec<String>, Trouble> {
    let probe = probe_of(kind)?;
    match rung {
        Rung::TpBtf { program } => {
            let missing = needed_fields(probe, program, layout)?;
            tp_btf(ebpf, program, probe.tracepoint, ids).map_err(|error| {
                let what = format!("{program} on {}:{}", probe.category, probe.tracepoint);
                Trouble::new(format!("{what}: {}", in_words(&error)), REMEDY)
            })?;
            Ok(missing)
        }
    }
}

fn probe_of(kind: EventKind) -> Result<&'static Probe, Trouble> {
    let probe = PROBES.iter().find(|probe| probe.kind == kind);
    probe.ok_or_else(|| Trouble::new("the event has no probe", "update healer"))
}

fn needed_fields(probe: &Probe, program: &str, layout: &Layout) -> Result<Vec<String>, Trouble> {
    if !layout.has_tracepoint(probe.tracepoint) {
        return Err(Trouble::new(
            format!(
                "this kernel has no tracepoint {}:{} with typed arguments",
                probe.category, probe.tracepoint
            ),
            "run a kernel built with tracepoints and BTF",
        ));
    }
    let (required, optional) = layout.missing(program);
    if required.is_empty() {
        return Ok(optional);
    }
    Err(Trouble::new(
        format!("this kernel has no {}", required.join(", ")),
        "report the kernel's version: healer must learn its layout",
    ))
}

#[derive(Debug, thiserror::Error)]
enum TpBtfError {
    #[error("the object has no such program")]
    NoProgram,
    #[error("the kernel did not take it")]
    Program(#[from] aya::programs::ProgramError),
}

fn tp_btf(ebpf: &mut Ebpf, name: &str, tracepoint: &str, ids: &Btf) -> Result<(), TpBtfError> {
    let program = ebpf.program_mut(name).ok_or(TpBtfError::NoProgram)?;
    let program: &mut BtfTracePoint = program.try_into()?;
    program.load(tracepoint, ids)?;
    program.attach()?;
    Ok(())
}

pub(crate) fn unreadable(error: &aya::BtfError) -> Trouble {
    Trouble::new(
        format!("the tracepoints' ids could not be handed on: {error}"),
        "report the kernel's version",
    )
}
