//! One file per probe: a thin entry, a `try_` function, and the maps that only it uses.

mod oom_kill;
mod process_exec;
mod process_exit;
mod reclaim_stall;
mod signal_sent;
mod signals;
mod socket_state;
mod syscall_error;
mod task_hung;
mod tcp_retransmit;
