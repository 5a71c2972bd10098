//! Which cgroups have a memory limit: one walk, then what inotify tells of new ones and of limits that are written.

use core::{mem::MaybeUninit, time::Duration};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::{
    fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags},
    io::Errno,
};

use crate::engine::time::BootTime;

/// Of the tree, followed.
const DIRS_MAX: usize = 8192;
/// What an event may have missed.
const WALK_CALM: Duration = Duration::from_secs(60);
/// Without inotify.
const WALK_BLIND: Duration = Duration::from_secs(5);
/// v1 says "no limit" with `PAGE_COUNTER_MAX` pages: near `i64::MAX` (mm/page_counter.c).
const NO_LIMIT: u64 = 1 << 60;

pub(super) enum Change {
    /// It has a limit, perhaps another than before.
    Limited(String, u64),
    /// It has none, or is gone.
    Unlimited(String),
    /// All that have one were told.
    Walked,
}

pub(super) struct Tree {
    pub(super) mount: PathBuf,
    pub(super) is_v2: bool,
    /// Where pressure is told: v2, also beside v1.
    pub(super) unified: PathBuf,
    events: Option<OwnedFd>,
    /// Paths below the mount, by watch.
    watched: BTreeMap<i32, String>,
    limited: BTreeSet<String>,
    walked: Option<BootTime>,
    trouble: Option<String>,
}

impl Tree {
    /// Finds the hierarchy that controls memory: pure v2, hybrid or v1.
    pub(super) fn new(cgroup: &Path) -> Self {
        let is_pure = cgroup.join("cgroup.controllers").exists();
        let (v1, hybrid) = (cgroup.join("memory"), cgroup.join("unified"));
        let is_v2 = is_pure || !v1.is_dir();
        let unified = if is_pure { cgroup.to_owned() } else { hybrid };
        let mount = if is_v2 { unified.clone() } else { v1 };
        let events = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC);
        let trouble = events.as_ref().err().map(|error| format!("new cgroups are found every 5 s: {error}"));
        Self {
            mount,
            is_v2,
            unified,
            events: events.ok(),
            watched: BTreeMap::new(),
            limited: BTreeSet::new(),
            walked: None,
            trouble,
        }
    }

    pub(super) fn trouble(&self) -> Option<String> {
        self.trouble.clone()
    }

    /// `memory.pressure` of a cgroup; beside v1, of the v2 cgroup that its first member is in.
    pub(super) fn pressure_of(&self, proc: &Path, path: &str) -> Option<PathBuf> {
        if self.is_v2 {
            return Some(self.dir(path).join("memory.pressure"));
        }
        let members = fs::read_to_string(self.dir(path).join("cgroup.procs")).ok()?;
        let groups = fs::read_to_string(proc.join(members.lines().next()?).join("cgroup")).ok()?;
        let inside = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
        (!inside.is_empty()).then(|| self.unified.join(inside).join("memory.pressure"))
    }

    pub(super) fn dir(&self, path: &str) -> PathBuf {
        self.mount.join(path.trim_start_matches('/'))
    }

    /// What is new since the last call.
    pub(super) fn changes(&mut self, now: BootTime) -> Vec<Change> {
        let mut changes = Vec::new();
        let pause = if self.trouble.is_some() { WALK_BLIND } else { WALK_CALM };
        if self.walked.is_none_or(|at| pause <= now.since(at)) {
            self.walked = Some(now);
            changes.push(Change::Walked);
            self.walk("", &mut changes);
        }
        for event in self.read() {
            self.follow(&event, &mut changes);
        }
        changes
    }

    fn follow(&mut self, event: &Seen, changes: &mut Vec<Change>) {
        if event.flags.contains(ReadFlags::QUEUE_OVERFLOW) {
            self.walked = None;
            return;
        }
        let Some(parent) = self.watched.get(&event.watch).cloned() else {
            return;
        };
        if event.flags.contains(ReadFlags::IGNORED) {
            self.watched.remove(&event.watch);
            if self.limited.remove(&parent) {
                changes.push(Change::Unlimited(parent));
            }
        } else if event.flags.contains(ReadFlags::DELETE | ReadFlags::ISDIR) {
            // Its own watch ends later: files of it that are open hold it.
            let gone = format!("{parent}/{}", event.name);
            if self.limited.remove(&gone) {
                changes.push(Change::Unlimited(gone));
            }
        } else if event.flags.contains(ReadFlags::CREATE | ReadFlags::ISDIR) {
            self.walk(&format!("{parent}/{}", event.name), changes);
        } else if event.flags.contains(ReadFlags::MODIFY) && event.name == self.limit_file() {
            self.judge(&parent, changes);
        }
    }

    /// `top` and all below it.
    fn walk(&mut self, top: &str, changes: &mut Vec<Change>) {
        let mut waiting = vec![top.to_owned()];
        let mut left = DIRS_MAX;
        while let Some(path) = waiting.pop() {
            left -= 1;
            if left == 0 {
                self.trouble = Some(format!("more than {DIRS_MAX} cgroups: some are not looked at"));
                return;
            }
            // Before it is read: a child made in between is told twice rather than not at all.
            self.watch(&path);
            // The root has no limit of its own.
            if !path.is_empty() {
                self.judge(&path, changes);
            }
            for entry in fs::read_dir(self.dir(&path)).into_iter().flatten().flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    waiting.push(format!("{path}/{}", entry.file_name().to_string_lossy()));
                }
            }
        }
    }

    fn judge(&mut self, path: &str, changes: &mut Vec<Change>) {
        let text = fs::read_to_string(self.dir(path).join(self.limit_file())).unwrap_or_default();
        match text.trim().parse().ok().filter(|limit| (1..NO_LIMIT).contains(limit)) {
            Some(limit) => {
                self.limited.insert(path.to_owned());
                changes.push(Change::Limited(path.to_owned(), limit));
            }
            None if self.limited.remove(path) => changes.push(Change::Unlimited(path.to_owned())),
            None => {}
        }
    }

    pub(super) fn usage_file(&self) -> &'static str {
        if self.is_v2 { "memory.current" } else { "memory.usage_in_bytes" }
    }

    pub(super) fn limit_file(&self) -> &'static str {
        if self.is_v2 { "memory.max" } else { "memory.limit_in_bytes" }
    }

    fn watch(&mut self, path: &str) {
        let Some(events) = &self.events else {
            return;
        };
        let what = WatchFlags::CREATE | WatchFlags::DELETE | WatchFlags::MODIFY | WatchFlags::ONLYDIR;
        match inotify::add_watch(events, self.dir(path), what) {
            Ok(watch) => drop(self.watched.insert(watch, path.to_owned())),
            Err(Errno::NOSPC) => {
                self.trouble = Some(
                    "new cgroups are found every 5 s: fs.inotify.max_user_watches is reached".to_owned(),
                );
            }
            // It is gone.
            Err(_) => {}
        }
    }

    fn read(&self) -> Vec<Seen> {
        let Some(events) = &self.events else {
            return Vec::new();
        };
        let mut room = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(events, &mut room);
        let mut seen = Vec::new();
        // Until it would block.
        while let Ok(event) = reader.next() {
            let name = event.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            seen.push(Seen { watch: event.wd(), flags: event.events(), name });
        }
        seen
    }
}

struct Seen {
    watch: i32,
    flags: ReadFlags,
    name: String,
}
