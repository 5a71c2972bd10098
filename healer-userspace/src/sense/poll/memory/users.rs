//! The processes of one cgroup, and how they grow: asked only near the limit, once a second.

use core::time::Duration;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use super::{
    members::{PROCESSES_MAX, members},
    millis,
    trend::Trend,
};
use crate::{
    engine::time::BootTime,
    identity::{
        process::{Process, ProcessId},
        procfs::{self, ProcDir},
    },
    signal::memory::{Grown, Growth, MemoryUser, Taken},
};

const INTERVAL: Duration = Duration::from_millis(950);
/// Of a node with more processes: all of them so often, and between that whoever has or takes most.
const WALK_EVERY: Duration = Duration::from_secs(10);
/// After a longer pause all are met anew: what they have grown by meanwhile is not of late.
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// Fewer: one of them has grown by half of what both have.
const WORKERS_MIN: usize = 3;
/// Whoever is younger is being filled.
const GROWN_UP: Duration = Duration::from_secs(20);
/// Told of, by growth and by size each.
const TOLD: usize = 3;

#[derive(Default)]
pub(super) struct Users {
    known: BTreeMap<u32, User>,
    looked: Option<BootTime>,
    walked: Option<BootTime>,
    /// Of the cgroup or the node, whose processes they are.
    whole: Trend,
}

struct User {
    id: ProcessId,
    met: BootTime,
    /// At the first look; 0 if it began after the look before that.
    first: Size,
    /// When it was first seen grown up.
    of_age: Option<Size>,
    trend: Trend,
    now: Size,
    faults: u64,
    faulted: u64,
    parent: u32,
    comm: String,
}

/// Bytes.
#[derive(Clone, Copy, Default)]
struct Size {
    anon: u64,
    reserved: u64,
}

impl Users {
    /// `taken` by all of it.
    pub(super) fn look(&mut self, now: BootTime, proc: &Path, cgroup: &Path, taken: u64) {
        self.look_at(now, proc, members(cgroup).into_iter().take(PROCESSES_MAX), taken);
    }

    /// At the processes of the node.
    pub(super) fn look_around(&mut self, now: BootTime, proc: &Path, taken: u64) {
        let is_walked = self.walked.is_some_and(|at| now.since(at) < WALK_EVERY);
        if !is_walked || self.known.len() <= PROCESSES_MAX {
            self.look_at(now, proc, procfs::pids(proc), taken);
            self.walked = self.looked;
            return;
        }
        let who_matters = self.who_matters();
        let all = core::mem::take(&mut self.known).into_iter();
        let (known, others): (BTreeMap<_, _>, BTreeMap<_, _>) =
            all.partition(|(pid, _)| who_matters.contains(pid));
        self.known = known;
        self.look_at(now, proc, who_matters.into_iter(), taken);
        self.known.extend(others);
    }

    fn who_matters(&self) -> BTreeSet<u32> {
        let mut all: Vec<&User> = self.known.values().collect();
        all.sort_by_cached_key(|user| core::cmp::Reverse(user.grown_lately().max(user.grown_from_low())));
        let growing: Vec<u32> = all.iter().take(PROCESSES_MAX / 2).map(|user| user.id.pid).collect();
        all.sort_by_key(|user| core::cmp::Reverse(user.now.anon));
        all.into_iter().take(PROCESSES_MAX / 2).map(|user| user.id.pid).chain(growing).collect()
    }

    fn look_at(&mut self, now: BootTime, proc: &Path, pids: impl Iterator<Item = u32>, taken: u64) {
        if self.looked.is_some_and(|at| now.since(at) < INTERVAL) {
            return;
        }
        let before = self.begin(now, taken);
        let mut known = core::mem::take(&mut self.known);
        for pid in pids {
            let Some(size) = size(proc, pid) else {
                continue;
            };
            let Some(faults) = Faults::of(proc, pid) else {
                continue;
            };
            // A pid that was given away again is of somebody else.
            let known = known.remove(&pid).filter(|user| user.id.start == faults.start);
            let user = known.unwrap_or_else(|| User::meet(pid, &faults, now, before, size));
            self.known.insert(pid, user.at(&faults, now, size));
        }
    }

