//! The image that the runtimes' containers of the tests are made of.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// An archive below `dir` with a static busybox in it, for a runtime to import.
///
/// # Panics
/// Without busybox or tar, or if it cannot be written.
#[must_use]
pub fn image_of_busybox(dir: &Path) -> PathBuf {
    let root = dir.join("image");
    fs::create_dir_all(root.join("bin")).expect("the scratch directory can be written");
    fs::copy("/bin/busybox", root.join("bin/busybox")).expect("this test needs busybox-static");
    let archive = dir.join("image.tar");
    let tar = Command::new("tar").arg("-C").arg(&root).arg("-cf").arg(&archive).arg(".").status();
    assert!(tar.expect("tar runs").success(), "tar");
    archive
}
