//! Locked memory: BPF maps count as such before 5.11, and this program keeps itself in memory while that is short.
//!
//! `RLIMIT_MEMLOCK` is 64 KiB by default, 8 MiB since 5.16 (getrlimit(2)).

use std::{fs, sync::OnceLock};

use rustix::{
    mm::{MlockFlags, mlock_with},
    process::{Resource, Rlimit, getrlimit, setrlimit},
};

static BEFORE: OnceLock<Rlimit> = OnceLock::new();

/// Of one program; it has some 15 MiB.
const LOCKED_MAX: usize = 64 << 20;

/// For the agent. Who may not lift the limit is told what that costs by the kernel's refusal, and by `healer doctor`.
pub(crate) fn lift() {
    BEFORE.get_or_init(|| getrlimit(Resource::Memlock));
    setrlimit(Resource::Memlock, Rlimit { current: None, maximum: None }).ok();
}

/// For what the agent starts, between fork(2) and execve(2): async-signal-safe.
pub(crate) fn give_back() {
    if let Some(before) = BEFORE.get() {
        setrlimit(Resource::Memlock, *before).ok();
    }
}

/// What has been read of this program, now or later, stays in memory; where it may not, the log says so.
pub(crate) fn stay() {
    match lock() {
        Ok(bytes) => tracing::debug!("what is read of this program stays in memory, of {} KiB", bytes / 1024),
        Err(why) => {
            tracing::warn!(
                "not all of this program is locked in memory, and it is slow where that is short: {why}"
            );
        }
    }
}

/// It is what a machine in need drops first, and then the agent
/// waits for the disk whenever it is needed most. What was not run yet is not read for it (`MLOCK_ONFAULT`): the first
/// act of its kind may still wait. What it has
/// allocated is not locked: without swap nobody can take it, and locked it could not be given back in pieces
/// (madvise(2), `MADV_DONTNEED`). Returns the bytes that are mapped, or why not.
fn lock() -> Result<usize, String> {
    lift();
    let read = |error: std::io::Error| format!("cannot see what is mapped: {error}");
    let exe = fs::read_link("/proc/self/exe").map_err(read)?;
    let pieces = pieces(&fs::read_to_string("/proc/self/maps").map_err(read)?, &exe.to_string_lossy());
    let all: usize = pieces.iter().map(|(_, length)| *length).sum();
    if all == 0 || LOCKED_MAX < all {
        return Err(format!("{} KiB of it are mapped", all / 1024));
    }
    let mut done = 0;
    for (from, length) in pieces {
        let at = from as *mut core::ffi::c_void;
        // SAFETY: a mapping of our own executable, which is never unmapped; its contents and rights stay as they are.
        let locked = unsafe { mlock_with(at, length, MlockFlags::ONFAULT) };
        locked.map_err(|error| {
            let (done, all) = (done / 1024, all / 1024);
            format!("{error} after {done} of {all} KiB (RLIMIT_MEMLOCK, or CAP_IPC_LOCK)")
        })?;
        done += length;
    }
    Ok(all)
}

/// Where a file is mapped, and how much of it: `7f00-8f00 r-xp 00001000 fe:00 1234    /usr/bin/healer`
/// (proc_pid_maps(5)).
fn pieces(maps: &str, exe: &str) -> Vec<(usize, usize)> {
    let piece = |line: &str| {
        let (range, rest) = line.split_once(' ')?;
        let path = rest.splitn(5, ' ').nth(4)?.trim_start();
        let (from, to) = range.split_once('-')?;
        let (from, to) = (usize::from_str_radix(from, 16).ok()?, usize::from_str_radix(to, 16).ok()?);
        (path == exe).then_some((from, to.checked_sub(from)?))
    };
    maps.lines().filter_map(piece).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_program_itself_is_locked() {
        let maps = "5000-7000 r--p 00000000 fe:00 1234                 /usr/bin/healer\n\
                    7000-9000 r-xp 00002000 fe:00 1234                 /usr/bin/healer\n\
                    9000-a000 rw-p 00000000 00:00 0                    [heap]\n\
                    b000-c000 r-xp 00000000 fe:00 99                   /usr/lib/libc.so.6\n\
                    c000-d000 rw-p 00000000 00:00 0 \n";
        assert_eq!(pieces(maps, "/usr/bin/healer"), [(0x5000, 0x2000), (0x7000, 0x2000)]);
        assert_eq!(pieces(maps, "/usr/bin/healer (deleted)"), []);
    }
}
