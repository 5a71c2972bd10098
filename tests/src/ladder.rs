//! Kernels that lack something.

use std::path::PathBuf;

use healer_userspace::sense::{Level, Settings};

use crate::eye::Eye;

/// A kernel on which nothing above `level` works, by what it lacks.
#[must_use]
pub fn kernel_with(level: Level) -> Settings {
    let nowhere = PathBuf::from("/nonexistent");
    let running = Settings::default();
    match level {
        Level::TpBtf => running,
        // Typed programs are refused, by the kernel itself.
        Level::RawTp => Settings { wrong_hooks: true, ..running },
        // It does not describe its types.
        Level::Tracepoint => Settings { btf: nowhere, ..running },
        // Nor is there a tracefs.
        Level::User => Settings { btf: nowhere.clone(), tracefs: nowhere, best: Level::User, ..running },
    }
}

/// The eye on such a kernel.
#[must_use]
pub fn eye_on(level: Level) -> Eye {
    Eye::with(&kernel_with(level), blind_by(level))
}

/// Sensors that have no way there.
#[must_use]
pub fn blind_by(level: Level) -> &'static [&'static str] {
    match level {
        Level::TpBtf | Level::RawTp | Level::Tracepoint => &[],
        Level::User => &["signal_sent", "syscall_error", "reclaim_stall"],
    }
}
