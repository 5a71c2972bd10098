//! Who gets the CPU: limits of cgroups, pressure of the node, and what threads waited for it.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

/// A small file of the kernel, kept open: each read begins at its start and tells what holds now.
pub struct Kept(File);

impl Kept {
    pub fn open(path: &Path) -> Option<Self> {
        File::open(path).ok().map(Self)
    }

    /// `None`: what it told of is gone.
    pub fn read(&self) -> Option<String> {
        let mut bytes = [0; 4096];
        let got = self.0.read_at(&mut bytes, 0).ok()?;
        Some(String::from_utf8_lossy(bytes.get(..got)?).into_owned())
    }

    /// Of a file that holds one number.
    pub fn number(&self) -> Option<u64> {
        let mut bytes = [0; 32];
        let got = self.0.read_at(&mut bytes, 0).ok()?;
        str::from_utf8(bytes.get(..got)?).ok()?.trim().parse().ok()
    }
}

/// The same of one that is not kept, in one piece: without room `fs::read_to_string` begins with 32 bytes, and has to
/// ask for a size that no such file has.
pub fn small(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::with_capacity(8 * 1024);
    File::open(path)?.take(1 << 20).read_to_end(&mut bytes)?;
    String::from_utf8(bytes).map_err(io::Error::other)
}

/// `cpu.stat` of one cgroup, v1 or v2. All zero where no limit holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuStat {
    pub periods: u64,
    pub throttled: u64,
    /// Summed over CPUs.
    pub throttled_ns: u64,
}

impl CpuStat {
    /// Documentation/scheduler/sched-bwc.rst: v1 has `throttled_time` in ns, v2 `throttled_usec`.
    pub fn parse(text: &str) -> Self {
        let mut stat = Self::default();
        for line in text.lines() {
            let Some((key, value)) = line.split_once(' ') else {
                continue;
            };
            let value: u64 = value.trim().parse().unwrap_or(0);
            match key {
                "nr_periods" => stat.periods = value,
                "nr_throttled" => stat.throttled = value,
                "throttled_time" => stat.throttled_ns = value,
                "throttled_usec" => stat.throttled_ns = value.saturating_mul(1000),
                _ => {}
            }
        }
        stat
    }

    /// What happened since `before`; a cgroup made anew counts from zero.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self {
            periods: self.periods.saturating_sub(before.periods),
            throttled: self.throttled.saturating_sub(before.throttled),
            throttled_ns: self.throttled_ns.saturating_sub(before.throttled_ns),
        }
    }
}

/// µs in which some task waited for a CPU (`total=` of the line `some`, Documentation/accounting/psi.rst).
pub fn pressure_total_us(text: &str) -> Option<u64> {
    let some = text.lines().find(|line| line.starts_with("some "))?;
    some.split_once("total=")?.1.trim().parse().ok()
}

/// Every directory of the cpu controller that holds `pid`, the innermost first: any of them may have a limit.
pub fn cpu_cgroups(proc: &Path, cgroup: &Path, pid: u32) -> Vec<PathBuf> {
    let text = fs::read_to_string(proc.join(format!("{pid}/cgroup"))).unwrap_or_default();
    let Some((mount, path)) = text.lines().find_map(|line| v1(line, cgroup)).or_else(|| v2(&text, cgroup))
    else {
        return Vec::new();
    };
    let inside = PathBuf::from(path.trim_start_matches('/'));
    inside.ancestors().filter(|part| !part.as_os_str().is_empty()).map(|part| mount.join(part)).collect()
}

fn v1<'a>(line: &'a str, cgroup: &Path) -> Option<(PathBuf, &'a str)> {
    let mut parts = line.splitn(3, ':');
    let controllers = parts.nth(1)?;
    let path = parts.next()?;
    let mount = cgroup.join(controllers);
    let is_cpu = controllers.split(',').any(|name| name == "cpu");
    // Mounted together, the directory is called `cpu,cpuacct` and `cpu` is a link to it.
    is_cpu.then(|| if mount.is_dir() { mount } else { cgroup.join("cpu") }).map(|mount| (mount, path))
}

fn v2<'a>(text: &'a str, cgroup: &Path) -> Option<(PathBuf, &'a str)> {
    let path = text.lines().find_map(|line| line.strip_prefix("0::"))?;
    let is_pure = cgroup.join("cgroup.controllers").exists();
    Some((if is_pure { cgroup.to_owned() } else { cgroup.join("unified") }, path))
}

/// Of one thread: `/proc/PID/task/TID/schedstat` (Documentation/scheduler/sched-stats.rst).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SchedStat {
    pub ran_ns: u64,
    /// On a run queue, not running.
    pub delay_ns: u64,
    pub runs: u64,
}

impl SchedStat {
    pub fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.split_ascii_whitespace().map_while(|number| number.parse().ok());
        Some(Self { ran_ns: numbers.next()?, delay_ns: numbers.next()?, runs: numbers.next()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_of_cpu_stat_are_read() {
        let v1 = "nr_periods 10\nnr_throttled 7\nthrottled_time 5000000\n";
        let v2 = "usage_usec 1\nuser_usec 1\nnr_periods 10\nnr_throttled 7\nthrottled_usec 5000\n";
        assert_eq!(CpuStat::parse(v1), CpuStat { periods: 10, throttled: 7, throttled_ns: 5_000_000 });
        assert_eq!(CpuStat::parse(v1), CpuStat::parse(v2));
        assert_eq!(CpuStat::parse("usage_usec 1\n"), CpuStat::default());
    }

    #[test]
    fn pressure_and_schedstat_are_read() {
        let text = "some avg10=7.17 avg60=53.60 avg300=83.11 total=2413\nfull avg10=0.00 total=9\n";
        assert_eq!(pressure_total_us(text), Some(2413));
        assert_eq!(SchedStat::parse("5 6 7\n"), Some(SchedStat { ran_ns: 5, delay_ns: 6, runs: 7 }));
        assert_eq!(SchedStat::parse("\n"), None);
    }
}
