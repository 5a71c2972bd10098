//! A disk does not read or write: EIO from a file that is stored on one.

use core::time::Duration;
use std::collections::BTreeMap;

use super::words;
use crate::{
    engine::{
        certificate::called,
        class::{Certainty, Class},
        detect::{Context, Detector, DetectorEntry, Finding, Subject},
        diagnosis::{Detail, Diagnosis, Evidence},
        time::BootTime,
    },
    identity::process::{Process, ProcessId},
    signal::{
        Fact, Signal,
        syscall_error::{File, SyscallError},
    },
    text,
};

pub(in crate::engine::detect) const ENTRY: DetectorEntry =
    DetectorEntry { name: "io_error", classes: &[Class::IoError], build: || Box::new(IoErrors::default()) };

/// So long without one.
const QUIET: Duration = Duration::from_secs(60);
/// EIO is an answer of theirs, not a fault: terminals that hung up, memory that is not mapped, settings.
const NO_DISKS: [&str; 12] = [
    "proc",
    "sysfs",
    "devpts",
    "devtmpfs",
    "debugfs",
    "tracefs",
    "securityfs",
    "cgroup",
    "cgroup2",
    "bpf",
    "configfs",
    "efivarfs",
];

#[derive(Default)]
struct IoErrors {
    failing: BTreeMap<ProcessId, (BootTime, String)>,
}

impl Detector for IoErrors {
    fn observe(&mut self, context: &Context<'_>, signal: &Signal, found: &mut Vec<Finding>) {
        match (&signal.fact, &signal.process) {
            (Fact::SyscallError(error), Some(process)) => {
                if let Some(file) = error.file.as_ref().filter(|file| is_fault(error, file)) {
                    self.failed(context, signal.at, process, error, file, found);
                }
            }
            (Fact::Exited(_), Some(process)) => {
                self.clear(|id, _| *id == process.id(), "has ended", found);
            }
            _ => {}
        }
    }

    fn advance(&mut self, context: &Context<'_>, found: &mut Vec<Finding>) {
        let now = context.now;
        self.clear(|_, last| QUIET <= now.since(last), "has had no I/O error for a minute", found);
    }

    fn deadline(&self) -> Option<BootTime> {
        self.failing.values().map(|(last, _)| *last + QUIET).min()
    }
}

impl IoErrors {
    fn failed(
        &mut self,
        context: &Context<'_>,
        at: BootTime,
        process: &Process,
        error: &SyscallError,
        file: &File,
        found: &mut Vec<Finding>,
    ) {
        let called = called(process);
        if self.failing.insert(process.id(), (at, called.clone())).is_some() {
            return;
        }
        let (path, mount) = (text::printable(&file.path), text::printable(&file.mount));
        let says = words::failure(error, at);
        let sentence =
            format!("{called}: {says}; of {path} on {mount} ({})", text::printable(&file.filesystem));
        found.push(Finding::Raised {
            subject: Subject::Process(process.id(), Class::IoError),
            diagnosis: Box::new(Diagnosis {
                class: Class::IoError,
                certainty: Certainty::Proved,
                target: process.clone(),
                related: Vec::new(),
                fault_at: error.first,
                detected_at: context.now,
                sentence,
                evidence: vec![Evidence { signal: "syscall_error".to_owned(), at, says }],
                lost: 0,
                from_absence: false,
                detail: Detail { evidence_count: 1, ..Detail::default() },
            }),
        });
    }

    fn clear(
        &mut self,
        is_over: impl Fn(&ProcessId, BootTime) -> bool,
        what: &str,
        found: &mut Vec<Finding>,
    ) {
        self.failing.retain(|id, (last, called)| {
            let is_over = is_over(id, *last);
            if is_over {
                found.push(Finding::Cleared {
                    subject: Subject::Process(*id, Class::IoError),
                    class: Class::IoError,
                    says: format!("{called} {what}"),
                });
            }
            !is_over
        });
    }
}

fn is_fault(error: &SyscallError, file: &File) -> bool {
    error.errno == libc::EIO
        && file.stored
        && !file.filesystem.is_empty()
        && !NO_DISKS.contains(&file.filesystem.as_str())
}
