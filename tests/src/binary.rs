//! The `healer` binary under test, and where cargo builds.

use std::path::{Path, PathBuf};

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

/// cargo's target directory: the one that this program lies in.
#[must_use]
pub fn target_dir() -> PathBuf {
    let exe = std::env::current_exe().unwrap_or_default();
    // cargo marks the directory so that backup programs leave it out.
    let marked = exe.ancestors().find(|dir| dir.join("CACHEDIR.TAG").is_file());
    marked.map_or_else(|| PathBuf::from("target"), Path::to_path_buf)
}
