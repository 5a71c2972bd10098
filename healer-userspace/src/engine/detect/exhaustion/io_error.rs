//! A disk does not read or write: EIO from a file that is stored on one, or a file system that has become read-only
//! under a file that is open for writing.

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

/// Of a disk of this machine, where nobody but the kernel makes an open file read-only: a subvolume of btrfs and a data
/// set of zfs can be made so by hand.
const ON_DISKS: [&str; 11] =
    ["ext2", "ext3", "ext4", "xfs", "f2fs", "jfs", "vfat", "exfat", "ntfs3", "bcachefs", "overlay"];
/// Before any of them asks the file system, the file must be open for writing (EBADF else, write(2)).
const WRITES: [&str; 7] = ["write", "pwrite64", "writev", "pwritev", "pwritev2", "fallocate", "ftruncate"];

#[derive(Default)]
struct IoErrors {
    failing: BTreeMap<ProcessId, Failing>,
}

struct Failing {
    last: BootTime,
    called: String,
    is_read_only: bool,
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
        self.failing.values().map(|failing| failing.last + QUIET).min()
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
        let is_read_only = error.errno == libc::EROFS;
        if !self.is_news(process.id(), Failing { last: at, called: called.clone(), is_read_only }) {
            return;
        }
        let (path, mount) = (text::printable(&file.path), text::printable(&file.mount));
        let says = words::failure(error, at);
        let (filesystem, source) = (text::printable(&file.filesystem), text::printable(&file.source));
        let (device, since) = match is_read_only {
            true => (
                format!(", {source}"),
                ", remounted read-only: it was writable when the file was opened, and only errors of the disk or an \
                 emergency remount take that from an open file",
            ),
            false => (String::new(), ""),
        };
        let sentence = format!("{called}: {says}; of {path} on {mount} ({filesystem}{device}){since}");
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
                detail: Detail {
                    evidence_count: 1,
                    kind: kind(is_read_only),
                    proof: serde_json::to_value(file).ok().filter(|_| is_read_only),
                    ..Detail::default()
                },
            }),
        });
    }

    /// The first of its errors, or the first after which the disk is known to be read-only: ext4 says EIO to those that
    /// write when it fails, and is remounted then (`errors=remount-ro`).
    fn is_news(&mut self, id: ProcessId, mut failing: Failing) -> bool {
        let before = self.failing.get(&id).map(|before| before.is_read_only);
        let is_news = before.is_none_or(|before| failing.is_read_only && !before);
        failing.is_read_only |= before == Some(true);
        self.failing.insert(id, failing);
        is_news
    }

    fn clear(
        &mut self,
        is_over: impl Fn(&ProcessId, BootTime) -> bool,
        what: &str,
        found: &mut Vec<Finding>,
    ) {
        self.failing.retain(|id, Failing { last, called, .. }| {
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

fn kind(is_read_only: bool) -> Option<String> {
    is_read_only.then(|| "read_only".to_owned())
}

fn is_fault(error: &SyscallError, file: &File) -> bool {
    let is_eio = error.errno == libc::EIO
        && !file.filesystem.is_empty()
        && !NO_DISKS.contains(&file.filesystem.as_str());
    file.stored && (is_eio || has_become_read_only(error, file))
}

/// What is read-only by design has no file that is open for writing, and mount(8) leaves none: a file system with one
/// is busy (`sb_prepare_remount_readonly`, fs/namespace.c). Errors do not ask (`mnt_get_write_access_file`, ibid.).
fn has_become_read_only(error: &SyscallError, file: &File) -> bool {
    error.errno == libc::EROFS
        && WRITES.contains(&error.call.as_str())
        && ON_DISKS.contains(&file.filesystem.as_str())
}
