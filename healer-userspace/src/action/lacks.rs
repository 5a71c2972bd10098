//! What this machine cannot do, before somebody relies on it.

use super::host::Control;
use crate::engine::policy::{ActionName, Rung};

/// Number in linux/capability.h.
const SYS_RESOURCE: u32 = 24;

/// Why the rung cannot work here, in words. `rights`: the effective capabilities.
pub fn lacks(rung: &Rung, rights: u64) -> Option<String> {
    let terms = &rung.terms;
    let wants = |wanted: bool, control: Control| wanted.then(|| control.is_lacking()).flatten();
    let may = rights & (1 << SYS_RESOURCE) != 0;
    match rung.action {
        ActionName::Throttle => wants(terms.memory_high.is_some(), Control::MemoryHigh)
            .or_else(|| wants(terms.cpu.is_some(), Control::CpuQuota))
            .or_else(|| wants(terms.cpu_weight.is_some(), Control::CpuWeight)),
        ActionName::RaiseLimit => wants(terms.memory_max.is_some(), Control::MemoryMax)
            .or_else(|| wants(terms.pids_max.is_some(), Control::Pids))
            .or_else(|| {
                (terms.open_files.is_some() && !may).then(|| {
                    "healer has no CAP_SYS_RESOURCE: limits of other users' processes stay".to_owned()
                })
            }),
        ActionName::Protect => {
            let lowers = terms.oom_score_adj.is_none_or(|adj| adj < 0);
            (lowers && !may)
                .then(|| "healer has no CAP_SYS_RESOURCE: oom_score_adj cannot be lowered".to_owned())
        }
        ActionName::Notify
        | ActionName::Restart
        | ActionName::Stop
        | ActionName::Kill
        | ActionName::Freeze
        | ActionName::Thaw
        | ActionName::RunHook
        | ActionName::ResetConnections => None,
    }
}

/// Of this process.
pub fn rights() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::policy::{Scope, Terms};

    #[test]
    fn without_the_right_limits_stay() {
        let of = |action, terms| Rung {
            action,
            scope: Scope::Process,
            grace: None,
            timeout: None,
            signal: None,
            command: Vec::new(),
            terms,
        };
        let files = of(ActionName::RaiseLimit, Terms { open_files: Some(9), ..Terms::default() });
        let shield = of(ActionName::Protect, Terms::default());
        let expose = of(ActionName::Protect, Terms { oom_score_adj: Some(500), ..Terms::default() });
        for rung in [&files, &shield] {
            assert!(lacks(rung, 0).unwrap().contains("CAP_SYS_RESOURCE"));
            assert_eq!(lacks(rung, 1 << SYS_RESOURCE), None);
        }
        assert_eq!(lacks(&expose, 0), None);
    }
}
