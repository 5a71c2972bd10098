//! Memory that several processes share: a futex there is woken by one of those who have it, or never.

use std::{fs, os::unix::fs::MetadataExt as _};

use super::procfs::Proc;
use crate::patience::FILES;

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
        Some(file) if is_nameless(proc, tgid, line) => Some(Place::Nameless(file)),
        Some(_) => None,
        None => Some(Place::Own),
    }
}

/// The file that is mapped to be shared there; `None`: none, or it cannot be read.
pub(super) fn file_at(proc: &Proc, tgid: u32, address: u64) -> Option<File> {
    let (maps, _) = proc.maps(tgid)?;
    let is_there = |line: &&str| range(line).is_some_and(|(from, to)| (from..to).contains(&address));
    file(maps.lines().find(is_there)?)
}

/// The program or library in whose data an address lies, with what begins as zeros right behind its file.
pub(super) fn module_of(maps: &str, address: u64) -> Option<&str> {
    let (mut last, mut end_of_last) = (None, 0);
    for line in maps.lines() {
        let Some((from, to)) = range(line) else { continue };
        let name = line.split_ascii_whitespace().nth(5);
        let module = match name {
            Some(name) => Some(name).filter(|name| name.starts_with('/')),
            None => last.filter(|_| from == end_of_last),
        };
        if (from..to).contains(&address) {
            return module;
        }
        (last, end_of_last) = (module, to);
    }
    None
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

/// A deleted name is not all: who makes a semaphore gives its file a second one and deletes the first (`sem_open` of
/// glibc). Memory of System V is shown as deleted, and found by its key (ipc/shm.c).
fn is_nameless(proc: &Proc, tgid: u32, line: &str) -> bool {
    if !line.ends_with(" (deleted)") || line.contains(" /SYSV") {
        return false;
    }
    let range = line.split(' ').next().unwrap_or_default();
    let range: Vec<&str> = range.split('-').map(|end| end.trim_start_matches('0')).collect();
    let file = proc.path(&format!("{tgid}/map_files/{}", range.join("-")));
    // Not everybody may follow that link (CAP_CHECKPOINT_RESTORE); files of the kernel itself never had a name.
    let is_kernels = || line.ends_with(" /dev/zero (deleted)") || line.contains(" /memfd:");
    let links = FILES.ask(&tgid.to_string(), move || fs::metadata(file).ok().map(|file| file.nlink()));
    links.flatten().map_or_else(is_kernels, |links| links == 0)
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
        assert_eq!(mapped(&format!("{own}\n{zero}\n")).collect::<Vec<_>>(), [(1, 4242)]);
    }
    #[test]
    fn static_data_lies_in_a_file_or_right_behind_it() {
        let maps = "1000-2000 r-xp 0 fe:00 7    /bin/x\n2000-3000 rw-p 0 fe:00 7    /bin/x\n\
            3000-4000 rw-p 0 00:00 0 \n4000-5000 rw-p 0 00:00 0    [heap]\n7000-8000 rw-p 0 00:00 0 \n";
        let modules = [0x2010, 0x3010, 0x4010, 0x7010, 0x9000].map(|address| module_of(maps, address));
        assert_eq!(modules, [Some("/bin/x"), Some("/bin/x"), None, None, None]);
    }

    #[test]
    fn memory_has_no_name_only_if_its_file_has_no_other() {
        let root = std::env::temp_dir().join(format!("healer-nameless-{}", std::process::id()));
        let files = root.join("7/map_files");
        fs::create_dir_all(&files).unwrap();
        fs::write(root.join("sem.named"), "").unwrap();
        std::os::unix::fs::symlink(root.join("sem.named"), files.join("1000-2000")).unwrap();
        let proc = Proc::new(&root);
        let deleted = |range: &str, name: &str| {
            is_nameless(&proc, 7, &format!("{range} rw-s 00000000 00:19 77    {name} (deleted)"))
        };
        assert!(!deleted("00001000-00002000", "/dev/shm/sem.Xy1"), "the semaphore has another name");
        assert!(!deleted("3000-4000", "/dev/shm/sem.Xy1"), "nobody knows");
        assert!(deleted("3000-4000", "/dev/zero") && deleted("3000-4000", "/memfd:ring"));
        assert!(!deleted("3000-4000", "/SYSV00001234"));
        fs::remove_dir_all(&root).unwrap();
    }
}
