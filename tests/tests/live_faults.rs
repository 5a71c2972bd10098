//! Every fault of the table happens as the table says, and leaves nothing behind.
//!
//! guest: all

use std::{path::Path, process::Command};

use healer_tests::binary::healer;
use healer_userspace::fault::FAULTS;

/// Each is its own process, so that guards are tested with it.
#[test]
fn every_fault_is_real_and_cleans_up() {
    for fault in FAULTS {
        let output = Command::new(healer())
            .args(["--state-dir", "/nonexistent", "chaos", fault.name])
            .output()
            .unwrap();
        let words = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{}: {words}", fault.name);
        let cgroup = words.split("in cgroup ").nth(1).unwrap().lines().next().unwrap();
        for mount in ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"] {
            let left = Path::new(mount).join(cgroup.trim_start_matches('/'));
            assert!(!left.exists(), "{} is left", left.display());
        }
    }
}
