//! Needs root, gcc and loop devices: who writes to a frozen file system is named with it, and so is the queue behind;
//! none of that is a deadlock, and it is over with the thaw.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use healer_tests::{
    binary::healer,
    frozen_disk::LoopDisk,
    hangs::{RECORD, Watch, build, family},
    scratch::Scratch,
    supervised::lives,
    victim::Victim,
};
use healer_userspace::{
    clock,
    engine::{
        class::{Certainty, Class},
        detect::deadlock::{Convoy, Root, convoys},
    },
    signal::waits::FileSystem,
};
use rustix::process::{Pid, Signal, kill_process};

#[expect(clippy::print_stdout, reason = "what was said, for whoever reads the test's output")]
fn say(line: &str) {
    println!("{line}");
}

/// Writes to a file of its own ten times a second.
struct Writer {
    mode: &'static str,
    file: PathBuf,
    victim: Victim,
}

impl Writer {
    /// Its lock lies in `locks`, where nothing is ever frozen.
    fn start(program: &Path, mode: &'static str, dir: &Path, locks: &Path) -> Self {
        let file = dir.join(mode);
        let lock = locks.join(format!("{mode}.lock"));
        let mut command = Command::new(program);
        let victim = Victim::spawn(command.arg(mode).arg(&file).arg(lock));
        Self { mode, file, victim }
    }

    fn pid(&self) -> u32 {
        self.victim.tgid()
    }

    /// Threads of it and its children, with the state of each.
    fn threads(&self) -> Vec<(u32, Option<char>)> {
        let threads = |pid: u32| {
            let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
            let tids = tasks.filter_map(|task| task.file_name().to_str()?.parse::<u32>().ok());
            tids.map(move |tid| (tid, state(pid, tid))).collect::<Vec<_>>()
        };
        family(self.pid()).into_iter().flat_map(threads).collect()
    }

    fn uninterruptible(&self) -> Option<u32> {
        self.threads().into_iter().find(|(_, state)| *state == Some('D')).map(|(tid, _)| tid)
    }

    /// The queue behind one of its threads.
    fn queue(&self, watch: &Watch, why: Root) -> Option<Convoy> {
        let tids: Vec<u32> = self.threads().into_iter().map(|(tid, _)| tid).collect();
        let convoys = convoys(watch.last_snapshot()?);
        convoys.into_iter().find(|one| tids.contains(&one.root) && one.why == why)
    }

    /// What `healer locks` says of it.
    fn locks(&self) -> String {
        let output = Command::new(healer()).args(["locks", &self.pid().to_string()]).output();
        let output = output.expect("healer can be started");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "a queue is no deadlock: {text}");
        say(&format!("{}: {text}", self.mode));
        text
    }
}

fn state(pid: u32, tid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/task/{tid}/stat")).ok()?;
    stat[stat.rfind(')')? + 1..].trim_start().chars().next()
}

/// Within twenty seconds, each try after `step`.
fn until(what: &str, mut step: impl FnMut(), mut is_so: impl FnMut() -> bool) {
    let deadline = clock::boot() + Duration::from_secs(20);
    while !is_so() {
        assert!(clock::boot() < deadline, "not within twenty seconds: {what}");
        step();
    }
}

fn pause() {
    thread::sleep(Duration::from_millis(50));
}

/// A writer that another waits for by a lock of files, one by a mutex, and one that makes and removes names.
fn writers(program: &Path, dir: &Path, locks: &Path) -> [Writer; 3] {
    let writers = ["flock", "mutex", "create"].map(|mode| Writer::start(program, mode, dir, locks));
    for writer in &writers {
        until("it writes", pause, || writer.file.exists());
    }
    writers
}

/// Scans on until `is_so`, thirty seconds at most.
fn scan_until(watch: &mut Watch, is_so: impl Fn(&Watch) -> bool) {
    let deadline = clock::boot() + Duration::from_secs(30);
    while !is_so(watch) {
        assert!(clock::boot() < deadline, "{:?}", watch.last_snapshot());
        watch.scan();
    }
}

