//! Amounts and failures, as a person reads them.

use core::net::SocketAddr;

use crate::{
    engine::time::{BootTime, Human},
    signal::{
        levels::{Level, Resource, User},
        syscall_error::{SyscallError, errno_words},
    },
    text,
};

/// `64 of 64 file descriptors (RLIMIT_NOFILE)`
pub(super) fn amount(level: &Level) -> String {
    let Level { used, limit, refused, .. } = level;
    let refused = if *refused == 0 { String::new() } else { format!(", and {refused} more were refused") };
    match &level.of {
        Resource::Descriptors { .. } => format!("{used} of {limit} file descriptors (RLIMIT_NOFILE)"),
        Resource::Files => format!("{used} of {limit} open files of the machine (fs.file-max)"),
        Resource::Pids { cgroup } => {
            format!("{used} of {limit} tasks in {} (pids.max){refused}", text::printable(cgroup))
        }
        Resource::UserProcesses { uid } => format!("{used} of {limit} tasks of user {uid} (RLIMIT_NPROC)"),
        Resource::NodePids => format!("{used} of {limit} tasks of the machine (kernel.pid_max)"),
        Resource::Space { mount, .. } => {
            format!("{} of {} on {}", bytes(*used), bytes(*limit), text::printable(mount))
        }
        Resource::Inodes { mount, .. } => format!("{used} of {limit} inodes of {}", text::printable(mount)),
        Resource::Ports { peer, port, .. } => format!(
            "{used} of {limit} local ports to {} (net.ipv4.ip_local_port_range)",
            SocketAddr::new(*peer, *port)
        ),
    }
}

/// `openat fails with EMFILE, no file descriptors: 41 times in 1.0s`
pub(super) fn failure(error: &SyscallError, at: BootTime) -> String {
    let times = match error.count {
        1 => "once".to_owned(),
        count => format!("{count} times in {}", Human(at.since(error.first))),
    };
    format!("{} fails with {}: {times}", text::printable(&error.call), errno_words(error.errno))
}

/// `sh[7] 40, cat[9] 3`
pub(super) fn users(users: &[User], rate: fn(u64) -> String) -> String {
    let shown = |user: &User| format!("{}[{}] {}", text::printable(&user.comm), user.pid, rate(user.used));
    users.iter().map(shown).collect::<Vec<_>>().join(", ")
}

/// `4.0 MiB`
pub(super) fn bytes(amount: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    let mut whole = amount;
    let mut rest = 0;
    while 1024 <= whole && unit + 1 < UNITS.len() {
        (rest, whole) = (whole % 1024, whole / 1024);
        unit += 1;
    }
    if unit == 0 { format!("{whole} B") } else { format!("{whole}.{} {}", rest * 10 / 1024, UNITS[unit]) }
}
