//! The scan of the tasks and the engine behind it, open in a test; and programs that hang.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use healer_userspace::{
    clock,
    engine::{
        Engine,
        class::{Certainty, Class},
        command::Recovered,
        diagnosis::Diagnosis,
        policy::PolicySet,
        report::ReportFact,
    },
    sense::{Sense, Settings, poll::tasks, waits::Scanner},
    signal::{
        Fact, Signal,
        waits::{Condition, Owner, Task, WaitSnapshot},
    },
};

use crate::scratch::Scratch;

/// Names the directory where traces of the victims are to be kept.
pub const RECORD: &str = "HEALER_RECORD_TRACES";

/// Scans on, tells the engine, and keeps what it says of deadlocks.
pub struct Watch {
    scanner: Scanner,
    engine: Engine,
    /// By pid; of one process the last.
    pub found: BTreeMap<u32, Diagnosis>,
    /// By pid, the last of each class.
    pub said: BTreeMap<(u32, Class), Diagnosis>,
    pub scans: u32,
    pub history: Vec<Signal>,
}

impl Watch {
    /// # Panics
    /// If the scan does not attach: the test needs root.
    #[must_use]
    pub fn open() -> Self {
        let mut sense = Sense::start(&Settings::default());
        let status = sense.sensors().iter().find(|sensor| sensor.name == tasks::PROGRAM);
        let status = status.expect("the scan has a status");
        assert_eq!(status.via, Some("iter/task"), "live tests need root: {status:?}");
        let scanner = Scanner::new(sense.take_task_scan(), Path::new("/proc"));
        // A trace is to show why somebody was left alone.
        let is_recording = std::env::var_os(RECORD).is_some();
        Self::with(if is_recording { scanner.showing_all() } else { scanner })
    }

    /// Tells of everybody who waits for somebody in particular, also of those who are well.
    ///
    /// # Panics
    /// As [`Watch::open`] does.
    #[must_use]
    pub fn open_to_all() -> Self {
        let mut watch = Self::open();
        watch.scanner = watch.scanner.showing_all();
        watch
    }

    /// Why a process is not judged.
    #[must_use]
    pub fn left_out(&self, pid: u32) -> Option<Condition> {
        self.scanner.left_out(pid)
    }

    /// What the last scan told of a thread.
    #[must_use]
    pub fn last_seen(&self, tid: u32) -> Option<&Task> {
        self.last_snapshot()?.tasks.iter().find(|task| task.tid == tid)
    }

    #[must_use]
    pub fn last_snapshot(&self) -> Option<&WaitSnapshot> {
        match &self.history.last()?.fact {
            Fact::Waits(snapshot) => Some(snapshot),
            _ => None,
        }
    }

    /// As on a kernel without iterators.
    #[must_use]
    pub fn by_proc() -> Self {
        Self::with(Scanner::new(None, Path::new("/proc")))
    }

    fn with(scanner: Scanner) -> Self {
        let engine = Engine::new(clock::boot(), PolicySet::default(), Recovered::default());
        Self { scanner, engine, found: BTreeMap::new(), said: BTreeMap::new(), scans: 0, history: Vec::new() }
    }

    /// One scan, and the pause that the scanner asks for.
    ///
    /// # Panics
    /// If the kernel refuses the scan.
    pub fn scan(&mut self) {
        let snapshot = self.scanner.scan(&mut |_, _| None).expect("the scan works");
        let now = clock::boot();
        let signal = Signal { at: now, process: None, fact: Fact::Waits(snapshot) };
        self.engine.observe(now, &signal);
        self.history.push(signal);
        self.scans += 1;
        while self.engine.poll_command().is_some() {}
        while self.engine.poll_journal().is_some() {}
        while let Some(report) = self.engine.poll_report() {
            if let ReportFact::Diagnosis(diagnosis) = report.fact {
                if diagnosis.class == Class::Deadlock {
                    self.found.insert(diagnosis.target.pid, diagnosis.clone());
                }
                self.said.insert((diagnosis.target.pid, diagnosis.class), diagnosis);
            }
        }
        thread::sleep(self.scanner.interval());
    }

