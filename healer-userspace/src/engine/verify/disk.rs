//! A file system that errors have made read-only: that a successor has not failed to write says nothing. The list of
//! mounts does.

use core::time::Duration;

use crate::{
    engine::{class::Class, diagnosis::Diagnosis, time::BootTime},
    signal::syscall_error::File,
    text,
};

/// It is one file to read.
const ANSWERS_WITHIN: Duration = Duration::from_secs(2);
/// Somebody may yet repair it.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// Which it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    device: String,
    mount: String,
}

impl Disk {
    /// `None`: it is about something else, or nobody knows which one it is.
    pub fn of(diagnosis: &Diagnosis) -> Option<Self> {
        let is_it =
            diagnosis.class == Class::IoError && diagnosis.detail.kind.as_deref() == Some("read_only");
        let proof = diagnosis.detail.proof.clone().filter(|_| is_it)?;
        let file: File = serde_json::from_value(proof).ok()?;
        (!file.device.is_empty()).then_some(Self { device: file.device, mount: file.mount })
    }

    fn called(&self) -> String {
        format!("{} ({})", text::printable(&self.mount), text::printable(&self.device))
    }
}

/// What is known of it by now.
#[derive(Clone, Debug)]
pub(super) struct DiskWatch {
    disk: Disk,
    state: State,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// To be asked, not before that.
    Due(BootTime),
    /// Asked; nobody waits for longer than that.
    Outstanding(BootTime),
    /// `None`: it is mounted nowhere in sight.
    Told(Option<bool>),
}

/// What that means for whoever looks like a cure.
pub(super) enum Says {
    Writable,
    ReadOnly(String),
    Unknown(String),
    /// Ask about this device; the answer is there by then, or comes no more.
    Ask(String, BootTime),
    WaitUntil(BootTime),
}

impl DiskWatch {
    pub(super) fn new(now: BootTime, disk: Disk) -> Self {
        Self { disk, state: State::Due(now) }
    }

    pub(super) fn told(&mut self, is_read_only: Option<bool>) {
        self.state = State::Told(is_read_only);
    }

    /// `until`: so long it is asked again.
    pub(super) fn says(&mut self, now: BootTime, until: BootTime) -> Says {
        match self.state {
            State::Due(at) if now < at => Says::WaitUntil(at),
            State::Due(_) => {
                let by = now + ANSWERS_WITHIN;
                self.state = State::Outstanding(by);
                Says::Ask(self.disk.device.clone(), by)
            }
            State::Outstanding(by) if now < by => Says::WaitUntil(by),
            State::Outstanding(_) | State::Told(None) => {
                Says::Unknown(format!("whether {} can be written again is not known", self.disk.called()))
            }
            State::Told(Some(false)) => Says::Writable,
            State::Told(Some(true)) if now < until => {
                let again = now + ASK_EVERY;
                self.state = State::Due(again);
                Says::WaitUntil(again)
            }
            State::Told(Some(true)) => Says::ReadOnly(format!("{} is still read-only", self.disk.called())),
        }
    }
}