    /// When the look before was, if they are known from it.
    fn begin(&mut self, now: BootTime, taken: u64) -> Option<BootTime> {
        if self.looked.is_some_and(|at| PAUSE_MAX < now.since(at)) {
            *self = Self::default();
        }
        self.whole.add(now, taken);
        self.looked.replace(now)
    }

    /// `None` before the first look.
    pub(super) fn grown(&self) -> Option<Grown> {
        self.looked?;
        let sum = |of: fn(&User) -> u64| self.known.values().map(of).sum::<u64>();
        let users = Growth { lately: sum(User::grown_lately), from_low: sum(User::grown_from_low) };
        Some(Grown { users, whole: self.whole.growth() })
    }

    /// Who grew most of late, who is biggest, who waits most for its own pages; each once.
    pub(super) fn told(&self) -> Vec<MemoryUser> {
        let mut all: Vec<_> = self.known.values().collect();
        all.sort_by_key(|user| core::cmp::Reverse((user.grown_lately(), user.now.anon)));
        let mut told: Vec<&User> = all.iter().copied().take(TOLD).collect();
        all.sort_by_key(|user| core::cmp::Reverse((user.grown_from_low(), user.now.anon)));
        let growing = all.first().copied();
        all.sort_by_key(|user| core::cmp::Reverse((user.faulted, user.now.anon)));
        let faulting = all.first().copied();
        all.sort_by_key(|user| core::cmp::Reverse(user.now.anon));
        for user in all.into_iter().take(TOLD).chain(faulting).chain(growing) {
            if told.iter().all(|one| one.id != user.id) {
                told.push(user);
            }
        }
        told.into_iter().map(|user| user.told(self.looked.unwrap_or(user.met))).collect()
    }
}

impl Users {
    /// Of one parent and one name, all grown up and all growing.
    pub(super) fn families(&self, now: BootTime) -> Vec<MemoryUser> {
        let mut siblings: BTreeMap<(u32, &str), Vec<&User>> = BTreeMap::new();
        let is_grown_up = |user: &&User| GROWN_UP <= now.since(user.id.start) && 0 < user.grown_lately();
        for user in self.known.values().filter(is_grown_up) {
            siblings.entry((user.parent, &user.comm)).or_default().push(user);
        }
        siblings
            .into_iter()
            .filter_map(|((parent, _), workers)| self.family(now, self.known.get(&parent)?, &workers))
            .collect()
    }

    /// `None` if they are too few, or if one of them has grown by half of it: then it is that one.
    fn family(&self, now: BootTime, parent: &User, workers: &[&User]) -> Option<MemoryUser> {
        let sum = |of: fn(&User) -> u64| workers.iter().map(|user| of(user)).sum::<u64>();
        let grown = sum(User::grown_lately);
        let most = workers.iter().map(|user| user.grown_lately()).max()?;
        (WORKERS_MIN <= workers.len() && 2 * most < grown).then(|| MemoryUser {
            process: Process { pid: parent.id.pid, start: parent.id.start, ..Process::default() },
            workers: workers.len() as u32,
            anon: sum(|user| user.now.anon),
            grown: sum(|user| user.now.anon.saturating_sub(user.first.anon)),
            reserved: sum(|user| user.now.reserved.saturating_sub(user.first.reserved)),
            watched_ms: workers.iter().map(|user| millis(now.since(user.met))).min().unwrap_or(0),
            grown_lately: grown,
            grown_from_low: sum(User::grown_from_low),
            of_age: Some(Taken {
                anon: sum(|user| user.since_of_age().map_or(0, |taken| taken.anon)),
                reserved: sum(|user| user.since_of_age().map_or(0, |taken| taken.reserved)),
            }),
            major_faults: sum(|user| user.faulted),
            oom_score: 0,
        })
    }
}

