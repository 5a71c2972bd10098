//! Kernel, its types, its tracing, its lockdown, and the programs we bring.

use super::{Check, Root, State};

pub(super) fn checks(root: Root<'_>, object: Option<usize>) -> Vec<Check> {
    vec![version(root), programs(object), btf(root), tracefs(root), lockdown(root), pressure(root)]
}

/// Told, not judged: distributions port kernel features back.
fn version(root: Root<'_>) -> Check {
    let release = root.read("/proc/sys/kernel/osrelease").unwrap_or_default();
    Check::ok("kernel", format!("Linux {} on {}", release.trim(), std::env::consts::ARCH))
}

fn programs(object: Option<usize>) -> Check {
    const NAME: &str = "kernel programs";
    match object {
        Some(bytes) => Check::ok(NAME, format!("embedded, {} KiB", bytes.div_ceil(1024))),
        None => Check::missing(
            NAME,
            "this healer was built without them",
            "nothing is sensed",
            "cargo xtask build",
        ),
    }
    .needed()
}

fn btf(root: Root<'_>) -> Check {
    const NAME: &str = "kernel types (BTF)";
    const PATH: &str = "/sys/kernel/btf/vmlinux";
    match std::fs::File::open(root.at(PATH)).and_then(|file| file.metadata()) {
        Ok(found) => Check::ok(NAME, format!("{PATH}, {} KiB", found.len() / 1024)),
        Err(error) => Check::degraded(
            NAME,
            format!("{PATH}: {error}"),
            "sensors work by classic tracepoints, with less in each record; no scan of the tasks, so no deadlocks",
            "install a kernel with CONFIG_DEBUG_INFO_BTF=y (all current distribution kernels)",
        ),
    }
}

fn tracefs(root: Root<'_>) -> Check {
    const NAME: &str = "tracefs";
    let mounted = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"]
        .into_iter()
        .find(|path| root.at(path).join("events/sched").is_dir());
    match mounted {
        Some(path) => Check::ok(NAME, path),
        None => Check::degraded(
            NAME,
            "not mounted, or not readable",
            "no fallback to classic tracepoints where a kernel refuses the better way",
            "mount -t tracefs tracefs /sys/kernel/tracing",
        ),
    }
}

/// `none [integrity] confidentiality` (kernel_lockdown(7)): the word in brackets holds.
fn lockdown(root: Root<'_>) -> Check {
    const NAME: &str = "lockdown";
    let text = root.read("/sys/kernel/security/lockdown").unwrap_or_default();
    let level = text.split(['[', ']']).nth(1).unwrap_or("none");
    if level == "confidentiality" {
        Check::missing(
            NAME,
            level,
            "kernel programs may not read kernel memory: nothing is sensed",
            "boot with lockdown=integrity",
        )
        .needed()
    } else {
        Check::ok(NAME, level)
    }
}

fn pressure(root: Root<'_>) -> Check {
    const NAME: &str = "pressure (PSI)";
    if root.at("/proc/pressure/memory").exists() {
        return Check::ok(NAME, "/proc/pressure");
    }
    Check {
        state: State::Degraded,
        costs: "no memory pressure, no telling the starved from the hung".into(),
        fix: "boot with psi=1".into(),
        ..Check::ok(NAME, "not offered by this kernel")
    }
}
