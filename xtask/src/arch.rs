//! The processors that healer is shipped for.

use std::process::Command;

use anyhow::{Result, bail};

use crate::step::{Step, answer};

/// A processor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Arch {
    #[default]
    #[value(name = "x86_64")]
    X86_64,
    #[value(name = "aarch64")]
    Aarch64,
}

impl Arch {
    pub(crate) const ALL: [Self; 2] = [Self::X86_64, Self::Aarch64];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
        }
    }

    /// Debian's word.
    pub(crate) const fn debian(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::Aarch64 => "arm64",
        }
    }

    /// A C compiler for it, by Debian's names.
    pub(crate) const fn gcc(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64-linux-gnu-gcc",
            Self::Aarch64 => "aarch64-linux-gnu-gcc",
        }
    }

    /// With musl a program is whole: glibc's resolver and name services load libraries even in a static one.
    pub(crate) const fn static_target(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64-unknown-linux-musl",
            Self::Aarch64 => "aarch64-unknown-linux-musl",
        }
    }

    /// `e_machine` of elf(5).
    pub(crate) const fn elf_machine(self) -> u16 {
        match self {
            Self::X86_64 => 62,
            Self::Aarch64 => 183,
        }
    }

    /// Makes `command`, a cargo build, one for this processor: rustc's own linker needs no compiler for it. What
    /// little C there is (of ring) is freestanding: glibc's compiler does.
    pub(crate) fn of_static(self, command: &mut Command) {
        let target = self.static_target();
        command.args(["--target", target]);
        let underscored = target.replace('-', "_");
        command.env(format!("CARGO_TARGET_{}_LINKER", underscored.to_uppercase()), "rust-lld");
        command.env(format!("CC_{underscored}"), self.gcc());
    }

    /// Installs the standard library for it if rustup has not.
    pub(crate) fn ensure_target(self) -> Result<()> {
        let target = self.static_target();
        let installed = answer(Command::new("rustup").args(["target", "list", "--installed"]));
        match installed {
            Some(list) if list.lines().any(|line| line == target) => Ok(()),
            Some(_) => {
                let mut command = Command::new("rustup");
                command.args(["target", "add", target]);
                Step { name: "install a target", remedy: "look at the network", command }.run()
            }
            None => bail!(
                "step `install a target` failed: there is no rustup here\n  remedy:  install Rust's standard library for {target}"
            ),
        }
    }
}
