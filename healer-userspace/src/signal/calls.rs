//! System calls by the numbers of the x86-64 table: the engine, snapshots and traces speak these on every processor
//! (arch/x86/entry/syscalls/syscall_64.tbl).

pub const READ: i32 = 0;
pub const WRITE: i32 = 1;
pub const POLL: i32 = 7;
pub const READV: i32 = 19;
pub const WRITEV: i32 = 20;
pub const SELECT: i32 = 23;
pub const NANOSLEEP: i32 = 35;
pub const CONNECT: i32 = 42;
pub const ACCEPT: i32 = 43;
pub const SENDTO: i32 = 44;
pub const RECVFROM: i32 = 45;
pub const SENDMSG: i32 = 46;
pub const RECVMSG: i32 = 47;
pub const CLONE: i32 = 56;
pub const VFORK: i32 = 58;
pub const WAIT4: i32 = 61;
pub const FCNTL: i32 = 72;
pub const FLOCK: i32 = 73;
pub const RT_SIGTIMEDWAIT: i32 = 128;
pub const FUTEX: i32 = 202;
pub const SEMTIMEDOP: i32 = 220;
pub const CLOCK_NANOSLEEP: i32 = 230;
pub const EPOLL_WAIT: i32 = 232;
pub const WAITID: i32 = 247;
pub const PSELECT6: i32 = 270;
pub const PPOLL: i32 = 271;
pub const EPOLL_PWAIT: i32 = 281;
pub const ACCEPT4: i32 = 288;
pub const EPOLL_PWAIT2: i32 = 441;
