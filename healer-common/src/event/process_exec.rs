use super::{
    Invalid, Payload,
    part::{Args, CgroupRef, ExeRef, TaskRef},
    wire::wire,
};

wire! {
    /// A process that healer waits for became another program: from `sched:sched_process_exec`.
    ///
    /// Sent only for a watched executable, a tracked process, or a child of one.
    pub struct ProcessExec: 376 bytes {
        /// The process after the exec; `comm` is the new one.
        pub task: TaskRef,
        pub parent: TaskRef,
        pub cgroup: CgroupRef,
        /// The program that runs now; for a script, its interpreter.
        pub exe: ExeRef,
        /// Or of the constants below; never 0.
        pub flags: u32,
        /// Thread id before the exec; differs from the tgid if a thread other than the leader called it.
        pub old_pid: u32,
        pub pad: u64,
        pub args: Args,
    }
}

impl ProcessExec {
    /// The tgid was in the TRACKED map.
    pub const TRACKED: u32 = 1;
    /// The parent's tgid was in the TRACKED map.
    pub const PARENT_TRACKED: u32 = 2;
    /// The executable was in the WATCHED_EXES map.
    pub const WATCHED: u32 = 4;
    /// From a classic tracepoint, which cannot tell who waits for it: user space finds out, and
    /// adds what `/proc` has.
    pub const PARTIAL: u32 = 8;
}

impl Payload for ProcessExec {
    fn check(&self) -> Result<(), Invalid> {
        match self {
            Self { cgroup, .. } if !cgroup.is_valid() => Err(Invalid("cgroup.hierarchy")),
            Self { args, .. } if !args.is_valid() => Err(Invalid("args.len")),
            Self { .. } => Ok(()),
        }
    }
}
