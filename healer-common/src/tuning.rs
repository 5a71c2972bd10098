//! Values the loader writes into the kernel programs before they are loaded.
//!
//! They lie in frozen `.rodata`, so the verifier knows them as constants: a
//! field that the running kernel lacks ([`ABSENT`]) makes its branch dead code.
//! Each list is one macro, expanded to statics in the kernel programs and to a
//! table in the loader: neither can name what the other lacks.

/// The offset of a field that the running kernel does not have.
pub const ABSENT: u32 = u32::MAX;

/// Byte offsets of kernel struct members: `NAME: struct.path, required|optional by programs`.
///
/// The `_raw` variant of a program reads what the program itself reads.
/// Of the names in a path separated by `|` the first that exists is taken: processors differ. `name[3]` is an element.
/// Anonymous members are looked through.
#[macro_export]
macro_rules! kernel_offsets {
    ($expand:ident) => {
        $expand! {
            TASK_PID: "task_struct", "pid", required by "process_exit process_exec signal_sent oom_kill task_scan task_hung";
            TASK_TGID: "task_struct", "tgid", required by "process_exit process_exec signal_sent oom_kill task_scan syscall_error reclaim_stall task_hung";
            TASK_COMM: "task_struct", "comm", required by "process_exit process_exec signal_sent oom_kill task_scan syscall_error reclaim_stall task_hung";
            TASK_LEADER: "task_struct", "group_leader", required by "process_exit process_exec signal_sent oom_kill socket_state task_scan syscall_error reclaim_stall task_hung";
            TASK_START: "task_struct", "start_boottime|real_start_time", required by "process_exit process_exec signal_sent oom_kill socket_state task_scan syscall_error reclaim_stall task_hung";
            TASK_CRED: "task_struct", "real_cred", required by "process_exit process_exec signal_sent oom_kill syscall_error reclaim_stall task_hung";
            CRED_UID: "cred", "uid", required by "process_exit process_exec signal_sent oom_kill syscall_error reclaim_stall task_hung";
            TASK_PARENT: "task_struct", "real_parent", required by "process_exit process_exec";
            TASK_SIGNAL: "task_struct", "signal", required by "process_exit signal_sent oom_kill task_scan";
            TASK_EXIT_CODE: "task_struct", "exit_code", required by "process_exit";
            SIGNAL_LIVE: "signal_struct", "live", required by "process_exit signal_sent";
            SIGNAL_FLAGS: "signal_struct", "flags", required by "process_exit signal_sent task_scan";
            SIGNAL_GROUP_EXIT_CODE: "signal_struct", "group_exit_code", required by "process_exit";
            SIGNAL_OOM_SCORE_ADJ: "signal_struct", "oom_score_adj", optional by "oom_kill";
            TASK_CGROUPS: "task_struct", "cgroups", optional by "process_exit process_exec signal_sent oom_kill syscall_error reclaim_stall task_hung";
            CSS_SET_DFL_CGRP: "css_set", "dfl_cgrp", optional by "process_exit process_exec signal_sent oom_kill syscall_error reclaim_stall task_hung";
            CSS_SET_SUBSYS: "css_set", "subsys", optional by "process_exit process_exec signal_sent oom_kill syscall_error reclaim_stall task_hung";
            CSS_CGROUP: "cgroup_subsys_state", "cgroup", optional by "process_exit process_exec signal_sent oom_kill syscall_error reclaim_stall task_hung";
            CSS_PARENT: "cgroup_subsys_state", "parent", optional by "oom_kill";
            CGROUP_KN: "cgroup", "kn", optional by "process_exit process_exec signal_sent oom_kill socket_state tcp_retransmit syscall_error reclaim_stall task_hung";
            KERNFS_ID: "kernfs_node", "id", optional by "process_exit process_exec signal_sent oom_kill socket_state tcp_retransmit syscall_error reclaim_stall task_hung";
            MEMCG_CSS: "mem_cgroup", "css", optional by "oom_kill";
            MEMCG_USAGE: "mem_cgroup", "memory.usage", optional by "oom_kill";
            MEMCG_MAX: "mem_cgroup", "memory.max|memory.limit", optional by "oom_kill";
            TASK_MM: "task_struct", "mm", optional by "process_exit process_exec oom_kill task_scan";
            MM_EXE_FILE: "mm_struct", "exe_file", optional by "process_exit process_exec";
            MM_ARG_START: "mm_struct", "arg_start", optional by "process_exec";
            MM_ARG_END: "mm_struct", "arg_end", optional by "process_exec";
            MM_RSS: "mm_struct", "rss_stat", optional by "oom_kill";
            PERCPU_COUNTER_COUNT: "percpu_counter", "count", optional by "oom_kill";
            FILE_INODE: "file", "f_inode", optional by "process_exit process_exec";
            INODE_INO: "inode", "i_ino", optional by "process_exit process_exec";
            INODE_SB: "inode", "i_sb", optional by "process_exit process_exec";
            SB_DEV: "super_block", "s_dev", optional by "process_exit process_exec";
            BPRM_FILENAME: "linux_binprm", "filename", optional by "process_exec";
            SIGINFO_CODE: "kernel_siginfo", "si_code", required by "signal_sent";
            SIGINFO_ADDRESS: "kernel_siginfo", "_sifields._sigfault._addr", optional by "signal_sent";
            SIGINFO_CALL: "kernel_siginfo", "_sifields._sigsys._syscall", optional by "signal_sent";
            SIGINFO_CALL_ARCH: "kernel_siginfo", "_sifields._sigsys._arch", optional by "signal_sent";
            TASK_PTRACE: "task_struct", "ptrace", optional by "signal_sent task_scan";
            TASK_SIGHAND: "task_struct", "sighand", optional by "signal_sent";
            SIGHAND_ACTION: "sighand_struct", "action", optional by "signal_sent";
            SIGACTION_HANDLER: "k_sigaction", "sa.sa_handler", optional by "signal_sent";
            SIGNAL_PIDS: "signal_struct", "pids", optional by "signal_sent";
            PID_NUMBERS: "pid", "numbers", optional by "signal_sent";
            UPID_NR: "upid", "nr", optional by "signal_sent";
            SENDER_SYSCALL: "pt_regs", "orig_ax|syscallno", optional by "signal_sent";
            SENDER_ARG0: "pt_regs", "di|regs", optional by "signal_sent";
            SENDER_ARG3: "pt_regs", "r10|regs[3]", optional by "signal_sent";
            FAILED_SYSCALL: "pt_regs", "orig_ax|syscallno", required by "syscall_error";
            FAILED_ARG0: "pt_regs", "di|orig_x0", optional by "syscall_error";
            FAILED_ARG1: "pt_regs", "si|regs[1]", optional by "syscall_error";
            TASK_STATE: "task_struct", "__state|state", required by "task_scan";
            TASK_FLAGS: "task_struct", "flags", required by "signal_sent task_scan task_hung";
            TASK_EXIT_STATE: "task_struct", "exit_state", required by "task_scan";
            TASK_NVCSW: "task_struct", "nvcsw", required by "task_scan";
            TASK_NIVCSW: "task_struct", "nivcsw", required by "task_scan";
            TASK_EXEC_START: "task_struct", "se.exec_start", required by "task_scan";
            TASK_JOBCTL: "task_struct", "jobctl", required by "task_scan";
            TASK_THREAD_STATUS: "task_struct", "thread_info.status|thread_info.flags", optional by "task_scan";
            TASK_RUN_DELAY: "task_struct", "sched_info.run_delay", optional by "task_scan";
            TASK_BLOCKER: "task_struct", "blocker", optional by "task_scan task_hung";
            MUTEX_OWNER: "mutex", "owner", optional by "task_scan task_hung";
            RWSEM_OWNER: "rw_semaphore", "owner", optional by "task_scan task_hung";
            SIGNAL_THREADS: "signal_struct", "nr_threads", required by "task_scan";
            SKC_FAMILY: "sock_common", "skc_family", required by "socket_state tcp_retransmit";
            SKC_STATE: "sock_common", "skc_state", required by "tcp_retransmit";
            SKC_REMOTE: "sock_common", "skc_daddr", required by "socket_state tcp_retransmit";
            SKC_LOCAL: "sock_common", "skc_rcv_saddr", required by "socket_state tcp_retransmit";
            SKC_REMOTE_PORT: "sock_common", "skc_dport", required by "socket_state tcp_retransmit";
            SKC_LOCAL_PORT: "sock_common", "skc_num", required by "socket_state tcp_retransmit";
            SKC_REMOTE6: "sock_common", "skc_v6_daddr", optional by "socket_state tcp_retransmit";
            SKC_LOCAL6: "sock_common", "skc_v6_rcv_saddr", optional by "socket_state tcp_retransmit";
            SKC_NET: "sock_common", "skc_net.net", optional by "socket_state tcp_retransmit";
            NET_INUM: "net", "ns.inum", optional by "socket_state tcp_retransmit";
            SK_CGROUP: "sock", "sk_cgrp_data.cgroup", optional by "socket_state tcp_retransmit";
            SK_PROTOCOL: "sock", "sk_protocol", required by "socket_state";
            SK_ERR: "sock", "sk_err", required by "socket_state";
            SK_ERR_SOFT: "sock", "sk_err_soft", optional by "socket_state";
            ICSK_RETRANSMITS: "inet_connection_sock", "icsk_retransmits", required by "tcp_retransmit";
            TCP_SND_UNA: "tcp_sock", "snd_una", required by "tcp_retransmit";
            REGS_SYSCALL: "pt_regs", "orig_ax|syscallno", required by "task_scan";
            REGS_ARG0: "pt_regs", "di|regs", required by "task_scan";
            REGS_ARG1: "pt_regs", "si|regs[1]", required by "task_scan";
            REGS_ARG2: "pt_regs", "dx|regs[2]", required by "task_scan";
            REGS_ARG3: "pt_regs", "r10|regs[3]", required by "task_scan";
            REGS_IP: "pt_regs", "ip|pc", required by "task_scan";
            REGS_SP: "pt_regs", "sp", required by "task_scan";
            REGS_BX: "pt_regs", "bx|regs[19]", required by "task_scan";
            REGS_BP: "pt_regs", "bp|regs[29]", required by "task_scan";
            REGS_R12: "pt_regs", "r12|regs[20]", required by "task_scan";
            REGS_R13: "pt_regs", "r13|regs[21]", required by "task_scan";
            REGS_R14: "pt_regs", "r14|regs[22]", required by "task_scan";
            REGS_R15: "pt_regs", "r15|regs[23]", required by "task_scan";
        }
    };
}

