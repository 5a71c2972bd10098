use super::{
    EventKind, Invalid, Kinded, Payload,
    part::{Args, CgroupRef, ExeRef, TaskRef},
    wire::wire,
};

wire! {
    /// A process is gone: sent from `sched:sched_process_exit`, once per thread group.
    ///
    /// Where `group_dead` is not an argument of the tracepoint, two last threads
    /// can both see `live == 0`: tell those twins by `task.tgid` and `task.start_boot_ns`.
    pub struct ProcessExit: 376 bytes {
        /// The process, named by its leader; `uid` is that of the last thread.
        pub task: TaskRef,
        /// `real_parent` of the leader; init or a subreaper if the parent died first.
        pub parent: TaskRef,
        pub cgroup: CgroupRef,
        pub exe: ExeRef,
        /// As `wait(2)` has it: bits 0-6 the fatal signal, bit 7 core, bits 8-15 the exit code.
        pub wait_status: u32,
        /// Or of the constants below.
        pub flags: u32,
        /// The thread that left last (for [`ProcessExit::SELF_PROBE`]: the probe's thread).
        pub pid: u32,
        pub pad: u32,
        /// What its last exec kept; empty if that was before healer or crowded out.
        pub args: Args,
    }
}

wire! {
    /// The same without the arguments, as it is sent if there are none: a flood of ends then takes a third of the ring.
    pub struct ProcessEnd: 112 bytes {
        pub task: TaskRef,
        pub parent: TaskRef,
        pub cgroup: CgroupRef,
        pub exe: ExeRef,
        pub wait_status: u32,
        pub flags: u32,
        pub pid: u32,
        pub pad: u32,
    }
}

const _: () = assert!(size_of::<ProcessEnd>() == core::mem::offset_of!(ProcessExit, args));

impl ProcessExit {
    /// The tgid was in the TRACKED map.
    pub const TRACKED: u32 = 1;
    /// The kernel said `group_dead`; without it the record rests on `live == 0`.
    pub const GROUP_DEAD: u32 = 2;
    /// A thread of healer ended, the process goes on: the self-probe, not a death.
    pub const SELF_PROBE: u32 = 4;
    /// From a classic tracepoint, which knows neither the status nor the start: user space adds
    /// them, or what it can of them, before anybody else sees the record.
    pub const PARTIAL: u32 = 8;
    /// How it ended could not be learned: `wait_status` is 0 and means nothing.
    pub const NO_STATUS: u32 = 16;
    /// The status was concluded from a fatal signal just before the end.
    pub const INFERRED: u32 = 32;
    /// The process connector told the status (`PROC_EVENT_EXIT`, include/uapi/linux/cn_proc.h).
    pub const BY_CONNECTOR: u32 = 64;

    /// The fatal signal, if one ended the process.
    #[must_use]
    pub fn signal(&self) -> Option<u8> {
        let signal = (self.wait_status & 0x7f) as u8;
        (signal != 0).then_some(signal)
    }

    /// The exit status, if the process ended by itself.
    #[must_use]
    pub fn exit_code(&self) -> Option<u8> {
        self.signal()
            .is_none()
            .then_some((self.wait_status >> 8) as u8)
    }

    /// Whether a core was written.
    #[must_use]
    pub fn dumped_core(&self) -> bool {
        self.wait_status & 0x80 != 0
    }
}

impl Payload for ProcessExit {
    const MAY_END_AT: Option<usize> = Some(size_of::<ProcessEnd>());

    fn check(&self) -> Result<(), Invalid> {
        match self {
            Self { cgroup, .. } if !cgroup.is_valid() => Err(Invalid("cgroup.hierarchy")),
            Self { args, .. } if !args.is_valid() => Err(Invalid("args.len")),
            Self { wait_status, .. } if *wait_status > 0xffff => Err(Invalid("wait_status")),
            Self { .. } => Ok(()),
        }
    }
}

impl Payload for ProcessEnd {
    fn check(&self) -> Result<(), Invalid> {
        // It is read as a `ProcessExit`.
        Ok(())
    }
}

impl Kinded for ProcessEnd {
    const KIND: EventKind = EventKind::ProcessExit;
}
