//! Where things are: the repository, its target directory, programs in PATH.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the kernel programs are built for.
pub(crate) const EBPF_TARGET: &str = "bpfel-unknown-none";

/// The repository's root directory.
pub(crate) fn root() -> PathBuf {
    // cargo sets the variable for what it runs; the built-in value serves a binary started by hand.
    let xtask = env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    xtask.parent().map_or(xtask.clone(), Path::to_path_buf)
}

/// cargo's target directory: the one this binary lies in, so that CARGO_TARGET_DIR is honoured.
pub(crate) fn target_dir() -> PathBuf {
    let exe = env::current_exe().unwrap_or_default();
    // cargo marks the directory so that backup programs leave it out.
    exe.ancestors()
        .find(|dir| dir.join("CACHEDIR.TAG").is_file())
        .map_or_else(|| root().join("target"), Path::to_path_buf)
}

/// A target directory of its own: two toolchains never wait for one lock or undo each other's work.
pub(crate) fn ebpf_target_dir() -> PathBuf {
    target_dir().join("ebpf")
}

/// The kernel object that healer-userspace embeds.
pub(crate) fn ebpf_object() -> PathBuf {
    ebpf_target_dir().join(EBPF_TARGET).join("release/healer-ebpf")
}

/// The kernel object of the bench.
pub(crate) fn floor_object() -> PathBuf {
    ebpf_target_dir().join(EBPF_TARGET).join("release/floor")
}

/// The agent as users run it and as the live tests measure it.
pub(crate) fn healer_release() -> PathBuf {
    target_dir().join("release/healer")
}

/// cargo, run in the repository's root by the toolchain that runs this program.
pub(crate) fn cargo(command: &str) -> Command {
    let mut cargo = Command::new("cargo");
    cargo.arg(command);
    // Only when needed: the printed line stays short for those who are there already.
    if env::current_dir().ok().as_deref() != Some(&root()) {
        cargo.current_dir(root());
    }
    cargo
}

/// The first file named `name` in PATH, then where `cargo install` puts programs and where root has its own.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let others = [cargo_bin(), PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")];
    env::split_paths(&path).chain(others).map(|dir| dir.join(name)).find(|file| file.is_file())
}

fn cargo_bin() -> PathBuf {
    let home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| env::home_dir().map(|home| home.join(".cargo")));
    home.unwrap_or_default().join("bin")
}
