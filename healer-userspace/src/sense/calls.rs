//! A system call's number on this processor, and in the table that snapshots speak (`signal::calls`).

#[cfg(not(target_arch = "x86_64"))]
use crate::signal::calls;

/// Calls that nobody asks about keep their own number above this.
#[cfg(not(target_arch = "x86_64"))]
const OTHERS: i32 = 0x1000;

/// A number of this processor in the table of x86-64; what is no call stays.
#[cfg(target_arch = "x86_64")]
pub(crate) fn by_x86_64(native: i32) -> i32 {
    native
}

#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn by_x86_64(native: i32) -> i32 {
    if native < 0 {
        return native;
    }
    let found = TABLE.iter().find(|(own, _)| *own == libc::c_long::from(native));
    found.map_or(OTHERS + native, |(_, x86_64)| *x86_64)
}

/// Those that tell whom a thread waits for, for how long, or of which file system.
#[cfg(not(target_arch = "x86_64"))]
const TABLE: &[(libc::c_long, i32)] = &[
    (libc::SYS_nanosleep, calls::NANOSLEEP),
    (libc::SYS_rt_sigtimedwait, calls::RT_SIGTIMEDWAIT),
    (libc::SYS_semtimedop, calls::SEMTIMEDOP),
    (libc::SYS_clock_nanosleep, calls::CLOCK_NANOSLEEP),
    (libc::SYS_pselect6, calls::PSELECT6),
    (libc::SYS_ppoll, calls::PPOLL),
    (libc::SYS_epoll_pwait, calls::EPOLL_PWAIT),
    (libc::SYS_epoll_pwait2, calls::EPOLL_PWAIT2),
    (libc::SYS_read, calls::READ),
    (libc::SYS_write, calls::WRITE),
    (libc::SYS_readv, calls::READV),
    (libc::SYS_writev, calls::WRITEV),
    (libc::SYS_connect, calls::CONNECT),
    (libc::SYS_accept, calls::ACCEPT),
    (libc::SYS_sendto, calls::SENDTO),
    (libc::SYS_recvfrom, calls::RECVFROM),
    (libc::SYS_sendmsg, calls::SENDMSG),
    (libc::SYS_recvmsg, calls::RECVMSG),
    (libc::SYS_clone, calls::CLONE),
    (libc::SYS_wait4, calls::WAIT4),
    (libc::SYS_fcntl, calls::FCNTL),
    (libc::SYS_flock, calls::FLOCK),
    (libc::SYS_futex, calls::FUTEX),
    (libc::SYS_waitid, calls::WAITID),
    (libc::SYS_accept4, calls::ACCEPT4),
    (libc::SYS_pwrite64, calls::PWRITE64),
    (libc::SYS_fsync, calls::FSYNC),
    (libc::SYS_fdatasync, calls::FDATASYNC),
    (libc::SYS_ftruncate, calls::FTRUNCATE),
    (libc::SYS_fallocate, calls::FALLOCATE),
    (libc::SYS_openat, calls::OPENAT),
    (libc::SYS_mkdirat, calls::MKDIRAT),
    (libc::SYS_unlinkat, calls::UNLINKAT),
    (libc::SYS_renameat, calls::RENAMEAT),
    (libc::SYS_renameat2, calls::RENAMEAT2),
];
