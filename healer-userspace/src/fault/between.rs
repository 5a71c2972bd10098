//! Processes that wait for each other for ever: over pipes, over file locks.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    os::fd::AsRawFd as _,
    thread,
    time::Duration,
};

use super::{End, Fault};
use crate::engine::class::Class;

pub(super) const PIPES: Fault = Fault::failing(
    "deadlock-pipes",
    Class::Deadlock,
    "two processes fill each other's pipe and read nothing",
    End::Never,
    pipes,
)
.lasting(LONG_ENOUGH);
pub(super) const FLOCK: Fault = Fault::failing(
    "deadlock-flock",
    Class::Deadlock,
    "two processes flock two files in opposite order",
    End::Never,
    flock,
)
.lasting(LONG_ENOUGH);
pub(super) const PING_PONG: Fault = Fault::healthy(
    "ping-pong",
    "healthy: two processes answer each other over pipes, now and then slowly",
    End::Status(0),
    ping_pong,
);

const TURNS: u8 = 20;
/// Seconds: who holds a pipe or a lock is looked for less often where that costs much.
const LONG_ENOUGH: u64 = 15;

/// Forks; the child never comes back.
fn beside(child: impl FnOnce() -> u8) -> io::Result<()> {
    // SAFETY: the process has one thread here, so the child may go on in any way.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => std::process::exit(i32::from(child())),
        _ => Ok(()),
    }
}

fn pipes() -> u8 {
    let fill = |mut to: io::PipeWriter, from: io::PipeReader| {
        let chunk = [0_u8; 4096];
        while to.write_all(&chunk).is_ok() {}
        drop(from);
        1
    };
    let (Ok((read_a, write_a)), Ok((read_b, write_b))) = (io::pipe(), io::pipe()) else {
        return 2;
    };
    let (own_read, own_write) = (read_b.try_clone(), write_a.try_clone());
    if beside(move || fill(write_b, read_a)).is_err() {
        return 2;
    }
    drop((read_b, write_a));
    match (own_write, own_read) {
        (Ok(write), Ok(read)) => fill(write, read),
        _ => 2,
    }
}

fn flock() -> u8 {
    fn both(first: &str, second: &str) -> io::Result<()> {
        let lock = |file: &File| {
            // SAFETY: the descriptor is open.
            unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX) }
        };
        let (first, second) = (File::open(first)?, File::open(second)?);
        lock(&first);
        thread::sleep(Duration::from_millis(500));
        lock(&second);
        Ok(())
    }
    let names = ["a", "b"].map(|name| format!("/tmp/healer-fault-{}-{name}", std::process::id()));
    let made = names.iter().all(|name| File::create_new(name).is_ok());
    let others = names.clone();
    let forked = made && beside(move || u8::from(both(&others[1], &others[0]).is_err())).is_ok();
    // Both have opened them long before; a locked file needs no name.
    let unlink = thread::spawn({
        let names = names.clone();
        move || {
            thread::sleep(Duration::from_secs(1));
            names.iter().for_each(|name| drop(std::fs::remove_file(name)));
        }
    });
    let done = forked && both(&names[0], &names[1]).is_ok();
    unlink.join().ok();
    if done { 1 } else { 2 }
}

fn ping_pong() -> u8 {
    let (Ok((mut read_a, mut write_a)), Ok((mut read_b, mut write_b))) = (io::pipe(), io::pipe()) else {
        return 2;
    };
    let echo = move || {
        let mut byte = [0];
        while read_a.read_exact(&mut byte).is_ok() {
            thread::sleep(Duration::from_millis(250));
            if byte[0] == TURNS || write_b.write_all(&byte).is_err() {
                break;
            }
        }
        0
    };
    if beside(echo).is_err() {
        return 2;
    }
    for turn in 1..TURNS {
        let mut byte = [turn];
        if write_a.write_all(&byte).is_err() || read_b.read_exact(&mut byte).is_err() {
            return 1;
        }
    }
    u8::from(write_a.write_all(&[TURNS]).is_err())
}
