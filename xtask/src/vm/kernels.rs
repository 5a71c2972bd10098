//! THE GUEST TABLE, and what is in a kernel's package.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::apt::{Apt, entries, file_name};
use crate::arch::Arch;

/// A guest: a kernel, and what runs on it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Guest {
    /// What the command line calls it.
    pub(crate) name: &'static str,
    /// The package that always depends on the newest build of its kernel.
    package: &'static str,
    pub(crate) root: Root,
    /// Whether it runs also what one kernel is enough for.
    pub(crate) takes_more: bool,
    /// The rest of that.
    pub(crate) takes_others: bool,
    pub(crate) takes_thirds: bool,
    pub(crate) arch: Arch,
    /// Of an older Debian than this machine's; such a guest runs when it is named.
    pub(crate) release: Option<&'static str>,
}

/// Who is the first process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Root {
    /// A script on busybox: what differs is the kernel.
    Busybox,
    /// The systemd of a minimal Debian.
    Systemd,
}

const CLOUD_6_1: &str = "linux-image-cloud-amd64";
const RT_6_1: &str = "linux-image-rt-amd64";
const CLOUD_6_12: &str = "linux-image-6.12-cloud-amd64";
const ARM_6_1: &str = "linux-image-cloud-arm64";
/// The same name in an older Debian.
const CLOUD_5_10: &str = CLOUD_6_1;
const HERE: Arch = Arch::X86_64;

/// Debian's kernels that differ in what healer reads of them. The slowest first: some run at a time.
/// Those of another processor run when it is asked for.
pub(crate) const GUESTS: &[Guest] = &[
    Guest { takes_others: true, ..Guest::small("6.1-rt", RT_6_1, HERE) },
    Guest { takes_more: true, ..Guest::small("6.12-cloud", CLOUD_6_12, HERE) },
    Guest { takes_thirds: true, ..Guest::small("6.1-cloud", CLOUD_6_1, HERE) },
    Guest { root: Root::Systemd, takes_more: true, ..Guest::small("6.1-systemd", CLOUD_6_1, HERE) },
    Guest { root: Root::Systemd, ..Guest::small("6.12-systemd", CLOUD_6_12, HERE) },
    Guest {
        takes_more: true,
        takes_others: true,
        takes_thirds: true,
        ..Guest::small("6.1-arm64", ARM_6_1, Arch::Aarch64)
    },
    Guest { release: Some("bullseye"), ..Guest::small("5.10-cloud", CLOUD_5_10, HERE) },
];

/// A kernel on this machine.
#[derive(Clone, Debug)]
pub(crate) struct Unpacked {
    pub(crate) image: PathBuf,
    /// `lib/modules/RELEASE`.
    modules: PathBuf,
}

impl Guest {
    const fn small(name: &'static str, package: &'static str, arch: Arch) -> Self {
        let root = Root::Busybox;
        let (takes_more, takes_others, takes_thirds) = (false, false, false);
        Self { name, package, root, takes_more, takes_others, takes_thirds, arch, release: None }
    }

    /// The kernel, downloaded by `apt` and unpacked if it is not there yet.
    pub(crate) fn fetch(&self, apt: &Apt) -> Result<Unpacked> {
        find(&apt.unpacked(&apt.newest(self.package)?)?)
    }
}

impl Unpacked {
    /// The module's bytes, unpacked; `None` if it is built into this kernel or not there at all.
    pub(crate) fn module(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let Some(path) = file_named(&self.modules, &[format!("{name}.ko"), format!("{name}.ko.xz")])? else {
            return Ok(None);
        };
        if path.extension().is_some_and(|end| end == "ko") {
            return Ok(Some(fs::read(&path)?));
        }
        let output = Command::new("xz").args(["-dc"]).arg(&path).output().context("run xz")?;
        if !output.status.success() {
            bail!("xz cannot unpack {}", path.display());
        }
        Ok(Some(output.stdout))
    }
}

fn find(dir: &Path) -> Result<Unpacked> {
    let is_image = |path: &PathBuf| file_name(path).starts_with("vmlinuz-");
    let image = entries(&dir.join("boot"))?.into_iter().find(is_image);
    let image = image.with_context(|| format!("no kernel image in {}", dir.display()))?;
    Ok(Unpacked { image, modules: dir.join("lib/modules") })
}

fn file_named(dir: &Path, names: &[String]) -> Result<Option<PathBuf>> {
    for path in entries(dir)? {
        // The package links its build directory, which is not here.
        let found = if path.is_dir() && !path.is_symlink() {
            file_named(&path, names)?
        } else {
            names.contains(&file_name(&path)).then_some(path)
        };
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}
