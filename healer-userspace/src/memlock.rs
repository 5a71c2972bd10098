//! `RLIMIT_MEMLOCK`: before 5.11 BPF maps count as locked memory, of which a process may have 64 KiB (getrlimit(2)).

use std::sync::OnceLock;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

static BEFORE: OnceLock<Rlimit> = OnceLock::new();

/// For the agent. Who may not lift the limit is told what that costs by the kernel's refusal, and by `healer doctor`.
pub(crate) fn lift() {
    BEFORE.get_or_init(|| getrlimit(Resource::Memlock));
    setrlimit(Resource::Memlock, Rlimit { current: None, maximum: None }).ok();
}

/// For what the agent starts, between fork(2) and execve(2): async-signal-safe.
pub(crate) fn give_back() {
    if let Some(before) = BEFORE.get() {
        setrlimit(Resource::Memlock, *before).ok();
    }
}
