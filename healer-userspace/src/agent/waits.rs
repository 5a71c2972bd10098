//! The scans of the tasks: in a thread of their own, because some read much of /proc.

use std::{io, path::Path, thread};

use tokio::sync::mpsc;

use super::{
    Agent,
    pulse::{Pulse, Watchdog, awake},
};
use crate::{
    clock,
    engine::time::BootTime,
    report::view::{Sensor, SensorState},
    sense::{
        poll::tasks::{self, TaskScan},
        waits::Scanner,
    },
    signal::{Fact, Signal, waits::WaitSnapshot},
};

/// A slow engine gets the newest snapshots later, not all of them.
const WAITING_MAX: usize = 4;

const STUCK: &str = "the thread healer-waits is stuck in a scan: of new deadlocks nothing is known";
const REMEDY: &str = "/proc/PID/task/TID/stack of that thread of healer tells what it waits for";

pub(super) type Snapshots = mpsc::Receiver<(BootTime, WaitSnapshot)>;

/// Whether the thread comes round.
pub(super) struct WaitsWatch {
    watchdog: Watchdog,
}

impl WaitsWatch {
    /// A scan that does not come back tells nothing, by whatever way it is made.
    pub(super) fn dim(&self, sensors: &mut [Sensor]) {
        let scan = sensors.iter_mut().find(|sensor| sensor.name == tasks::PROGRAM);
        if let Some(sensor) = scan.filter(|_| self.watchdog.is_stuck()) {
            *sensor = Sensor {
                name: tasks::PROGRAM.to_owned(),
                state: SensorState::Down,
                reason: Some(STUCK.to_owned()),
                remedy: Some(REMEDY.to_owned()),
                ..Sensor::default()
            };
        }
    }
}

/// Scans until nobody listens any more. Without `scan` /proc is read.
pub(super) fn start(scan: Option<TaskScan>) -> io::Result<(WaitsWatch, Snapshots)> {
    let (sender, snapshots) = mpsc::channel(WAITING_MAX);
    let pulse = Pulse::default();
    let watch = WaitsWatch { watchdog: Watchdog::over(pulse.clone()) };
    let scanner = move || scan_on(&mut Scanner::new(scan, Path::new("/proc")), &pulse, &sender);
    thread::Builder::new().name("healer-waits".to_owned()).spawn(scanner)?;
    Ok((watch, snapshots))
}

fn scan_on(scanner: &mut Scanner, pulse: &Pulse, sender: &mpsc::Sender<(BootTime, WaitSnapshot)>) {
    // What is over has to be told too: two empty snapshots after the last that was not.
    let mut empty = 2_u32;
    let mut troubled = false;
    while !sender.is_closed() {
        match pulse.turn(|| scanner.scan(&mut |_, _| None)) {
            Some(Ok(snapshot)) => {
                troubled = false;
                empty = if snapshot.is_empty() { empty.saturating_add(1) } else { 0 };
                if empty <= 2 {
                    // Full: the next one says the same or more.
                    sender.try_send((clock::boot(), snapshot)).ok();
                }
            }
            Some(Err(error)) if !troubled => {
                troubled = true;
                tracing::warn!("the tasks cannot be scanned: {error}");
            }
            Some(Err(_)) => {}
            None => tracing::warn!("a scan of the tasks came back late: what it saw is too old to be told"),
        }
        thread::sleep(scanner.interval());
    }
}

impl Agent {
    /// Identity first, then the same door as any signal.
    pub(super) fn waits(&mut self, at: BootTime, mut snapshot: WaitSnapshot) {
        for one in &mut snapshot.processes {
            let id = one.process.id();
            if let Some(process) = self.identity.of_id(id) {
                one.process = process;
            }
        }
        self.observe(&Signal { at, process: None, fact: Fact::Waits(snapshot) });
    }

    /// Once a second.
    pub(super) fn look_at_waits_watch(&mut self) {
        if self.waits_watch.watchdog.refresh(awake()) {
            self.publish_sensors();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(watch: &WaitsWatch) -> Vec<SensorState> {
        let up = |name: &str| Sensor {
            name: name.to_owned(),
            state: SensorState::Attached,
            via: Some("iter/task".to_owned()),
            ..Sensor::default()
        };
        let mut sensors = vec![up("process_exit"), up(tasks::PROGRAM)];
        watch.dim(&mut sensors);
        assert!(sensors.iter().all(|sensor| sensor.is_up() != sensor.reason.is_some()));
        sensors.iter().map(|sensor| sensor.state).collect()
    }

    #[test]
    fn a_scan_that_does_not_come_back_is_shown_until_it_does() {
        let pulse = Pulse::default();
        let mut watch = WaitsWatch { watchdog: Watchdog::over(pulse.clone()) };
        let late = awake() + core::time::Duration::from_secs(60);
        assert!(!watch.watchdog.refresh(late));
        assert_eq!(shown(&watch), [SensorState::Attached; 2]);
        pulse.turn(|| {
            assert!(watch.watchdog.refresh(late) && !watch.watchdog.refresh(late), "said once");
            assert_eq!(shown(&watch), [SensorState::Attached, SensorState::Down]);
        });
        assert!(watch.watchdog.refresh(late));
        assert_eq!(shown(&watch), [SensorState::Attached; 2]);
    }
}
