//! A small file system of a test's own.

use std::{
    ffi::CString,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::scratch::unique_name;

/// A tmpfs, unmounted on drop.
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// # Panics
    /// If it cannot be mounted: the test needs root.
    #[must_use]
    pub fn new(size: &str) -> Self {
        let path = std::env::temp_dir().join(unique_name());
        fs::create_dir_all(&path).expect("the temporary directory can be written");
        let options = CString::new(format!("size={size},mode=0700")).expect("no NUL in it");
        mount("healer-test", &path, "tmpfs", MountFlags::empty(), options.as_c_str())
            .expect("mount a tmpfs: run the live tests as root (cargo xtask test --live)");
        Self(path)
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Leaves no byte free.
    ///
    /// # Panics
    /// If not even an empty file can be made.
    pub fn fill(&self) {
        let mut file = fs::File::create(self.0.join("ballast")).expect("a file can be made");
        for size in [64 << 10, 4 << 10, 1] {
            let chunk = vec![0; size];
            while file.write_all(&chunk).is_ok() {}
        }
    }

    /// # Panics
    /// If it was not filled.
    pub fn make_room(&self) {
        fs::remove_file(self.0.join("ballast")).expect("it was filled");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        unmount(&self.0, UnmountFlags::DETACH).ok();
        fs::remove_dir(&self.0).ok();
    }
}
