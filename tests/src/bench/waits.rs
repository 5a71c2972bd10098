//! What it costs to look for deadlocks: one scan of the tasks, and the detector by the second.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use healer_userspace::clock;

use super::{args::Args, figure::Figure, meter, pairs, say};
use crate::hangs::Watch;

/// The first scans tell of everybody, and a new suspicion is looked at closely for fifteen seconds.
const SETTLED: Duration = Duration::from_secs(18);
const SECONDS: u64 = 20;
/// Tasks of a small node.
const FEW: u32 = 300;
const MANY: u32 = 5000;
const STUCK: u32 = 100;
const MIB: f64 = 1024.0 * 1024.0;

/// Threads of a process of its own; ended on drop.
struct Threads(Child);

impl Threads {
    fn start(idle: u32, stuck: u32) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe().context("find the bench itself")?);
        command.args(["threads", &idle.to_string(), &stuck.to_string()]);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("start threads")?;
        let mut line = String::new();
        let stdout = child.stdout.take().context("its stdout")?;
        let threads = Self(child);
        BufReader::new(stdout).read_line(&mut line)?;
        ensure!(line.trim() == "there", "{idle} threads cannot be started");
        Ok(threads)
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// # Errors
/// No threads can be started, or a clock cannot be read.
pub fn measure(_args: &Args) -> anyhow::Result<Vec<Figure>> {
    let own = tasks();
    let few = Threads::start(FEW.saturating_sub(own), 0)?;
    let mut figures = of("300 tasks", 0.3, 0.03)?;
    drop(few);
    let many = Threads::start(MANY, 0)?;
    figures.extend(of("5,000 idle threads", 4.0, 0.4)?);
    drop(many);
    let _stuck = Threads::start(MANY - STUCK, STUCK)?;
    figures.extend(of("5,000 threads, 100 of them stuck", 40.0, 1.0)?);
    Ok(figures)
}

/// Scan and engine as the agent runs them, alone in this thread.
fn of(what: &str, millis: f64, share: f64) -> anyhow::Result<Vec<Figure>> {
    say(&format!("waits: {what}"));
    let before = meter::memory(std::process::id())?.rss;
    let mut watch = Watch::open();
    let start = clock::boot();
    while clock::boot().since(start) < SETTLED {
        watch.scan();
    }
    let (start, cpu, scans) = (clock::boot(), meter::own_thread(), watch.scans);
    let mut each = Vec::new();
    while clock::boot().since(start) < Duration::from_secs(SECONDS) {
        let before = meter::own_thread();
        watch.scan();
        each.push((meter::own_thread() - before).as_secs_f64() * 1000.0);
        watch.history.clear();
    }
    let time = clock::boot().since(start).as_secs_f64();
    let busy = (meter::own_thread() - cpu).as_secs_f64() / time * 100.0;
    let sorted = pairs::sorted(each.into_iter());
    let median = pairs::median(&sorted).unwrap_or(f64::NAN);
    let most = sorted.last().copied().unwrap_or_default();
    let grown = meter::memory(std::process::id())?.rss.saturating_sub(before) as f64 / MIB;
    let remark = format!("CPU time, median of {}, at most {most:.2}; {} tasks", watch.scans - scans, tasks());
    let found = watch.found.values().filter(|one| one.target.comm.starts_with("healer-bench")).count();
    Ok(vec![
        Figure::new(&format!("scan: {what}"), median, "ms").at_most(millis).remark(remark),
        Figure::new(&format!("detector: {what}"), busy, "% of a core").at_most(share).remark(format!(
            "scan, graph and engine over {time:.0} s, after {} s; {found} deadlocked processes found",
            SETTLED.as_secs()
        )),
        Figure::new(&format!("detector's memory: {what}"), grown, "MiB").remark("what this process grew by"),
    ])
}

/// Threads of the machine.
fn tasks() -> u32 {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let tasks = load.split(' ').nth(3).and_then(|tasks| tasks.split_once('/'));
    tasks.and_then(|(_, all)| all.parse().ok()).unwrap_or(0)
}
