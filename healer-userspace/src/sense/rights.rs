//! Whether this process may load kernel programs at all, and that it may not for longer than it must.

use std::{io, path::Path, thread};

use aya::maps::{MapData, PerCpuArray};
use healer_common::event::EventKind;

use super::{
    govern::Hook,
    poll::tasks::TaskScan,
    settings::{USERS, is_in},
    status::Trouble,
};
use crate::capabilities::{self, CAPABILITIES, For};

/// What helps in most refusals of bpf(2).
pub(crate) const REMEDY: &str = "run healer as root, or give it CAP_BPF and CAP_PERFMON (since kernel 5.8)";

/// Looks before the kernel is asked: its own answer would be a bare EPERM.
///
/// # Errors
/// Names the capabilities that are missing. Where they cannot be read, nothing is said.
pub(crate) fn check() -> Result<(), Trouble> {
    if !is_in(Path::new("/proc/self/ns/user"), USERS) {
        return Err(Trouble::new(
            "healer is in a user namespace of its own, whose root may not load kernel programs",
            "run it in the machine's: hostUsers: true in Kubernetes, --userns=host with Docker; not rootless, not under unshare -U",
        ));
    }
    capabilities::own().map_or(Ok(()), judge)
}

fn judge(effective: u64) -> Result<(), Trouble> {
    let needed = CAPABILITIES.iter().filter(|one| one.for_what == For::Loading);
    let missing: Vec<&str> = needed.filter(|one| !one.is_held(effective)).map(|one| one.name).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let reason = format!("healer may not load kernel programs: it lacks {}", missing.join(" and "));
    Err(Trouble::new(reason, REMEDY))
}

/// What is done with loaded programs for as long as healer lives.
pub(super) struct Later<'a> {
    pub(super) hooks: &'a [(EventKind, Hook)],
    pub(super) counters: Option<&'a PerCpuArray<MapData, u64>>,
    pub(super) scan: Option<&'a TaskScan>,
}

impl Later<'_> {
    fn works(&self) -> io::Result<()> {
        for (_, hook) in self.hooks {
            hook.attach()?;
        }
        if let Some(counters) = self.counters {
            counters.get(&0, 0).map_err(io::Error::other)?;
        }
        self.scan.map_or(Ok(()), TaskScan::can_begin)
    }
}

/// The calling thread gives up what only loading needs, if the kernel lets the rest be done without (since 5.19, with
/// typed or raw tracepoints): a thread of its own has tried. Says what came of it.
pub(super) fn give_up(later: &Later<'_>) -> String {
    let tries = || {
        capabilities::give_up_loading()?;
        later.works()
    };
    let tried = thread::scope(|scope| scope.spawn(tries).join());
    let done = match tried {
        Ok(Ok(())) => capabilities::give_up_loading(),
        Ok(Err(error)) => Err(error),
        Err(_panic) => Err(io::Error::other("the trial broke off")),
    };
    match done {
        Ok(()) => "CAP_BPF and CAP_PERFMON are given up: everything is loaded".to_owned(),
        Err(error) => {
            format!("CAP_BPF and CAP_PERFMON are kept: loaded programs need them on this kernel ({error})")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        const CAP_PERFMON: u32 = 38;
        const CAP_BPF: u32 = 39;
        assert!(judge(1 << capabilities::SYS_ADMIN).is_ok());
        assert!(judge(1 << CAP_BPF | 1 << CAP_PERFMON).is_ok());
        let reason = judge(1 << CAP_BPF).unwrap_err().reason;
        assert!(reason.ends_with("lacks CAP_PERFMON"), "{reason}");
        let reason = judge(0).unwrap_err().reason;
        assert!(reason.ends_with("lacks CAP_BPF and CAP_PERFMON"), "{reason}");
    }
}
