//! Installs what a stage misses: apt on Debian and its like; elsewhere it says what to type.

use std::fs;
use std::process::Command;

use anyhow::{Result, bail};

use super::ebpf::{self, Ebpf, Rustc};
use super::packages::missing;
use super::{BPF_LINKER, Install, LLVM, PACKAGES, Stage};
use crate::step::{Step, answer, shown};
use crate::{root, workspace};

const QUIET_APT: [(&str, &str); 1] = [("DEBIAN_FRONTEND", "noninteractive")];

/// Of the packages, what bpf-linker is built with.
const LINKER_NEEDS: [&str; 2] = ["g++", "llvm-22-dev"];

/// What to type where apt does not have the packages.
pub(crate) const RUSTUP_WAY: &str = "\
rustup toolchain install nightly --profile minimal --component rust-src
cargo binstall bpf-linker@0.13.0   # or put a release of it from github.com/aya-rs/bpf-linker into PATH";

/// The eBPF toolchain, installed first if it is missing.
pub(crate) fn ensure_ebpf(args: Install) -> Result<Ebpf> {
    if let Some(found) = Ebpf::find() {
        return Ok(found);
    }
    if args.no_install {
        bail!(
            "step `toolchain` failed: the eBPF toolchain is incomplete, and --no-install says to leave it so\n{}",
            advice()
        );
    }
    let names = match (Rustc::find(), ebpf::find_linker()) {
        (None, _) => of_stage(Stage::Ebpf),
        // What the linker is built with may be missing beside a compiler of the user's own.
        (Some(_), None) => {
            let absent = missing(Stage::Ebpf).iter().map(|package| package.name).collect::<Vec<_>>();
            absent.into_iter().filter(|name| LINKER_NEEDS.contains(name)).collect()
        }
        (Some(_), Some(_)) => Vec::new(),
    };
    if !names.is_empty() {
        install_packages("install the eBPF compiler", &names)?;
    }
    if ebpf::find_linker().is_none() {
        install_linker()?;
    }
    match Ebpf::find() {
        Some(found) => Ok(found),
        None => bail!(
            "step `toolchain` failed: all was installed, and still no rustc here has `core` for BPF\n{}",
            advice()
        ),
    }
}

/// Installs the packages of `stage` that are missing.
pub(crate) fn ensure_packages(stage: Stage, args: Install) -> Result<()> {
    let names: Vec<_> = missing(stage).iter().map(|package| package.name).collect();
    if names.is_empty() {
        return Ok(());
    }
    if args.no_install {
        eprintln!("missing, not installed (--no-install): {}", names.join(" "));
        return Ok(());
    }
    install_packages("install packages", &names)
}

/// The commands that complete the eBPF toolchain on this kind of system.
pub(crate) fn advice() -> String {
    if !is_debian_like() {
        return format!("on this system:\n{RUSTUP_WAY}");
    }
    let linker = linker_command();
    format!(
        "on Debian 12:\napt-get install -y --no-install-recommends {}\n{}\nwhere these packages are not to be had:\n{RUSTUP_WAY}",
        of_stage(Stage::Ebpf).join(" "),
        shown(&linker)
    )
}

fn of_stage(stage: Stage) -> Vec<&'static str> {
    let of_stage = PACKAGES.iter().filter(|package| package.stage == stage);
    of_stage.map(|package| package.name).collect()
}

fn install_packages(name: &'static str, packages: &[&str]) -> Result<()> {
    if !is_debian_like() {
        bail!(
            "step `{name}` failed: only apt is known here\n  missing: {}\n  remedy:  install their like by hand; for the eBPF compiler:\n{RUSTUP_WAY}",
            packages.join(" ")
        );
    }
    let mut update = root::command("apt-get", &QUIET_APT)?;
    update.arg("update");
    Step {
        name: "update package lists",
        remedy: "look at the network and at /etc/apt/sources.list",
        command: update,
    }
    .run()?;
    let unknown: Vec<_> = packages.iter().filter(|p| !has_candidate(p)).collect();
    if unknown.len() == packages.len() {
        bail!(
            "step `{name}` failed: apt knows none of {unknown:?}\n  remedy:  look at the network and at /etc/apt/sources.list: `apt-get update` ends well also without them; Debian 12 with its security updates has these packages; for the eBPF compiler rustup's nightly serves as well:\n{RUSTUP_WAY}"
        );
    }
    if !unknown.is_empty() {
        bail!(
            "step `{name}` failed: this release does not have {unknown:?} (Debian 12 with its security updates has)\n  remedy:  use rustup's nightly instead:\n{RUSTUP_WAY}"
        );
    }
    let mut install = root::command("apt-get", &QUIET_APT)?;
    // On a machine that has just come up, unattended-upgrades may be at it (apt.conf(5)).
    install.args(["-o", "DPkg::Lock::Timeout=300", "install", "-y", "--no-install-recommends"]);
    install.args(packages);
    Step {
        name,
        remedy: "read what apt-get says above; --no-install leaves the system as it is",
        command: install,
    }
    .run()
}

fn install_linker() -> Result<()> {
    Step {
        name: "install bpf-linker",
        remedy: "llvm-22-dev and g++ have to be there; or put a release of bpf-linker from github.com/aya-rs/bpf-linker into PATH",
        command: linker_command(),
    }
    .run()
}

/// `cargo install` of bpf-linker against the distribution's LLVM.
fn linker_command() -> Command {
    let prefix = format!("/usr/lib/llvm-{LLVM}");
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new("cargo");
    command
        .args(["install", "bpf-linker", "--version", BPF_LINKER])
        .args(["--locked", "--force", "--no-default-features", "--features"])
        .arg(format!("llvm-{LLVM}"))
        .env(format!("LLVM_SYS_{LLVM}1_PREFIX"), &prefix)
        .env("LLVM_PREFIX", &prefix)
        .env("PATH", format!("{prefix}/bin:{path}"))
        // Without it the linker does not find -lLLVM.
        .env("RUSTFLAGS", format!("-L {prefix}/lib"))
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    command
}

fn is_debian_like() -> bool {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    names_debian(&release) && workspace::find_program("apt-get").is_some()
}

/// Whether os-release(5) text says Debian, or a system made from it.
fn names_debian(os_release: &str) -> bool {
    let ids =
        os_release.lines().filter_map(|line| line.strip_prefix("ID=").or(line.strip_prefix("ID_LIKE=")));
    ids.flat_map(|value| value.trim_matches('"').split(' ')).any(|id| id == "debian")
}

fn has_candidate(package: &str) -> bool {
    // Its words are read, and not in the user's language.
    answer(Command::new("apt-cache").env("LC_ALL", "C").args(["policy", package])).is_some_and(|text| {
        let candidate = text.lines().find_map(|l| l.trim().strip_prefix("Candidate: "));
        candidate.is_some_and(|version| version != "(none)")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debian_and_its_children_are_known_by_os_release() {
        assert!(names_debian("NAME=x\nID=debian\n"));
        assert!(names_debian("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n"));
        assert!(!names_debian("ID=fedora\nVARIANT_ID=debian\n"));
    }

    #[test]
    fn bpf_linker_is_told_where_llvm_is() {
        let line = shown(&linker_command());
        assert!(line.contains("LLVM_SYS_221_PREFIX=/usr/lib/llvm-22 "));
        assert!(line.contains("RUSTFLAGS='-L /usr/lib/llvm-22/lib'"));
        assert!(line.contains("--version 0.13.0"));
        assert!(RUSTUP_WAY.contains(BPF_LINKER));
    }
}
