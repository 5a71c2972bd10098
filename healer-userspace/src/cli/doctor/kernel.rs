//! Kernel, its types, its tracing, its lockdown, and the programs we bring.

use super::{Check, Root, State, oldest};
use crate::sense::{PIDS, USERS, is_in};

pub(super) fn checks(root: Root<'_>, object: Option<usize>) -> Vec<Check> {
    vec![
        oldest::check(root),
        programs(object),
        btf(root),
        tracefs(root),
        lockdown(root),
        pressure(root),
        pids(root),
        users(root),
    ]
}

fn programs(object: Option<usize>) -> Check {
    const NAME: &str = "kernel programs";
    match object {
        Some(bytes) => Check::ok(NAME, format!("embedded, {} KiB", bytes.div_ceil(1024))),
        None => Check::missing(
            NAME,
            "this healer was built without them",
            "what is left is the process connector, the kernel's log, the table of sockets and /proc",
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
            "sensors work by classic tracepoints, with less in each record; tasks are looked at in /proc, every 5 s, so that deadlocks take longer to see",
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
            "kernel programs may not read kernel memory: what is left is the process connector, the tables of sockets and /proc",
            "boot with lockdown=integrity",
        )
        .needed()
    } else {
        Check::ok(NAME, level)
    }
}

fn pids(root: Root<'_>) -> Check {
    const NAME: &str = "pid namespace";
    if is_in(&root.at("/proc/self/ns/pid"), PIDS) {
        return Check::ok(NAME, "the host's");
    }
    Check::missing(
        NAME,
        "one of its own",
        "the kernel names processes by other numbers: ends are found in /proc, without status or sender",
        "hostPID: true in Kubernetes, --pid=host with Docker",
    )
}

fn users(root: Root<'_>) -> Check {
    const NAME: &str = "user namespace";
    if is_in(&root.at("/proc/self/ns/user"), USERS) {
        return Check::ok(NAME, "the machine's");
    }
    Check::missing(
        NAME,
        "one of its own",
        "its root is not the machine's, whatever capabilities it shows: no kernel programs",
        "hostUsers: true in Kubernetes, --userns=host with Docker; not rootless, not under unshare -U",
    )
    .needed()
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
