//! The governor's thread: it attaches for slices that the agent's loop, busy with a storm, would overrun.

use core::time::Duration;
use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, RecvTimeoutError},
    },
    thread,
};

use aya::maps::{MapData, PerCpuArray};

use super::{
    Budget, Governor, LOOK_EVERY, Mode, Overhead, Ppm, Reading, Wish,
    hook::{Attached, Hook},
    measure::{self, Meter},
    shed::{Shedding, Stage, Use},
};
use crate::{clock, engine::time::BootTime};

/// While the sensor is off the calls are counted now and then.
const COUNTS_FOR: Duration = Duration::from_millis(4);
/// The start is no measure: it reads the kernel's types and meets everybody.
const SETTLES_FOR: Duration = Duration::from_secs(3);

/// What the thread is told; the last word holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Control {
    pub(crate) wish: Wish,
    pub(crate) budget: Budget,
    pub(crate) armed: Option<String>,
    /// The same by memory, which is looked at elsewhere.
    pub(crate) armed_by_memory: Option<String>,
}

/// What it needs.
pub(crate) struct Start {
    /// Of the system calls; `None` if the sensor does not work.
    pub(crate) hook: Option<Hook>,
    pub(crate) counters: Option<PerCpuArray<MapData, u64>>,
}

/// Ends its thread when dropped.
pub(crate) struct Handle {
    orders: mpsc::Sender<Control>,
    last: Control,
    seen: Arc<Mutex<Overhead>>,
}

impl Handle {
    pub(crate) fn overhead(&self) -> Overhead {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn tell(&mut self, change: impl FnOnce(&mut Control)) {
        let mut control = self.last.clone();
        change(&mut control);
        if control != self.last {
            self.last = control.clone();
            // Closed only if the thread is gone: then nothing is governed, and nothing attached.
            self.orders.send(control).ok();
        }
    }
}

pub(crate) fn start(start: Start) -> io::Result<Handle> {
    let (orders, inbox) = mpsc::channel();
    let seen = Arc::new(Mutex::new(Overhead::default()));
    let shown = Arc::clone(&seen);
    thread::Builder::new().name("healer-governor".to_owned()).spawn(move || govern(start, &inbox, &shown))?;
    Ok(Handle { orders, last: Control::default(), seen })
}

fn govern(start: Start, inbox: &mpsc::Receiver<Control>, shown: &Mutex<Overhead>) {
    let now = clock::boot();
    let hook_ns = start.hook.as_ref().map_or(0, measure::hook_ns);
    let mut watch = Watch {
        hook: start.hook,
        attached: None,
        meter: Meter::new(start.counters),
        governor: Governor::new(now, hook_ns),
        hook_ns,
        shedding: Shedding::default(),
        control: Control::default(),
        turn: 0,
        began: now,
        stage_since: now,
    };
    if let Ok(control) = inbox.try_recv() {
        watch.control = control;
        watch.weigh(None);
    }
    while let Some(calls) = watch.one_look(inbox) {
        let overhead = watch.weigh(calls);
        *shown.lock().unwrap_or_else(PoisonError::into_inner) = overhead;
    }
}

struct Watch {
    hook: Option<Hook>,
    attached: Option<Attached>,
    meter: Meter,
    governor: Governor,
    hook_ns: u64,
    shedding: Shedding,
    control: Control,
    turn: u32,
    began: BootTime,
    stage_since: BootTime,
}

impl Watch {
    /// Waits as the mode wants it; gives the calls per second of the time attached. `None`: it is over.
    #[expect(clippy::option_option, reason = "over, unknown and a number are three things")]
    fn one_look(&mut self, inbox: &mpsc::Receiver<Control>) -> Option<Option<u64>> {
        let mode = if self.hook.is_some() { Some(self.governor.state().mode) } else { None };
        match mode {
            None => self.wait(inbox, LOOK_EVERY).then_some(None),
            Some(Mode::Full) => {
                self.attach();
                let (calls, at) = (self.meter.calls(), clock::boot());
                let goes_on = self.wait(inbox, LOOK_EVERY);
                let time = clock::boot().since(at);
                // An order may cut the look short.
                let is_long = LOOK_EVERY / 4 <= time;
                goes_on.then(|| per_second(self.meter.calls() - calls, time).filter(|_| is_long))
            }
            Some(Mode::Sampled) => {
                let slice = self.governor.slice(LOOK_EVERY);
                let calls = self.slice(slice);
                let gap = self.gap(slice);
                self.wait(inbox, gap).then_some(calls)
            }
            Some(Mode::Off) => {
                let (rests, counts) = self.governor.while_off(self.shedding.stage() != Stage::Nothing);
                self.attached = None;
                let goes_on = self.wait(inbox, rests);
                goes_on.then(|| if counts { self.slice(COUNTS_FOR) } else { None })
            }
        }
    }

