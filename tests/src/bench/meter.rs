//! What /proc says of a process: CPU time, switches, memory, kernel maps.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use anyhow::Context as _;

/// Of all threads that live.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Usage {
    pub cpu: Duration,
    /// Voluntary switches: how often a thread went to sleep, and so was woken.
    pub sleeps: u64,
    pub threads: u64,
    /// CPU time by the name of the thread.
    pub of: BTreeMap<String, Duration>,
}

impl Usage {
    /// CPU time of the threads of that name.
    #[must_use]
    pub fn named(&self, name: &str) -> Duration {
        self.of.get(name).copied().unwrap_or_default()
    }
}

/// In bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Memory {
    pub rss: u64,
    pub pss: u64,
    pub peak: u64,
    /// Memory of the BPF maps that it holds open, each counted once.
    pub maps: u64,
}

/// CPU time and switches since its start.
///
/// # Errors
/// It is gone.
pub fn usage(pid: u32) -> anyhow::Result<Usage> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).context("the process is gone")?;
    let mut usage = Usage::default();
    for task in tasks.flatten() {
        let Ok(statistics) = fs::read_to_string(task.path().join("schedstat")) else { continue };
        let nanos = statistics.split(' ').next().and_then(|word| word.parse().ok());
        let cpu = Duration::from_nanos(nanos.unwrap_or(0));
        let name = fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        *usage.of.entry(name.trim_end().to_owned()).or_default() += cpu;
        usage.cpu += cpu;
        let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
        usage.sleeps += field(&status, "voluntary_ctxt_switches:").unwrap_or(0);
        usage.threads += 1;
    }
    Ok(usage)
}

/// What it holds now.
///
/// # Errors
/// It is gone, or belongs to somebody else.
pub fn memory(pid: u32) -> anyhow::Result<Memory> {
    let dir = format!("/proc/{pid}");
    let rollup = fs::read_to_string(format!("{dir}/smaps_rollup")).context("the process is gone")?;
    let status = fs::read_to_string(format!("{dir}/status"))?;
    let kib = |text: &str, name| field(text, name).unwrap_or(0) * 1024;
    Ok(Memory {
        rss: kib(&rollup, "Rss:"),
        pss: kib(&rollup, "Pss:"),
        peak: kib(&status, "VmHWM:"),
        maps: maps(Path::new(&dir)),
    })
}

/// `memlock` of fdinfo: what the kernel charges for a map (kernel/bpf/syscall.c `bpf_map_show_fdinfo`).
fn maps(dir: &Path) -> u64 {
    let mut charged = BTreeMap::new();
    for entry in fs::read_dir(dir.join("fdinfo")).into_iter().flatten().flatten() {
        let text = fs::read_to_string(entry.path()).unwrap_or_default();
        if let (Some(id), Some(bytes)) = (field(&text, "map_id:"), field(&text, "memlock:")) {
            charged.insert(id, bytes);
        }
    }
    charged.values().sum()
}

/// The number after `name` at the start of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_ascii_whitespace().next()?.parse().ok()
}

/// CPU time of the calling thread.
#[must_use]
pub fn own_thread() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.cast_unsigned(), u32::try_from(now.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_a_whole_line() {
        let text = "nonvoluntary_ctxt_switches:\t7\nvoluntary_ctxt_switches:\t5\nRss:   12 kB\n";
        assert_eq!(field(text, "voluntary_ctxt_switches:"), Some(5));
        assert_eq!(field(text, "Rss:"), Some(12));
        assert_eq!(field(text, "Pss:"), None);
    }

    #[test]
    fn this_process_is_measured() {
        let own = std::process::id();
        let usage = usage(own).unwrap();
        assert!(Duration::ZERO < usage.cpu && 1 <= usage.threads);
        let memory = memory(own).unwrap();
        assert!(0 < memory.pss && memory.pss <= memory.rss && memory.maps == 0, "{memory:?}");
        assert!(super::usage(u32::MAX).is_err());
    }
}
