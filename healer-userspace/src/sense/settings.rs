use std::path::{Path, PathBuf};

use super::{govern::Wish, load::OBJECT, rung::Level};

/// Where to start from; [`Settings::default`] is the running kernel.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The kernel programs as an ELF object; `None` in a build without them.
    pub object: Option<&'static [u8]>,
    pub btf: PathBuf,
    pub kallsyms: PathBuf,
    pub tracefs: PathBuf,
    pub kmsg: PathBuf,
    /// Whether the process connector may be used.
    pub connector: bool,
    /// Whether the kernel's table of sockets may be asked.
    pub sockets: bool,
    /// Rungs above this one are not tried.
    pub best: Level,
    /// A row of `healer_common::tuning::kernel_offsets` and a wrong value for it: a test of the
    /// self-check.
    pub wrong_offset: Option<(String, u32)>,
    /// The kernel is asked for typed hooks by types that are none, and refuses: a test of the ladder.
    pub wrong_hooks: bool,
    /// A tracepoint that the kernel seems not to have: a test of sensors with several.
    pub absent_hook: Option<String>,
    /// How much of the system calls is seen, until somebody says otherwise.
    pub syscall_errors: Wish,
    pub own_tgid: u32,
    /// The calling thread gives up what only loading needs, and so do those that it starts later.
    pub gives_up_rights: bool,
    /// Whether healer's `/proc` has the numbers by which the kernel tells of processes.
    pub shares_pids: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            object: OBJECT,
            btf: PathBuf::from("/sys/kernel/btf/vmlinux"),
            kallsyms: PathBuf::from("/proc/kallsyms"),
            tracefs: tracefs(),
            kmsg: PathBuf::from("/dev/kmsg"),
            connector: true,
            sockets: true,
            best: Level::TpBtf,
            wrong_offset: None,
            wrong_hooks: false,
            absent_hook: None,
            syscall_errors: Wish::default(),
            own_tgid: std::process::id(),
            gives_up_rights: false,
            shares_pids: is_in(Path::new("/proc/self/ns/pid"), PIDS),
        }
    }
}

/// The initial pid namespace, `PROC_PID_INIT_INO` (include/linux/proc_ns.h).
pub const PIDS: &str = "pid:[4026531836]";
/// The initial user namespace, `PROC_USER_INIT_INO`.
pub const USERS: &str = "user:[4026531837]";

/// Whether `link` is of this namespace. A kernel without namespaces has no other.
#[must_use]
pub fn is_in(link: &Path, namespace: &str) -> bool {
    std::fs::read_link(link).map_or(true, |found| found == Path::new(namespace))
}

/// Where tracefs is mounted; debugfs shows it, too.
fn tracefs() -> PathBuf {
    let own = PathBuf::from("/sys/kernel/tracing");
    if own.join("events").is_dir() { own } else { PathBuf::from("/sys/kernel/debug/tracing") }
}