    /// Not quite a second: what happens once a second must not fall beside every slice.
    fn gap(&mut self, slice: Duration) -> Duration {
        const GOLDEN: u32 = 618;
        self.turn = (self.turn + GOLDEN) % 1000;
        (LOOK_EVERY - slice) * (700 + self.turn * 6 / 10) / 1000
    }

    fn slice(&mut self, slice: Duration) -> Option<u64> {
        self.attached = None;
        self.attach();
        let (calls, at) = (self.meter.calls(), clock::boot());
        thread::sleep(slice);
        let (calls, time) = (self.meter.calls() - calls, clock::boot().since(at));
        self.attached = None;
        per_second(calls, time)
    }

    fn attach(&mut self) {
        if self.attached.is_none() {
            self.attached = self.hook.as_ref().and_then(|hook| hook.attach().ok());
        }
    }

    /// Until the time is over or somebody has said something; false: nobody is there any more.
    fn wait(&mut self, inbox: &mpsc::Receiver<Control>, time: Duration) -> bool {
        match inbox.recv_timeout(time) {
            Ok(control) => {
                self.control = control;
                true
            }
            Err(RecvTimeoutError::Timeout) => true,
            Err(RecvTimeoutError::Disconnected) => false,
        }
    }

    fn weigh(&mut self, calls: Option<u64>) -> Overhead {
        let now = clock::boot();
        let used = self.meter.look();
        let budget = self.control.budget;
        let cost = calls.unwrap_or(0).saturating_mul(self.hook_ns) / 1000;
        let seen = self.seen(cost);
        let is_settled = SETTLES_FOR <= now.since(self.began);
        if is_settled && self.shedding.look(Use { syscalls: seen, ..used }, budget.cpu) {
            self.stage_since = now;
        }
        self.governor.set(self.control.wish, budget);
        let armed = self.control.armed.clone().or_else(|| self.control.armed_by_memory.clone());
        let is_shed = Stage::Syscalls <= self.shedding.stage();
        let others = used.at_rest();
        self.governor.look(now, &Reading { calls, armed: armed.as_deref(), others, is_shed });
        Overhead {
            syscalls: self.hook.is_some().then(|| self.governor.state().clone()),
            calls_per_second: calls,
            agent: used.agent,
            programs: used.retransmits + used.connections + seen,
            resident: self.meter.resident(),
            budget,
            stage: self.shedding.stage(),
            stage_since: self.stage_since,
        }
    }

    /// What the mode makes of what all calls would cost.
    fn seen(&self, cost: Ppm) -> Ppm {
        match self.governor.state().mode {
            Mode::Full => cost,
            Mode::Sampled => cost * self.governor.slice(LOOK_EVERY).as_micros() as u64 / 1_000_000,
            Mode::Off => 0,
        }
    }
}

/// `None` of too short a time.
fn per_second(calls: u64, time: Duration) -> Option<u64> {
    let millis = time.as_millis() as u64;
    calls.saturating_mul(1000).checked_div(millis)
}
