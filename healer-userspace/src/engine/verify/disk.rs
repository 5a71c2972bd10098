//! A file system that errors have made read-only: that a successor has not failed to write says nothing. The list of
//! mounts does.

use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    engine::{class::Class, diagnosis::Diagnosis, time::BootTime},
    identity::process::ProcessId,
    signal::syscall_error::File,
    text,
};

/// It is one file to read.
const ANSWERS_WITHIN: Duration = Duration::from_secs(2);
/// Somebody may yet repair it.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// Which it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    device: String,
    mount: String,
}

impl Disk {
    /// Of what nobody knows which it is, nothing can be asked.
    pub fn all_of(diagnosis: &Diagnosis) -> Vec<Self> {
        let is_it =
            diagnosis.class == Class::IoError && diagnosis.detail.kind.as_deref() == Some("read_only");
        let proof = diagnosis.detail.proof.clone().filter(|_| is_it);
        let files: Vec<File> = proof.and_then(|proof| serde_json::from_value(proof).ok()).unwrap_or_default();
        let known = files.into_iter().filter(|file| !file.device.is_empty());
        known.map(|file| Self { device: file.device, mount: file.mount }).collect()
    }

    /// It may be mounted in several places.
    pub fn is_same(&self, other: &Self) -> bool {
        self.device == other.device
    }

    fn called(&self) -> String {
        format!("{} ({})", text::printable(&self.mount), text::printable(&self.device))
    }
}

/// What is known of it by now.
#[derive(Clone, Debug)]
pub(super) struct DiskWatch {
    disk: Disk,
    /// Whose life would be the cure; what is told is about that one's time.
    about: Option<ProcessId>,
    state: State,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// To be asked, not before that.
    Due(BootTime),
    /// Asked; after that the question, or the answer, is lost.
    Outstanding(BootTime),
    /// `None`: it is mounted nowhere in sight.
    Told(Option<bool>),
}

/// What that means for whoever looks like a cure.
pub(super) enum Says {
    Writable,
    ReadOnly(String),
    Unknown(String),
    /// Ask about this device; the answer is there by then, or it is asked again.
    Ask(String, BootTime),
    WaitUntil(BootTime),
}

/// Of all of them: what is known of one goes before what nobody knows of another. They are asked one after the other.
pub(super) fn all_say(disks: &mut [DiskWatch], now: BootTime, until: BootTime, about: ProcessId) -> Says {
    let mut unknown = None;
    for disk in disks {
        match disk.says(now, until, about) {
            Says::Writable => {}
            Says::Unknown(says) => unknown = unknown.or(Some(says)),
            first @ (Says::ReadOnly(_) | Says::Ask(..) | Says::WaitUntil(_)) => return first,
        }
    }
    unknown.map_or(Says::Writable, Says::Unknown)
}

impl DiskWatch {
    pub(super) fn new(now: BootTime, disk: Disk) -> Self {
        Self { disk, about: None, state: State::Due(now) }
    }

    pub(super) fn is_about(&self, disk: &Disk) -> bool {
        self.disk.is_same(disk)
    }

    pub(super) fn is_asked(&self) -> bool {
        matches!(self.state, State::Outstanding(_))
    }

    pub(super) fn told(&mut self, is_read_only: Option<bool>) {
        // What is due again was asked before something happened.
        if matches!(self.state, State::Outstanding(_)) {
            self.state = State::Told(is_read_only);
        }
    }

