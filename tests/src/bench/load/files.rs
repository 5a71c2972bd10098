//! System calls on nothing, on files and on pipes.

use anyhow::ensure;
use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
    process::{Resource, Rlimit},
};

use super::Meter;

pub(super) fn getppid(meter: &mut Meter) -> anyhow::Result<()> {
    meter.measure(|| {
        std::hint::black_box(rustix::process::getppid());
        Ok(())
    })
}

pub(super) fn open_missing(meter: &mut Meter) -> anyhow::Result<()> {
    meter.measure(|| fails_to_open(c"/nonexistent-healer-bench", Errno::NOENT))
}

/// The storm of errors that an agent wants to know of.
pub(super) fn open_at_limit(meter: &mut Meter) -> anyhow::Result<()> {
    rustix::process::setrlimit(Resource::Nofile, Rlimit { current: Some(3), maximum: Some(3) })?;
    meter.measure(|| fails_to_open(c"/dev/null", Errno::MFILE))
}

fn fails_to_open(path: &core::ffi::CStr, wanted: Errno) -> anyhow::Result<()> {
    let got = rustix::fs::open(path, OFlags::RDONLY, Mode::empty());
    ensure!(got.is_err_and(|error| error == wanted), "{path:?} does not fail as it should");
    Ok(())
}

pub(super) fn pipe(meter: &mut Meter) -> anyhow::Result<()> {
    let (their_end, ours) = rustix::pipe::pipe()?;
    let (our_end, theirs) = rustix::pipe::pipe()?;
    let echo = std::thread::spawn(move || {
        super::pin(Some(1));
        let mut byte = [0];
        while rustix::io::read(&their_end, &mut byte) == Ok(1) {
            if rustix::io::write(&theirs, &byte).is_err() {
                break;
            }
        }
    });
    let mut byte = [0];
    let outcome = meter.measure(|| {
        rustix::io::write(&ours, &byte)?;
        rustix::io::read(&our_end, &mut byte)?;
        Ok(())
    });
    drop(ours);
    ensure!(echo.join().is_ok(), "the echo failed");
    outcome
}
