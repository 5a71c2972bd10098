//! THE SENSOR TABLE: for each sensor the ways to its signal, the best first.

use healer_common::event::EventKind;

use super::govern::Stage;

/// How high a rung is; the best first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// A program with typed arguments.
    #[default]
    TpBtf,
    /// A program with the same arguments as bare numbers, and offsets from BTF.
    RawTp,
    /// A program on the classic tracepoint, and offsets from its tracefs `format`.
    Tracepoint,
    /// No program of ours: what the kernel tells user space by itself.
    User,
}

impl Level {
    pub const ALL: [Self; 4] = [Self::TpBtf, Self::RawTp, Self::Tracepoint, Self::User];

    /// As `healer run --sense-rung` takes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::TpBtf => "tp_btf",
            Self::RawTp => "raw_tp",
            Self::Tracepoint => "tracepoint",
            Self::User => "user",
        }
    }
}

/// A way to get at a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rung {
    /// A program on the tracepoint with typed arguments: direct loads, all fields.
    TpBtf { program: &'static str },
    /// A program on the tracepoint without types: helper calls, and none of those that want a type.
    RawTp { program: &'static str, lacks: &'static [&'static str] },
    /// A program on the tracepoint's record for tracefs.
    Tracepoint { program: &'static str, lacks: &'static [&'static str] },
    /// The process connector, a netlink socket (`include/uapi/linux/cn_proc.h`).
    Connector { lacks: &'static [&'static str] },
    /// The kernel's log, `/dev/kmsg`.
    KernelLog { lacks: &'static [&'static str] },
    /// The table of sockets, asked once a second (sock_diag(7)).
    SocketDiag { lacks: &'static [&'static str] },
}

impl Rung {
    /// The name that `healer sensors` shows.
    #[must_use]
    pub const fn via(self) -> &'static str {
        match self {
            Self::TpBtf { .. } => "tp_btf",
            Self::RawTp { .. } => "raw_tp",
            Self::Tracepoint { .. } => "tracepoint",
            Self::Connector { .. } => "connector",
            Self::KernelLog { .. } => "kmsg",
            Self::SocketDiag { .. } => "sock_diag",
        }
    }

    #[must_use]
    pub const fn level(self) -> Level {
        match self {
            Self::TpBtf { .. } => Level::TpBtf,
            Self::RawTp { .. } => Level::RawTp,
            Self::Tracepoint { .. } => Level::Tracepoint,
            Self::Connector { .. } | Self::KernelLog { .. } | Self::SocketDiag { .. } => Level::User,
        }
    }

    /// Whether it names processes by fields of the kernel's structs.
    #[must_use]
    pub(crate) fn reads_structs(self) -> bool {
        self.level() <= Level::RawTp
    }

    /// Whether its source names processes by their numbers in the initial pid namespace; the table of sockets
    /// names none, and `/proc` completes it.
    #[must_use]
    pub const fn tells_pids(self) -> bool {
        !matches!(self, Self::SocketDiag { .. })
    }

    /// The program that this way needs, if it is one of ours.
    #[must_use]
    pub const fn program(self) -> Option<&'static str> {
        match self {
            Self::TpBtf { program } | Self::RawTp { program, .. } | Self::Tracepoint { program, .. } => {
                Some(program)
            }
            Self::Connector { .. } | Self::KernelLog { .. } | Self::SocketDiag { .. } => None,
        }
    }

    /// What its source does not say, as `struct.member`. User space adds what `/proc` still has.
    #[must_use]
    pub const fn lacks(self) -> &'static [&'static str] {
        match self {
            Self::TpBtf { .. } => &[],
            Self::RawTp { lacks, .. }
            | Self::Tracepoint { lacks, .. }
            | Self::Connector { lacks }
            | Self::KernelLog { lacks }
            | Self::SocketDiag { lacks } => lacks,
        }
    }
}

/// A sensor, and the ways to its signal.
pub struct Sensor {
    pub kind: EventKind,
    pub rungs: &'static [Rung],
    /// Said of a sensor that has no way left.
    pub otherwise: &'static str,
    /// When the overhead governor gives it up; `None`: never.
    pub given_up: Option<Stage>,
}

