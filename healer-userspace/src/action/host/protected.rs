//! Who is never touched.

use std::{
    collections::BTreeSet,
    io,
    os::unix::fs::MetadataExt as _,
    sync::{Mutex, PoisonError},
};

use super::scope::stat_of;
use crate::engine::policy::Protect;

/// PID 1, kernel threads, healer itself, and the administrator's list by unit and by executable.
pub struct Protected {
    inner: Mutex<Inner>,
}

struct Inner {
    list: Protect,
    /// Device and inode of every protected executable ever seen: after an upgrade the old file stays protected
    /// while somebody runs it.
    files: BTreeSet<(u64, u64)>,
}

impl Protected {
    pub fn new(list: Protect) -> Self {
        let files = BTreeSet::new();
        Self { inner: Mutex::new(Inner { list, files }) }
    }

    /// After a reload. Files seen under the old list are forgotten.
    pub fn replace(&self, list: Protect) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let files = BTreeSet::new();
        *inner = Inner { list, files };
    }

    /// The reason, in words. By name of the process never: a process can imitate one (prctl(2), PR_SET_NAME).
    pub(super) fn reason(&self, pid: u32) -> Option<String> {
        if pid == 1 {
            return Some("pid 1 is never touched".to_owned());
        }
        if pid == std::process::id() {
            return Some(format!("pid {pid} is healer itself"));
        }
        if stat_of(pid).is_some_and(|stat| stat.kernel_thread) {
            return Some(format!("pid {pid} is a kernel thread"));
        }
        self.by_unit(pid).or_else(|| self.by_executable(pid))
    }

    fn by_unit(&self, pid: u32) -> Option<String> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.list.units.is_empty() {
            return None;
        }
        let cgroups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
        let unit = cgroups.split(['/', '\n']).find(|part| inner.list.pattern_of(part).is_some())?;
        Some(format!("pid {pid} belongs to the protected unit {unit}"))
    }

    fn by_executable(&self, pid: u32) -> Option<String> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let Inner { list, files } = &mut *inner;
        if list.exes.is_empty() {
            return None;
        }
        // In a container the paths are those of the host.
        let of_host = list.exes.iter().map(|path| format!("/proc/1/root{path}"));
        files.extend(list.exes.iter().cloned().chain(of_host).filter_map(|path| file_id(&path).ok()));
        let link = format!("/proc/{pid}/exe");
        let exe = match file_id(&link) {
            Ok(exe) => exe,
            // It has ended.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                return Some(format!("cannot tell whether pid {pid} runs a protected executable: {error}"));
            }
        };
        let path = std::fs::read_link(&link).unwrap_or_default();
        let is_named = list.exes.iter().any(|one| path.as_os_str() == one.as_str());
        (is_named || files.contains(&exe)).then(|| format!("pid {pid} runs a protected executable"))
    }
}

/// Follows symbolic links, /proc/PID/exe too, even where the path leads nowhere from here.
fn file_id(path: &str) -> io::Result<(u64, u64)> {
    let file = std::fs::metadata(path)?;
    Ok((file.dev(), file.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_are_never_touched() {
        let protected = Protected::new(Protect::default());
        assert!(protected.reason(1).is_some());
        assert!(protected.reason(std::process::id()).is_some());
    }

    #[test]
    fn an_executable_is_known_by_its_inode() {
        let mut sleep = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let running = std::fs::read_link(format!("/proc/{}/exe", sleep.id())).unwrap();
        let protected = Protected::new(Protect::default());
        assert_eq!(protected.reason(sleep.id()), None);
        protected
            .replace(Protect { exes: vec![running.to_string_lossy().into_owned()], ..Protect::default() });
        assert!(protected.reason(sleep.id()).is_some());
        sleep.kill().unwrap();
        sleep.wait().unwrap();
    }
}
