//! A minimal Debian with systemd: for guests as an archive that the kernel unpacks, for live tests as it is.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::step::Step;
use crate::workspace;

/// What a guest does without: half of the archive.
const LEFT_OUT: &[&str] =
    &["./usr/share/doc", "./usr/share/locale", "./usr/share/man", "./var/lib/apt", "./var/cache", "./dev"];
const REMEDY: &str = "look at the network and at apt's sources; remove target/systemd-root and try again";

/// The archive, made once: 20 s and 80 MB of downloads. tests/src/machine.rs takes it from there.
pub(crate) fn archive() -> Result<PathBuf> {
    let archive = dir()?.join("root.tar");
    if !archive.is_file() {
        let half = archive.with_extension("half.tar");
        let mut command = Command::new("mmdebstrap");
        command.args(["--quiet", "--variant=minbase", "--include=systemd,systemd-sysv,dbus", "bookworm"]);
        command.arg(&half);
        Step { name: "make a Debian", remedy: REMEDY, command }.run()?;
        fs::rename(&half, &archive).with_context(|| archive.display().to_string())?;
    }
    Ok(archive)
}

/// The same as an initramfs (a `newc` archive, not packed).
pub(crate) fn initramfs() -> Result<PathBuf> {
    let initramfs = dir()?.join("root.cpio");
    if !initramfs.is_file() {
        let root = dir()?.join("root");
        unpack(&archive()?, &root)?;
        let half = initramfs.with_extension("half.cpio");
        pack(&root, &half)?;
        fs::remove_dir_all(&root).with_context(|| root.display().to_string())?;
        fs::rename(&half, &initramfs).with_context(|| initramfs.display().to_string())?;
    }
    Ok(initramfs)
}

fn dir() -> Result<PathBuf> {
    let dir = workspace::target_dir().join("systemd-root");
    fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
    Ok(dir)
}

fn unpack(archive: &Path, root: &Path) -> Result<()> {
    if root.exists() {
        fs::remove_dir_all(root).with_context(|| root.display().to_string())?;
    }
    fs::create_dir_all(root)?;
    let mut command = Command::new("tar");
    command.arg("-xf").arg(archive).arg("-C").arg(root);
    command.args(LEFT_OUT.iter().map(|path| format!("--exclude={path}/*")));
    Step { name: "unpack a Debian", remedy: REMEDY, command }.run()
}

fn pack(root: &Path, to: &Path) -> Result<()> {
    let to = File::create(to).with_context(|| to.display().to_string())?;
    let mut command = Command::new("sh");
    command.args(["-c", "find . | cpio --quiet -o -H newc"]).current_dir(root).stdout(to);
    Step { name: "pack a Debian", remedy: REMEDY, command }.run()
}
