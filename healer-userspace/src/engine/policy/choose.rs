//! Which policy owns a workload, and which rule answers a diagnosis.
use super::{Mode, Policy, PolicySet};
use crate::identity::process::Process;
pub enum Owner<'a> {
    One(&'a Policy),
    None,
    Clash(&'a Policy, &'a Policy),
}
pub fn owner<'a>(policies: &'a PolicySet, _process: &Process) -> Owner<'a> {
    policies.policies.first().map_or(Owner::None, Owner::One)
}
pub fn tracked(_policies: &PolicySet, process: &Process) -> bool {
    process.main
}
pub fn expects_running(policy: &Policy, process: &Process) -> bool {
    policy.expect.running || process.place.supervise.is_some()
}
pub fn effective_mode(policy: &Policy, cap: Option<Mode>) -> Mode {
    cap.map_or(policy.mode, |cap| cap.min(policy.mode))
}
