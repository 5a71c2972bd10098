//! The `healer` binary under test.

use std::path::PathBuf;

/// `HEALER_BIN`, else the `healer` beside this test's own profile directory.
///
/// # Panics
/// No such file: it must be built first.
pub fn healer() -> PathBuf {
    let path = std::env::var_os("HEALER_BIN").map_or_else(beside_this_test, PathBuf::from);
    assert!(path.is_file(), "{} is missing: cargo build --package healer-userspace", path.display());
    path
}

fn beside_this_test() -> PathBuf {
    let mut path = std::env::current_exe().unwrap_or_default();
    path.pop(); // the test binary
    path.pop(); // deps
    path.join("healer")
}
