//! The kernel's log, record by record (`Documentation/ABI/testing/dev-kmsg`).

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use rustix::fs::{Mode, OFlags, SeekFrom, open, seek};

use crate::sense::status::Trouble;

/// Longer records do not exist (`CONSOLE_EXT_LOG_MAX`).
const RECORD_MAX: usize = 8 << 10;

pub(super) struct KernelLog {
    file: OwnedFd,
    room: Vec<u8>,
}

impl KernelLog {
    /// Opens it behind its last record.
    ///
    /// # Errors
    /// In words: no such file, or no right to read it.
    pub(super) fn open(path: &Path) -> Result<Self, Trouble> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let opened = open(path, flags, Mode::empty()).and_then(|file| {
            seek(&file, SeekFrom::End(0))?;
            Ok(file)
        });
        match opened {
            Ok(file) => Ok(Self { file, room: vec![0; RECORD_MAX] }),
            Err(error) => {
                let why = io::Error::from(error);
                Err(Trouble::new(
                    format!("the kernel's log {} cannot be read: {why}", path.display()),
                    "run healer as root, or give it CAP_SYSLOG and the device",
                ))
            }
        }
    }

    /// The next message that the kernel itself wrote; `None` when there is none.
    pub(super) fn next(&mut self) -> Option<&[u8]> {
        loop {
            match rustix::io::read(&self.file, &mut self.room) {
                Ok(0) => return None,
                // The borrow checker cannot see that a message ends the loop: it is found again below.
                Ok(length) if message(&self.room[..length]).is_some() => {
                    return message(&self.room[..length]);
                }
                // Written by a process, overwritten before it was read, or interrupted.
                Ok(_) | Err(rustix::io::Errno::PIPE | rustix::io::Errno::INTR) => {}
                Err(_) => return None,
            }
        }
    }
}

impl AsFd for KernelLog {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// The text of `PRIORITY,SEQUENCE,MICROSECONDS,FLAGS[,…];TEXT\n[ KEY=VALUE\n…]`, if its facility is
/// the kernel's: what processes write has another.
fn message(record: &[u8]) -> Option<&[u8]> {
    let head = record.iter().position(|byte| *byte == b';')?;
    let priority = record[..head].split(|byte| *byte == b',').next()?;
    let priority: u32 = str::from_utf8(priority).ok()?.parse().ok()?;
    let text = record[head + 1..].split(|byte| *byte == b'\n').next()?;
    (priority >> 3 == 0).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_kernels_own_words_count() {
        assert_eq!(
            message(b"6,1,2,-;Killed process 7 (x)\n SUBSYSTEM=a\n"),
            Some(&b"Killed process 7 (x)"[..])
        );
        assert_eq!(message(b"12,1,2,-;Killed process 7 (x)\n"), None);
        for rubbish in [&b""[..], b";", b"x,1;a", b"6"] {
            assert_eq!(message(rubbish), None);
        }
    }

    #[test]
    fn a_log_that_is_not_there_is_told() {
        let trouble = KernelLog::open(Path::new("/nonexistent/kmsg")).err().unwrap();
        assert!(trouble.reason.contains("/nonexistent/kmsg"), "{}", trouble.reason);
    }
}
