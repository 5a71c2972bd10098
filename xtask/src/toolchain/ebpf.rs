//! The toolchain that builds the kernel programs: a rustc with `core` for BPF, and bpf-linker.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::BPF_LINKER;
use crate::step::answer;
use crate::workspace::{self, EBPF_TARGET};

/// A complete toolchain, as found on this machine.
#[derive(Debug)]
pub(crate) struct Ebpf {
    pub(crate) rustc: Rustc,
    pub(crate) linker: PathBuf,
}

/// Where `core` for BPF comes from.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Rustc {
    /// The system's rustc, with a prebuilt `core` (Debian's rustc-web and libstd-rust-web-dev-bpf).
    Prebuilt(PathBuf),
    /// rustup's nightly, which builds `core` from rust-src.
    Nightly,
}

impl Ebpf {
    /// The toolchain, if nothing of it is missing.
    pub(crate) fn find() -> Option<Self> {
        Some(Self { rustc: Rustc::find()?, linker: find_linker()? })
    }

    /// The command that builds one object of healer-ebpf.
    pub(crate) fn build_command(&self, object: &str) -> Command {
        let mut command = match &self.rustc {
            Rustc::Prebuilt(rustc) => {
                let mut cargo = workspace::cargo("build");
                // aya-ebpf uses `asm_experimental_arch`, which a stable rustc has to be talked into.
                cargo.env("RUSTC_BOOTSTRAP", "1").env("RUSTC", rustc);
                cargo
            }
            Rustc::Nightly => {
                let mut cargo = Command::new("rustup");
                cargo.args(["run", "nightly", "cargo", "build", "-Z", "build-std=core"]);
                cargo.current_dir(workspace::root());
                cargo
            }
        };
        command
            .args(["--release", "--package", "healer-ebpf", "--bin", object])
            .args(["--target", EBPF_TARGET, "--target-dir"])
            .arg(workspace::ebpf_target_dir())
            .env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", &self.linker)
            .env("RUSTFLAGS", "-Cpanic=abort")
            // It would win over RUSTFLAGS.
            .env_remove("CARGO_ENCODED_RUSTFLAGS");
        command
    }
}

impl Rustc {
    /// The first compiler here that can build for BPF.
    pub(crate) fn find() -> Option<Self> {
        let system = PathBuf::from("/usr/bin/rustc");
        if has_bpf_core(&system) {
            return Some(Self::Prebuilt(system));
        }
        nightly_has_source().then_some(Self::Nightly)
    }
}

/// The compiler that would build the kernel programs, for people.
pub(crate) fn rustc_name() -> Option<String> {
    Some(match Rustc::find()? {
        Rustc::Prebuilt(rustc) => answer(Command::new(rustc).arg("--version"))?,
        Rustc::Nightly => "rustup's nightly with rust-src".to_owned(),
    })
}

/// bpf-linker, if it is of a version that fits.
pub(crate) fn find_linker() -> Option<PathBuf> {
    let linker = workspace::find_program("bpf-linker")?;
    let version = answer(Command::new(&linker).arg("--version"))?;
    is_recent_enough(&version).then_some(linker)
}

fn is_recent_enough(version: &str) -> bool {
    let numbers = |text: &str| -> Vec<u32> {
        let number = text.rsplit(' ').next().unwrap_or_default();
        number.split('.').map_while(|n| n.parse().ok()).collect()
    };
    numbers(version) >= numbers(BPF_LINKER)
}

fn sysroot(rustc: &mut Command) -> Option<PathBuf> {
    answer(rustc.args(["--print", "sysroot"])).map(PathBuf::from)
}

fn has_bpf_core(rustc: &Path) -> bool {
    sysroot(&mut Command::new(rustc))
        .is_some_and(|sysroot| sysroot.join("lib/rustlib").join(EBPF_TARGET).join("lib").is_dir())
}

fn nightly_has_source() -> bool {
    let mut rustc = Command::new("rustup");
    rustc.args(["run", "nightly", "rustc"]);
    sysroot(&mut rustc).is_some_and(|sysroot| sysroot.join("lib/rustlib/src/rust/library/core").is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_linker_of_this_or_a_later_version_will_do() {
        assert!(is_recent_enough("bpf-linker 0.13.0"));
        assert!(is_recent_enough("bpf-linker 0.14.1"));
        assert!(is_recent_enough("bpf-linker 1.0.0"));
        assert!(!is_recent_enough("bpf-linker 0.9.15"));
        assert!(!is_recent_enough("what?"));
    }

    #[test]
    fn either_compiler_builds_the_same_package_for_the_same_target() {
        for rustc in [Rustc::Prebuilt("/usr/bin/rustc".into()), Rustc::Nightly] {
            let linker = PathBuf::from("bpf-linker");
            let line = crate::step::shown(&Ebpf { rustc, linker }.build_command("healer-ebpf"));
            assert!(line.contains("--package healer-ebpf --bin healer-ebpf --target bpfel-unknown-none"));
            assert!(line.contains("RUSTFLAGS=-Cpanic=abort"));
        }
    }
}