#[test]
fn who_writes_to_a_frozen_file_system_is_named_with_it_until_the_thaw() {
    let (scratch, disk) = (Scratch::new(), LoopDisk::new());
    let well_dir = scratch.path().join("well");
    fs::create_dir(&well_dir).expect("the scratch directory can be written");
    let program = build(&scratch, "frozen_disk.c");
    let sick = writers(&program, disk.path(), scratch.path());
    let well = writers(&program, &well_dir, &well_dir);
    // Dropped before the writers, which do not end before.
    let frozen = disk.freeze();
    for writer in &sick {
        until("it waits for the thaw", pause, || writer.uninterruptible().is_some());
    }
    let mut watch = Watch::open_to_all();
    let point = disk.path().to_str().expect("a plain path").to_owned();
    let [flock, mutex, dying] = &sick;
    let queues = [flock, mutex];
    queues.iter().for_each(|writer| named_at_the_head_of_its_queue(&mut watch, writer, &point));
    for writer in &well[..2] {
        let text = writer.locks();
        assert!(text.contains("which runs") && !text.contains("ext4"), "{text}");
    }
    told_to_die(&mut watch, dying, &point);
    let deaf = |watch: &Watch, writer: &Writer| {
        let tids: Vec<u32> = writer.threads().into_iter().map(|(tid, _)| tid).collect();
        watch.last_snapshot().is_some_and(|one| one.deaf.iter().any(|one| tids.contains(&one.task.tid)))
    };
    scan_until(&mut watch, |watch| queues.iter().all(|writer| deaf(watch, writer)));

    drop(frozen);
    until("it dies, now that it may", pause, || !lives(dying.pid()));
    scan_until(&mut watch, |watch| !queues.iter().any(|writer| deaf(watch, writer)));
    for writer in queues.into_iter().chain(&well) {
        let is_called = |pid: &u32| watch.said.keys().any(|(said, class)| said == pid && ILL.contains(class));
        let called: Vec<u32> = family(writer.pid()).into_iter().filter(is_called).collect();
        assert!(called.is_empty() && lives(writer.pid()), "{}: {called:?}", writer.mode);
    }
    for writer in queues {
        until("its queue is behind one that runs", pause, || writer.locks().contains("which runs"));
    }
    assert!(!watch.found.contains_key(&dying.pid()), "a disk is no deadlock");
    record(&watch, "told_to_die_on_a_frozen_disk", &[dying.pid()]);
    record(&watch, "healthy_frozen_disk", &[mutex.pid()]);
}

const ILL: [Class; 2] = [Class::Deadlock, Class::Unkillable];

/// With the file system, by the scan and by the command.
fn named_at_the_head_of_its_queue(watch: &mut Watch, writer: &Writer, point: &str) {
    let root = writer.uninterruptible().expect("it waits for the thaw");
    let heads =
        |watch: &Watch| writer.queue(watch, Root::Uninterruptible).is_some_and(|queue| queue.root == root);
    scan_until(watch, heads);
    let seen = watch.last_seen(root).expect("it is at the head of a queue");
    let ours = FileSystem { kind: "ext4".to_owned(), point: point.to_owned(), is_frozen: true };
    assert_eq!(seen.file_system.as_ref(), Some(&ours), "{}", writer.mode);
    let text = writer.locks();
    for part in [
        format!("behind frozen_disk_c[{root}], which is in uninterruptible sleep"),
        format!("on ext4 at {point}, which is frozen"),
    ] {
        assert!(text.contains(&part), "{part} is not in {text}");
    }
}

/// It is known by a name that it makes or removes, and not by what it has open.
fn told_to_die(watch: &mut Watch, writer: &Writer, point: &str) {
    let pid = Pid::from_raw(writer.pid().cast_signed()).expect("a pid");
    kill_process(pid, Signal::KILL).expect("it is there");
    let key = (writer.pid(), Class::Unkillable);
    scan_until(watch, |watch| watch.said.contains_key(&key));
    let found = &watch.said[&key];
    say(&found.sentence);
    assert_eq!((found.certainty, found.detail.kind.as_deref()), (Certainty::Proved, Some("uninterruptible")));
    let named = format!("on ext4 at {point}, which is frozen");
    assert!(found.sentence.ends_with(&named), "{} without {named}", found.sentence);
}

fn record(watch: &Watch, name: &str, pids: &[u32]) {
    if let Ok(dir) = std::env::var(RECORD) {
        let path = Path::new(&dir).join(format!("{name}.jsonl"));
        fs::write(path, watch.trace(pids)).expect("the directory for traces can be written");
    }
}
