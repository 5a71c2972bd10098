//! What /proc says of threads. The root is injected; whatever cannot be read is absent.

use std::{
    fs,
    io::Read as _,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use healer_common::{event::wire::Wire as _, task_scan::TaskRecord};

use crate::{
    patience::{FILES, MEMORY},
    sense::calls::by_x86_64,
};

/// Bytes read of one file at most.
const TEXT_MAX: usize = 1 << 20;
/// Relatives of one process looked at, at most.
const RELATIVES_MAX: usize = 24;

#[derive(Clone, Debug)]
pub(crate) struct Proc {
    root: PathBuf,
    ticks_per_second: u64,
}

/// From `/proc/PID/task/TID/status` (proc_pid_status(5)).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Status {
    pub(crate) state: char,
    pub(crate) tgid: u32,
    pub(crate) tracer: u32,
    pub(crate) switches: u64,
    /// Bit n-1 for signal n.
    pub(crate) caught: u64,
    /// Its number in the innermost pid namespace.
    pub(crate) ns_tid: u32,
    /// SIGKILL waits for it.
    pub(crate) is_dying: bool,
}

/// From `/proc/PID/task/TID/stat`.
pub(crate) struct Stat {
    pub(crate) comm: String,
    /// Since boot, to the clock tick.
    pub(crate) start_boot_ns: u64,
}