/// Byte offsets of classic tracepoints' fields: `NAME: group, event, field, shape, required|optional by program`.
///
/// From the running kernel's tracefs `format` files. The shape is the number of bytes that the
/// program loads, or `text` for a string elsewhere in the record (`__data_loc`),
/// or `array` for 16 bytes in the record itself.
#[macro_export]
macro_rules! kernel_formats {
    ($expand:ident) => {
        $expand! {
            EXIT_GROUP_DEAD: "sched", "sched_process_exit", "group_dead", 1, optional by "process_exit_tp";
            EXEC_FILENAME: "sched", "sched_process_exec", "filename", text, optional by "process_exec_tp";
            EXEC_OLD_PID: "sched", "sched_process_exec", "old_pid", 4, optional by "process_exec_tp";
            SENT_SIGNAL: "signal", "signal_generate", "sig", 4, required by "signal_sent_tp";
            SENT_CODE: "signal", "signal_generate", "code", 4, required by "signal_sent_tp";
            SENT_PID: "signal", "signal_generate", "pid", 4, required by "signal_sent_tp";
            SENT_COMM: "signal", "signal_generate", "comm", array, optional by "signal_sent_tp";
            SENT_GROUP: "signal", "signal_generate", "group", 4, required by "signal_sent_tp";
            SENT_RESULT: "signal", "signal_generate", "result", 4, required by "signal_sent_tp";
            FAILED_NR: "raw_syscalls", "sys_exit", "id", 8, required by "syscall_error_tp";
            FAILED_RESULT: "raw_syscalls", "sys_exit", "ret", 8, required by "syscall_error_tp";
            STATE_SOCKET: "sock", "inet_sock_set_state", "skaddr", 8, required by "socket_state_tp";
            STATE_OLD: "sock", "inet_sock_set_state", "oldstate", 4, required by "socket_state_tp";
            STATE_NEW: "sock", "inet_sock_set_state", "newstate", 4, required by "socket_state_tp";
            STATE_LOCAL_PORT: "sock", "inet_sock_set_state", "sport", 2, required by "socket_state_tp";
            STATE_REMOTE_PORT: "sock", "inet_sock_set_state", "dport", 2, required by "socket_state_tp";
            STATE_PROTOCOL: "sock", "inet_sock_set_state", "protocol", 2, required by "socket_state_tp";
            STATE_LOCAL6: "sock", "inet_sock_set_state", "saddr_v6", array, required by "socket_state_tp";
            STATE_REMOTE6: "sock", "inet_sock_set_state", "daddr_v6", array, required by "socket_state_tp";
            RESET_SOCKET: "tcp", "tcp_receive_reset", "skaddr", 8, required by "socket_state_tp";
            RESENT_SOCKET: "tcp", "tcp_retransmit_skb", "skaddr", 8, required by "tcp_retransmit_tp";
            RESENT_STATE: "tcp", "tcp_retransmit_skb", "state", 4, required by "tcp_retransmit_tp";
            RESENT_LOCAL_PORT: "tcp", "tcp_retransmit_skb", "sport", 2, required by "tcp_retransmit_tp";
            RESENT_REMOTE_PORT: "tcp", "tcp_retransmit_skb", "dport", 2, required by "tcp_retransmit_tp";
            RESENT_LOCAL6: "tcp", "tcp_retransmit_skb", "saddr_v6", array, required by "tcp_retransmit_tp";
            RESENT_REMOTE6: "tcp", "tcp_retransmit_skb", "daddr_v6", array, required by "tcp_retransmit_tp";
            RESENT_ERROR: "tcp", "tcp_retransmit_skb", "err", 4, optional by "tcp_retransmit_tp";
            VICTIM_PID: "oom", "mark_victim", "pid", 4, required by "oom_kill_tp";
            VICTIM_COMM: "oom", "mark_victim", "comm", text, optional by "oom_kill_tp";
            VICTIM_UID: "oom", "mark_victim", "uid", 4, optional by "oom_kill_tp";
            VICTIM_ANON: "oom", "mark_victim", "anon_rss", 8, optional by "oom_kill_tp";
            VICTIM_FILE: "oom", "mark_victim", "file_rss", 8, optional by "oom_kill_tp";
            VICTIM_SHMEM: "oom", "mark_victim", "shmem_rss", 8, optional by "oom_kill_tp";
            VICTIM_SCORE_ADJ: "oom", "mark_victim", "oom_score_adj", 2, optional by "oom_kill_tp";
            HUNG_PID: "sched", "sched_process_hang", "pid", 4, required by "task_hung_tp";
            RECLAIMED: "vmscan", "mm_vmscan_memcg_reclaim_end", "nr_reclaimed", 8, required by "reclaim_stall_tp";
            DIRECT_RECLAIMED: "vmscan", "mm_vmscan_direct_reclaim_end", "nr_reclaimed", 8, required by "reclaim_stall_direct_end_tp";
        }
    };
}

