//! Who lives: what a record lacks, read from `/proc` while the process is still there.

use healer_common::event::{
    part::{ARGS_MAX, Args, CgroupRef, ExeRef, TaskRef},
    wire::Wire as _,
};

use crate::identity::{
    cgroup::{Cgroups, Hierarchy},
    lru::Lru,
    procfs::{ProcDir, Stat, pids},
    reading::Reading,
    roots::Roots,
};

/// Processes remembered.
const KNOWN_MAX: usize = 8192;

/// One process as the fields of records have it; the start in whole clock ticks.
#[derive(Clone, Debug)]
pub(super) struct Person {
    pub(super) task: TaskRef,
    pub(super) parent: u32,
    pub(super) cgroup: CgroupRef,
    pub(super) exe: ExeRef,
    pub(super) args: Args,
    /// Its end was told. It stays: what was sent to it may be read after that.
    is_dead: bool,
}

pub(super) struct People {
    roots: Roots,
    cgroups: Cgroups,
    known: Lru<u32, Person>,
}

impl People {
    pub(super) fn new(roots: Roots) -> Self {
        Self { cgroups: Cgroups::new(&roots.cgroup), known: Lru::new(KNOWN_MAX), roots }
    }

    /// Meets whoever runs already: names and starts, no more.
    pub(super) fn scan(&mut self) {
        let all: Vec<u32> = pids(&self.roots.proc).collect();
        for tgid in all {
            self.glance(tgid);
        }
    }

    /// The process that a record calls `tgid`, as last seen; met now if it is unknown.
    pub(super) fn get(&mut self, tgid: u32) -> Option<&mut Person> {
        if self.known.peek(&tgid).is_none_or(|person| person.is_dead) {
            self.glance(tgid);
        }
        self.known.get(&tgid)
    }

    /// All that `/proc` says, now: after an exec.
    pub(super) fn learn(&mut self, tgid: u32, filename: Option<&[u8]>) -> Option<&mut Person> {
        let reading = Reading::of(&self.roots.proc, tgid)?;
        let (hierarchy, path) = reading.membership.path();
        let cgroup = hierarchy.map_or(CgroupRef::ZERO, |hierarchy| self.cgroup_ref(hierarchy, path));
        let exe = reading.exe.and_then(|exe| exe.id);
        let person = Person {
            task: TaskRef {
                start_boot_ns: reading.id.start.0,
                tgid,
                uid: reading.uid,
                comm: name(&reading.comm),
            },
            parent: reading.parent,
            cgroup,
            exe: exe.map_or(ExeRef::ZERO, |exe| ExeRef { dev: exe.dev, ino: exe.ino }),
            args: args(filename.unwrap_or_default(), &reading.args),
            is_dead: false,
        };
        self.known.insert(tgid, person);
        self.known.get(&tgid)
    }

    /// A child is its parent with another number and start, until it calls exec.
    pub(super) fn inherit(&mut self, parent: u32, child: u32) {
        let Some(stat) = self.stat(child) else {
            return;
        };
        let Some(mut person) = self.known.peek(&parent).cloned() else {
            self.glance(child);
            return;
        };
        person.task.tgid = child;
        person.task.start_boot_ns = stat.start.0;
        person.task.comm = name(&stat.comm);
        person.parent = parent;
        person.is_dead = false;
        self.known.insert(child, person);
    }

    /// The last that is known of one whose end is told.
    pub(super) fn bury(&mut self, tgid: u32) -> Option<Person> {
        let person = self.known.get(&tgid)?;
        person.is_dead = true;
        Some(person.clone())
    }

    /// Adds to a name what a record left out: the start and the user. A name that it told stays: by
    /// now the process may have called exec.
    pub(super) fn complete(&mut self, task: &mut TaskRef) {
        if let Some(person) = self.get(task.tgid) {
            let comm = if task.comm().is_empty() { person.task.comm } else { task.comm };
            *task = TaskRef { comm, ..person.task };
        }
    }

    /// Whether the whole process is dead: gone, followed by another owner of its number, or a
    /// zombie without threads.
    pub(super) fn is_over(&self, tgid: u32, start: u64) -> bool {
        self.stat(tgid).is_none_or(|stat| stat.is_over() || (start != 0 && stat.start.0 != start))
    }

    /// The status of one that is dead and not yet reaped, as `wait(2)` will have it
    /// (`proc_pid_stat(5)`, field 52: 0 also without the right to look).
    pub(super) fn status(&self, tgid: u32, start: u64) -> Option<u32> {
        let stat = self.stat(tgid).filter(|stat| start == 0 || stat.start.0 == start)?;
        let text = std::fs::read(self.roots.proc.join(tgid.to_string()).join("stat")).ok()?;
        let last = text.trim_ascii_end().rsplit(|byte| *byte == b' ').next()?;
        let status: u32 = str::from_utf8(last).ok()?.parse().ok()?;
        (stat.is_zombie() || status != 0).then_some(status & 0xffff)
    }

    /// The thread group of a thread.
    pub(super) fn group_of(&self, pid: u32) -> Option<u32> {
        Some(ProcDir::open(&self.roots.proc, pid)?.status()?.tgid)
    }

