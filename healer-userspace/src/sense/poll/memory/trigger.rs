//! The kernel's own alarm on the node's memory pressure (Documentation/accounting/psi.rst): between two looks it says
//! that somebody waits.

use core::time::Duration;
use std::{
    fs::{File, OpenOptions},
    io::{self, Write as _},
    path::Path,
    thread,
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// 15 % of a window. Windows of other lengths than whole multiples of 2 s want `CAP_SYS_RESOURCE`.
const FINE: &[u8] = b"some 150000 1000000\0";
const COARSE: &[u8] = b"some 300000 2000000\0";

pub struct Trigger {
    alarm: Option<File>,
    trouble: Option<String>,
}

impl Trigger {
    pub fn open(proc: &Path) -> Self {
        let path = proc.join("pressure/memory");
        match arm(&path, FINE) {
            Ok(alarm) => Self { alarm: Some(alarm), trouble: None },
            Err(fine) => match arm(&path, COARSE) {
                Ok(alarm) => {
                    let says = format!("pressure alarms come after 2 s: {fine} without CAP_SYS_RESOURCE");
                    Self { alarm: Some(alarm), trouble: Some(says) }
                }
                Err(error) => {
                    let says =
                        format!("no pressure alarms, looks once a second: {}: {error}", path.display());
                    Self { alarm: None, trouble: Some(says) }
                }
            },
        }
    }

    /// Why it is not the best, in words.
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// Waits so long, or until somebody waits for memory: then true.
    pub fn wait(&self, patience: Duration) -> bool {
        let Some(alarm) = &self.alarm else {
            thread::sleep(patience);
            return false;
        };
        let timeout = Timespec::try_from(patience).ok();
        let mut fds = [PollFd::new(alarm, PollFlags::PRI)];
        let rang = poll(&mut fds, timeout.as_ref()).unwrap_or(0);
        if rang != 0 && fds[0].revents().contains(PollFlags::ERR) {
            // It would ring for ever.
            thread::sleep(patience);
            return false;
        }
        rang != 0
    }
}

fn arm(path: &Path, words: &[u8]) -> io::Result<File> {
    let mut alarm = OpenOptions::new().read(true).write(true).open(path)?;
    alarm.write_all(words)?;
    Ok(alarm)
}
