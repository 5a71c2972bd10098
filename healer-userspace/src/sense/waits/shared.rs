//! Memory that several processes share: a futex there is woken by one of those who have it, or never.

use super::procfs::Proc;

/// Device and inode of a file.
pub(super) type File = (u64, u64);

/// Where a word lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In memory of its process alone.
    Own,
    /// In memory that nobody can map who has it not open or mapped already: it has no name any more.
    Nameless(File),
}

/// `None` if it cannot be said who may come to have that memory.
pub(super) fn place(proc: &Proc, tgid: u32, address: u64) -> Option<Place> {
    let (maps, _) = proc.maps(tgid)?;
    let line =
        maps.lines().find(|line| range(line).is_some_and(|(from, to)| from <= address && address < to))?;
    match file(line) {
        Some(file) if is_nameless(line) => Some(Place::Nameless(file)),
        Some(_) => None,
        None => Some(Place::Own),
    }
}

/// The files that are mapped to be shared.
pub(super) fn mapped(maps: &str) -> impl Iterator<Item = File> {
    maps.lines().filter_map(file)
}

/// Of `FROM-TO PERMISSIONS OFFSET DEVICE INODE NAME` (proc_pid_maps(5)).
fn range(line: &str) -> Option<(u64, u64)> {
    let (from, to) = line.split_once(' ')?.0.split_once('-')?;
    Some((u64::from_str_radix(from, 16).ok()?, u64::from_str_radix(to, 16).ok()?))
}

/// Memory of System V is shown as deleted, and found by its key (ipc/shm.c).
fn is_nameless(line: &str) -> bool {
    line.ends_with(" (deleted)") && !line.contains(" /SYSV")
}

/// `None` for what is not shared.
fn file(line: &str) -> Option<File> {
    let mut words = line.split_ascii_whitespace().skip(1);
    let permissions = words.next()?;
    let (major, minor) = words.nth(1)?.split_once(':')?;
    let (major, minor) = (u32::from_str_radix(major, 16).ok()?, u32::from_str_radix(minor, 16).ok()?);
    let inode = words.next()?.parse().ok()?;
    permissions.ends_with('s').then_some((rustix::fs::makedev(major, minor), inode))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_memory_is_read_from_maps() {
        let zero = "7f0000001000-7f0000003000 rw-s 00000000 00:01 4242    /dev/zero (deleted)";
        let own = "7f0000001000-7f0000003000 rw-p 00000000 00:00 0 ";
        assert_eq!(range(zero), Some((0x7f00_0000_1000, 0x7f00_0000_3000)));
        assert_eq!(file(zero), Some((1, 4242)));
        assert_eq!(file(own), None);
        assert!(
            is_nameless(zero)
                && !is_nameless("7f0000001000-7f0000003000 rw-s 0 00:01 7  /SYSV00001234 (deleted)")
        );
        assert_eq!(mapped(&format!("{own}\n{zero}\n")).collect::<Vec<_>>(), [(1, 4242)]);
    }
}