impl Proc {
    pub(crate) fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), ticks_per_second: rustix::param::clock_ticks_per_second() }
    }

    /// A start time as /proc shows it.
    pub(crate) fn ticks(&self, start_boot_ns: u64) -> u64 {
        start_boot_ns / (1_000_000_000 / self.ticks_per_second.max(1))
    }

    /// Of a file below the root.
    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.root.join(below)
    }

    pub(crate) fn pids(&self) -> Vec<u32> {
        numbers(&self.root)
    }

    /// Those that live: a leader may have exited before the others.
    pub(crate) fn threads(&self, tgid: u32) -> Vec<u32> {
        let mut threads = numbers(&self.root.join(format!("{tgid}/task")));
        let leader = || self.text(&format!("{tgid}/stat"));
        if leader().is_some_and(|text| state_of(&text) == Some("Z")) {
            threads.retain(|tid| *tid != tgid);
        }
        threads
    }

    pub(crate) fn has_thread(&self, tgid: u32, tid: u32) -> bool {
        self.root.join(format!("{tgid}/task/{tid}")).exists()
    }

    pub(crate) fn status(&self, tgid: u32, tid: u32) -> Option<Status> {
        let text = self.text(&format!("{tgid}/task/{tid}/status"))?;
        Some(parse_status(&text))
    }

    pub(crate) fn stat(&self, tgid: u32, tid: u32) -> Option<Stat> {
        let text = self.text(&format!("{tgid}/task/{tid}/stat"))?;
        // The name may hold blanks and parentheses.
        let (head, tail) = text.rsplit_once(')')?;
        let ticks: u64 = tail.split_ascii_whitespace().nth(19)?.parse().ok()?;
        Some(Stat {
            comm: head.split_once('(')?.1.to_owned(),
            start_boot_ns: ticks.saturating_mul(1_000_000_000 / self.ticks_per_second.max(1)),
        })
    }

    /// A thread as the kernel's iterator would have written it, as far as /proc knows; without saved registers.
    pub(crate) fn record(&self, tgid: u32, tid: u32, leader_start: u64, threads: u32) -> Option<TaskRecord> {
        let status = self.status(tgid, tid)?;
        let stat = self.stat(tgid, tid)?;
        let mut record = TaskRecord {
            pid: tid,
            tgid,
            leader_start_boot_ns: leader_start,
            threads,
            start_boot_ns: stat.start_boot_ns,
            switches: status.switches,
            ptrace: u32::from(status.tracer != 0),
            state: state_bits(status.state),
            flags: flags(&status),
            syscall: -1,
            ..TaskRecord::ZERO
        };
        let name = stat.comm.as_bytes();
        let len = name.len().min(record.comm.len());
        record.comm[..len].copy_from_slice(&name[..len]);
        let call = self.text(&format!("{tgid}/task/{tid}/syscall"))?;
        if call.starts_with("running") {
            record.state = 0;
        } else if self.is_32_bit(tgid) {
            record.flags |= TaskRecord::COMPAT;
        } else {
            parse_syscall(&call, &mut record);
        }
        Some(record)
    }

    /// The system call that a thread sleeps in, and nothing else; `None` while it runs.
    pub(crate) fn call(&self, tgid: u32, tid: u32) -> Option<TaskRecord> {
        let call = self.text(&format!("{tgid}/task/{tid}/syscall"))?;
        let mut record = TaskRecord { pid: tid, tgid, ..TaskRecord::ZERO };
        parse_syscall(&call, &mut record);
        (0 <= record.syscall).then_some(record)
    }

    /// Its threads that sleep at this moment.
    pub(crate) fn asleep_now(&self, tgid: u32) -> Vec<TaskRecord> {
        let records = self.threads(tgid).into_iter().filter_map(|tid| self.record(tgid, tid, 0, 0));
        records.filter(|record| record.state != 0).collect()
    }

    /// By the class in the header of its program (elf(5)).
    fn is_32_bit(&self, tgid: u32) -> bool {
        const ELFCLASS32: u8 = 1;
        let path = self.root.join(format!("{tgid}/exe"));
        let class = move || {
            let mut header = [0; 5];
            fs::File::open(path).and_then(|mut file| file.read_exact(&mut header)).ok().map(|()| header[4])
        };
        // Where it hangs nobody knows, and it is not judged.
        FILES.ask(&tgid.to_string(), class).is_none_or(|class| class == Some(ELFCLASS32))
    }

    /// The path of its program, as it has it.
    pub(crate) fn program(&self, tgid: u32) -> Option<String> {
        let path = fs::read_link(self.root.join(format!("{tgid}/exe"))).ok()?;
        Some(path.to_string_lossy().into_owned())
    }

    pub(crate) fn children(&self, tgid: u32, tid: u32) -> Vec<u32> {
        let text = self.text(&format!("{tgid}/task/{tid}/children")).unwrap_or_default();
        text.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect()
    }

    /// Its children, their children, its parent and its brothers: some of them, where they are many.
    pub(crate) fn relatives(&self, tgid: u32) -> Vec<u32> {
        let parent = self.text(&format!("{tgid}/stat")).and_then(|text| parent_of(&text));
        let mut relatives = self.children(tgid, tgid);
        let elders: Vec<u32> = relatives.iter().copied().chain(parent).collect();
        relatives.extend(parent);
        for elder in elders {
            relatives.extend(self.children(elder, elder).into_iter().filter(|one| *one != tgid));
        }
        relatives.truncate(RELATIVES_MAX);
        relatives
    }

    /// Identity of the pid namespace of a process.
    pub(crate) fn pid_namespace(&self, tgid: u32) -> Option<u64> {
        Some(fs::metadata(self.root.join(format!("{tgid}/ns/pid"))).ok()?.ino())
    }

    pub(crate) fn own_pid_namespace(&self) -> Option<u64> {
        Some(fs::metadata(self.root.join("self/ns/pid")).ok()?.ino())
    }

    /// Inode and path.
    pub(crate) fn net_namespace(&self, tgid: u32) -> Option<(u64, PathBuf)> {
        let path = self.root.join(format!("{tgid}/ns/net"));
        Some((fs::metadata(&path).ok()?.ino(), path))
    }

    pub(crate) fn own_net_namespace(&self) -> Option<u64> {
        Some(fs::metadata(self.root.join("thread-self/ns/net")).ok()?.ino())
    }

    /// Its mappings, and whether these are all of them.
    pub(crate) fn maps(&self, tgid: u32) -> Option<(String, bool)> {
        let text = self.patiently(tgid, format!("{tgid}/maps"))?;
        let is_whole = text.len() < TEXT_MAX;
        Some((text, is_whole))
    }

    /// POSIX timers; `None` if the kernel does not show them.
    pub(crate) fn timers(&self, tgid: u32) -> Option<String> {
        self.text(&format!("{tgid}/timers"))
    }

    /// Of what needs the process's memory: it may be locked for long.
    pub(in crate::sense) fn patiently(&self, tgid: u32, path: String) -> Option<String> {
        let proc = self.clone();
        MEMORY.ask(&tgid.to_string(), move || proc.text(&path)).flatten()
    }

    pub(in crate::sense) fn text(&self, path: &str) -> Option<String> {
        let mut bytes = Vec::with_capacity(2048);
        // Nothing read here is longer, except the mappings of a very large process.
        fs::File::open(self.root.join(path)).ok()?.take(TEXT_MAX as u64).read_to_end(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// Of `PID (NAME) STATE PPID …`.
pub(super) fn state_of(stat: &str) -> Option<&str> {
    stat.rsplit_once(')')?.1.split_ascii_whitespace().next()
}

/// Of the same.
fn parent_of(stat: &str) -> Option<u32> {
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(1)?.parse().ok()
}

pub(super) fn numbers(dir: &Path) -> Vec<u32> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

pub(crate) fn parse_status(text: &str) -> Status {
    let mut status = Status { state: '?', ..Status::default() };
    for line in text.lines() {
        let Some((key, value)) = line.split_once(':') else {
            continue;
        };
        let value = value.trim();
        match key {
            "State" => status.state = value.chars().next().unwrap_or('?'),
            "Tgid" => status.tgid = value.parse().unwrap_or(0),
            "TracerPid" => status.tracer = value.parse().unwrap_or(0),
            "NSpid" => {
                let innermost = value.split_ascii_whitespace().last();
                status.ns_tid = innermost.and_then(|tid| tid.parse().ok()).unwrap_or(0);
            }
            "SigPnd" | "ShdPnd" => {
                const KILL: u64 = 1 << 8;
                status.is_dying |= u64::from_str_radix(value, 16).is_ok_and(|pending| pending & KILL != 0);
            }
            "SigCgt" => status.caught = u64::from_str_radix(value, 16).unwrap_or(u64::MAX),
            "voluntary_ctxt_switches" | "nonvoluntary_ctxt_switches" => {
                status.switches += value.parse().unwrap_or(0);
            }
            _ => {}
        }
    }
    status
}

fn flags(status: &Status) -> u32 {
    let exiting = if matches!(status.state, 'X' | 'Z') { TaskRecord::EXITING } else { 0 };
    exiting | if status.is_dying { TaskRecord::DYING } else { 0 }
}

/// Letters of fs/proc/array.c as bits of include/linux/sched.h.
fn state_bits(letter: char) -> u32 {
    match letter {
        'S' => 1,
        'D' => 2,
        'T' => 4,
        't' => 8,
        'I' => 0x402,
        'R' => 0,
        _ => 1,
    }
}

/// `NR ARG0 … ARG5 SP PC`, or `-1 SP PC` outside a system call.
fn parse_syscall(text: &str, record: &mut TaskRecord) {
    let mut words = text.split_ascii_whitespace();
    record.syscall = words.next().and_then(|number| number.parse().ok()).map_or(-1, by_x86_64);
    let hex = |word: &str| u64::from_str_radix(word.trim_start_matches("0x"), 16).ok();
    let numbers: Vec<u64> = words.filter_map(hex).collect();
    if let [arg0, arg1, arg2, arg3, _, _, sp, ip] = numbers[..] {
        (record.arg0, record.arg1, record.arg2, record.arg3) = (arg0, arg1, arg2, arg3);
        (record.sp, record.ip) = (sp, ip);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_file_is_read() {
        let text = "Name:\ta b\nState:\tS (sleeping)\nTgid:\t7\nTracerPid:\t0\nNSpid:\t70\t3\n\
            SigPnd:\t0000000000000100\nShdPnd:\t0000000000000000\nSigCgt:\t0000000000004000\nvoluntary_ctxt_switches:\t5\nnonvoluntary_ctxt_switches:\t2\n";
        let status =
            Status { state: 'S', tgid: 7, tracer: 0, switches: 7, caught: 0x4000, ns_tid: 3, is_dying: true };
        assert_eq!(parse_status(text), status);
    }

    #[test]
    fn who_lets_nobody_read_its_mappings_is_waited_for_once() {
        let root = std::env::temp_dir().join(format!("healer-locked-{}", std::process::id()));
        for pid in [4_194_307, 4_194_308] {
            fs::create_dir_all(root.join(pid.to_string())).unwrap();
        }
        // To open it waits for a writer, who never comes.
        let locked = root.join("4194307/maps");
        rustix::fs::mknodat(rustix::fs::CWD, &locked, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        fs::write(root.join("4194308/maps"), "55-56 r-xp 0 00:00 0\n").unwrap();
        let proc = Proc::new(&root);
        let began = crate::clock::boot();
        assert!((0..50).all(|_| proc.maps(4_194_307).is_none()));
        assert!(crate::clock::boot().since(began).as_secs() < 5);
        assert!((0..100).any(|_| proc.maps(4_194_308).is_some()), "others are read");
        // The helper comes back.
        fs::OpenOptions::new().read(true).write(true).open(&locked).unwrap();
        fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn a_system_call_is_read() {
        let mut record = TaskRecord::ZERO;
        parse_syscall("202 0x55 0x80 0x2 0x0 0x0 0x0 0x7ffd 0x7f01\n", &mut record);
        assert_eq!(
            (record.syscall, record.arg0, record.arg2, record.sp, record.ip),
            (202, 0x55, 2, 0x7ffd, 0x7f01)
        );
        parse_syscall("-1 0x7ffd 0x7f01\n", &mut record);
        assert_eq!(record.syscall, -1);
    }
}
