use super::{
    Invalid, Payload,
    part::{CgroupRef, TaskRef},
    wire::wire,
};

wire! {
    /// A thread has been in uninterruptible sleep for longer than the kernel's limit: from `sched:sched_process_hang`.
    pub struct TaskHung: 72 bytes {
        /// Its thread group; of a thread of the kernel, itself. Current is khungtaskd.
        pub task: TaskRef,
        pub cgroup: CgroupRef,
        /// `task_struct.blocker`, as in the scan of the tasks; 0 none or unknown.
        pub blocker: u64,
        pub pid: u32,
        /// Thread id of the holder of `blocker`; 0 unknown.
        pub blocker_owner: u32,
        /// Or of the constants below.
        pub flags: u32,
        pub pad: u32,
    }
}

impl TaskHung {
    /// A thread of the kernel.
    pub const KERNEL_THREAD: u32 = 1;
    /// `pid` alone is known: who that is, user space looks up.
    pub const PARTIAL: u32 = 2;
}

impl Payload for TaskHung {
    fn check(&self) -> Result<(), Invalid> {
        if self.cgroup.is_valid() { Ok(()) } else { Err(Invalid("cgroup.hierarchy")) }
    }
}
