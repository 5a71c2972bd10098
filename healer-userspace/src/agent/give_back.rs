//! Memory that only the start needed goes back to the kernel.

use std::{fs, path::Path};

/// Unmaps the agent's own program text, once. Most of it has served: option parsing, policies, type information. What
/// runs on is mapped again from the page cache, page by page, as it is needed: nothing is read from a disk unless
/// memory is so short that the kernel has dropped it, as it may at any time.
pub(super) fn startup_text() {
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let Ok(exe) = fs::read_link("/proc/self/exe") else { return };
    for (start, len) in maps.lines().filter_map(|line| text_of(line, &exe)) {
        // SAFETY: a private mapping of a file that cannot be written: all of its pages are those of the file, and
        // come back unchanged (madvise(2), MADV_DONTNEED).
        unsafe { libc::madvise(start as *mut libc::c_void, len, libc::MADV_DONTNEED) };
    }
}

/// Start and length of a mapping of `exe` that is executable and was never written to (proc_pid_maps(5)).
fn text_of(line: &str, exe: &Path) -> Option<(usize, usize)> {
    let mut words = line.splitn(6, ' ');
    let (range, rights) = (words.next()?, words.next()?);
    let path = words.nth(3)?.trim_start();
    if rights != "r-xp" || Path::new(path) != exe {
        return None;
    }
    let (start, end) = range.split_once('-')?;
    let (start, end) = (usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?);
    Some((start, end - start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_text_of_the_program_is_meant() {
        let exe = Path::new("/usr/bin/a healer");
        let line = |rights: &str, path: &str| format!("55d0-65d0 {rights} 00001000 fe:00 4242       {path}");
        assert_eq!(text_of(&line("r-xp", "/usr/bin/a healer"), exe), Some((0x55d0, 0x1000)));
        assert_eq!(text_of(&line("r--p", "/usr/bin/a healer"), exe), None);
        assert_eq!(text_of(&line("rwxp", "/usr/bin/a healer"), exe), None);
        assert_eq!(text_of(&line("r-xp", "/usr/lib/libc.so.6"), exe), None);
        assert_eq!(text_of("55d0-65d0 r-xp 0 00:00 0", exe), None);
    }

    #[test]
    fn the_program_runs_on() {
        startup_text();
        assert_eq!(format!("{:?}", text_of("x", Path::new("y"))), "None");
    }
}
