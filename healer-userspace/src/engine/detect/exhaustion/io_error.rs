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
    called: String,
    /// By device; by mount point where that is not known. Each as long as it fails: one that was repaired is no news of
    /// another.
    disks: BTreeMap<String, Disk>,
}

/// As its first error shows it, or the first after which it is known to be read-only.
struct Disk {
    file: File,
    is_read_only: bool,
    evidence: Evidence,
    /// Its last error.
    last: BootTime,
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
                if let Some(failing) = self.failing.remove(&process.id()) {
                    found.push(failing.is_over(process.id(), "has ended"));
                }
            }
            _ => {}
        }
    }

    fn advance(&mut self, context: &Context<'_>, found: &mut Vec<Finding>) {
        self.failing.retain(|id, failing| {
            failing.disks.retain(|_, disk| context.now.since(disk.last) < QUIET);
            let is_over = failing.disks.is_empty();
            if is_over {
                found.push(failing.is_over(*id, "has had no I/O error for a minute"));
            }
            !is_over
        });
    }

    fn deadline(&self) -> Option<BootTime> {
        let disks = self.failing.values().flat_map(|failing| failing.disks.values());
        disks.map(|disk| disk.last + QUIET).min()
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
        let disk = Disk { file: file.clone(), is_read_only: error.errno == libc::EROFS, evidence, last: at };
        let key = disk.key();
        let anew = || Failing { called: called(process), disks: BTreeMap::new() };
        let failing = self.failing.entry(process.id()).or_insert_with(anew);
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
}

impl Failing {
    /// The first error of a disk, or the first after which it is known to be read-only: ext4 says EIO to those that
    /// write when it fails, and is remounted then (`errors=remount-ro`).
    fn is_news(&mut self, key: &str, disk: Disk) -> bool {
        let is_news = match self.disks.get_mut(key) {
            Some(before) => {
                before.last = disk.last;
                disk.is_read_only && !before.is_read_only
            }
            None => self.disks.len() < DISKS_MAX,
        };
        if is_news {
            self.disks.insert(key.to_owned(), disk);
        }
        is_news
    }

    fn is_over(&self, id: ProcessId, what: &str) -> Finding {
        Finding::Cleared {
            subject: Subject::Process(id, Class::IoError),
            class: Class::IoError,
            says: format!("{} {what}", self.called),
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{memory::Memory, policy::PolicySet, world::World};

    #[derive(Default)]
    struct Run {
        detector: IoErrors,
        world: World,
        memory: Memory,
        policies: PolicySet,
    }

    impl Run {
        /// After the time up to then has passed.
        fn fails(&mut self, second: u64, mount: &str) -> Vec<Finding> {
            let file =
                File { mount: mount.to_owned(), filesystem: "ext4".into(), stored: true, ..File::default() };
            let (call, file) = ("write".to_owned(), Some(file));
            let error = SyscallError { call, errno: libc::EROFS, count: 1, file, ..SyscallError::default() };
            let fact = Fact::SyscallError(Box::new(error));
            let signal = Signal { at: at(second), process: Some(Process::default()), fact };
            let mut found = self.pass(second);
            let Self { detector, world, memory, policies } = self;
            let context = Context { now: signal.at, world, memory, policies, certificate: None };
            detector.observe(&context, &signal, &mut found);
            found
        }

        fn pass(&mut self, second: u64) -> Vec<Finding> {
            let Self { detector, world, memory, policies } = self;
            let context = Context { now: at(second), world, memory, policies, certificate: None };
            let mut found = Vec::new();
            detector.advance(&context, &mut found);
            found
        }
    }

    fn at(second: u64) -> BootTime {
        BootTime(second * 1_000_000_000)
    }

    fn sentences(found: &[Finding]) -> Vec<&str> {
        let mut said = Vec::new();
        for finding in found {
            if let Finding::Raised { diagnosis, .. } = finding {
                said.push(diagnosis.sentence.as_str());
            }
        }
        said
    }

    #[test]
    fn a_disk_that_was_repaired_is_forgotten_while_another_fails() {
        let mut run = Run::default();
        assert_eq!(sentences(&run.fails(1, "/data")).len(), 1);
        for second in [2, 40] {
            run.fails(second, "/spool");
        }
        assert_eq!(run.detector.deadline(), Some(at(61)));
        assert_eq!(run.fails(70, "/spool"), [], "it fails all the while");
        let found = run.fails(75, "/srv");
        let says = sentences(&found);
        let [says] = says[..] else { panic!("{found:?}") };
        assert!(says.contains("; /spool (ext4) is read-only as well") && !says.contains("/data"), "{says}");
        assert_eq!(sentences(&run.fails(80, "/data")).len(), 1, "it fails anew");
        assert_eq!(run.pass(139), [], "one of them failed less than a minute ago");
        let over = run.pass(140);
        assert!(matches!(&over[..], [Finding::Cleared { .. }]), "{over:?}");
    }
}
