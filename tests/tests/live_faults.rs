//! Every fault of the table happens as the table says, and leaves nothing behind.

use std::{
    fs,
    path::Path,
    process::Command,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use healer_tests::binary::healer;
use healer_userspace::fault::{FAULTS, Fault};

const AT_A_TIME: usize = 6;
const SHORT: Duration = Duration::from_secs(10);

/// Each is its own process, so that guards are tested with it; some at a time, because most of them only wait.
#[test]
fn every_fault_is_real_and_cleans_up() {
    let is_full = std::env::var_os("HEALER_FULL").is_some();
    // The tests of their classes make those that take long.
    let faults: Vec<&Fault> = FAULTS
        .iter()
        .filter(|fault| is_full || fault.lasts <= SHORT)
        // Some machines have no loop devices.
        .filter(|fault| fault.name != "io-error" || Path::new("/dev/loop-control").exists())
        .collect();
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some(fault) = faults.get(next.fetch_add(1, Ordering::Relaxed)) {
            is_real_and_cleans_up(fault);
        }
    };
    thread::scope(|scope| {
        for _worker in 0..AT_A_TIME {
            scope.spawn(work);
        }
    });
}

fn is_real_and_cleans_up(fault: &Fault) {
    let output =
        Command::new(healer()).args(["--state-dir", "/nonexistent", "chaos", fault.name]).output().unwrap();
    let words = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {words}{errors}", fault.name);
    let cgroup = words.split("in cgroup ").nth(1).unwrap().lines().next().unwrap();
    for mount in ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"] {
        let left = Path::new(mount).join(cgroup.trim_start_matches('/'));
        assert!(!left.exists(), "{} is left", left.display());
    }
}

/// A victim that ends at once, without a word, leaves its maker without a hint.
#[test]
fn a_fault_that_cannot_be_made_says_why_and_what_it_needs() {
    let lacking = [
        ("threads", "setuid", "run it with CAP_SETUID"),
        ("disk-full", "sys_admin", "it needs CAP_SYS_ADMIN"),
        ("ports", "sys_admin", "it needs CAP_SYS_ADMIN"),
        ("peer-refuses", "sys_admin", "it needs CAP_SYS_ADMIN"),
        ("slow-disk", "sys_ptrace", "it needs CAP_SYS_PTRACE"),
    ];
    // Where everybody may (vm.unprivileged_userfaultfd), no right lacks.
    let may_all =
        fs::read_to_string("/proc/sys/vm/unprivileged_userfaultfd").is_ok_and(|set| set.trim() == "1");
    for (fault, right, remedy) in
        lacking.into_iter().filter(|(_, right, _)| *right != "sys_ptrace" || !may_all)
    {
        let mut command = Command::new("setpriv");
        command.args([&format!("--bounding-set=-{right}"), "--inh-caps=-all"]).arg(healer());
        let output = command.args(["--state-dir", "/nonexistent", "chaos", fault]).output().unwrap();
        let words = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(
            !output.status.success() && words.contains("NOT the fault that was meant: it should"),
            "{words}{errors}"
        );
        assert!(
            errors.contains("Operation not permitted") && errors.contains(remedy),
            "{fault}: {words}{errors}"
        );
    }
}
