//! Pages: taken anew, and taken from a cgroup that is full of page cache.

use std::{
    fs::{self, File, OpenOptions},
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
};

use anyhow::Context as _;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

use super::Meter;
use crate::cgroup::MemoryCgroup;

const PAGES: usize = 256;
const LIMIT: u64 = 16 << 20;
const FILE: u64 = 64 << 20;
const PIECE: usize = 256 << 10;

/// One page after the other, all given back after a round.
pub(super) fn fault(meter: &mut Meter) -> anyhow::Result<()> {
    let page = rustix::param::page_size();
    let flags = MapFlags::PRIVATE;
    // SAFETY: a new mapping, which is this function's alone until it unmaps it.
    let map = unsafe {
        mmap_anonymous(core::ptr::null_mut(), PAGES * page, ProtFlags::READ | ProtFlags::WRITE, flags)?
    };
    // SAFETY: advice about our own mapping: no page of it is a huge one.
    unsafe { madvise(map, PAGES * page, Advice::LinuxNoHugepage) }.ok();
    let mut at = 0;
    let outcome = meter.measure(|| {
        if at == PAGES {
            at = 0;
            // SAFETY: our own mapping, of which nobody holds a reference; its pages are zeroes afterwards.
            unsafe { madvise(map, PAGES * page, Advice::LinuxDontNeed)? };
        }
        // SAFETY: within the mapping.
        unsafe { map.cast::<u8>().add(at * page).write_volatile(1) };
        at += 1;
        Ok(())
    });
    // SAFETY: ours, and not used any more.
    unsafe { munmap(map, PAGES * page)? };
    outcome
}

/// A piece of a file that is four times as large as the cgroup: each has to take its pages from an older one.
pub(super) fn reclaim(meter: &mut Meter) -> anyhow::Result<()> {
    let file = holes()?;
    let group = MemoryCgroup::new();
    group.set_limit(LIMIT);
    let own = group.procs();
    fs::write(&own, "0")?;
    let mut piece = vec![0; PIECE];
    let mut at = 0;
    let outcome = meter.measure(|| {
        file.read_exact_at(&mut piece, at)?;
        at = (at + PIECE as u64) % FILE;
        Ok(())
    });
    // Whoever is inside when it is removed is killed.
    let outside = own.ancestors().nth(2).context("a cgroup lies in another")?.join("cgroup.procs");
    fs::write(outside, "0")?;
    outcome
}

/// Without a name and without blocks, on a disk: files in memory cannot be dropped.
fn holes() -> anyhow::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_TMPFILE)
        .open("/var/tmp")
        .context("a file in /var/tmp")?;
    file.set_len(FILE)?;
    Ok(file)
}
