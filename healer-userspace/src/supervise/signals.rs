//! Signals of the supervisor, read from a file descriptor instead of a handler.

use std::{
    io,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
};

/// Passed on to the child.
const PASSED_ON: [i32; 6] =
    [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT, libc::SIGUSR1, libc::SIGUSR2];

/// signalfd(2) over `PASSED_ON` and SIGCHLD, which stay blocked in this process.
pub(super) struct Signals {
    fd: OwnedFd,
    before: libc::sigset_t,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Arrived {
    pub(super) signal: i32,
    /// Sent by the kernel to the whole foreground group: ^C, ^\, a terminal that hung up.
    pub(super) from_terminal: bool,
}

impl Signals {
    pub(super) fn block() -> io::Result<Self> {
        // SAFETY: plain data; both sets are initialised by sigemptyset and sigprocmask before they are read.
        let (mut set, mut before) = unsafe { std::mem::zeroed::<(libc::sigset_t, libc::sigset_t)>() };
        // SAFETY: pointers to live locals; the signal numbers are valid constants.
        let fd = unsafe {
            libc::sigemptyset(&raw mut set);
            for signal in PASSED_ON.into_iter().chain([libc::SIGCHLD]) {
                libc::sigaddset(&raw mut set, signal);
            }
            if libc::sigprocmask(libc::SIG_BLOCK, &raw const set, &raw mut before) != 0 {
                return Err(io::Error::last_os_error());
            }
            libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)
        };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: signalfd returned a new descriptor that nobody else owns.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { fd, before })
    }

    /// The mask that the child must run with; std's spawn inherits the parent's.
    pub(super) fn mask_of_child(&self) -> libc::sigset_t {
        self.before
    }

    /// The next pending signal.
    pub(super) fn next(&self) -> Option<Arrived> {
        const SIZE: usize = size_of::<libc::signalfd_siginfo>();
        // SAFETY: plain data of the kernel's, for which all zeros is a value.
        let mut info: libc::signalfd_siginfo = unsafe { std::mem::zeroed() };
        // SAFETY: the buffer is `SIZE` bytes long and lives through the call.
        let got = unsafe { libc::read(self.fd.as_raw_fd(), (&raw mut info).cast(), SIZE) };
        (usize::try_from(got) == Ok(SIZE)).then(|| Arrived {
            signal: info.ssi_signo.cast_signed(),
            from_terminal: info.ssi_code == libc::SI_KERNEL,
        })
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
