//! What a build needs besides cargo: found, and installed where it is missing.

mod ebpf;
mod install;
mod packages;
mod validator;

pub(crate) use ebpf::{find_linker, rustc_name};
pub(crate) use install::{ensure_ebpf, ensure_packages};
pub(crate) use packages::{PACKAGES, Stage};
pub(crate) use validator::{ensure_validator, validator};

/// bpf-linker's version: the one whose `llvm-22` feature fits [`LLVM`].
pub(crate) const BPF_LINKER: &str = "0.13.0";
/// The LLVM of Debian's rustc-web: a linker of another LLVM cannot read its bitcode.
pub(crate) const LLVM: &str = "22";

/// The flag that every command with a toolchain step takes.
#[derive(clap::Args, Clone, Copy, Default)]
pub(crate) struct Install {
    /// Install nothing: only tell what is missing and how to get it
    #[arg(long)]
    pub(crate) no_install: bool,
}
