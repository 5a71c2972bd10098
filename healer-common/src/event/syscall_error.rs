use super::{Invalid, Payload, part::CgroupRef, part::TaskRef, wire::wire};

wire! {
    /// Something ran out, or broke: system calls of one process failed with one errno. From `raw_syscalls:sys_exit`.
    ///
    /// The first is told at once, those after it with a running count, some four a second.
    pub struct SyscallError: 120 bytes {
        /// Without a start from a classic tracepoint.
        pub task: TaskRef,
        pub cgroup: CgroupRef,
        /// Failures of this process with this errno, this one included.
        pub count: u64,
        /// `CLOCK_BOOTTIME`, ns: the first of them.
        pub first_ns: u64,
        /// The call's first argument, such as a descriptor; see `flags`.
        pub arg0: u64,
        /// What connect(2) was given: a sockaddr in its own byte order, cut off; zeros for other calls.
        pub address: [u8; 32],
        /// Above 0.
        pub errno: u32,
        /// The call's number on this machine.
        pub syscall: u32,
        /// Or of the constants below.
        pub flags: u32,
        pub pad: u32,
    }
}

impl SyscallError {
    /// `arg0` is known.
    pub const HAS_ARG0: u32 = 1;
    /// Highest errno of which anything is told.
    pub const ERRNO_MAX: u32 = 127;
}

impl Payload for SyscallError {
    fn check(&self) -> Result<(), Invalid> {
        match self {
            Self { cgroup, .. } if !cgroup.is_valid() => Err(Invalid("cgroup.hierarchy")),
            Self { errno, .. } if *errno == 0 || Self::ERRNO_MAX < *errno => Err(Invalid("errno")),
            Self { count: 0, .. } => Err(Invalid("count")),
            Self { .. } => Ok(()),
        }
    }
}
