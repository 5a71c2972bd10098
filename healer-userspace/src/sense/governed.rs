//! The sensors that the overhead governor may give up, and the governor itself.

use aya::maps::{MapData, PerCpuArray};
use healer_common::event::EventKind;

use super::{
    SENSORS, Sense, SensorStatus,
    govern::{self, Attached, Control, Handle, Hook, Overhead, Stage, Start, Wish},
    status::Mode as Shown,
};

/// Attached from the start, until they are given up.
struct Held {
    kind: EventKind,
    stage: Stage,
    hook: Hook,
    attached: Option<Attached>,
}

pub(super) struct Governed {
    held: Vec<Held>,
    /// Those that the kernel did not let come back, and why.
    refused: Vec<(EventKind, String)>,
    handle: Option<Handle>,
    shown: Overhead,
}

impl Governed {
    pub(super) fn begin(
        hooks: Vec<(EventKind, Hook)>,
        counters: Option<PerCpuArray<MapData, u64>>,
        wish: Wish,
    ) -> Self {
        let mut of_calls = None;
        let mut held = Vec::new();
        for (kind, hook) in hooks {
            let stage = SENSORS.iter().find(|sensor| sensor.kind == kind).and_then(|sensor| sensor.given_up);
            match stage {
                Some(Stage::Syscalls) => of_calls = Some(hook),
                Some(stage) => {
                    let attached = hook.attach().ok();
                    held.push(Held { kind, stage, hook, attached });
                }
                None => {}
            }
        }
        let handle = govern::start(Start { hook: of_calls, counters })
            .inspect_err(|error| tracing::warn!("what sensing costs is not governed: {error}"));
        let mut handle = handle.ok();
        if let Some(handle) = &mut handle {
            handle.tell(|control| control.wish = wish);
        }
        Self { held, refused: Vec::new(), handle, shown: Overhead::default() }
    }

    /// The sensor is not used any more.
    pub(super) fn forget(&mut self, kind: EventKind) {
        self.held.retain(|held| held.kind != kind);
        if kind == EventKind::SyscallError {
            self.handle = None;
        }
    }

    /// Whether the sensor is about to be taken back.
    fn comes_back(&self, kind: EventKind, stage: Stage) -> bool {
        self.held.iter().any(|held| held.kind == kind && held.attached.is_none() && stage < held.stage)
    }

    /// Gives up what the stage wants, and takes back the rest; says what could not be taken back.
    fn obey(&mut self, stage: Stage) -> Vec<(EventKind, String)> {
        let mut refused = Vec::new();
        for held in &mut self.held {
            if held.stage <= stage {
                held.attached = None;
            } else if held.attached.is_none() {
                match held.hook.attach() {
                    Ok(attached) => held.attached = Some(attached),
                    Err(error) => refused.push((held.kind, format!("it cannot be attached again: {error}"))),
                }
            }
        }
        refused
    }
}

impl Sense {
    /// Tells the governor what is wanted of it.
    pub(crate) fn govern(&mut self, change: impl FnOnce(&mut Control)) {
        if let Some(handle) = &mut self.governed.handle {
            handle.tell(change);
        }
    }

    /// What sensing costs now. Attaches and detaches what the governor gives up; says what has changed.
    pub fn look_at_overhead(&mut self) -> (Overhead, Vec<String>) {
        let Some(handle) = &self.governed.handle else {
            return (Overhead::default(), Vec::new());
        };
        let overhead = handle.overhead();
        let before = std::mem::replace(&mut self.governed.shown, overhead.clone());
        let mut changes = Vec::new();
        if overhead.stage != before.stage {
            changes.push(overhead.stage_in_words());
        }
        if let Some(kernel) = &mut self.kernel
            && self.governed.comes_back(EventKind::SocketState, overhead.stage)
        {
            kernel.maps.forget_makers();
        }
        let refused = self.governed.obey(overhead.stage);
        if refused != self.governed.refused {
            changes.extend(refused.iter().map(|(kind, why)| format!("{}: {why}", kind.name())));
            self.governed.refused = refused;
            self.has_news = true;
        }
        let mode = |of: &Overhead| of.syscalls.as_ref().map(|state| state.mode);
        let is_other = mode(&overhead) != mode(&before);
        // The first word is no change.
        if let Some(state) = overhead.syscalls.as_ref().filter(|_| is_other && before.syscalls.is_some()) {
            changes.push(format!("syscall_error is {}: {}", state.mode.name(), state.why));
        }
        if is_other || self.has_news || !changes.is_empty() {
            self.has_news = true;
            self.show(&overhead);
        }
        (overhead, changes)
    }

    fn show(&mut self, overhead: &Overhead) {
        let syscall_error = EventKind::SyscallError.name();
        for status in &mut self.sensors {
            if status.name == syscall_error {
                status.mode = overhead.syscalls.as_ref().map(Shown::from);
            } else if let Some(stage) = given_up(status).filter(|_| status.via.is_some()) {
                let is_off = stage <= overhead.stage;
                let refused = self.governed.refused.iter().find(|(kind, _)| kind.name() == status.name);
                let refused = refused.map(|(_, why)| Shown { why: why.clone(), ..Shown::off(overhead) });
                status.mode = refused.or_else(|| is_off.then(|| Shown::off(overhead)));
            }
        }
    }
}

fn given_up(status: &SensorStatus) -> Option<Stage> {
    SENSORS.iter().find(|sensor| sensor.kind.name() == status.name).and_then(|sensor| sensor.given_up)
}