impl User {
    fn meet(pid: u32, faults: &Faults, now: BootTime, before: Option<BootTime>, size: Size) -> Self {
        let is_new = before.is_some_and(|before| before < faults.start);
        let first = if is_new { Size::default() } else { size };
        let id = ProcessId { pid, start: faults.start };
        let (trend, of_age) = (Trend::beginning(now, first.anon), None);
        let (parent, comm) = (faults.parent, faults.comm.clone());
        Self { id, met: now, first, of_age, trend, now: size, faults: faults.major, faulted: 0, parent, comm }
    }

    fn at(mut self, faults: &Faults, now: BootTime, size: Size) -> Self {
        self.now = size;
        self.faulted = faults.major.saturating_sub(core::mem::replace(&mut self.faults, faults.major));
        self.trend.add(now, size.anon);
        if GROWN_UP <= now.since(self.id.start) {
            self.of_age.get_or_insert(size);
        }
        self
    }

    fn since_of_age(&self) -> Option<Taken> {
        self.of_age.map(|then| Taken {
            anon: self.now.anon.saturating_sub(then.anon),
            reserved: self.now.reserved.saturating_sub(then.reserved),
        })
    }

    fn grown_from_low(&self) -> u64 {
        self.trend.grown_from_low()
    }

    fn grown_lately(&self) -> u64 {
        self.trend.grown_lately()
    }

    fn told(&self, now: BootTime) -> MemoryUser {
        MemoryUser {
            process: Process { pid: self.id.pid, start: self.id.start, ..Process::default() },
            anon: self.now.anon,
            grown: self.now.anon.saturating_sub(self.first.anon),
            reserved: self.now.reserved.saturating_sub(self.first.reserved),
            watched_ms: millis(now.since(self.met)),
            grown_lately: self.grown_lately(),
            grown_from_low: self.grown_from_low(),
            of_age: self.since_of_age(),
            major_faults: self.faulted,
            oom_score: oom_score(self.id.pid),
            workers: 0,
        }
    }
}

/// What a process has taken for good, in bytes.
pub(super) fn anon_of(proc: &Path, pid: u32) -> Option<u64> {
    size(proc, pid).map(|size| size.anon)
}

/// Resident, not from files and not shared; and the whole address space (proc_pid_statm(5)).
fn size(proc: &Path, pid: u32) -> Option<Size> {
    let text = fs::read_to_string(proc.join(format!("{pid}/statm"))).ok()?;
    let mut pages = text.split_ascii_whitespace().map_while(|pages| pages.parse::<u64>().ok());
    let (all, resident, shared) = (pages.next()?, pages.next()?, pages.next()?);
    let page = rustix::param::page_size() as u64;
    Some(Size { anon: resident.saturating_sub(shared) * page, reserved: all * page })
}

/// Of all its threads (`majflt`, proc_pid_stat(5)); and whose they are.
struct Faults {
    start: BootTime,
    major: u64,
    parent: u32,
    comm: String,
}

impl Faults {
    /// `None`: it is gone.
    fn of(proc: &Path, pid: u32) -> Option<Self> {
        let stat = ProcDir::open(proc, pid)?.stat()?;
        Some(Self { start: stat.start, major: stat.major_faults, parent: stat.parent, comm: stat.comm })
    }
}

