//! Memory that only the start needed, or something that happens now and then, goes back to the kernel.

use std::fs;

/// Unmaps text and constants of the agent's program and of its libraries, for a millisecond's work. Most of it has
/// served: option parsing, policies, type information, the loader. What runs on is mapped again from the page cache as it is needed: nothing
/// is read from a disk unless memory is so short that the kernel has dropped it, as it may at any time.
#[inline(never)] // What lies below its own frame is spent.
pub(super) fn idle_pages() {
    let maps = fs::read_to_string("/proc/self/smaps").unwrap_or_default();
    for (start, len) in unwritten(&maps) {
        // SAFETY: a private mapping of a file that was not and cannot be written: all of its pages are those of the
        // file, and come back unchanged (madvise(2), MADV_DONTNEED).
        unsafe { libc::madvise(start as *mut libc::c_void, len, libc::MADV_DONTNEED) };
    }
    if let Some((start, len)) = spent_stack(&maps, core::ptr::from_ref(&maps) as usize) {
        // SAFETY: the main thread's own stack, and of it what lies far below all that is in use: whatever is called next
        // writes there before it reads, and finds zeros instead of what earlier calls left.
        unsafe { libc::madvise(start as *mut libc::c_void, len, libc::MADV_DONTNEED) };
    }
}

/// Below the calls that are running, what the start has left of the main thread's stack; `here` is an address of the
/// running thread's, which may be another one.
fn spent_stack(smaps: &str, here: usize) -> Option<(usize, usize)> {
    /// More than a signal handler or the next calls take at once.
    const KEPT: usize = 32 * 1024;
    let stack = smaps.lines().find(|line| line.ends_with("[stack]"))?;
    let (start, len) = range_of(stack)?;
    let spent = here.checked_sub(start).filter(|used| *used < len)?.checked_sub(KEPT)?;
    let spent = spent - spent % rustix::param::page_size();
    (spent != 0).then_some((start, spent))
}

/// Each thread that allocates would get a heap of its own (`mallopt(3)`); ours take turns and need little. Without fast
/// bins nothing waits to be put together again, which would happen in the middle of a diagnosis.
pub(super) fn few_heaps() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes no pointers, and no other thread allocates yet.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 2);
        libc::mallopt(libc::M_MXFAST, 0);
    }
}

/// Start and length of the mappings of files that cannot be written and never were: what the loader has relocated is
/// not the file's any more (proc_pid_smaps(5)).
fn unwritten(smaps: &str) -> Vec<(usize, usize)> {
    let (mut found, mut last) = (Vec::new(), None);
    for line in smaps.lines() {
        if let Some(range) = range_of(line) {
            last = is_constant(line).then_some(range);
        } else if line.strip_prefix("Anonymous:").is_some_and(|size| size.trim() != "0 kB") {
            last = None;
        } else if line.strip_prefix("Swap:").is_some_and(|size| size.trim() == "0 kB") {
            // What was relocated may have been swapped out: then it is not counted above.
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

/// Private, of a file: `[vdso]` and memory without a name have no path.
fn is_constant(line: &str) -> bool {
    let mut words = line.splitn(6, ' ');
    let rights = words.nth(1);
    let path = words.nth(3).map(str::trim_start);
    matches!(rights, Some("r-xp" | "r--p")) && path.is_some_and(|path| path.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nobody_wrote_of_a_file_is_meant() {
        let map = |rights: &str, path: &str, written: u32| {
            let first = format!("55d0-65d0 {rights} 00001000 fe:00 4242       {path}");
            unwritten(&format!("{first}\nSize: 4 kB\nAnonymous: {written:>9} kB\nSwap: 0 kB\n"))
        };
        let swapped = "55d0-65d0 r--p 00001000 fe:00 4242       /a\nAnonymous: 0 kB\nSwap: 4 kB\n";
        assert_eq!(unwritten(swapped), []);
        assert_eq!(map("r-xp", "/usr/bin/a healer", 0), [(0x55d0, 0x1000)]);
        assert_eq!(map("r--p", "/usr/lib/libc.so.6", 0), [(0x55d0, 0x1000)]);
        assert_eq!(map("r--p", "/usr/bin/a healer", 4), [], "relocated");
        assert_eq!(map("rw-p", "/usr/bin/a healer", 0), []);
        assert_eq!(map("r-xp", "[vdso]", 0), []);
        assert_eq!(map("r--p", "", 0), []);
    }

    #[test]
    fn of_the_stack_only_what_lies_below_the_running_calls() {
        let smaps = "7ffc00000000-7ffc00021000 rw-p 00000000 00:00 0      [stack]\nSize: 132 kB\n";
        let start = 0x7ffc_0000_0000;
        let page = rustix::param::page_size();
        assert_eq!(spent_stack(smaps, start + 0x1_f123), Some((start, 0x1_7123 / page * page)));
        assert_eq!(spent_stack(smaps, start + 0x8000), None);
        assert_eq!(spent_stack(smaps, start - 1), None, "another thread's");
        assert_eq!(spent_stack(smaps, start + 0x2_1000), None);
        assert_eq!(spent_stack("", start), None);
    }

    #[test]
    fn the_program_runs_on() {
        let own = fs::read_to_string("/proc/self/smaps").unwrap();
        assert!(2 <= unwritten(&own).len());
        idle_pages();
        assert_eq!(format!("{:?}", unwritten("x")), "[]");
    }
}
