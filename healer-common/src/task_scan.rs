//! What the task iterator writes: one [`TaskRecord`] after the other, nothing between them.

use crate::event::wire::wire;

wire! {
    /// A thread that has not run for a while, or one that was written before and has run since.
    pub struct TaskRecord: 224 bytes {
        /// `task_struct.start_boottime`, ns.
        pub start_boot_ns: u64,
        /// The same of the thread group's leader.
        pub leader_start_boot_ns: u64,
        /// Context switches, voluntary and not.
        pub switches: u64,
        /// `CLOCK_BOOTTIME` of the scan that first saw this number of switches, ns.
        pub since_boot_ns: u64,
        /// `task_struct.se.exec_start`: when it last ran, by the run queue's clock, ns.
        pub exec_start_ns: u64,
        /// The same clock now, as far as the scanning thread tells it, ns.
        pub exec_now_ns: u64,
        /// `task_struct.sched_info.run_delay`: time spent waiting for a CPU, ns; 0 unknown.
        pub run_delay_ns: u64,
        /// `task_struct.blocker`: address of the kernel lock it waits for, its type in the low two
        /// bits (include/linux/hung_task.h); 0 none or unknown.
        pub blocker: u64,
        /// `task_struct.mm`: equal for threads that share their memory.
        pub mm: u64,
        /// `task_struct.jobctl`.
        pub jobctl: u64,
        pub arg0: u64,
        pub arg1: u64,
        pub arg2: u64,
        pub arg3: u64,
        pub ip: u64,
        pub sp: u64,
        pub rbx: u64,
        pub rbp: u64,
        pub r12: u64,
        pub r13: u64,
        pub r14: u64,
        pub r15: u64,
        /// Thread id.
        pub pid: u32,
        pub tgid: u32,
        /// `task_struct.__state`.
        pub state: u32,
        /// `task_struct.ptrace`: not 0 if traced.
        pub ptrace: u32,
        /// Threads in its group.
        pub threads: u32,
        /// The system call it is in, by the x86-64 table; -1 none.
        pub syscall: i32,
        /// Thread id of the holder of `blocker`; 0 unknown.
        pub blocker_owner: u32,
        /// A combination of the constants below.
        pub flags: u32,
        pub comm: [u8; 16],
    }
}

impl TaskRecord {
    /// It was written before and has run since: forget it.
    pub const LEFT: u32 = 1;
    /// A 32-bit system call.
    pub const COMPAT: u32 = 2;
    /// It is on its way out.
    pub const EXITING: u32 = 4;
    /// Its process was sent SIGKILL, or exits: whoever still sleeps takes no signal.
    pub const DYING: u32 = 8;
}

/// What a scan is asked for: the only entry of the array SCAN.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct ScanSettings {
    /// `CLOCK_BOOTTIME` as the scan begins: one for all threads.
    pub now_boot_ns: u64,
    /// Threads are written once they have not run for so long.
    pub min_sleep_ns: u64,
    /// Not 0. What was written under another number is written again.
    pub generation: u64,
    /// Not 0: the threads of this process that sleep now are written, and nothing is remembered.
    pub of_tgid: u64,
}

/// Value of the map SEEN, by thread id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Seen {
    pub start_boot_ns: u64,
    pub switches: u64,
    pub since_boot_ns: u64,
    /// Twice the generation in which it was written, and one more if as dying; 0 none.
    pub written: u64,
}

/// Threads remembered between scans, unless the loader makes more room.
pub const SEEN_MAX: u32 = 8 * 1024;
