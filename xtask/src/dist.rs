use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::arch::Arch;
use crate::step::Step;
use crate::toolchain;
use crate::{build, workspace};

/// Build what is shipped: one static file per processor, with the kernel programs inside
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only for this processor
    #[arg(long)]
    arch: Vec<Arch>,
    #[command(flatten)]
    toolchain: toolchain::Install,
}

pub(crate) fn main(args: &Args) -> Result<()> {
    build::kernel_programs(args.toolchain)?;
    let wanted = if args.arch.is_empty() { &Arch::ALL[..] } else { &args.arch };
    if wanted.contains(&Arch::Aarch64) {
        toolchain::ensure_packages(toolchain::Stage::Cross, args.toolchain)?;
    }
    for &arch in wanted {
        let file = of(arch)?;
        let size = fs::metadata(&file)?.len();
        println!("{}: {:.1} MB, static, stripped", file.display(), size as f64 / 1e6);
    }
    Ok(())
}

/// Builds healer for `arch` with the kernel programs as last built; gives the file, which was looked at.
pub(crate) fn of(arch: Arch) -> Result<PathBuf> {
    arch.ensure_target()?;
    let mut command = workspace::cargo("build");
    command.args(["--profile", "dist", "--package", "healer-userspace", "--bin", "healer"]);
    arch.of_static(&mut command);
    Step { name: "build what is shipped", remedy: "read what rustc says above", command }.run()?;
    let target = workspace::target_dir();
    let built = target.join(arch.static_target()).join("dist/healer");
    let shipped = target.join("dist").join(format!("healer-{}", arch.name()));
    fs::create_dir_all(target.join("dist"))?;
    fs::copy(&built, &shipped).with_context(|| built.display().to_string())?;
    let bytes = fs::read(&shipped)?;
    look_at(&bytes, arch).with_context(|| shipped.display().to_string())?;
    if arch.name() == std::env::consts::ARCH {
        run_alone(&shipped)?;
    }
    Ok(shipped)
}

/// It must be for this processor, need no loader, and have no symbol table (elf(5)).
fn look_at(elf: &[u8], arch: Arch) -> Result<()> {
    const PT_INTERP: u32 = 3;
    const SHT_SYMTAB: u32 = 2;
    let cut = "it is cut short";
    if !elf.starts_with(b"\x7fELF\x02\x01") || half(elf, 18).context(cut)? != arch.elf_machine() {
        bail!("it is no ELF file for {}", arch.name());
    }
    let segments = table(elf, [32, 54, 56], 0).context(cut)?;
    if segments.contains(&PT_INTERP) {
        bail!("it is not static: it names a loader");
    }
    let sections = table(elf, [40, 58, 60], 4).context(cut)?;
    if sections.contains(&SHT_SYMTAB) {
        bail!("it is not stripped");
    }
    Ok(())
}

/// The types in one of the file's tables: where the header keeps its place, its rows' size and their
/// number, and the type's place in a row.
fn table(elf: &[u8], [place, size, number]: [usize; 3], kind: usize) -> Option<Vec<u32>> {
    let begin = usize::try_from(u64::from_le_bytes(*elf.get(place..)?.first_chunk()?)).ok()?;
    let (size, number) = (usize::from(half(elf, size)?), usize::from(half(elf, number)?));
    let row = |row| Some(u32::from_le_bytes(*elf.get(begin + row * size + kind..)?.first_chunk()?));
    (0..number).map(row).collect()
}

fn half(elf: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*elf.get(at..)?.first_chunk()?))
}

/// With nothing around it, as in an image made from scratch.
fn run_alone(shipped: &Path) -> Result<()> {
    let root = workspace::target_dir().join("dist/alone");
    fs::create_dir_all(&root)?;
    fs::copy(shipped, root.join("healer"))?;
    let mut command = Command::new("unshare");
    // A user namespace of its own: chroot(2) for whoever builds.
    command.args(["--user", "--map-root-user", "--root"]).arg(&root).args(["/healer", "--version"]);
    let remedy = "it needs a file of this machine: strace it";
    Step { name: "run it in an empty root", remedy, command }.run()?;
    fs::remove_dir_all(&root).with_context(|| root.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_needs_a_loader_is_not_shipped() {
        let own = fs::read(std::env::current_exe().unwrap()).unwrap();
        let arch = Arch::ALL.into_iter().find(|arch| arch.name() == std::env::consts::ARCH).unwrap();
        let other = Arch::ALL.into_iter().find(|other| *other != arch).unwrap();
        assert!(look_at(&own, arch).unwrap_err().to_string().contains("loader"));
        assert!(look_at(&own, other).unwrap_err().to_string().contains("no ELF file for"));
        assert!(look_at(&own[..40], arch).unwrap_err().to_string().contains("cut short"));
        assert!(look_at(b"#!/bin/sh", arch).is_err());
    }
}
