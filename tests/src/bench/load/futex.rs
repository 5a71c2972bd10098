//! A wake-up and a wait by futex(2), the floor of every contended lock.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use anyhow::ensure;
use rustix::{
    io::Errno,
    thread::futex::{Flags, wait, wake},
};

use super::Meter;

const FREE: u32 = 0;
const ASKED: u32 = 1;
const OVER: u32 = 2;

/// There and back between two threads on one CPU.
pub(super) fn ping_pong(meter: &mut Meter) -> anyhow::Result<()> {
    let word = Arc::new(AtomicU32::new(FREE));
    let theirs = Arc::clone(&word);
    let echo = std::thread::spawn(move || -> anyhow::Result<()> {
        super::pin(Some(1));
        loop {
            sleep_while(&theirs, FREE)?;
            if theirs.load(Ordering::Acquire) == OVER {
                return Ok(());
            }
            pass(&theirs, FREE)?;
        }
    });
    let outcome = meter.measure(|| {
        pass(&word, ASKED)?;
        sleep_while(&word, ASKED)
    });
    pass(&word, OVER)?;
    ensure!(echo.join().is_ok_and(|echo| echo.is_ok()), "the echo failed");
    outcome
}

fn pass(word: &AtomicU32, value: u32) -> anyhow::Result<()> {
    word.store(value, Ordering::Release);
    wake(word, Flags::PRIVATE, 1)?;
    Ok(())
}

fn sleep_while(word: &AtomicU32, value: u32) -> anyhow::Result<()> {
    while word.load(Ordering::Acquire) == value {
        match wait(word, Flags::PRIVATE, value, None) {
            Ok(()) | Err(Errno::AGAIN | Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
