//! Whether the kernel is new enough: by what it declares, because distributions port features back; by its number where
//! it declares nothing.

use std::collections::BTreeSet;

use super::{Check, Root};
use crate::sense::btf;

const NAME: &str = "kernel";
/// The first of mainline with BPF ring buffers, without which no program of ours has a way to us.
const OLDEST: (u32, u32) = (5, 8);
const FIX: &str = "run Linux 5.8 or newer, best 5.15 or newer with BTF";

/// What of BPF healer uses that kernels with types may lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Declared {
    ring_buffer: bool,
    /// Mainline since 5.11.
    typed_current: bool,
    /// Of another task than current, since 5.15.
    registers: bool,
}

pub(super) fn check(root: Root<'_>) -> Check {
    let release = root.read("/proc/sys/kernel/osrelease").unwrap_or_default();
    let declared = std::fs::read(root.at("/sys/kernel/btf/vmlinux")).ok().and_then(|bytes| declared(&bytes));
    judge(release.trim(), declared)
}

/// Major and minor number of the running kernel.
pub(super) fn numbers(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse().ok());
    Some((numbers.next()?, numbers.next()?))
}

fn declared(bytes: &[u8]) -> Option<Declared> {
    let btf = btf::parse(bytes, &BTreeSet::from(["bpf_map_type", "bpf_func_id"])).ok()?;
    let helper = |name| btf.enum_value("bpf_func_id", name).is_some();
    // A kernel whose types say nothing of BPF at all says nothing of its age.
    btf.enum_value("bpf_map_type", "BPF_MAP_TYPE_ARRAY")?;
    Some(Declared {
        ring_buffer: btf.enum_value("bpf_map_type", "BPF_MAP_TYPE_RINGBUF").is_some(),
        typed_current: helper("BPF_FUNC_get_current_task_btf"),
        registers: helper("BPF_FUNC_task_pt_regs"),
    })
}

fn judge(release: &str, declared: Option<Declared>) -> Check {
    let says = format!("Linux {release} on {}", std::env::consts::ARCH);
    let has_ring = declared.map_or_else(
        || numbers(release).is_none_or(|numbers| OLDEST <= numbers),
        |declared| declared.ring_buffer,
    );
    if !has_ring {
        let says = format!("{says}, which has no BPF ring buffers (mainline has them since 5.8)");
        let costs = "no kernel programs: what is left is the process connector, the kernel's log, the table of sockets and /proc";
        return Check::missing(NAME, says, costs, FIX).needed();
    }
    match declared {
        Some(Declared { typed_current: false, .. }) => Check::degraded(
            NAME,
            format!("{says}, where programs cannot read current with its type (mainline since 5.11)"),
            "sensors work as raw_tp, with helper calls; tasks are looked at in /proc, every 5 s, so that deadlocks take longer to see",
            FIX,
        ),
        Some(Declared { registers: false, .. }) => Check::degraded(
            NAME,
            format!("{says}, where programs cannot read another task's registers (mainline since 5.15)"),
            "tasks are looked at in /proc, every 5 s, so that deadlocks take longer to see",
            FIX,
        ),
        Some(_) | None => Check::ok(NAME, says),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::State, *};

    const ALL: Declared = Declared { ring_buffer: true, typed_current: true, registers: true };

    #[test]
    fn a_kernel_that_is_too_old_is_told_with_what_is_left() {
        let without_types = judge("5.4.0-26-generic", None);
        assert_eq!(without_types.state, State::Missing);
        assert!(without_types.needed_to_sense);
        assert!(without_types.says.contains("5.4.0-26-generic") && without_types.says.contains("5.8"));
        assert!(without_types.costs.contains("/proc") && without_types.fix.contains("5.8"));
        for (release, declared) in
            [("5.8.0", None), ("6.1.0-40-rt-amd64", None), ("of my own", None), ("6.1", Some(ALL))]
        {
            assert_eq!(judge(release, declared).state, State::Ok, "{release}");
        }
    }

    #[test]
    fn what_a_kernel_declares_counts_more_than_its_number() {
        let ported_back = judge("4.18.0-553.el8.x86_64", Some(ALL));
        assert_eq!(ported_back.state, State::Ok);
        let taken_out = judge("6.6.0", Some(Declared { ring_buffer: false, ..ALL }));
        assert_eq!(taken_out.state, State::Missing);
    }

    #[test]
    fn what_an_old_kernel_costs_is_told() {
        let of_510 =
            judge("5.10.0-32-cloud-amd64", Some(Declared { typed_current: false, registers: false, ..ALL }));
        assert_eq!(of_510.state, State::Degraded);
        assert!(of_510.costs.contains("raw_tp") && of_510.costs.contains("/proc"), "{of_510:?}");
        let of_514 = judge("5.14.0", Some(Declared { registers: false, ..ALL }));
        assert!(!of_514.costs.contains("raw_tp") && of_514.costs.contains("/proc"), "{of_514:?}");
    }

    #[test]
    fn the_running_kernel_is_read() {
        let Ok(bytes) = std::fs::read("/sys/kernel/btf/vmlinux") else {
            return;
        };
        assert!(declared(&bytes).is_some_and(|declared| declared.ring_buffer));
        assert_eq!(declared(b"BTF"), None);
    }
}
