//! System calls by the numbers of the x86-64 table: the engine, snapshots and traces speak these on every processor.

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

/// Those that tell whom a thread waits for, or for how long.
#[cfg(not(target_arch = "x86_64"))]
const TABLE: &[(libc::c_long, i32)] = &[
    (libc::SYS_nanosleep, 35),
    (libc::SYS_rt_sigtimedwait, 128),
    (libc::SYS_semtimedop, 220),
    (libc::SYS_clock_nanosleep, 230),
    (libc::SYS_pselect6, 270),
    (libc::SYS_ppoll, 271),
    (libc::SYS_epoll_pwait, 281),
    (libc::SYS_epoll_pwait2, 441),
    (libc::SYS_read, 0),
    (libc::SYS_write, 1),
    (libc::SYS_readv, 19),
    (libc::SYS_writev, 20),
    (libc::SYS_connect, 42),
    (libc::SYS_accept, 43),
    (libc::SYS_sendto, 44),
    (libc::SYS_recvfrom, 45),
    (libc::SYS_sendmsg, 46),
    (libc::SYS_recvmsg, 47),
    (libc::SYS_clone, 56),
    (libc::SYS_wait4, 61),
    (libc::SYS_fcntl, 72),
    (libc::SYS_flock, 73),
    (libc::SYS_futex, 202),
    (libc::SYS_waitid, 247),
    (libc::SYS_accept4, 288),
];
