//! THE KERNEL TABLE, and how a kernel gets here: the distribution's own package, unpacked under `target/vm`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::root;
use crate::step::{Step, answer};

/// A kernel that guests run.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Kernel {
    /// What the command line calls it.
    pub(crate) name: &'static str,
    /// The package that always depends on the newest build of it.
    package: &'static str,
}

/// Debian's kernels that differ in what healer reads of them.
pub(crate) const KERNELS: &[Kernel] = &[
    Kernel { name: "6.1-cloud", package: "linux-image-cloud-amd64" },
    Kernel { name: "6.1-rt", package: "linux-image-rt-amd64" },
    Kernel { name: "6.12-cloud", package: "linux-image-6.12-cloud-amd64" },
];

/// A kernel on this machine.
#[derive(Clone, Debug)]
pub(crate) struct Unpacked {
    pub(crate) image: PathBuf,
    /// `lib/modules/RELEASE`.
    modules: PathBuf,
}

impl Kernel {
    /// The kernel, downloaded into `cache` and unpacked if it is not there yet.
    pub(crate) fn fetch(&self, cache: &Path) -> Result<Unpacked> {
        let package = self.newest()?;
        let dir = cache.join(&package);
        if !dir.join("boot").is_dir() {
            fs::create_dir_all(cache).with_context(|| cache.display().to_string())?;
            download(&package, cache)?;
            unpack(&package, cache, &dir)?;
        }
        find(&dir)
    }

    /// The package with the kernel itself.
    fn newest(&self) -> Result<String> {
        if let Some(package) = dependency(self.package) {
            return Ok(package);
        }
        update_lists()?;
        match dependency(self.package) {
            Some(package) => Ok(package),
            None => bail!(
                "step `find the kernel {}` failed: apt does not know the package {}\n  remedy:  guests take their kernels from Debian 12 with its security updates",
                self.name,
                self.package
            ),
        }
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

fn dependency(package: &str) -> Option<String> {
    let text = answer(Command::new("apt-cache").args(["depends", "--no-recommends", package]))?;
    text.lines().find_map(|line| line.trim().strip_prefix("Depends: ")).map(str::to_owned)
}

fn update_lists() -> Result<()> {
    let mut command = root::command("apt-get", &[])?;
    command.arg("update");
    Step { name: "update package lists", remedy: "look at the network and at apt's sources", command }.run()
}

fn download(package: &str, cache: &Path) -> Result<()> {
    let attempt = || {
        let mut command = Command::new("apt-get");
        command.args(["download", package]).current_dir(cache);
        Step { name: "download a kernel", remedy: "look at the network and at apt's sources", command }.run()
    };
    // Old lists name files that the mirror has replaced.
    attempt().or_else(|_| update_lists().and_then(|()| attempt()))
}

fn unpack(package: &str, cache: &Path, dir: &Path) -> Result<()> {
    let is_it = |name: &str| name.starts_with(&format!("{package}_")) && name.ends_with(".deb");
    let deb = entries(cache)?.into_iter().find(|path| is_it(&file_name(path)));
    let deb = deb.with_context(|| format!("apt-get left no {package} in {}", cache.display()))?;
    // Under another name until it is whole: an interrupted run is no kernel.
    let half = cache.join(format!("{package}.half"));
    if half.exists() {
        fs::remove_dir_all(&half)?;
    }
    let mut command = Command::new("dpkg-deb");
    command.arg("-x").arg(&deb).arg(&half);
    Step { name: "unpack a kernel", remedy: "remove target/vm and try again", command }.run()?;
    fs::remove_file(&deb)?;
    fs::rename(&half, dir).with_context(|| dir.display().to_string())
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

fn entries(dir: &Path) -> Result<Vec<PathBuf>> {
    let read = dir.read_dir().with_context(|| dir.display().to_string())?;
    let mut paths = read.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
