//! What a small guest is made of: busybox, `init.sh`, healer and the tests, in memory.

use std::fs;
use std::io::{BufWriter, Write as _};
use std::path::Path;

use anyhow::{Context, Result};

use super::binaries::Binaries;
use super::cpio::Archive;
use super::kernels::Unpacked;
use crate::workspace;

const INIT: &str = include_str!("init.sh");
/// The static one: the package table asks for it.
const BUSYBOX: &str = "/bin/busybox";
/// What tests of the network need and a kernel has as modules.
const MODULES: &[&str] = &["sch_netem", "veth", "dummy"];

/// Everything that goes into a guest besides its kernel's modules.
pub(crate) struct Contents<'a> {
    pub(crate) binaries: &'a Binaries,
    /// See [`super::subset::plan`].
    pub(crate) plan: &'a str,
    /// Seconds that one test may take.
    pub(crate) test_limit: u32,
}

/// Writes the guest's initramfs to `path`.
pub(crate) fn write(path: &Path, kernel: &Unpacked, contents: &Contents<'_>) -> Result<()> {
    let file = fs::File::create(path).with_context(|| path.display().to_string())?;
    let mut archive = Archive::new(BufWriter::new(file));
    for dir in ["bin", "etc", "t", "t/victims", "modules"] {
        archive.dir(dir)?;
    }
    archive.file("init", INIT.as_bytes(), true)?;
    archive.file("bin/busybox", &read(Path::new(BUSYBOX))?, true)?;
    archive.file("etc/passwd", b"root:x:0:0::/tmp:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n", false)?;
    archive.file("etc/group", b"root:x:0:\nnogroup:x:65534:\n", false)?;
    archive.file("t/plan", contents.plan.as_bytes(), false)?;
    archive.file("t/limit", contents.test_limit.to_string().as_bytes(), false)?;
    archive.file("t/healer-ebpf", &read(&workspace::ebpf_object())?, false)?;
    archive.file("t/healer", &read(&contents.binaries.healer)?, true)?;
    for (name, path) in &contents.binaries.tests {
        archive.file(&format!("t/{name}"), &read(path)?, true)?;
    }
    for (name, path) in &contents.binaries.victims {
        archive.file(&format!("t/victims/{name}"), &read(path)?, true)?;
    }
    for name in MODULES {
        if let Some(bytes) = kernel.module(name)? {
            archive.file(&format!("modules/{name}.ko"), &bytes, false)?;
        }
    }
    archive.finish()?.flush().with_context(|| path.display().to_string())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("read {}", path.display()))
}