/// Everything else: `NAME: type, what it is`.
#[macro_export]
macro_rules! kernel_settings {
    ($expand:ident) => {
        $expand! {
            /// healer's own thread group: the ends of its threads are let through (the self-probe).
            OWN_TGID: u32;
            /// 1 when `sched_process_exit` has the argument `group_dead`.
            HAS_GROUP_DEAD: u32;
            /// 1 when `mark_victim` gives the task itself, 0 when only its pid (before mainline 6.9).
            VICTIM_IS_TASK: u32;
            /// 1 when `tcp_retransmit_skb` has the argument `err`.
            HAS_RETRANSMIT_ERROR: u32;
            /// `memory_cgrp_id`, the index into `css_set.subsys`, or `ABSENT`.
            MEMORY_CGRP_ID: u32;
            /// `PIDTYPE_PGID`, the index into `signal_struct.pids`, or `ABSENT`.
            PIDTYPE_PGID: u32;
            /// Numbers of kill(2) and pidfd_send_signal(2) on this machine.
            SYS_KILL: u32;
            SYS_PIDFD_SEND_SIGNAL: u32;
            /// Calls that may fail for want of a process, and the one that may for want of a port or a way.
            SYS_CLONE: u32;
            SYS_CLONE3: u32;
            SYS_FORK: u32;
            SYS_VFORK: u32;
            SYS_CONNECT: u32;
            /// 1 where the verifier sees soon that two ways lead to the same (from 6.12 on): 6.1 walks all that follows
            /// once for each.
            PRUNES_WELL: u32;
            /// Bytes of a `k_sigaction`, or `ABSENT`.
            SIGACTION_SIZE: u32;
            /// Bytes of a `percpu_counter` if `mm_struct.rss_stat` is an array of these (since 6.2), or `ABSENT`.
            RSS_STRIDE: u32;
            /// The bit of `thread_info.status`, or of its `flags`, that says that a 32-bit program's call is under way.
            THREAD_COMPAT: u32;
            /// log2 of the page size.
            PAGE_SHIFT: u32;
            /// Where `mem_cgroup_out_of_memory` starts and ends (from kallsyms); 0 unknown.
            MEMCG_OOM_START: u64;
            MEMCG_OOM_END: u64;
        }
    };
}