    /// `until`: so long it is asked again, also where nobody has answered. `about`: whoever looks like the cure.
    pub(super) fn says(&mut self, now: BootTime, until: BootTime, about: ProcessId) -> Says {
        if self.about.replace(about).is_some_and(|before| before != about) {
            self.state = State::Due(now);
        }
        match self.state {
            State::Due(at) if now < at => Says::WaitUntil(at),
            State::Due(_) => self.ask(now),
            State::Outstanding(by) if now < by => Says::WaitUntil(by),
            // Who asked for something else since has not kept the number of the question.
            State::Outstanding(_) if now < until => self.ask(now),
            State::Outstanding(_) | State::Told(None) => {
                // The next answer is the next disk's.
                self.state = State::Told(None);
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

    fn ask(&mut self, now: BootTime) -> Says {
        let by = now + ANSWERS_WITHIN;
        self.state = State::Outstanding(by);
        Says::Ask(self.disk.device.clone(), by)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNTIL: BootTime = at(20);

    const fn at(second: u64) -> BootTime {
        BootTime(second * 1_000_000_000)
    }

    fn process(pid: u32) -> ProcessId {
        ProcessId { pid, start: at(u64::from(pid)) }
    }

    fn watch() -> DiskWatch {
        let disk = Disk { device: "8:17".to_owned(), mount: "/data".to_owned() };
        DiskWatch::new(at(10), disk)
    }

    fn asks(watch: &mut DiskWatch, second: u64, about: u32) -> bool {
        matches!(watch.says(at(second), UNTIL, process(about)), Says::Ask(..))
    }

    #[test]
    fn a_lost_question_is_asked_again_as_long_as_there_is_time() {
        let mut lost = watch();
        assert!(asks(&mut lost, 14, 7));
        assert!(matches!(lost.says(at(15), UNTIL, process(7)), Says::WaitUntil(by) if by == at(16)));
        assert!(asks(&mut lost, 16, 7));
        lost.told(Some(false));
        assert!(matches!(lost.says(at(17), UNTIL, process(7)), Says::Writable));
        let mut never = watch();
        assert!(asks(&mut never, 14, 7) && asks(&mut never, 16, 7) && asks(&mut never, 18, 7));
        assert!(matches!(never.says(UNTIL, UNTIL, process(7)), Says::Unknown(_)));
    }

    #[test]
    fn what_was_told_for_one_successor_says_nothing_of_the_next() {
        let mut told = watch();
        assert!(asks(&mut told, 14, 7));
        told.told(Some(false));
        assert!(matches!(told.says(at(15), UNTIL, process(7)), Says::Writable), "the same one");
        assert!(asks(&mut told, 16, 8), "another one");
        told.told(Some(true));
        assert!(matches!(told.says(at(17), UNTIL, process(8)), Says::WaitUntil(_)));
        told.told(Some(false));
        assert!(asks(&mut told, 18, 8), "an answer that nobody waits for is none");
    }

    /// Two disks; each question is answered with what is said of that disk, if anything is.
    fn last_word(answers: [Option<Option<bool>>; 2]) -> Says {
        let disk = |device: &str| Disk { device: device.to_owned(), mount: format!("/{device}") };
        let mut disks = ["first", "second"].map(|device| DiskWatch::new(at(10), disk(device)));
        for second in 10..40 {
            match all_say(&mut disks, at(second), UNTIL, process(7)) {
                Says::Ask(device, _) => {
                    let answer = answers[usize::from(device == "second")];
                    let asked = disks.iter_mut().find(|disk| disk.is_asked()).expect("one was asked");
                    assert_eq!(asked.disk.device, device, "the answer is that one's");
                    answer.into_iter().for_each(|answer| asked.told(answer));
                }
                Says::WaitUntil(_) => {}
                last @ (Says::Writable | Says::ReadOnly(_) | Says::Unknown(_)) => return last,
            }
        }
        panic!("it never comes to an end")
    }

    #[test]
    fn what_nobody_knows_of_one_disk_hides_nothing_of_another() {
        let (read_only, well) = (Some(Some(true)), Some(Some(false)));
        for unknown in [None, Some(None)] {
            for answers in [[unknown, read_only], [read_only, unknown]] {
                assert!(matches!(last_word(answers), Says::ReadOnly(_)), "{answers:?}");
            }
            for answers in [[unknown, well], [well, unknown], [unknown, unknown]] {
                assert!(matches!(last_word(answers), Says::Unknown(_)), "{answers:?}");
            }
        }
        assert!(matches!(last_word([well, well]), Says::Writable));
    }
}
