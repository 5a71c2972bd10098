//! One healer per state directory.

use std::{
    fs::File,
    io::{Read as _, Seek as _, Write as _},
    time::Duration,
};

use rustix::fs::{FlockOperation, flock};

use super::{
    StoreError,
    dir::{Access, StateDir},
};

const NAME: &str = "lock";
const TRIES: u32 = 20;
const BETWEEN_TRIES: Duration = Duration::from_millis(50);

/// flock(2) on `lock`, which holds the pid for words; the kernel releases it however the process ends.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "held open: closing it releases the lock")] File);

impl Lock {
    /// # Errors
    /// `StoreError::Held` with the holder's pid if another process has it.
    pub fn take(dir: &StateDir) -> Result<Self, StoreError> {
        let path = dir.path().join(NAME);
        let failed = |source| StoreError::io("open", &path, source);
        let mut file = dir.file(NAME, Access::ReadWrite).map_err(failed)?;
        match flock_soon(&file) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(StoreError::Held { path: dir.path().to_owned(), pid: holder(&mut file) });
            }
            Err(errno) => return Err(StoreError::io("lock", &path, errno.into())),
        }
        // The pid is for words only: a full disk must not keep healer from starting.
        if let Err(error) = write_pid(&mut file) {
            tracing::warn!("write the pid to {}: {error}", path.display());
        }
        Ok(Self(file))
    }
}

/// Who was killed while it started a child shares the lock with it until the child executes its program.
fn flock_soon(file: &File) -> rustix::io::Result<()> {
    for _try in 0..TRIES {
        match flock(file, FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) => std::thread::sleep(BETWEEN_TRIES),
            result => return result,
        }
    }
    flock(file, FlockOperation::NonBlockingLockExclusive)
}

fn write_pid(file: &mut File) -> std::io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

fn holder(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(16).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::scratch::Scratch;

    #[test]
    fn the_second_is_told_who_holds_it() {
        let scratch = Scratch::new("lock");
        let dir = StateDir::create(&scratch.path().join("state")).unwrap();
        let first = Lock::take(&dir).unwrap();
        let refusal = Lock::take(&dir).unwrap_err().to_string();
        assert!(refusal.contains(&format!("pid {}", std::process::id())), "{refusal}");
        drop(first);
        Lock::take(&dir).unwrap();
    }
}