/// Slots of the per-CPU array COUNTERS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Counter {
    /// Records lost because URGENT was full.
    LostUrgent = 0,
    /// Records lost because BULK was full.
    LostBulk = 1,
    /// Ends with status 0 of processes that are not tracked: counted, never sent.
    QuietExits = 2,
    /// Runs of the programs, for the overhead governor: they are multiplied by what a run costs.
    Syscalls = 3,
    SocketStates = 4,
    Retransmits = 5,
}

impl Counter {
    pub const COUNT: u32 = 6;
}

/// Bytes of the ring for records that must wake the reader at once.
pub const URGENT_BYTES: u32 = 256 * 1024;
/// Bytes of the ring for records that can wait for company.
pub const BULK_BYTES: u32 = 1024 * 1024;
/// Execs remembered, to name those that die young.
pub const EXECS_MAX: u32 = 1280;
/// Failing processes and what they fail of, one entry each.
pub const ERRORS_MAX: u32 = 1024;
/// Processes whose end was told.
pub const ENDED_MAX: u32 = 1024;
/// Tracked processes.
pub const TRACKED_MAX: u32 = 16 * 1024;
/// Slots for the numbers of tracked thread groups, of 8 bytes each; a power of two.
pub const TRACKED_SLOTS: u32 = 2048;
/// Watched executables.
pub const WATCHED_MAX: u32 = 1024;
