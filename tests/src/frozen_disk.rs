//! A disk of a test's own that can be frozen, as a snapshot of it would freeze it.

use std::{fs, path::Path, process::Command};

use crate::{guard::Guard, scratch::Scratch};

/// ext4 on a file, mounted; unmounted on drop.
pub struct LoopDisk {
    point: Scratch,
    _image: Scratch,
}

/// Whoever writes to the disk waits for the end of this. It ends with the test run in any case: nobody else would thaw
/// what a killed one has frozen.
pub struct Frozen<'a> {
    _guard: Guard,
    _disk: &'a LoopDisk,
}

impl LoopDisk {
    /// # Panics
    /// Without root, loop devices or mkfs.ext4.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it mounts")]
    pub fn new() -> Self {
        let (image, point) = (Scratch::new(), Scratch::new());
        let file = image.path().join("disk");
        let made = fs::File::create(&file).and_then(|file| file.set_len(8 << 20));
        made.expect("the scratch directory can be written");
        run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&file));
        run(Command::new("mount").args(["-o", "loop"]).arg(&file).arg(point.path()));
        Self { point, _image: image }
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        self.point.path()
    }

    /// # Panics
    /// If it cannot be frozen, or is already.
    #[must_use]
    pub fn freeze(&self) -> Frozen<'_> {
        let guard = Guard::start(r#"exec fsfreeze --unfreeze "$1""#, self.path());
        run(Command::new("fsfreeze").arg("--freeze").arg(self.path()));
        Frozen { _guard: guard, _disk: self }
    }
}

fn run(command: &mut Command) {
    let output = command.output().expect("util-linux and e2fsprogs are installed");
    let why = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "this test needs root and loop devices: {command:?}: {why}");
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        // The loop device goes with the mount (mount(8), autoclear).
        Command::new("umount").arg("--lazy").arg(self.path()).status().ok();
    }
}
