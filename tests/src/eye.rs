//! The agent's sensing, open in a test.

use std::{thread, time::Duration};

use healer_common::event::{
    Event, Header, oom_kill::OomKill, process_exec::ProcessExec, process_exit::ProcessExit,
    signal_sent::SignalSent,
};
use healer_userspace::{
    clock,
    sense::{Sense, SensorState, Settings},
};

/// Generous: other work runs on the machine.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks.
const STEP: Duration = Duration::from_millis(5);

use crate::victim::Victim;

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
        Self::with(&Settings::default(), &[])
    }

    /// As [`Eye::open`], by other settings, with which the sensors named in `down` do not work.
    ///
    /// # Panics
    /// With what is missing, if another sensor cannot be attached.
    #[must_use]
    pub fn with(settings: &Settings, down: &[&str]) -> Self {
        let sense = Sense::start(settings);
        for sensor in sense.sensors().iter().filter(|sensor| !down.contains(&sensor.name)) {
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

    /// Lets time pass, and reads meanwhile: others on this machine may fill the rings.
    pub fn pause(&mut self, time: Duration) {
        let end = clock::boot() + time;
        while clock::boot() < end {
            self.look();
            thread::sleep(STEP);
        }
    }

    /// Waits for the end of `victim`, and reads meanwhile; gives the raw wait status.
    ///
    /// # Panics
    /// If it does not end.
    pub fn watch_end(&mut self, victim: &mut Victim) -> u32 {
        let deadline = clock::boot() + PATIENCE;
        loop {
            self.look();
            if let Some(status) = victim.try_wait() {
                return status;
            }
            assert!(clock::boot() < deadline, "the victim lives on");
            thread::sleep(STEP);
        }
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
            thread::sleep(STEP);
        }
    }

    /// Waits for the end of `tgid`.
    ///
    /// # Panics
    /// If it does not come.
    pub fn exit_of(&mut self, tgid: u32) -> (Header, ProcessExit) {
        self.wait_for(&format!("the end of {tgid}"), |header, event| {
            let exit = as_exit(event).filter(|exit| exit.task.tgid == tgid)?;
            Some((*header, *exit))
        })
    }

    /// Waits for `signal` to be sent to `tgid`.
    ///
    /// # Panics
    /// If it is not.
    pub fn signal_to(&mut self, tgid: u32, signal: u32) -> SignalSent {
        self.wait_for(&format!("signal {signal} to {tgid}"), |_, event| {
            as_signal(event).filter(|sent| sent.target.tgid == tgid && sent.signal == signal).copied()
        })
    }

    /// Waits for an exec of `tgid` after which its name is `comm`.
    ///
    /// # Panics
    /// If it does not come.
    pub fn exec_of(&mut self, tgid: u32, comm: &str) -> ProcessExec {
        self.wait_for(&format!("the exec of {tgid}"), |_, event| {
            as_exec(event)
                .filter(|exec| exec.task.tgid == tgid && exec.task.comm() == comm.as_bytes())
                .copied()
        })
    }

    /// Gives the stragglers time, then counts the ends of `tgid`.
    pub fn exits_of(&mut self, tgid: u32) -> usize {
        self.pause(Duration::from_millis(300));
        let exits = self.seen.iter().filter_map(|(_, event)| as_exit(event));
        exits.filter(|exit| exit.task.tgid == tgid).count()
    }
}

#[must_use]
pub fn as_exit(event: &Event) -> Option<&ProcessExit> {
    if let Event::ProcessExit(exit) = event { Some(exit) } else { None }
}

#[must_use]
pub fn as_exec(event: &Event) -> Option<&ProcessExec> {
    if let Event::ProcessExec(exec) = event { Some(exec) } else { None }
}

#[must_use]
pub fn as_signal(event: &Event) -> Option<&SignalSent> {
    if let Event::SignalSent(sent) = event { Some(sent) } else { None }
}

#[must_use]
pub fn as_oom_kill(event: &Event) -> Option<&OomKill> {
    if let Event::OomKill(kill) = event { Some(kill) } else { None }
}
