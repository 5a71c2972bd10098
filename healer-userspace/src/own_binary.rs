//! This program, to be run again for a chore of its own.

use std::path::PathBuf;

/// By its path, which gives the process its name, or if the file was replaced meanwhile, by procfs.
pub(crate) fn ourselves() -> PathBuf {
    let path = std::env::current_exe().unwrap_or_default();
    if path.is_file() { path } else { PathBuf::from("/proc/self/exe") }
}
