//! What a ring costs in resident memory: its pages are mapped twice, one copy behind the other, so that a record which
//! wraps lies in one piece, and each copy counts in full (kernel/bpf/ringbuf.c, `bpf_ringbuf_alloc`; the mapping is made
//! whole, not page by page). No record reaches farther into the second copy than [`RECORD_MAX`].

use std::fs;

use healer_common::event::RECORD_MAX;
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};

/// Takes back what of the second copies nobody reads, of every ring that this process has mapped.
pub(super) fn map_once() {
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    for (start, len) in unread(&maps, rustix::param::page_size()) {
        let flags = MapFlags::PRIVATE | MapFlags::FIXED | MapFlags::NORESERVE;
        // SAFETY: the range is the end of a ring's own mapping, which nobody reads and which goes with the whole
        // (munmap(2) does not care what lies there). Refused, it only stays as it was.
        unsafe { mmap_anonymous(start as *mut _, len, ProtFlags::empty(), flags) }.ok();
    }
}

/// Start and length of what is never read, by the lines of proc_pid_maps(5).
fn unread(maps: &str, page: usize) -> Vec<(usize, usize)> {
    maps.lines().filter_map(|line| unread_of(line, page)).collect()
}

/// A ring's mapping for reading: a page of the producer's, which is the second of the map, and the data twice.
fn unread_of(line: &str, page: usize) -> Option<(usize, usize)> {
    let mut words = line.split_ascii_whitespace();
    let (range, rights, offset) = (words.next()?, words.next()?, words.next()?);
    if rights != "r--s" || line.split_ascii_whitespace().nth(5) != Some("anon_inode:bpf-map") {
        return None;
    }
    let (start, end) = range.split_once('-')?;
    let (start, end) = (usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?);
    let data = end.checked_sub(start)?.checked_sub(page)? / 2;
    let is_ring = usize::from_str_radix(offset, 16) == Ok(page)
        && data.is_power_of_two()
        && start + page + 2 * data == end;
    let read = RECORD_MAX.next_multiple_of(page);
    (is_ring && read < data).then_some((start + page + data + read, data - read))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_rings_second_copy_is_meant_and_not_its_first_page() {
        let line = |range: &str, rights: &str, offset: &str, path: &str| {
            unread(&format!("{range} {rights} {offset} 00:0e 12      {path}\n"), 0x1000)
        };
        let ring = "7f0000000000-7f0000021000";
        assert_eq!(line(ring, "r--s", "00001000", "anon_inode:bpf-map"), [(0x7f00_0001_2000, 0xf000)]);
        assert_eq!(line(ring, "rw-s", "00001000", "anon_inode:bpf-map"), []);
        assert_eq!(line(ring, "r--s", "00000000", "anon_inode:bpf-map"), []);
        assert_eq!(line(ring, "r--s", "00001000", "/usr/bin/healer"), []);
        let cut = "7f0000000000-7f0000012000";
        assert_eq!(line(cut, "r--s", "00001000", "anon_inode:bpf-map"), [], "it was done before");
        let small = "7f0000000000-7f0000003000";
        assert_eq!(line(small, "r--s", "00001000", "anon_inode:bpf-map"), []);
    }
}