    /// Whether the process has a handler for the signal.
    pub(super) fn catches(&self, tgid: u32, signal: u32) -> bool {
        let status = ProcDir::open(&self.roots.proc, tgid).and_then(|dir| dir.status());
        status.is_some_and(|status| status.catches(signal as i32))
    }

    /// The memory cgroup of a process; 0 where `/proc` does not say, as of one that is leaving.
    pub(super) fn memcg_of(&mut self, tgid: u32) -> u64 {
        let membership = ProcDir::open(&self.roots.proc, tgid).and_then(|dir| dir.cgroup());
        let path = membership.and_then(|membership| membership.memory.or(membership.v2));
        path.map_or(0, |path| self.memcg(&path))
    }

    /// The id of a memory cgroup by its path; 0 if there is none.
    pub(super) fn memcg(&mut self, path: &str) -> u64 {
        self.cgroups.id(Hierarchy::Memory, path)
    }

    fn glance(&mut self, tgid: u32) {
        let read = || {
            let dir = ProcDir::open(&self.roots.proc, tgid)?;
            Some((dir.stat()?, dir.status()?))
        };
        let Some((stat, status)) = read().filter(|(_, status)| status.tgid == tgid) else {
            return;
        };
        let task = TaskRef { start_boot_ns: stat.start.0, tgid, uid: status.uid, comm: name(&stat.comm) };
        let person = Person {
            task,
            parent: stat.parent,
            cgroup: CgroupRef::ZERO,
            exe: ExeRef::ZERO,
            args: Args::ZERO,
            is_dead: false,
        };
        if self.known.peek(&tgid).is_none_or(|known| known.task.start_boot_ns != stat.start.0) {
            self.known.insert(tgid, person);
        }
    }

    fn stat(&self, tgid: u32) -> Option<Stat> {
        ProcDir::open(&self.roots.proc, tgid)?.stat()
    }

    fn cgroup_ref(&mut self, hierarchy: Hierarchy, path: &str) -> CgroupRef {
        let id = self.cgroups.id(hierarchy, path);
        let hierarchy = match hierarchy {
            Hierarchy::V2 => CgroupRef::V2,
            Hierarchy::V1Memory => CgroupRef::V1_MEMORY,
            Hierarchy::Memory => return CgroupRef::ZERO,
        };
        if id == 0 { CgroupRef::ZERO } else { CgroupRef { id, hierarchy, pad: 0 } }
    }
}

/// Threads of the kernel are children of kthreadd, which has the number 2 (init/main.c).
pub(super) fn is_of_kernel(person: &Person) -> bool {
    const KTHREADD: u32 = 2;
    person.task.tgid == KTHREADD || person.parent == KTHREADD
}

/// A name as records keep it.
pub(super) fn name(comm: &str) -> [u8; 16] {
    let mut name = [0; 16];
    let used = comm.len().min(name.len() - 1);
    name[..used].copy_from_slice(&comm.as_bytes()[..used]);
    name
}

/// `filename NUL argv[0] NUL …`, cut where the room ends.
fn args(filename: &[u8], argv: &[String]) -> Args {
    let words = argv.iter().flat_map(|word| word.bytes().chain([0]));
    let all: Vec<u8> = filename.iter().copied().chain([0]).chain(words).collect();
    let used = all.len().min(ARGS_MAX);
    let mut args = Args { len: used as u32, cut: (all.len() - used) as u32, ..Args::ZERO };
    args.bytes[..used].copy_from_slice(&all[..used]);
    args
}

#[cfg(test)]
mod tests {
    use super::*;

    fn people() -> People {
        People::new(Roots::default())
    }

    #[test]
    fn we_know_ourselves() {
        let own = std::process::id();
        let mut people = people();
        let person = people.learn(own, Some(b"/bin/x")).unwrap().clone();
        assert_eq!(person.args.filename(), Some(&b"/bin/x"[..]));
        assert!(person.task.start_boot_ns != 0 && person.exe.ino != 0 && person.args.argv().count() != 0);
        assert!(!people.is_over(own, person.task.start_boot_ns));
        assert!(people.is_over(own, person.task.start_boot_ns + 10_000_000), "another owner of the number");
        assert_eq!(people.group_of(own), Some(own));
    }

    #[test]
    fn a_zombie_tells_its_status() {
        let mut child = std::process::Command::new("/bin/sh").args(["-c", "exit 3"]).spawn().unwrap();
        let tgid = child.id();
        let mut people = people();
        let start = people.get(tgid).unwrap().task.start_boot_ns;
        for _attempt in 0..500 {
            if people.is_over(tgid, start) {
                break;
            }
            std::thread::sleep(core::time::Duration::from_millis(10));
        }
        // Only root may look.
        assert!(matches!(people.status(tgid, start), Some(0x300 | 0)));
        child.wait().unwrap();
        assert_eq!(people.status(tgid, start), None);
        assert!(people.is_over(tgid, start));
    }

    #[test]
    fn arguments_are_cut_where_the_room_ends() {
        let long = "x".repeat(300);
        let args = args(b"/bin/y", &[long]);
        assert_eq!((args.len, args.cut), (256, 7 + 301 - 256));
        assert_eq!(args.filename(), Some(&b"/bin/y"[..]));
    }
}
