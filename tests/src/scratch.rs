//! A directory that goes with its guard.

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

pub struct Scratch(PathBuf);

impl Scratch {
    /// # Panics
    /// The temporary directory is not writable.
    #[must_use]
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("healer-test-{}-{count}", std::process::id());
        let path = std::env::temp_dir().join(name);
        if let Err(error) = std::fs::create_dir(&path) {
            panic!("cannot create {}: {error}", path.display());
        }
        Self(path)
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}
