//! The rights of this process, as `healer run` started the same way would have them.

use super::{Check, Root};

struct Right {
    name: &'static str,
    /// Number in linux/capability.h.
    bit: u32,
    costs: &'static str,
    /// A wider right that includes this one.
    or_bit: Option<u32>,
    to_sense: bool,
}

const SYS_ADMIN: u32 = 21;

const RIGHTS: &[Right] = &[
    Right {
        name: "CAP_BPF",
        bit: 39,
        costs: "kernel programs cannot be loaded: nothing is sensed",
        or_bit: Some(SYS_ADMIN),
        to_sense: true,
    },
    Right {
        name: "CAP_PERFMON",
        bit: 38,
        costs: "kernel programs cannot be attached: nothing is sensed",
        or_bit: Some(SYS_ADMIN),
        to_sense: true,
    },
    Right {
        name: "CAP_SYS_PTRACE",
        bit: 19,
        costs: "programs and files of other users' processes stay unknown",
        or_bit: None,
        to_sense: false,
    },
    Right {
        name: "CAP_DAC_READ_SEARCH",
        bit: 2,
        costs: "programs in directories closed to others cannot be identified",
        or_bit: Some(1),
        to_sense: false,
    },
    Right {
        name: "CAP_SYS_RESOURCE",
        bit: 24,
        costs: "memory pressure is watched in steps of 2 s only; limits of others cannot be raised",
        or_bit: None,
        to_sense: false,
    },
    Right {
        name: "CAP_KILL",
        bit: 5,
        costs: "processes of other users cannot be stopped or killed",
        or_bit: None,
        to_sense: false,
    },
];

/// Something above took it from root: a container's runtime, a unit's bounding set.
fn fix(right: &Right, root: bool) -> String {
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
    RIGHTS.iter().map(|right| check(right, effective, is_root)).collect()
}

fn check(right: &Right, effective: u64, is_root: bool) -> Check {
    let fix = fix(right, is_root);
    let has = |bit: u32| effective & (1 << bit) != 0;
    let found = if has(right.bit) {
        Check::ok(right.name, "held")
    } else if right.or_bit.is_some_and(has) {
        Check::ok(right.name, "held as part of a wider right")
    } else if right.to_sense {
        Check::missing(right.name, "not held", right.costs, &fix)
    } else {
        Check::degraded(right.name, "not held", right.costs, &fix)
    };
    if right.to_sense { found.needed() } else { found }
}

/// `CapEff:` of /proc/PID/status, hexadecimal (proc(5)).
fn effective(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}
