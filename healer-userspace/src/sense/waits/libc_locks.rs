//! Locks of the C library itself: of malloc, of the time zone, of syslog. They name no owner, and wait as anybody waits
//! for a number: so it is where they lie that tells them.

use core::cell::OnceCell;

use super::{memory, procfs::Proc, shared};

/// `HEAP_MAX_SIZE` of glibc (malloc/arena.c) on 64 bits: where a heap begins.
const HEAP: u64 = 64 << 20;

/// Those of one process.
pub(super) struct LibcLocks<'a> {
    proc: &'a Proc,
    tgid: u32,
    /// Read once, if at all.
    maps: OnceCell<Option<String>>,
}

impl<'a> LibcLocks<'a> {
    pub(super) fn of(proc: &'a Proc, tgid: u32) -> Self {
        Self { proc, tgid, maps: OnceCell::new() }
    }

    /// Whether a word lies in the C library's data, or is the lock of one of malloc's arenas.
    pub(super) fn has(&self, address: u64) -> bool {
        let maps = || self.proc.maps(self.tgid).map(|(maps, _)| maps);
        let maps = self.maps.get_or_init(maps).as_deref().unwrap_or_default();
        shared::module_of(maps, address).is_some_and(is_libc) || is_arena(self.tgid, address)
    }
}

fn is_libc(module: &str) -> bool {
    let name = module.rsplit('/').next().unwrap_or_default();
    name.starts_with("libc.so") || name.starts_with("libc-2.")
}

/// A heap begins with a pointer to its arena, and the arena with its lock; the first heap has both.
fn is_arena(tgid: u32, address: u64) -> bool {
    const HEADS: u64 = 4096;
    let heap = address & !(HEAP - 1);
    address - heap < HEADS && memory::pointer_patiently(tgid, heap) == Some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_c_library_is_known_by_its_name() {
        let is: Vec<bool> =
            ["/lib/x86_64-linux-gnu/libc.so.6", "/lib/libc-2.31.so", "/usr/lib/libcap.so.2", "/srv/a"]
                .map(is_libc)
                .into();
        assert_eq!(is, [true, true, false, false]);
    }
}
