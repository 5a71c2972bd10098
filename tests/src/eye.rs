//! The agent's sensing, open in a test.

use std::{thread, time::Duration};

use healer_common::event::{Event, Header, process_exit::ProcessExit};
use healer_userspace::{
    clock,
    sense::{Sense, SensorState, Settings},
};

/// Generous: other work runs on the machine.
const PATIENCE: Duration = Duration::from_secs(10);

/// Attached sensors and all they have told so far.
pub struct Eye {
    pub sense: Sense,
    pub seen: Vec<(Header, Event)>,
}

impl Eye {
    /// # Panics
    /// With what is missing, if a sensor cannot be attached.
    #[must_use]
    pub fn open() -> Self {
        let sense = Sense::start(&Settings::default());
        for sensor in sense.sensors() {
            assert!(
                sensor.state != SensorState::Down,
                "live tests need root (CAP_BPF, CAP_PERFMON) and a built kernel object: {}: {}; {}",
                sensor.name,
                sensor.reason.as_deref().unwrap_or_default(),
                sensor.remedy.as_deref().unwrap_or_default(),
            );
        }
        Self { sense, seen: Vec::new() }
    }

    /// Reads what is there.
    ///
    /// # Panics
    /// On a record that does not decode.
    pub fn look(&mut self) {
        let seen = &mut self.seen;
        self.sense.drain(|record| {
            seen.push(Event::decode(record).expect("the kernel half sends sound records"));
        });
    }

    /// Waits until some record satisfies `wanted`, and gives the first that does.
    ///
    /// # Panics
    /// If none comes.
    pub fn wait_for<T>(&mut self, what: &str, wanted: impl Fn(&Header, &Event) -> Option<T>) -> T {
        let deadline = clock::boot() + PATIENCE;
        loop {
            self.look();
            let found = self.seen.iter().find_map(|(header, event)| wanted(header, event));
            if let Some(found) = found {
                return found;
            }
            assert!(clock::boot() < deadline, "{what}: not seen among {} records", self.seen.len());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits for the end of `tgid`.
    ///
    /// # Panics
    /// If it does not come.
    pub fn exit_of(&mut self, tgid: u32) -> (Header, ProcessExit) {
        self.wait_for(&format!("the end of {tgid}"), |header, event| match event {
            Event::ProcessExit(exit) if exit.task.tgid == tgid => Some((*header, *exit)),
            _ => None,
        })
    }

    /// Gives the stragglers time, then counts the ends of `tgid`.
    pub fn exits_of(&mut self, tgid: u32) -> usize {
        thread::sleep(Duration::from_millis(300));
        self.look();
        let is_its = |event: &Event| matches!(event, Event::ProcessExit(exit) if exit.task.tgid == tgid);
        self.seen.iter().filter(|(_, event)| is_its(event)).count()
    }
}
