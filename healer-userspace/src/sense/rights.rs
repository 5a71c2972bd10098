//! Whether this process may load kernel programs at all.

use std::fs;

use super::status::Trouble;

/// Bits of `CapEff` (include/uapi/linux/capability.h).
const CAP_SYS_ADMIN: u32 = 21;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;

/// What helps in most refusals of bpf(2).
pub(crate) const REMEDY: &str = "run healer as root, or give it CAP_BPF and CAP_PERFMON (since kernel 5.8)";

/// Looks before the kernel is asked: its own answer would be a bare EPERM.
///
/// # Errors
/// Names the capabilities that are missing. Where they cannot be read, nothing is said.
pub(crate) fn check() -> Result<(), Trouble> {
    let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    match effective(&status) {
        Some(effective) => judge(effective),
        None => Ok(()),
    }
}

fn judge(effective: u64) -> Result<(), Trouble> {
    let has = |capability: u32| effective >> capability & 1 != 0;
    if has(CAP_SYS_ADMIN) {
        return Ok(());
    }
    let needed = [(CAP_BPF, "CAP_BPF"), (CAP_PERFMON, "CAP_PERFMON")];
    let missing: Vec<&str> = needed.iter().filter(|(bit, _)| !has(*bit)).map(|(_, name)| *name).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let reason = format!("healer may not load kernel programs: it lacks {}", missing.join(" and "));
    Err(Trouble::new(reason, REMEDY))
}

fn effective(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        assert!(judge(1 << CAP_SYS_ADMIN).is_ok());
        assert!(judge(1 << CAP_BPF | 1 << CAP_PERFMON).is_ok());
        let reason = judge(1 << CAP_BPF).unwrap_err().reason;
        assert!(reason.ends_with("lacks CAP_PERFMON"), "{reason}");
        let reason = judge(0).unwrap_err().reason;
        assert!(reason.ends_with("lacks CAP_BPF and CAP_PERFMON"), "{reason}");
    }

    #[test]
    fn the_mask_is_read_from_the_status_file() {
        assert_eq!(effective("Name:\tx\nCapEff:\t000000c000000000\n"), Some(0xc0_0000_0000));
        assert_eq!(effective("Name:\tx\n"), None);
    }
}
