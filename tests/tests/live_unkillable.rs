//! Needs root and gcc: what no signal can end is said once, and not struck again.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use healer_common::event::Event;
use healer_tests::{
    hangs::{RECORD, Watch, build, family},
    home::{Home, count},
    ladder::eye_on,
    policies::policy,
    scratch::{Scratch, unique_name},
    supervised::{Supervised, lives, name},
    victim::Victim,
};
use healer_userspace::{
    clock,
    engine::{
        class::{Certainty, Class},
        diagnosis::Diagnosis,
    },
    sense::Level,
};
use rustix::process::{Pid, Signal, kill_process};

#[expect(clippy::print_stdout, reason = "what was said, for whoever reads the test's output")]
fn say(line: &str) {
    println!("{line}");
}

/// Ends with its family; the one that nothing ends, ends with the other that holds its lock.
struct Stuck {
    holder: Victim,
    waiter: u32,
    _dir: Scratch,
}

impl Stuck {
    fn start() -> Self {
        let dir = Scratch::new();
        let program = build(&dir, "locks.c");
        let holder = Victim::start(&program, &["inode_lock", dir.path().to_str().expect("a plain path")]);
        let deadline = clock::boot() + Duration::from_secs(10);
        loop {
            let others = family(holder.tgid()).into_iter().filter(|pid| *pid != holder.tgid());
            let waiter = others.into_iter().find(|pid| state(*pid) == Some('D'));
            if let Some(waiter) = waiter {
                return Self { holder, waiter, _dir: dir };
            }
            assert!(clock::boot() < deadline, "nobody sleeps uninterruptibly");
            thread::sleep(Duration::from_millis(20));
        }
    }
}

fn state(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat[stat.rfind(')')? + 1..].trim_start().chars().next()
}

fn kill(pid: u32) {
    kill_process(Pid::from_raw(pid.cast_signed()).expect("a pid"), Signal::KILL).expect("it is there");
}

/// Scans until `pid` is said to be unkillable, twenty seconds at most.
fn unkillable(watch: &mut Watch, pid: u32) -> Option<Diagnosis> {
    let deadline = clock::boot() + Duration::from_secs(20);
    while clock::boot() < deadline && !watch.said.contains_key(&(pid, Class::Unkillable)) {
        watch.scan();
    }
    watch.said.get(&(pid, Class::Unkillable)).cloned()
}

fn record(watch: &Watch, name: &str, pids: &[u32]) {
    if let Ok(dir) = std::env::var(RECORD) {
        let path = Path::new(&dir).join(format!("{name}.jsonl"));
        fs::write(path, watch.trace(pids)).expect("the directory for traces can be written");
    }
}

#[test]
fn whoever_was_told_to_die_and_cannot_is_named_with_the_holder_of_its_lock() {
    let (stuck, left_alone) = (Stuck::start(), Stuck::start());
    let mut watch = Watch::open();
    watch.scan();
    kill(stuck.waiter);
    let found = unkillable(&mut watch, stuck.waiter).expect("it sleeps uninterruptibly and was told to die");
    say(&found.sentence);
    assert_eq!((found.certainty, found.detail.kind.as_deref()), (Certainty::Proved, Some("uninterruptible")));
    let holder = format!("a kernel lock that thread {} holds", stuck.holder.tgid());
    assert!(found.sentence.contains(&holder), "{} without {holder}", found.sentence);
    assert!(!watch.said.contains_key(&(left_alone.waiter, Class::Unkillable)), "it only sleeps");
    let waiter = stuck.waiter;
    drop(stuck);
    (0..4).for_each(|_| watch.scan());
    assert!(!lives(waiter), "with its holder gone it dies");
    record(&watch, "told_to_die", &[waiter]);
    record(&watch, "healthy_slow_disk", &[left_alone.waiter]);
}

/// Of the v1 freezer, which does not let SIGKILL through as that of v2 does; thawed and removed on drop.
struct Freezer {
    path: PathBuf,
    _mount: Option<Mount>,
}

impl Freezer {
    fn new() -> Self {
        let usual = PathBuf::from("/sys/fs/cgroup/freezer");
        let mount = if usual.join("cgroup.procs").exists() { None } else { Some(Mount::of_freezer()) };
        let root = mount.as_ref().map_or(usual.as_path(), |mount| mount.0.path());
        let path = root.join(unique_name());
        fs::create_dir(&path).expect("this test needs root, to make a cgroup of the v1 freezer");
        Self { path, _mount: mount }
    }

    fn write(&self, file: &str, text: &str) {
        fs::write(self.path.join(file), text).expect("the freezer takes it");
    }
}

/// The controller on a machine that mounts none of v1; unmounted on drop.
struct Mount(Scratch);

impl Mount {
    fn of_freezer() -> Self {
        let mount = Self(Scratch::new());
        let mut command = Command::new("mount");
        command.args(["-t", "cgroup", "-o", "freezer", "none"]).arg(mount.0.path());
        let status = command.status().expect("mount is there");
        assert!(status.success(), "this test needs CONFIG_CGROUP_FREEZER and cgroup v1, or root to mount it");
        mount
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(self.0.path()).status().ok();
    }
}

