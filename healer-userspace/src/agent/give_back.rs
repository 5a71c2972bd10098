//! Memory that only the start needed goes back to the kernel.

use std::{fs, path::Path};

/// Unmaps the agent's own program, once: its text, its constants, and the relocations that the loader has carried out.
/// Most of it has served: option parsing, policies, type information. What runs on is mapped again from the page cache,
/// page by page, as it is needed: nothing is read from a disk unless memory is so short that the kernel has dropped
/// it, as it may at any time.
pub(super) fn startup_pages() {
    let maps = fs::read_to_string("/proc/self/smaps").unwrap_or_default();
    let Ok(exe) = fs::read_link("/proc/self/exe") else { return };
    for (start, len) in unwritten(&maps, &exe) {
        // SAFETY: a private mapping of a file that was not and cannot be written: all of its pages are those of the
        // file, and come back unchanged (madvise(2), MADV_DONTNEED).
        unsafe { libc::madvise(start as *mut libc::c_void, len, libc::MADV_DONTNEED) };
    }
}

/// Each thread that allocates would get a heap of its own (`mallopt(3)`); ours take turns and need little.
pub(super) fn few_heaps() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes no pointers, and no other thread allocates yet.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 2);
    }
}

/// Start and length of the mappings of `exe` that cannot be written and never were: what the loader has relocated is
/// not the file's any more (proc_pid_smaps(5)).
fn unwritten(smaps: &str, exe: &Path) -> Vec<(usize, usize)> {
    let (mut found, mut last) = (Vec::new(), None);
    for line in smaps.lines() {
        if let Some(range) = range_of(line) {
            last = is_constant(line, exe).then_some(range);
        } else if line.strip_prefix("Anonymous:").is_some_and(|size| size.trim() == "0 kB") {
            found.extend(last.take());
        }
    }
    found
}

/// Of a mapping's first line.
fn range_of(line: &str) -> Option<(usize, usize)> {
    let (start, end) = line.split(' ').next()?.split_once('-')?;
    let (start, end) = (usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?);
    Some((start, end.checked_sub(start)?))
}

fn is_constant(line: &str, exe: &Path) -> bool {
    let mut words = line.splitn(6, ' ');
    let rights = words.nth(1);
    let path = words.nth(3).map(str::trim_start);
    matches!(rights, Some("r-xp" | "r--p")) && path.is_some_and(|path| Path::new(path) == exe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nobody_wrote_of_the_program_is_meant() {
        let exe = Path::new("/usr/bin/a healer");
        let map = |rights: &str, path: &str, written: u32| {
            let first = format!("55d0-65d0 {rights} 00001000 fe:00 4242       {path}");
            unwritten(&format!("{first}\nSize: 4 kB\nAnonymous: {written:>9} kB\n"), exe)
        };
        assert_eq!(map("r-xp", "/usr/bin/a healer", 0), [(0x55d0, 0x1000)]);
        assert_eq!(map("r--p", "/usr/bin/a healer", 0), [(0x55d0, 0x1000)]);
        assert_eq!(map("r--p", "/usr/bin/a healer", 4), [], "relocated");
        assert_eq!(map("rw-p", "/usr/bin/a healer", 0), []);
        assert_eq!(map("r-xp", "/usr/lib/libc.so.6", 0), []);
    }

    #[test]
    fn the_program_runs_on() {
        let own = fs::read_to_string("/proc/self/smaps").unwrap();
        let exe = fs::read_link("/proc/self/exe").unwrap();
        assert!(2 <= unwritten(&own, &exe).len());
        startup_pages();
        assert_eq!(format!("{:?}", unwritten("x", Path::new("y"))), "[]");
    }
}
