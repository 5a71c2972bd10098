//! Debian's packages of any processor, downloaded and unpacked, never installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::arch::Arch;
use crate::root;
use crate::step::{Step, answer};

const REMEDY: &str = "look at the network and at apt's sources";
/// Of all releases, from the package debian-archive-keyring.
const KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// apt for the packages of one processor. Of another than this machine's it keeps its own lists, so
/// that the machine's apt never hears of it.
pub(crate) struct Apt {
    options: Vec<String>,
    /// Where packages are unpacked to.
    cache: PathBuf,
}

impl Apt {
    pub(crate) fn new(arch: Arch, cache: &Path) -> Result<Self> {
        fs::create_dir_all(cache).with_context(|| cache.display().to_string())?;
        if arch.name() == std::env::consts::ARCH {
            return Ok(Self { options: Vec::new(), cache: cache.to_owned() });
        }
        Self::apart(arch, cache, &[])
    }

    /// For the packages of another release of Debian, from where this machine has its own.
    pub(crate) fn of_release(release: &str, arch: Arch, cache: &Path) -> Result<Self> {
        fs::create_dir_all(cache).with_context(|| cache.display().to_string())?;
        let mut command = Command::new("apt-get");
        command.args(["indextargets", "--format", "$(REPO_URI)", "Origin: Debian", "Component: main"]);
        let places = answer(&mut command).unwrap_or_default();
        let place = places.lines().find(|place| !place.contains("security"));
        let place = place.context("apt has no source that is Debian's")?;
        let list = cache.join("sources.list");
        fs::write(&list, format!("deb [signed-by={KEYS}] {place} {release} main\n"))?;
        let list = list.display().to_string();
        Self::apart(arch, cache, &[("Dir::Etc::sourcelist", &list), ("Dir::Etc::sourceparts", "/dev/null")])
    }

    fn apart(arch: Arch, cache: &Path, more: &[(&str, &str)]) -> Result<Self> {
        let cache = cache.to_owned();
        let state = cache.join("apt");
        for dir in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(state.join(dir)).with_context(|| state.display().to_string())?;
        }
        fs::write(state.join("status"), "")?;
        let debian = arch.debian();
        let settings = [
            ("APT::Architecture", debian.to_owned()),
            ("APT::Architectures", debian.to_owned()),
            ("Dir::State::lists", state.join("lists").display().to_string()),
            ("Dir::State::status", state.join("status").display().to_string()),
            ("Dir::Cache", state.join("cache").display().to_string()),
        ];
        let settings = settings.iter().map(|(name, value)| (*name, value.as_str()));
        let option = |(name, value): (&str, &str)| ["-o".to_owned(), format!("{name}={value}")];
        Ok(Self { options: settings.chain(more.iter().copied()).flat_map(option).collect(), cache })
    }

    /// The package that `package`, a package of no files, depends on.
    pub(crate) fn newest(&self, package: &str) -> Result<String> {
        let newest = self.dependency(package);
        if let Some(newest) = newest {
            return Ok(newest);
        }
        self.update_lists()?;
        match self.dependency(package) {
            Some(newest) => Ok(newest),
            None => bail!(
                "step `find a package` failed: apt does not know {package}\n  remedy:  guests are made of Debian 12 with its security updates"
            ),
        }
    }

    /// Where the package's files are, downloaded and unpacked if they are not there yet.
    pub(crate) fn unpacked(&self, package: &str) -> Result<PathBuf> {
        let dir = self.cache.join(package);
        if !dir.is_dir() {
            self.download(package)?;
            self.unpack(package, &dir)?;
        }
        Ok(dir)
    }

    fn dependency(&self, package: &str) -> Option<String> {
        let mut command = Command::new("apt-cache");
        // Its words are read, and not in the user's language.
        command.env("LC_ALL", "C").args(&self.options).args(["depends", "--no-recommends", package]);
        let text = answer(&mut command)?;
        text.lines().find_map(|line| line.trim().strip_prefix("Depends: ")).map(str::to_owned)
    }

    fn update_lists(&self) -> Result<()> {
        let mut command = root::command("apt-get", &[])?;
        command.args(&self.options).arg("update");
        Step { name: "update package lists", remedy: REMEDY, command }.run()
    }

    fn download(&self, package: &str) -> Result<()> {
        let attempt = || {
            let mut command = Command::new("apt-get");
            command.args(&self.options).args(["download", package]).current_dir(&self.cache);
            Step { name: "download a package", remedy: REMEDY, command }.run()
        };
        // Old lists name files that the mirror has replaced.
        attempt().or_else(|_| self.update_lists().and_then(|()| attempt()))
    }

    fn unpack(&self, package: &str, dir: &Path) -> Result<()> {
        let is_it = |name: &str| name.starts_with(&format!("{package}_")) && name.ends_with(".deb");
        let deb = entries(&self.cache)?.into_iter().find(|path| is_it(&file_name(path)));
        let deb = deb.with_context(|| format!("apt-get left no {package} in {}", self.cache.display()))?;
        // Under another name until it is whole: an interrupted run leaves no package.
        let half = self.cache.join(format!("{package}.half"));
        if half.exists() {
            fs::remove_dir_all(&half)?;
        }
        let mut command = Command::new("dpkg-deb");
        command.arg("-x").arg(&deb).arg(&half);
        Step { name: "unpack a package", remedy: "remove target/vm and try again", command }.run()?;
        fs::remove_file(&deb)?;
        fs::rename(&half, dir).with_context(|| dir.display().to_string())
    }
}

/// What is in a directory, in order.
pub(crate) fn entries(dir: &Path) -> Result<Vec<PathBuf>> {
    let read = dir.read_dir().with_context(|| dir.display().to_string())?;
    let mut paths = read.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

pub(crate) fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