fn oom_score(pid: u32) -> u32 {
    let text = fs::read_to_string(format!("/proc/{pid}/oom_score")).unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults() -> Faults {
        Faults { start: BootTime(1), major: 0, parent: 1, comm: "web".to_owned() }
    }

    fn user(anon: impl Fn(u64) -> u64, seconds: u64) -> User {
        let faults = faults();
        let at = |second: u64| BootTime(100_000_000_000 + second * 1_000_000_000);
        let size = |second| Size { anon: anon(second), reserved: 0 };
        let met = User::meet(7, &faults, at(0), None, size(0));
        (1..seconds).fold(met, |user, second| user.at(&faults, at(second), size(second)))
    }

    #[test]
    fn from_low_to_low_a_saw_has_not_grown_and_what_grew_long_ago_has_not_either() {
        assert_eq!(user(|second| 100 + 10 * (second % 7), 100).grown_from_low(), 0);
        let leaks = user(|second| 100 + second + 10 * (second % 7), 100).grown_from_low();
        assert!((75..100).contains(&leaks), "{leaks}");
        let filled = user(|second| second.min(200), 600);
        assert_eq!((filled.grown_from_low(), filled.told(BootTime(0)).grown), (0, 200));
    }

    #[test]
    fn like_workers_that_all_grow_are_one_family() {
        let families = |growth: [u64; 3], age: u64| {
            let mut users = Users::default();
            let now = BootTime(200_000_000_000);
            let start = now - Duration::from_secs(age);
            for (pid, growth) in [(7, 0)].into_iter().chain((8..).zip(growth)) {
                let mut one = user(|second| 100 + growth * second, 10);
                one.id = ProcessId { pid, start };
                one.parent = if pid == 7 { 1 } else { 7 };
                users.known.insert(pid, one);
            }
            users.families(now)
        };
        let found = families([5, 4, 6], 60);
        let [family] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!((family.process.pid, family.workers, family.grown_lately), (7, 3, 15 * 9));
        assert_eq!(families([5, 0, 6], 60), [], "two grow: one has half of it");
        assert_eq!(families([20, 4, 6], 60), [], "one has grown by more than the others");
        assert_eq!(families([5, 4, 6], 10), [], "they are being filled");
    }

    /// Of pid 7, which began at `start`; looked at in these seconds.
    fn looks(start: u64, looks: &[u64], anon: fn(u64) -> u64) -> Users {
        let mut users = Users::default();
        for second in looks {
            let (now, size) = (BootTime(second * 1_000_000_000), Size { anon: anon(*second), reserved: 0 });
            let faults = Faults { start: BootTime(start * 1_000_000_000), ..faults() };
            let before = users.begin(now, 1000 + anon(*second));
            let known = users.known.remove(&7);
            let user = known.unwrap_or_else(|| User::meet(7, &faults, now, before, size));
            users.known.insert(7, user.at(&faults, now, size));
        }
        users
    }

    fn grown(users: &Users) -> (Growth, Growth) {
        let grown = users.grown().unwrap();
        (grown.users, grown.whole)
    }

    #[test]
    fn after_a_pause_nobody_has_grown_by_what_was_taken_meanwhile() {
        let growth = |amount| Growth { lately: amount, from_low: amount };
        let users = looks(1, &[100, 101, 102, 9000], |second| second);
        assert_eq!(grown(&users), (growth(0), growth(0)));
        assert_eq!(users.known[&7].told(BootTime(0)).grown, 0, "begun long ago, and met now");
        let users = looks(1, &[100, 101, 102, 104], |second| second);
        assert_eq!(grown(&users), (growth(4), growth(4)));
        assert_eq!(Users::default().grown(), None);
    }

    #[test]
    fn what_a_process_takes_at_its_start_is_not_taken_since_it_is_of_age() {
        let all: Vec<u64> = (100..140).collect();
        let of_age = |start, end: usize| {
            let users = looks(start, &all[..end], |second| 10 * (second - 100));
            users.known[&7].told(BootTime(0)).of_age.map(|taken| taken.anon)
        };
        assert_eq!(of_age(100, 15), None, "it is young");
        assert_eq!(of_age(100, 40), Some(10 * (139 - 120)));
        assert_eq!(of_age(1, 40), Some(10 * 39), "it was of age when it was met");
    }

    #[test]
    fn of_many_who_has_and_who_takes_most_matter() {
        let mut users = Users::default();
        for pid in 1..=1000 {
            let growth = u64::from(pid == 500);
            let mut one = user(|second| u64::from(pid) + growth * second, 3);
            one.id.pid = pid;
            users.known.insert(pid, one);
        }
        let matter = users.who_matters();
        assert!(matter.contains(&500) && matter.contains(&1000) && !matter.contains(&400));
        assert!(matter.len() <= PROCESSES_MAX);
    }
}
