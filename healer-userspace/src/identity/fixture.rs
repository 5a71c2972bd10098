//! A made-up /proc and cgroup tree in a directory that goes away with its owner.

use std::{
    env, fs,
    os::unix::fs::{MetadataExt as _, symlink},
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU32, Ordering},
};

use super::roots::Roots;

pub(crate) struct Tree {
    root: PathBuf,
    is_hybrid: bool,
}

impl Tree {
    /// cgroup v2 alone.
    pub(crate) fn new() -> Self {
        let tree = Self::empty(false);
        tree.file("cgroup/cgroup.controllers", "memory pids");
        tree
    }

    /// v1 memory, and v2 without controllers at `unified`.
    pub(crate) fn hybrid() -> Self {
        let tree = Self::empty(true);
        tree.file("cgroup/unified/cgroup.controllers", "");
        tree.file("cgroup/memory/cgroup.procs", "");
        tree
    }

    fn empty(is_hybrid: bool) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("healer-identity-{}-{next}", process::id());
        let root = env::temp_dir().join(name);
        fs::create_dir_all(root.join("proc")).unwrap();
        Self { root, is_hybrid }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn roots(&self) -> Roots {
        Roots { proc: self.root.join("proc"), cgroup: self.root.join("cgroup") }
    }

    /// Writes a file and gives its absolute path.
    pub(crate) fn file(&self, path: &str, text: &str) -> String {
        let path = self.root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Makes a v2 cgroup and gives its id.
    pub(crate) fn cgroup(&self, path: &str) -> u64 {
        let mount = if self.is_hybrid { "cgroup/unified" } else { "cgroup" };
        self.directory(mount, path)
    }

    /// Makes a v1 memory cgroup and gives its id.
    pub(crate) fn memory_cgroup(&self, path: &str) -> u64 {
        self.directory("cgroup/memory", path)
    }

    fn directory(&self, mount: &str, path: &str) -> u64 {
        let dir = self.root.join(mount).join(path.trim_start_matches('/'));
        fs::create_dir_all(&dir).unwrap();
        fs::metadata(&dir).unwrap().ino()
    }

    pub(crate) fn process(&self, fake: &Fake) {
        self.remove(fake.pid);
        let dir = format!("proc/{}", fake.pid);
        let Fake { pid, comm, state, parent, threads, ticks, stack, .. } = fake;
        let stat = format!(
            "{pid} ({comm}) {state} {parent} 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 {threads} 0 {ticks} 0 0 0 0 0 {stack} 0\n"
        );
        self.file(&format!("{dir}/stat"), &stat);
        let ns_pids = fake.ns_pids.replace(' ', "\t");
        let uid = fake.uid;
        let status = format!("Name:\t{comm}\nTgid:\t{pid}\nUid:\t{uid}\t0\t0\t0\nNSpid:\t{pid}{ns_pids}\n");
        self.file(&format!("{dir}/status"), &status);
        self.file(&format!("{dir}/cgroup"), &fake.cgroup);
        self.file(&format!("{dir}/cmdline"), &fake.args);
        if let Some(exe) = &fake.exe {
            symlink(exe, self.root.join(&dir).join("exe")).unwrap();
        }
    }

    /// The process is gone.
    pub(crate) fn remove(&self, pid: u32) {
        drop(fs::remove_dir_all(self.root.join(format!("proc/{pid}"))));
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.root));
    }
}

/// What a made-up `/proc/PID` says.
#[derive(Clone)]
pub(crate) struct Fake {
    pid: u32,
    comm: String,
    state: char,
    parent: u32,
    threads: u32,
    ticks: u64,
    stack: u64,
    uid: u32,
    ns_pids: String,
    cgroup: String,
    args: String,
    exe: Option<String>,
}

impl Fake {
    /// A living child of pid 1 that started at tick `pid`, in the root cgroup.
    pub(crate) fn new(pid: u32, comm: &str) -> Self {
        Self {
            pid,
            comm: comm.to_owned(),
            state: 'S',
            parent: 1,
            threads: 1,
            ticks: pid.into(),
            stack: 0,
            uid: 0,
            ns_pids: String::new(),
            cgroup: "0::/\n".to_owned(),
            args: format!("{comm}\0"),
            exe: None,
        }
    }

    pub(crate) fn child_of(mut self, parent: u32) -> Self {
        self.parent = parent;
        self
    }

    pub(crate) fn started(mut self, ticks: u64) -> Self {
        self.ticks = ticks;
        self
    }

    /// Its leader has ended; so many threads are left, the leader counted.
    pub(crate) fn zombie(mut self, threads: u32) -> Self {
        (self.state, self.threads) = ('Z', threads);
        self
    }

    pub(crate) fn stack(mut self, stack: u64) -> Self {
        self.stack = stack;
        self
    }

    pub(crate) fn uid(mut self, uid: u32) -> Self {
        self.uid = uid;
        self
    }

    /// Pids in the namespaces below the host's, for example " 1".
    pub(crate) fn inside(mut self, ns_pids: &str) -> Self {
        self.ns_pids = ns_pids.to_owned();
        self
    }

    pub(crate) fn in_cgroup(mut self, path: &str) -> Self {
        self.cgroup = format!("0::{path}\n");
        self
    }

    pub(crate) fn args(mut self, args: &[&str]) -> Self {
        self.args = args.iter().map(|arg| format!("{arg}\0")).collect();
        self
    }

    pub(crate) fn exe(mut self, path: &str) -> Self {
        self.exe = Some(path.to_owned());
        self
    }
}
