//! Processes that are gone, or no more what they were, before anybody looks: what their records say, their source said.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use healer_tests::{
    cgroup::{MemoryCgroup, V2Cgroup},
    eye::Eye,
    home::{signal_to, until},
    scratch::{Scratch, unique_name},
    victim::{HOGS, Victim, built, compile},
};
use rustix::process::Signal;

pub const LIMIT: u64 = 64 << 20;
const FORBIDS: &str = include_str!("../../src/victims/forbids.c");

/// Where it is played; all but two begin in `group`.
struct Stage {
    dir: Scratch,
    group: V2Cgroup,
    later: V2Cgroup,
    doomed: V2Cgroup,
    memory: MemoryCgroup,
}

/// A process, and who started it.
pub struct Pair {
    pub by: u32,
    pub pid: u32,
}

/// What was true of each.
pub struct Scene {
    /// Ended with status 3 and was reaped.
    pub gone: Pair,
    /// Tracked; it was one program, and then another in another cgroup under another parent.
    pub changed: Pair,
    /// The first of these programs.
    pub first: PathBuf,
    pub killed: Pair,
    /// By `cgroup.kill`.
    pub struck: u32,
    /// A thread that is not its process's first, at which the blow was aimed.
    pub thread: u32,
    pub threaded: u32,
    /// In a thread that is not its first; no other program of the machine has its name.
    pub fault_name: String,
    pub forbids: u32,
    pub handles: u32,
    /// The victim, and whose wish was too much.
    pub oom: Pair,
    /// The parent of the one that is gone.
    _alive: Victim,
    stage: Stage,
}

impl Scene {
    /// Nobody looks meanwhile.
    pub fn play(eyes: &mut [Eye]) -> Self {
        let (group, later, doomed) = (V2Cgroup::new(), V2Cgroup::new(), V2Cgroup::new());
        let stage = Stage { dir: Scratch::new(), group, later, doomed, memory: MemoryCgroup::new() };
        let (gone, alive) = stage.comes_and_goes(eyes);
        let first = stage.file("first");
        fs::copy("/bin/sh", &first).expect("a shell can be copied");
        let changed = stage.becomes_another(&first, eyes);
        let fault_name = unique_name().replace("healer-test", "f");
        fs::rename(built(&stage.dir, "segv"), stage.file(&fault_name)).expect("one directory");
        stage.runs(&stage.file(&fault_name));
        let handles = built(&stage.dir, "handles");
        let (threaded, thread) = stage.dies_by_a_thread();
        Self {
            gone,
            changed,
            first,
            killed: stage.is_killed(),
            struck: stage.is_struck(),
            thread,
            threaded,
            fault_name,
            forbids: stage.runs(&compile(&stage.dir, "forbids", FORBIDS)),
            handles: stage.runs(&handles),
            oom: stage.runs_out_of_memory(),
            _alive: alive,
            stage,
        }
    }

    pub fn group(&self) -> u64 {
        inode(self.stage.group.path())
    }

    pub fn memory(&self) -> u64 {
        self.stage.memory.id()
    }
}

impl Stage {
    /// It ends with a status; then its parent has reaped it, and lives on.
    fn comes_and_goes(&self, eyes: &mut [Eye]) -> (Pair, Victim) {
        let (parent, pid) = self.is_tracked("gone", "exit 3", "wait; exec sleep 1000", eyes);
        until("the reaper", || is_called(parent.tgid(), "sleep"));
        (Pair { by: parent.tgid(), pid }, parent)
    }

    fn becomes_another(&self, first: &Path, eyes: &mut [Eye]) -> Pair {
        let words = format!("exec {} -c \"exec sleep 1000\"", first.display());
        let (parent, pid) = self.is_tracked("changed", &words, "exec sleep 1000", eyes);
        until("the second program", || is_called(pid, "sleep"));
        fs::write(self.later.path().join("cgroup.procs"), pid.to_string()).expect("it can be moved");
        Pair { by: parent.tgid(), pid }
    }

    /// A shell with a child that does as told once it is tracked.
    fn is_tracked(&self, name: &str, child: &str, parent: &str, eyes: &mut [Eye]) -> (Victim, u32) {
        let (file, go) = (self.file(name), self.file(&format!("{name}-go")));
        // Its own first exec is over when it says who it is.
        let script = format!(
            "sh -c 'echo $$ > {}; until [ -e {} ]; do sleep 0.02; done; {child}' & {parent}",
            file.display(),
            go.display()
        );
        let shell = self.start(&self.group, &script);
        let pid = until("the child", || number(&file));
        for eye in eyes {
            eye.sense.track(pid).expect("it can be tracked");
        }
        fs::write(&go, "").expect("the scratch directory can be written");
        (shell, pid)
    }

    fn is_killed(&self) -> Pair {
        let file = self.file("killed");
        let script = format!("sleep 1000 & echo $! > {}; kill -9 $!; wait; true", file.display());
        Pair { by: self.to_its_end(&script), pid: number(&file).expect("the shell wrote it") }
    }

    fn is_struck(&self) -> u32 {
        let mut victim = self.start(&self.doomed, "exec sleep 1000");
        until("the program", || is_called(victim.tgid(), "sleep"));
        self.doomed.kill();
        victim.wait();
        victim.tgid()
    }

    fn dies_by_a_thread(&self) -> (u32, u32) {
        let mut victim = Victim::start(built(&self.dir, "abba"), &[]);
        let tasks = format!("/proc/{}/task", victim.tgid());
        let thread = until("a second thread", || {
            let names = fs::read_dir(&tasks).into_iter().flatten().flatten();
            let mut threads = names.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
            threads.find(|thread| *thread != victim.tgid())
        });
        signal_to(thread, Signal::KILL);
        victim.wait();
        (victim.tgid(), thread)
    }

    fn runs_out_of_memory(&self) -> Pair {
        self.memory.set_limit(LIMIT);
        let run = |name| {
            let program = built(&self.dir, name);
            Victim::spawn(Command::new("/bin/sh").args(["-c", &self.memory.run(&program)]))
        };
        let mut hog = run("hog");
        hog.has_taken(HOGS);
        let leak = run("leak");
        hog.wait();
        Pair { by: leak.tgid(), pid: hog.tgid() }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn start(&self, group: &V2Cgroup, script: &str) -> Victim {
        let inside = format!("echo $$ > {}/cgroup.procs; {script}", group.path().display());
        Victim::start("/bin/sh", &["-c", &inside])
    }

    fn runs(&self, program: &Path) -> u32 {
        self.to_its_end(&format!("exec {}", program.display()))
    }

    fn to_its_end(&self, script: &str) -> u32 {
        let mut victim = self.start(&self.group, script);
        victim.wait();
        victim.tgid()
    }
}

pub fn inode(path: &Path) -> u64 {
    fs::metadata(path).expect("it is there").ino()
}

fn number(file: &Path) -> Option<u32> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

fn is_called(pid: u32, name: &str) -> Option<()> {
    let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    (comm.trim() == name).then_some(())
}
