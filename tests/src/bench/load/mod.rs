//! THE LOAD TABLE: what runs without and with healer, and what healer may cost it.

mod files;
mod futex;
mod memory;
mod net;
mod processes;
pub mod servers;

pub use processes::fork_and_wait;

use std::{process::Command, time::Duration};

use anyhow::{Context as _, ensure};
use healer_userspace::clock;

use super::pairs;

/// One row of the cost table.
pub struct Load {
    pub name: &'static str,
    pub what: &'static str,
    /// healer's programs that it runs.
    pub programs: &'static str,
    /// The highest ratio aimed at.
    pub aim: f64,
    pub kind: Kind,
}

/// How a load is run, and what its figure is.
#[derive(Clone, Copy)]
pub enum Kind {
    /// One operation after the other on CPU 1; ns of wall time each, median of batches.
    Micro { batch: u32, run: fn(&mut Meter) -> anyhow::Result<()> },
    /// A server on CPU 0, its clients on CPU 1; ns of the server's CPU time per request.
    Server(servers::Request),
}

/// Every load, in the order of the table.
pub const LOADS: &[Load] = &[
    micro("getppid", "getppid(2)", "syscall_error", 1.05, 5000, files::getppid),
    micro("openat", "open of a missing file", "syscall_error", 1.05, 500, files::open_missing),
    micro("emfile", "open at the descriptor limit", "syscall_error", 1.05, 500, files::open_at_limit),
    micro("pipe", "a byte there and back, two switches", "syscall_error", 1.01, 200, files::pipe),
    micro("futex", "a wake-up there and back by futex(2)", "syscall_error", 1.01, 200, futex::ping_pong),
    micro("fork", "fork, _exit(0), wait", "process_exit", 1.03, 5, processes::fork),
    micro("true", "spawn /bin/true", "process_exec process_exit", 1.03, 1, processes::spawn_true),
    micro(
        "false",
        "spawn /bin/false: its end is sent",
        "process_exec process_exit",
        1.03,
        1,
        processes::spawn_false,
    ),
    micro("sig", "SIGUSR1 to oneself, handled", "signal_sent", 1.06, 500, processes::signal),
    micro("fault", "a new page", "none", 1.02, 200, memory::fault),
    micro("reclaim", "256 KiB of a file, in a full cgroup", "reclaim_stall", 1.03, 10, memory::reclaim),
    micro("conn", "loopback connect, accept, reset", "socket_state", 1.04, 10, net::connection),
    server("nginx-keep", "nginx, kept connections", "none", 1.02, servers::Request::NginxKept),
    server("nginx-close", "nginx, a connection each", "socket_state", 1.04, servers::Request::NginxEach),
    server("redis-set", "redis SET", "none", 1.03, servers::Request::RedisSet),
    server("redis-get", "redis GET", "none", 1.03, servers::Request::RedisGet),
];

const fn micro(
    name: &'static str,
    what: &'static str,
    programs: &'static str,
    aim: f64,
    batch: u32,
    run: fn(&mut Meter) -> anyhow::Result<()>,
) -> Load {
    Load { name, what, programs, aim, kind: Kind::Micro { batch, run } }
}

const fn server(
    name: &'static str,
    what: &'static str,
    programs: &'static str,
    aim: f64,
    request: servers::Request,
) -> Load {
    Load { name, what, programs, aim, kind: Kind::Server(request) }
}

/// Times batches of an operation until its time is over.
pub struct Meter {
    batch: u32,
    time: Duration,
    nanos: Vec<f64>,
}

impl Meter {
    /// Calls `operation` again and again.
    ///
    /// # Errors
    /// The first that it gives.
    pub fn measure(&mut self, mut operation: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<()> {
        let start = clock::boot();
        let mut before = start;
        while before.since(start) < self.time {
            for _ in 0..self.batch {
                operation()?;
            }
            let after = clock::boot();
            self.nanos.push(after.since(before).as_nanos() as f64 / f64::from(self.batch));
            before = after;
        }
        Ok(())
    }
}

/// Runs a micro load in this process, which should be its own; gives ns per operation: median and mean.
///
/// # Errors
/// No such load, or an operation that does not do as it should.
pub fn run_here(name: &str, time: Duration) -> anyhow::Result<[f64; 2]> {
    let load = LOADS.iter().find(|load| load.name == name).context("no such load")?;
    let Kind::Micro { batch, run } = load.kind else { anyhow::bail!("{name} is a server") };
    pin(Some(1));
    let mut meter = Meter { batch, time, nanos: Vec::with_capacity(1 << 16) };
    run(&mut meter)?;
    let sorted = pairs::sorted(meter.nanos.into_iter());
    Ok([pairs::median(&sorted).context("nothing was measured")?, pairs::mean(&sorted)])
}

/// Runs a micro load in a process of its own.
///
/// # Errors
/// With its words, if it fails.
pub fn run_apart(name: &str, millis: u64) -> anyhow::Result<f64> {
    Ok(figures_apart(name, millis)?[0])
}

/// As [`run_apart`], the mean: what happens in one batch of twenty counts in it.
///
/// # Errors
/// With its words, if it fails.
pub fn mean_apart(name: &str, millis: u64) -> anyhow::Result<f64> {
    Ok(figures_apart(name, millis)?[1])
}

fn figures_apart(name: &str, millis: u64) -> anyhow::Result<[f64; 2]> {
    let output = Command::new(std::env::current_exe()?)
        .args(["micro", name, &millis.to_string()])
        .output()
        .context("start the load")?;
    let words = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{name}: {}", words.trim());
    let words = String::from_utf8_lossy(&output.stdout);
    let mut figures = words.split_ascii_whitespace().filter_map(|figure| figure.parse().ok());
    let mut next = || figures.next().context("read the load's figures");
    Ok([next()?, next()?])
}

/// Binds this thread to a CPU, if the machine has so many; `None` to any that there are.
pub fn pin(cpu: Option<usize>) {
    let mut set = rustix::thread::CpuSet::new();
    let count = std::thread::available_parallelism().map_or(1, usize::from);
    match cpu {
        Some(cpu) => set.set(cpu.min(count - 1)),
        None => (0..rustix::thread::CpuSet::MAX_CPU).for_each(|cpu| set.set(cpu)),
    }
    // Where it is refused the figures are only noisier.
    rustix::thread::sched_setaffinity(None, &set).ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        for (at, load) in LOADS.iter().enumerate() {
            assert!(LOADS[at + 1..].iter().all(|other| other.name != load.name), "{}", load.name);
        }
    }

    #[test]
    fn a_harmless_load_has_a_figure() {
        let [nanos, _] = run_here("getppid", Duration::from_millis(5)).unwrap();
        assert!(10.0 < nanos && nanos < 1e6, "{nanos}");
    }

    #[test]
    fn an_unknown_load_and_a_server_are_refused() {
        assert!(run_here("nothing", Duration::ZERO).is_err());
        assert!(run_here("redis-set", Duration::ZERO).is_err());
    }
}
