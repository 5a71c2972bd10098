//! What a guest is made of, all in memory: busybox or a Debian, healer, the tests and what runs them.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::binaries::Binaries;
use super::cpio::Archive;
use super::debian;
use super::kernels::{Root, Unpacked};
use crate::workspace;

const INIT: &str = include_str!("init.sh");
const PLAN: &str = include_str!("plan.sh");
const UNIT: &str = include_str!("guest.service");
/// What tests of the network need and a kernel has as modules; a node's kernel loads its own when asked.
const MODULES: &[&str] = &["sch_netem", "veth", "dummy", "inet_diag", "tcp_diag"];

/// Everything that goes into a guest besides its kernel's modules.
pub(crate) struct Contents<'a> {
    pub(crate) binaries: &'a Binaries,
    /// See [`super::subset::plan`].
    pub(crate) plan: &'a str,
    /// Seconds that one test may take.
    pub(crate) test_limit: u32,
    /// A static one for the guest's processor.
    pub(crate) busybox: &'a Path,
    /// The terminal on which the guest speaks to us.
    pub(crate) terminal: &'a str,
}

/// Writes the guest's initramfs to `path`.
pub(crate) fn write(path: &Path, root: Root, kernel: &Unpacked, contents: &Contents<'_>) -> Result<()> {
    let mut file = fs::File::create(path).with_context(|| path.display().to_string())?;
    if root == Root::Systemd {
        let debian = debian::initramfs()?;
        let copied = fs::File::open(&debian).and_then(|mut debian| io::copy(&mut debian, &mut file));
        copied.with_context(|| debian.display().to_string())?;
    }
    let mut archive = Archive::new(BufWriter::new(file));
    match root {
        Root::Busybox => add_busybox(&mut archive, kernel, contents)?,
        Root::Systemd => add_unit(&mut archive)?,
    }
    add_tests(&mut archive, contents)?;
    archive.finish()?.flush().with_context(|| path.display().to_string())
}

fn add_busybox(
    archive: &mut Archive<impl io::Write>,
    kernel: &Unpacked,
    contents: &Contents<'_>,
) -> Result<()> {
    for dir in ["bin", "etc", "modules"] {
        archive.dir(dir)?;
    }
    archive.file("init", INIT.as_bytes(), true)?;
    archive.file("bin/busybox", &read(contents.busybox)?, true)?;
    archive.file("etc/passwd", b"root:x:0:0::/tmp:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n", false)?;
    archive.file("etc/group", b"root:x:0:\nnogroup:x:65534:\n", false)?;
    add_libraries(archive, &contents.binaries.libraries)?;
    for name in MODULES {
        if let Some(bytes) = kernel.module(name)? {
            archive.file(&format!("modules/{name}.ko"), &bytes, false)?;
        }
    }
    Ok(())
}

/// Debian has what the programs load, where this machine has it.
fn add_unit(archive: &mut Archive<impl io::Write>) -> Result<()> {
    archive.file("init", b"#!/bin/sh\nexec /lib/systemd/systemd\n", true)?;
    archive.file("etc/systemd/system/healer-guest.service", UNIT.as_bytes(), false)?;
    Ok(())
}

fn add_tests(archive: &mut Archive<impl io::Write>, contents: &Contents<'_>) -> Result<()> {
    for dir in ["t", "t/victims"] {
        archive.dir(dir)?;
    }
    archive.file("t/plan.sh", PLAN.as_bytes(), true)?;
    archive.file("t/plan", contents.plan.as_bytes(), false)?;
    archive.file("t/terminal", contents.terminal.as_bytes(), false)?;
    archive.file("t/limit", contents.test_limit.to_string().as_bytes(), false)?;
    archive.file("t/healer-ebpf", &read(&workspace::ebpf_object())?, false)?;
    archive.file("t/healer", &read(&contents.binaries.healer)?, true)?;
    for (name, path) in contents.binaries.tests.iter().filter(|(name, _)| contents.has(name)) {
        archive.file(&format!("t/{name}"), &read(path)?, true)?;
    }
    for (name, path) in &contents.binaries.victims {
        archive.file(&format!("t/victims/{name}"), &read(path)?, true)?;
    }
    Ok(())
}

impl Contents<'_> {
    fn has(&self, test: &str) -> bool {
        self.plan.lines().any(|line| line.split(' ').next() == Some(test))
    }
}

/// Each where the program looks for it, so with the directories above it.
fn add_libraries(archive: &mut Archive<impl io::Write>, libraries: &BTreeSet<PathBuf>) -> Result<()> {
    let mut dirs = BTreeSet::new();
    for library in libraries {
        dirs.extend(library.ancestors().skip(1).filter(|dir| dir.parent().is_some()));
    }
    for dir in dirs {
        archive.dir(&inside(dir))?;
    }
    for library in libraries {
        archive.file(&inside(library), &read(library)?, true)?;
    }
    Ok(())
}

/// Names in an archive have no slash in front.
fn inside(path: &Path) -> String {
    path.to_string_lossy().trim_start_matches('/').to_owned()
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("read {}", path.display()))
}