    /// Scans until every group of pids has a diagnosis of one of its members, or `patience` is over; gives the
    /// names of those that have none.
    pub fn wait_for(
        &mut self,
        victims: &[(&'static str, Vec<u32>)],
        certainty: Certainty,
        patience: Duration,
    ) -> Vec<&'static str> {
        let deadline = clock::boot() + patience;
        loop {
            self.scan();
            let found = &self.found;
            let is_missing = |pids: &[u32]| {
                !pids.iter().any(|pid| found.get(pid).is_some_and(|one| certainty <= one.certainty))
            };
            let missing: Vec<_> =
                victims.iter().filter(|(_, pids)| is_missing(pids)).map(|(name, _)| *name).collect();
            if missing.is_empty() || deadline < clock::boot() {
                return missing;
            }
        }
    }

    /// What was seen of these processes, as a trace: one line per scan, others left out.
    #[must_use]
    pub fn trace(&self, pids: &[u32]) -> String {
        let of_them = |snapshot: &WaitSnapshot| {
            let mut snapshot = snapshot.clone();
            snapshot.tasks.retain(|task| pids.contains(&task.tgid));
            let kept: Vec<u32> = snapshot.tasks.iter().map(|task| task.tid).collect();
            for wait in snapshot.tasks.iter_mut().flat_map(|task| &mut task.waits) {
                let is_ours = |owner: &Owner| match owner {
                    Owner::Task(tid) => kept.contains(tid),
                    Owner::Process(tgid) => pids.contains(tgid),
                    Owner::Gone(_) => true,
                };
                if !wait.owners.iter().all(is_ours) {
                    wait.owners.clear();
                }
            }
            snapshot.processes.retain(|one| pids.contains(&one.process.pid));
            snapshot.deaf.retain(|one| pids.contains(&one.task.tgid));
            snapshot
        };
        let mut lines = String::new();
        for signal in &self.history {
            if let Fact::Waits(snapshot) = &signal.fact {
                let snapshot = of_them(snapshot);
                // Before the first of them was seen nothing is to be learnt.
                if lines.is_empty() && snapshot.is_empty() {
                    continue;
                }
                let signal = Signal { fact: Fact::Waits(snapshot), ..signal.clone() };
                lines += &serde_json::to_string(&signal).expect("a signal is JSON");
                lines.push('\n');
            }
        }
        lines
    }
}

/// `pid` and its children, and theirs.
#[must_use]
pub fn family(pid: u32) -> Vec<u32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let children = fs::read_to_string(path).unwrap_or_default();
    let children = children.split_ascii_whitespace().filter_map(|child| child.parse().ok());
    std::iter::once(pid).chain(children.flat_map(family)).collect()
}

/// Builds `victims/SOURCE` with its own compiler; gives the program.
///
/// # Panics
/// With the compiler's words, if there is none or it refuses.
#[must_use]
pub fn build(dir: &Scratch, source: &str) -> PathBuf {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/victims").join(source);
    let to = dir.path().join(source.replace('.', "_"));
    let mut command = match from.extension().and_then(|extension| extension.to_str()) {
        Some("c") => with(&["gcc", "-O0", "-pthread"]),
        Some("cc") => with(&["g++", "-O0", "-pthread", "-std=c++20"]),
        Some("rs") => with(&["rustc", "-O", "--edition=2024"]),
        Some("go") => with(&["go", "build"]),
        Some("java") => with(&["javac", "-d", dir.path().to_str().expect("a plain path")]),
        // Without any library: 32-bit ones are rarely installed.
        Some("s") => with(&["gcc", "-m32", "-nostdlib", "-static"]),
        other => panic!("no compiler for {other:?}"),
    };
    if from.extension() != Some("java".as_ref()) {
        command.arg("-o").arg(&to);
    }
    run_compiler(command.arg(&from).env("GOCACHE", dir.path().join("go")), source);
    to
}

/// A program of Rust that unwinds nothing.
///
/// # Panics
/// As [`build`] does.
#[must_use]
pub fn build_aborting(dir: &Scratch, source: &str) -> PathBuf {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/victims").join(source);
    let to = dir.path().join(format!("{}_aborting", source.replace('.', "_")));
    let mut command = with(&["rustc", "-O", "-C", "panic=abort", "--edition=2024", "-o"]);
    run_compiler(command.arg(&to).arg(&from), source);
    to
}

/// As [`build`] does, with musl, all in one file.
///
/// # Panics
/// As [`build`] does.
#[must_use]
pub fn build_with_musl(dir: &Scratch, source: &str) -> PathBuf {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/victims").join(source);
    let to = dir.path().join(source.replace('.', "_"));
    run_compiler(with(&["musl-gcc", "-O1", "-static", "-o"]).arg(&to).arg(&from), source);
    to
}

fn run_compiler(command: &mut Command, source: &str) {
    let output = command.output().expect("the compiler is installed: cargo xtask test sees to that");
    assert!(output.status.success(), "{source}: {}", String::from_utf8_lossy(&output.stderr));
}

fn with(words: &[&str]) -> Command {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]);
    command
}