impl Drop for Freezer {
    fn drop(&mut self) {
        fs::write(self.path.join("freezer.state"), "THAWED").ok();
        let root = self.path.parent().unwrap_or(&self.path);
        for pid in fs::read_to_string(self.path.join("cgroup.procs")).unwrap_or_default().lines() {
            fs::write(root.join("cgroup.procs"), pid).ok();
        }
        for _attempt in 0..100 {
            if fs::remove_dir(&self.path).is_ok() {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn a_frozen_process_that_was_told_to_die_is_told_from_one_that_only_sleeps() {
    let (killed, frozen) =
        (Victim::start("/bin/sleep", &["100000"]), Victim::start("/bin/sleep", &["100000"]));
    // Thawed before the victims are reaped: they do not end frozen.
    let freezer = Freezer::new();
    for one in [&killed, &frozen] {
        freezer.write("cgroup.procs", &one.tgid().to_string());
    }
    freezer.write("freezer.state", "FROZEN");
    kill(killed.tgid());
    let mut watch = Watch::open();
    let found = unkillable(&mut watch, killed.tgid()).expect("it is frozen and was told to die");
    say(&found.sentence);
    assert_eq!((found.certainty, found.detail.kind.as_deref()), (Certainty::Proved, Some("frozen")));
    assert!(!watch.said.contains_key(&(frozen.tgid(), Class::Unkillable)));
    record(&watch, "frozen", &[killed.tgid()]);
}

/// Settings of khungtaskd, put back on drop.
struct Watchdog(Vec<(&'static str, String)>);

impl Watchdog {
    fn every_second() -> Self {
        const NEEDS: &str =
            "this test needs a kernel with CONFIG_DETECT_HUNG_TASK, and root that may write its settings";
        // -1: as many lines in the log as there are hung tasks.
        let keys = [
            ("hung_task_warnings", "-1"),
            ("hung_task_check_interval_secs", "1"),
            ("hung_task_timeout_secs", "1"),
        ];
        // Kept one by one: those that were written are put back also if the next cannot be.
        let mut kept = Self(Vec::new());
        for (key, value) in keys {
            let old = fs::read_to_string(path(key)).unwrap_or_else(|why| panic!("{NEEDS}: {key}: {why}"));
            kept.0.push((key, old));
            fs::write(path(key), value).unwrap_or_else(|why| panic!("{NEEDS}: {key}: {why}"));
        }
        kept
    }
}

fn path(key: &str) -> String {
    format!("/proc/sys/kernel/{key}")
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.0.iter().for_each(|(key, value)| drop(fs::write(path(key), value)));
    }
}

#[test]
fn the_kernels_own_watch_is_heard() {
    let stuck = Stuck::start();
    let mut eyes = Level::ALL.map(|level| (level, eye_on(level)));
    let _watchdog = Watchdog::every_second();
    for (level, eye) in &mut eyes {
        let hung = eye.wait_for(&format!("a hung task by {level:?}"), |_, event| match event {
            Event::TaskHung(hung) if hung.task.tgid == stuck.waiter => Some(*hung),
            _ => None,
        });
        let lacks_blocker = *level >= Level::Tracepoint;
        let holder = if lacks_blocker { 0 } else { stuck.holder.tgid() };
        assert_eq!((hung.pid, hung.blocker_owner), (stuck.waiter, holder), "{level:?}");
        assert_eq!(hung.flags, 0, "{level:?}: no thread of the kernel's");
        assert_ne!(hung.task.start_boot_ns, 0, "{level:?}");
    }
}

#[test]
fn what_did_not_die_of_sigkill_is_not_struck_again() {
    let name = name();
    let home = Home::new("");
    let rules = "
  expect: {probe: {exec: {command: [/bin/false]}, period: 1s, timeout: 1s, failures: 1, startGrace: 1s}}
  rules:
    - name: silent
      when: [{class: probe_failed}]
      escalate: [{do: stop, grace: 1s, timeout: 15s}, {do: kill, timeout: 15s}]
    - {name: deaf, when: [{class: unkillable}], escalate: [{do: notify}]}
";
    home.write_policy(&policy("enforce", &format!("supervise: {name}"), rules));
    let program = build(home.scratch(), "locks.c");
    let holders = healer_tests::supervised::Programs(program.clone());
    let mut agent = home.agent();
    let dir = home.path().to_str().expect("a plain path").to_owned();
    let service =
        Supervised::start(&home, &name, &[program.to_str().expect("a plain path"), "inode_waiter", &dir]);
    let workload = service.workload();
    let said = agent.record(&workload, "diagnosis", "unkillable");
    say(&said.to_string());
    let refused = agent.record(&workload, "gate", "no signal can end it");
    say(&refused.to_string());
    assert_eq!(count(&home.of(&workload), "intent", ""), 1, "one blow, and no other");
    drop(holders);
    drop(service);
}

#[test]
fn the_command_says_who_is_behind_whom() {
    let stuck = Stuck::start();
    let output = Command::new(healer_tests::binary::healer())
        .args(["locks", &stuck.waiter.to_string()])
        .output()
        .expect("healer can be started");
    let text = String::from_utf8_lossy(&output.stdout);
    say(&text);
    assert!(output.status.success(), "a queue is no deadlock: {text}");
}
