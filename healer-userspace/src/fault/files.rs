//! A file that is larger than the cgroup's memory.

use core::time::Duration;
use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
};

use super::{End, Fault};
use crate::{clock, engine::class::Class};

pub(super) const THRASH: Fault = Fault::failing(
    "thrash",
    Class::MemoryPressure,
    "works on a mapped file of three times its memory limit",
    End::Never,
    thrash,
)
.within(48)
.lasting(30);
pub(super) const STREAM: Fault = Fault::healthy(
    "stream",
    "healthy: reads a file of three times its memory limit again and again",
    End::Never,
    stream,
)
.within(48)
.lasting(30);

const LIFE: Duration = Duration::from_secs(60);
const SIZE: usize = 160 << 20;
const PAGE: usize = 4096;
/// Where files are on a disk: those in memory cannot be dropped.
const PLACES: [&str; 2] = ["/var/tmp", "/tmp"];

/// Pages at random: each that is needed has just been dropped.
fn thrash() -> u8 {
    let Ok(file) = holes() else { return 1 };
    // SAFETY: a new mapping of a file of this size, for reading; it stays until the process ends.
    let map = unsafe {
        use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap};
        let map = mmap(core::ptr::null_mut(), SIZE, ProtFlags::READ, MapFlags::PRIVATE, &file, 0);
        map.and_then(|map| madvise(map, SIZE, Advice::Random).map(|()| map.cast::<u8>()))
    };
    let Ok(map) = map else { return 1 };
    let (began, mut state, mut sum) = (clock::boot(), 0x9E37_79B9_7F4A_7C15_u64, 0_u64);
    while clock::boot().since(began) < LIFE {
        for _touch in 0..1000 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let page = state as usize % (SIZE / PAGE);
            // SAFETY: within the mapping; the file is not shortened, it has no name.
            sum = sum.wrapping_add(u64::from(unsafe { map.add(page * PAGE).read_volatile() }));
        }
    }
    u8::from(std::hint::black_box(sum) != 0)
}

/// One piece after the other: what was dropped is not missed.
fn stream() -> u8 {
    let Ok(file) = holes() else { return 1 };
    let mut piece = vec![0; 1 << 20];
    let began = clock::boot();
    while clock::boot().since(began) < LIFE {
        for at in (0..SIZE as u64).step_by(piece.len()) {
            if file.read_exact_at(&mut piece, at).is_err() {
                return 1;
            }
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    0
}

/// A file without a name and without blocks: its pages fill the cache all the same.
fn holes() -> io::Result<File> {
    let open = |dir: &&str| OpenOptions::new().read(true).write(true).custom_flags(libc::O_TMPFILE).open(dir);
    let file = PLACES.iter().map(open).find(Result::is_ok).unwrap_or_else(|| {
        Err(io::Error::new(io::ErrorKind::Unsupported, "no directory on a disk for a file"))
    })?;
    file.set_len(SIZE as u64)?;
    Ok(file)
}
