//! A disk of a test's own that can be frozen, as a snapshot of it would freeze it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{guard::Guard, scratch::Scratch};

/// `$1` has the image and the mount point. Who only unmounts a frozen disk leaves its writers waiting. The loop device
/// goes with the mount (mount(8), autoclear).
const CLEAN_UP: &str = r#"
    if mountpoint -q "$1/point"; then
        fsfreeze --unfreeze "$1/point"
        umount --lazy "$1/point"
    fi
    rm -f "$1/image"
    rmdir "$1/point" "$1"
"#;

/// ext4 on a file, mounted. It is thawed, unmounted and removed on drop, and with the end of the test run in any case.
pub struct LoopDisk {
    point: PathBuf,
    _guard: Guard,
    _dir: Scratch,
}

/// Whoever writes to the disk waits for the end of this.
pub struct Frozen<'a>(&'a LoopDisk);

impl LoopDisk {
    /// # Panics
    /// Without root, loop devices or mkfs.ext4.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it mounts")]
    pub fn new() -> Self {
        let dir = Scratch::new();
        let guard = Guard::start(CLEAN_UP, dir.path());
        let (image, point) = (dir.path().join("image"), dir.path().join("point"));
        let made = fs::File::create(&image).and_then(|image| image.set_len(8 << 20));
        made.and_then(|()| fs::create_dir(&point)).expect("the scratch directory can be written");
        run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image));
        run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&point));
        Self { point, _guard: guard, _dir: dir }
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.point
    }

    /// # Panics
    /// If it cannot be frozen, or is already.
    #[must_use]
    pub fn freeze(&self) -> Frozen<'_> {
        run(Command::new("fsfreeze").arg("--freeze").arg(self.path()));
        Frozen(self)
    }
}

fn run(command: &mut Command) {
    let output = command.output().expect("util-linux and e2fsprogs are installed");
    let why = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "this test needs root and loop devices: {command:?}: {why}");
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        Command::new("fsfreeze").arg("--unfreeze").arg(self.0.path()).status().ok();
    }
}
