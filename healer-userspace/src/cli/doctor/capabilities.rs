//! The rights of this process, as `healer run` started the same way would have them.

use super::{Check, Root};
use crate::capabilities::{CAPABILITIES, Capability, For, effective, has};

/// Something above took it from root: a container's runtime, a unit's bounding set.
fn fix(right: &Capability, root: bool) -> String {
    let name = right.name;
    if root {
        let short = name.trim_start_matches("CAP_");
        format!("give it to the container (--cap-add={short}) or the unit (CapabilityBoundingSet={name})")
    } else {
        format!("run as root, or in the unit: AmbientCapabilities={name}")
    }
}

pub(super) fn checks(root: Root<'_>) -> Vec<Check> {
    let status = root.read("/proc/self/status").unwrap_or_default();
    let effective = effective(&status).unwrap_or_default();
    let is_root = status.lines().any(|line| line.starts_with("Uid:\t0\t0\t"));
    CAPABILITIES.iter().map(|right| check(right, effective, is_root)).collect()
}

fn check(right: &Capability, effective: u64, is_root: bool) -> Check {
    let fix = fix(right, is_root);
    let found = if has(effective, right.bit) {
        Check::ok(right.name, "held")
    } else if right.is_held(effective) {
        Check::ok(right.name, "held as part of a wider right")
    } else {
        match right.for_what {
            For::Loading => Check::missing(right.name, "not held", right.costs, &fix),
            For::More => Check::degraded(right.name, "not held", right.costs, &fix),
            For::Extra => Check { fix, ..Check::absent(right.name, "not held", right.costs) },
        }
    };
    if right.for_what == For::Loading { found.needed() } else { found }
}
