//! What the bench starts of itself, in processes of their own.

use std::{
    cell::UnsafeCell, fs::OpenOptions, io::Write as _, path::Path, sync::Barrier, thread, time::Duration,
};

use anyhow::Context as _;
use healer_userspace::clock;

use super::load::fork_and_wait;

/// No service outlives a bench that was killed for longer than this.
const LIFE: Duration = Duration::from_secs(300);
/// Before it fails: the agent has to meet it first.
const HEALTH: Duration = Duration::from_millis(40);
/// Of a thread that does nothing.
const STACK: usize = 64 * 1024;
/// Its status.
const FAILED: i32 = 3;

/// A supervised service: says when it started, then waits.
///
/// # Errors
/// The file cannot be written.
pub fn service(file: &Path) -> anyhow::Result<()> {
    let line = format!("{} {}\n", std::process::id(), clock::boot().0);
    let mut file = OpenOptions::new().append(true).create(true).open(file).context("open the file")?;
    file.write_all(line.as_bytes())?;
    thread::sleep(LIFE);
    Ok(())
}

/// A process that fails by itself.
pub fn fail() -> ! {
    thread::sleep(HEALTH);
    std::process::exit(FAILED)
}

/// Ends with status 1, `per_second` of them.
///
/// # Errors
/// No process can be made.
pub fn storm(per_second: u64, time: Duration) -> anyhow::Result<u64> {
    let start = clock::boot();
    let mut ends = 0;
    while clock::boot().since(start) < time {
        fork_and_wait(1)?;
        ends += 1;
        let due = Duration::from_nanos(ends * 1_000_000_000 / per_second.max(1));
        let early = due.saturating_sub(clock::boot().since(start));
        if Duration::from_millis(1) < early {
            thread::sleep(early);
        }
    }
    Ok(ends)
}

/// Processes one after the other, each under a name of its own, that end with status 1.
///
/// # Errors
/// No process can be made.
pub fn crowd(first: u32, count: u32) -> anyhow::Result<()> {
    for number in first..first + count {
        // Children begin with the name of the thread that makes them.
        let name = std::ffi::CString::new(format!("crowd-{number}"))?;
        rustix::thread::set_name(&name)?;
        fork_and_wait(1)?;
    }
    Ok(())
}

/// Threads that wait for work, and threads that lock each other out in pairs, until stdin ends.
///
/// # Errors
/// The kernel refuses a thread.
pub fn threads(idle: u32, stuck: u32) -> anyhow::Result<()> {
    let small = || thread::Builder::new().stack_size(STACK);
    for _thread in 0..idle {
        small().spawn(thread::park)?;
    }
    for _pair in 0..stuck / 2 {
        let (locks, both): (&'static [Lock; 2], &'static Barrier) =
            (Box::leak(Box::default()), Box::leak(Box::new(Barrier::new(2))));
        for first in 0..2 {
            small().spawn(move || {
                locks[first].lock();
                both.wait();
                locks[1 - first].lock();
            })?;
        }
    }
    #[expect(clippy::print_stdout, reason = "whoever started it reads it")]
    {
        println!("there");
    }
    std::io::stdin().read_line(&mut String::new())?;
    Ok(())
}

/// Of the C library: it names its holder, as most programs' locks do.
struct Lock(UnsafeCell<libc::pthread_mutex_t>);

impl Default for Lock {
    fn default() -> Self {
        Self(UnsafeCell::new(libc::PTHREAD_MUTEX_INITIALIZER))
    }
}

// SAFETY: a pthread_mutex_t is made to be used by several threads.
unsafe impl Sync for Lock {}

impl Lock {
    fn lock(&self) {
        // SAFETY: initialised, and never moved once it is leaked.
        unsafe { libc::pthread_mutex_lock(self.0.get()) };
    }
}

/// The starts that a service wrote down: pid and time.
#[must_use]
pub fn starts(file: &Path) -> Vec<(u32, u64)> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let line = |line: &str| {
        let (pid, at) = line.split_once(' ')?;
        Some((pid.parse().ok()?, at.parse().ok()?))
    };
    // A line without its newline is being written.
    text.split_inclusive('\n')
        .filter(|text| text.ends_with('\n'))
        .filter_map(|text| line(text.trim()))
        .collect()
}