/// Every sensor that hangs on a kernel hook. The object test walks it.
pub const SENSORS: &[Sensor] = &[
    Sensor {
        kind: EventKind::ProcessExit,
        rungs: &[
            Rung::TpBtf { program: "process_exit" },
            Rung::RawTp { program: "process_exit_raw", lacks: &[] },
            Rung::Tracepoint {
                program: "process_exit_tp",
                lacks: &[
                    "task_struct.exit_code",
                    "task_struct.start_boottime",
                    "task_struct.real_parent",
                    "mm_struct.exe_file",
                ],
            },
            Rung::Connector {
                lacks: &["task_struct.start_boottime", "task_struct.cgroups", "mm_struct.exe_file"],
            },
        ],
        otherwise: "ends of tracked processes are found in /proc, without their status",
        given_up: None,
    },
    Sensor {
        kind: EventKind::ProcessExec,
        rungs: &[
            Rung::TpBtf { program: "process_exec" },
            Rung::RawTp { program: "process_exec_raw", lacks: &[] },
            Rung::Tracepoint {
                program: "process_exec_tp",
                lacks: &[
                    "task_struct.start_boottime",
                    "task_struct.real_parent",
                    "mm_struct.exe_file",
                    "mm_struct.arg_start",
                ],
            },
            Rung::Connector {
                lacks: &[
                    "task_struct.start_boottime",
                    "task_struct.cgroups",
                    "task_struct.real_parent",
                    "mm_struct.exe_file",
                    "mm_struct.arg_start",
                    "linux_binprm.filename",
                ],
            },
        ],
        otherwise: "new processes are found in /proc when somebody asks for them",
        given_up: None,
    },
    Sensor {
        kind: EventKind::SignalSent,
        rungs: &[
            Rung::TpBtf { program: "signal_sent" },
            Rung::RawTp { program: "signal_sent_raw", lacks: &["pt_regs.di"] },
            Rung::Tracepoint {
                program: "signal_sent_tp",
                lacks: &[
                    "task_struct.tgid",
                    "task_struct.start_boottime",
                    "task_struct.cgroups",
                    "kernel_siginfo.si_pid",
                    "kernel_siginfo._sifields._sigfault._addr",
                    "kernel_siginfo._sifields._sigsys._syscall",
                    "pt_regs.di",
                    "signal_struct.pids",
                    "sighand_struct.action",
                ],
            },
        ],
        otherwise: "an end still tells its signal, but not who sent it",
        given_up: None,
    },
    Sensor {
        kind: EventKind::OomKill,
        rungs: &[
            Rung::TpBtf { program: "oom_kill" },
            Rung::RawTp { program: "oom_kill_raw", lacks: &[] },
            Rung::Tracepoint {
                program: "oom_kill_tp",
                lacks: &[
                    "task_struct.start_boottime",
                    "css_set.subsys",
                    "mem_cgroup.memory.usage",
                    "mem_cgroup.memory.max",
                ],
            },
            Rung::KernelLog { lacks: &["task_struct.start_boottime", "css_set.subsys"] },
        ],
        otherwise: "an OOM kill looks like any SIGKILL from the kernel",
        given_up: None,
    },
    Sensor {
        kind: EventKind::SocketState,
        rungs: &[
            Rung::TpBtf { program: "socket_state" },
            Rung::RawTp { program: "socket_state_raw", lacks: &["sock_common.skc_cookie"] },
            Rung::Tracepoint {
                program: "socket_state_tp",
                lacks: &[
                    "task_struct.start_boottime",
                    "sock.sk_err",
                    "sock.sk_cgrp_data",
                    "sock_common.skc_cookie",
                    "net.ns.inum",
                ],
            },
            Rung::SocketDiag {
                lacks: &["task_struct.start_boottime", "sock.sk_err", "sock_common.skc_state"],
            },
        ],
        otherwise: "failed connections are not seen",
        given_up: Some(Stage::Connections),
    },
    Sensor {
        kind: EventKind::TcpRetransmit,
        rungs: &[
            Rung::TpBtf { program: "tcp_retransmit" },
            Rung::RawTp { program: "tcp_retransmit_raw", lacks: &["sock_common.skc_cookie"] },
            Rung::Tracepoint {
                program: "tcp_retransmit_tp",
                lacks: &[
                    "inet_connection_sock.icsk_retransmits",
                    "tcp_sock.snd_una",
                    "sock.sk_cgrp_data",
                    "sock_common.skc_cookie",
                    "net.ns.inum",
                ],
            },
            Rung::SocketDiag { lacks: &["tcp_retransmit_skb.err", "tcp_sock.snd_una"] },
        ],
        otherwise: "connections without an answer are seen when they end",
        given_up: Some(Stage::Retransmits),
    },
    Sensor {
        kind: EventKind::SyscallError,
        rungs: &[
            Rung::TpBtf { program: "syscall_error" },
            Rung::RawTp { program: "syscall_error_raw", lacks: &[] },
            Rung::Tracepoint {
                program: "syscall_error_tp",
                lacks: &["task_struct.start_boottime", "task_struct.cgroups", "pt_regs.di", "pt_regs.si"],
            },
        ],
        otherwise: "what runs out is seen by looks once a second, not by what fails of it, and ports are not",
        given_up: Some(Stage::Syscalls),
    },
    Sensor {
        kind: EventKind::ReclaimStall,
        rungs: &[
            Rung::TpBtf { program: "reclaim_stall" },
            Rung::RawTp { program: "reclaim_stall_raw", lacks: &[] },
            Rung::Tracepoint {
                program: "reclaim_stall_tp",
                lacks: &["task_struct.start_boottime", "css_set.subsys"],
            },
        ],
        otherwise: "how much a cgroup's memory is short is told by its files and by pressure alone",
        given_up: None,
    },
    Sensor {
        kind: EventKind::TaskHung,
        rungs: &[
            Rung::TpBtf { program: "task_hung" },
            Rung::RawTp { program: "task_hung_raw", lacks: &[] },
            Rung::Tracepoint {
                program: "task_hung_tp",
                lacks: &["task_struct.start_boottime", "task_struct.blocker"],
            },
            Rung::KernelLog { lacks: &["task_struct.start_boottime", "task_struct.blocker"] },
        ],
        otherwise: "who hangs in the kernel is seen by the scan of the tasks alone",
        given_up: None,
    },
];

/// A program that a rung's own needs beside it, on another classic tracepoint.
pub struct Beside {
    pub of: &'static str,
    pub program: &'static str,
    pub category: &'static str,
    pub tracepoint: &'static str,
}

/// Loaded and unloaded with the program they are beside.
pub const BESIDE: &[Beside] = &[Beside {
    of: "socket_state_tp",
    program: "socket_reset_tp",
    category: "tcp",
    tracepoint: "tcp_receive_reset",
}];

pub(crate) fn beside(program: &str) -> impl Iterator<Item = &'static Beside> {
    BESIDE.iter().filter(move |beside| beside.of == program)
}
