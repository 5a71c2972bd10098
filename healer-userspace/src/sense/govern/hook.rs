//! A loaded program that is attached and detached again and again, from any thread.

use std::{
    ffi::CString,
    fs, io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    path::Path,
};

/// Where it hangs on.
enum At {
    /// The program itself knows.
    Typed,
    Raw(CString),
    /// The event's number in tracefs.
    Classic(u64),
}

pub(crate) struct Hook {
    program: OwnedFd,
    at: At,
}

/// Detaches when dropped.
pub(crate) struct Attached(#[expect(dead_code, reason = "held for its drop")] OwnedFd);

impl Hook {
    pub(crate) fn typed(program: OwnedFd) -> Self {
        Self { program, at: At::Typed }
    }

    pub(crate) fn raw(program: OwnedFd, tracepoint: &str) -> io::Result<Self> {
        Ok(Self { program, at: At::Raw(CString::new(tracepoint)?) })
    }

    /// # Errors
    /// tracefs does not have the event.
    pub(crate) fn classic(program: OwnedFd, tracefs: &Path, event: &str) -> io::Result<Self> {
        let id = fs::read_to_string(tracefs.join("events").join(event).join("id"))?;
        let id = id.trim().parse().map_err(io::Error::other)?;
        Ok(Self { program, at: At::Classic(id) })
    }

    /// # Errors
    /// Of bpf(2) or perf_event_open(2).
    pub(crate) fn attach(&self) -> io::Result<Attached> {
        match &self.at {
            At::Typed => self.open_raw(0),
            At::Raw(name) => self.open_raw(name.as_ptr() as u64),
            At::Classic(id) => self.open_classic(*id),
        }
        .map(Attached)
    }

    /// `BPF_RAW_TRACEPOINT_OPEN`; without a name for a program of type `tp_btf` (bpf(2)).
    fn open_raw(&self, name: u64) -> io::Result<OwnedFd> {
        const BPF_RAW_TRACEPOINT_OPEN: libc::c_long = 17;
        let mut attr = [0_u64; 8];
        attr[0] = name;
        attr[1] = u64::from(self.program.as_raw_fd() as u32);
        // SAFETY: the kernel reads as many bytes as it is told there are, and the name, which lives on.
        owned(unsafe {
            libc::syscall(libc::SYS_bpf, BPF_RAW_TRACEPOINT_OPEN, attr.as_ptr(), size_of_val(&attr))
        })
    }

    fn open_classic(&self, id: u64) -> io::Result<OwnedFd> {
        // include/uapi/linux/perf_event.h
        const PERF_TYPE_TRACEPOINT: u64 = 2;
        const PERF_ATTR_SIZE_VER0: u64 = 64;
        const PERF_FLAG_FD_CLOEXEC: libc::c_ulong = 8;
        const SET_BPF: libc::c_ulong = 0x4004_2408;
        const ENABLE: libc::c_ulong = 0x2400;
        let mut attr = [0_u64; 8];
        attr[0] = PERF_TYPE_TRACEPOINT | PERF_ATTR_SIZE_VER0 << 32;
        attr[1] = id;
        attr[6] = 1;
        // A program on a tracepoint runs on every CPU, whichever the event is of (kernel/trace/trace_event_perf.c).
        // SAFETY: the kernel reads as many bytes as the attribute says it has.
        let event = owned(unsafe {
            libc::syscall(libc::SYS_perf_event_open, attr.as_ptr(), -1, 0, -1, PERF_FLAG_FD_CLOEXEC)
        })?;
        for (request, argument) in [(SET_BPF, self.program.as_raw_fd()), (ENABLE, 0)] {
            // SAFETY: both take a number.
            if unsafe { libc::ioctl(event.as_raw_fd(), request as _, argument) } != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(event)
    }
}

fn owned(fd: libc::c_long) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call gives a new descriptor, which nobody else has.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}
