//! What this machine cannot do, before somebody relies on it.

use super::host::Control;
use crate::{
    capabilities::{self, SYS_RESOURCE, has},
    engine::policy::{ActionName, Rung},
    kubernetes::{Cluster, Settings},
};

/// What this process has.
#[derive(Clone, Copy, Debug)]
pub struct Here {
    /// Effective capabilities.
    pub rights: u64,
    pub in_cluster: bool,
}

/// Why the rung cannot work here, in words.
pub fn lacks(rung: &Rung, here: Here) -> Option<String> {
    let terms = &rung.terms;
    let wants = |wanted: bool, control: Control| wanted.then(|| control.is_lacking()).flatten();
    let may = has(here.rights, SYS_RESOURCE);
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
        ActionName::Evict | ActionName::Cordon | ActionName::Taint | ActionName::Condition => {
            (!here.in_cluster).then(|| {
                "healer has neither a service account nor a kubeconfig: there is no Kubernetes to ask"
                    .to_owned()
            })
        }
        ActionName::Notify
        | ActionName::Capture
        | ActionName::Restart
        | ActionName::Stop
        | ActionName::Kill
        | ActionName::Freeze
        | ActionName::Thaw
        | ActionName::RunHook
        | ActionName::ResetConnections => None,
    }
}

impl Here {
    pub fn of(settings: &Settings) -> Self {
        Self { rights: capabilities::own().unwrap_or(0), in_cluster: Cluster::is_reachable(settings) }
    }
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
        let none = Here { rights: 0, in_cluster: false };
        for rung in [&files, &shield] {
            assert!(lacks(rung, none).unwrap().contains("CAP_SYS_RESOURCE"));
            assert_eq!(lacks(rung, Here { rights: 1 << SYS_RESOURCE, ..none }), None);
        }
        assert_eq!(lacks(&expose, none), None);
        let evict = of(ActionName::Evict, Terms::default());
        assert!(lacks(&evict, none).unwrap().contains("kubeconfig"));
        assert_eq!(lacks(&evict, Here { in_cluster: true, ..none }), None);
    }
}
