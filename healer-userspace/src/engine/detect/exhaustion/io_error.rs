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

/// Of one process; of more it is not told.
const DISKS_MAX: usize = 16;

#[derive(Default)]
struct IoErrors {
    failing: BTreeMap<ProcessId, Failing>,
}

struct Failing {
    last: BootTime,
    called: String,
    /// By device; by mount point where that is not known.
    disks: BTreeMap<String, Disk>,
}

/// As its first error shows it, or the first after which it is known to be read-only.
struct Disk {
    file: File,
    is_read_only: bool,
    evidence: Evidence,
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
        let evidence = Evidence { signal: "syscall_error".to_owned(), at, says: words::failure(error, at) };
        let disk = Disk { file: file.clone(), is_read_only: error.errno == libc::EROFS, evidence };
        let key = disk.key();
        let anew = || Failing { last: at, called: called(process), disks: BTreeMap::new() };
        let failing = self.failing.entry(process.id()).or_insert_with(anew);
        failing.last = at;
        if !failing.is_news(&key, disk) {
            return;
        }
        let read_only: Vec<_> =
            failing.disks.values().filter(|disk| disk.is_read_only).map(|disk| &disk.file).collect();
        let mut evidence: Vec<_> = failing.disks.values().map(|disk| disk.evidence.clone()).collect();
        evidence.sort_by_key(|evidence| evidence.at);
        found.push(Finding::Raised {
            subject: Subject::Process(process.id(), Class::IoError),
            diagnosis: Box::new(Diagnosis {
                class: Class::IoError,
                certainty: Certainty::Proved,
                target: process.clone(),
                related: Vec::new(),
                fault_at: error.first,
                detected_at: context.now,
                sentence: failing.sentence(&key),
                lost: 0,
                from_absence: false,
                detail: Detail {
                    evidence_count: u32::try_from(evidence.len()).unwrap_or(u32::MAX),
                    kind: (!read_only.is_empty()).then(|| "read_only".to_owned()),
                    proof: serde_json::to_value(&read_only).ok().filter(|_| !read_only.is_empty()),
                    ..Detail::default()
                },
                evidence,
            }),
        });
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

impl Failing {
    /// The first error of a disk, or the first after which it is known to be read-only: ext4 says EIO to those that
    /// write when it fails, and is remounted then (`errors=remount-ro`).
    fn is_news(&mut self, key: &str, disk: Disk) -> bool {
        let is_news = match self.disks.get(key) {
            Some(before) => disk.is_read_only && !before.is_read_only,
            None => self.disks.len() < DISKS_MAX,
        };
        if is_news {
            self.disks.insert(key.to_owned(), disk);
        }
        is_news
    }

    /// What is new, and on which disks besides it has failed.
    fn sentence(&self, new: &str) -> String {
        let mut sentence = self.called.clone();
        if let Some(disk) = self.disks.get(new) {
            let since = if disk.is_read_only {
                ", remounted read-only: it was writable when the file was opened, and only errors of the disk or an \
                 emergency remount take that from an open file"
            } else {
                ""
            };
            let path = text::printable(&disk.file.path);
            sentence += &format!(": {}; of {path} on {}{since}", disk.evidence.says, disk.place());
        }
        for (_, disk) in self.disks.iter().filter(|(key, _)| *key != new) {
            let kind = if disk.is_read_only { "is read-only" } else { "has failed" };
            sentence += &format!("; {} {kind} as well", disk.place());
        }
        sentence
    }
}

impl Disk {
    fn key(&self) -> String {
        let File { device, mount, .. } = &self.file;
        if device.is_empty() { mount.clone() } else { device.clone() }
    }

    /// `/data (ext4)`, and what is mounted there if that is what became read-only.
    fn place(&self) -> String {
        let File { mount, filesystem, source, .. } = &self.file;
        let is_told = self.is_read_only && !source.is_empty();
        let device = if is_told { format!(", {}", text::printable(source)) } else { String::new() };
        format!("{} ({}{device})", text::printable(mount), text::printable(filesystem))
    }
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
