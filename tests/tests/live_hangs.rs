//! Needs root and compilers: real programs, really stuck, beside others that only wait.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
    thread,
    time::Duration,
};

use healer_tests::{
    guard::Guard,
    hangs::{RECORD, Watch, build, build_aborting, build_with_musl, family},
    idle::Idle,
    scratch::{Scratch, unique_name},
    victim::Victim,
};
use healer_userspace::{
    clock,
    engine::{class::Certainty, detect::deadlock::convoys},
    sense::waits::prove_again,
    signal::waits::{Condition, Owner, Source, WaitKind},
};

type Named = (&'static str, Victim);

struct Programs {
    dir: Scratch,
    /// What is static is never dropped.
    _removes_dir: Guard,
    c: PathBuf,
    cc: PathBuf,
    rs: PathBuf,
    aborting: PathBuf,
    musl: PathBuf,
    compat: PathBuf,
}

fn programs() -> &'static Programs {
    static PROGRAMS: OnceLock<Programs> = OnceLock::new();
    PROGRAMS.get_or_init(|| {
        let dir = Scratch::new();
        let guard = Guard::start(r#"exec rm -rf -- "$1""#, dir.path());
        let (c, cc, rs) = (build(&dir, "locks.c"), build(&dir, "locks.cc"), build(&dir, "locks.rs"));
        let (musl, compat) = (build_with_musl(&dir, "musl.c"), build(&dir, "compat.s"));
        let aborting = build_aborting(&dir, "locks.rs");
        Programs { dir, _removes_dir: guard, c, cc, rs, aborting, musl, compat }
    })
}

/// Every victim has a directory of its own for its files.
fn c(mode: &'static str) -> Named {
    let programs = programs();
    let dir = programs.dir.path().join(unique_name());
    fs::create_dir(&dir).expect("the scratch directory can be written");
    (mode, Victim::start(&programs.c, &[mode, dir.to_str().expect("a plain path")]))
}

fn rust(mode: &'static str) -> Named {
    (mode, Victim::start(&programs().rs, &[mode]))
}

/// Where nothing is unwound a guard may be known by what its lock lies in alone.
fn aborting(mode: &'static str) -> Named {
    (mode, Victim::start(&programs().aborting, &[mode]))
}

fn musl(name: &'static str, mode: &str) -> Named {
    (name, Victim::start(&programs().musl, &[mode]))
}

fn parking_lot(name: &'static str, mode: &str) -> Named {
    (name, Victim::start(env!("CARGO_BIN_EXE_parking_lot_victim"), &[mode]))
}

/// Python catches SIGINT unless it is ignored from the start, as under most supervisors' `nohup`.
fn python(name: &'static str, mode: &str, ignores_interrupt: bool) -> Named {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/victims/threads.py");
    let trap = if ignores_interrupt { "trap '' INT; " } else { "" };
    let line = format!("{trap}exec python3 {} {mode}", script.display());
    (name, Victim::start("/bin/sh", &["-c", &line]))
}

fn pids(victims: &[Named]) -> Vec<(&'static str, Vec<u32>)> {
    victims.iter().map(|(name, victim)| (*name, family(victim.tgid()))).collect()
}

/// Waits for a diagnosis of each; says all of them.
fn expect(watch: &mut Watch, victims: &[Named], certainty: Certainty, patience: u64) {
    thread::sleep(Duration::from_millis(600));
    let pids = pids(victims);
    let missing = watch.wait_for(&pids, certainty, Duration::from_secs(patience));
    for (name, pids) in &pids {
        let said = pids.iter().find_map(|pid| watch.found.get(pid));
        say(&format!("{name}: {}", said.map_or("-", |said| &said.sentence)));
        record(watch, name, pids);
    }
    assert!(missing.is_empty(), "not {}: {missing:?}", certainty.name());
}

/// Keeps what was seen as a trace, where somebody asks for it.
fn record(watch: &Watch, name: &str, pids: &[u32]) {
    if let Ok(dir) = std::env::var(RECORD) {
        let path = Path::new(&dir).join(format!("{}.jsonl", name.replace(':', "")));
        fs::write(path, watch.trace(pids)).expect("the directory for traces can be written");
    }
}

#[expect(clippy::print_stdout, reason = "what was said, for whoever reads the test's output")]
fn say(line: &str) {
    println!("{line}");
}

#[test]
fn what_is_locked_for_ever_is_proved() {
    let modes = [
        "abba",
        "abba_live",
        "three",
        "pi",
        "recursive",
        "robust",
        "self",
        "rwlock",
        "shared",
        "shared_live",
        "pipes",
        "pipe_self",
        "flock",
        "ofd",
        "flock_pipe",
        "upgrade",
        "unix",
        "unix_self",
        "unix_flock",
        "lost_wakeup",
    ];
    let mut victims: Vec<Named> = modes.into_iter().map(c).collect();
    victims.push(("std::mutex", Victim::start(&programs().cc, &[])));
    victims.push(rust("mutex"));
    victims.push(rust("static"));
    victims.push(musl("musl", "alone"));
    victims.push(parking_lot("parking_lot", "alone"));
    victims.push(python("python", "abba", true));
    expect(&mut Watch::open(), &victims, Certainty::Proved, 15);
}

#[test]
fn thread_ids_of_another_pid_namespace_are_mapped() {
    let programs = programs();
    let inside = |mode: &'static str| {
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--kill-child"]).arg(&programs.c).args([mode, "/tmp"]);
        (mode, Victim::spawn(&mut command))
    };
    let victims = ["abba_live", "shared", "robust", "three"].map(inside);
    expect(&mut Watch::open(), &victims, Certainty::Proved, 15);
}

#[test]
fn without_proof_it_is_probable_after_ten_seconds() {
    let victims = [
        rust("mutex_served"),
        rust("rwlock_served"),
        rust("philosophers"),
        rust("mutex_ticking"),
        rust("crosswise_ticking"),
        ("aborting_mutex_ticking", aborting("mutex_ticking").1),
        ("aborting_crosswise_ticking", aborting("crosswise_ticking").1),
        parking_lot("parking_lot_served", "served"),
        parking_lot("parking_lot_ticking", "ticking"),
        c("orphan"),
        c("malloc_handler"),
        python("python_interruptible", "abba", false),
    ];
    let mut watch = Watch::open();
    let began = clock::boot();
    expect(&mut watch, &victims, Certainty::Probable, 25);
    assert!(Duration::from_secs(10) < clock::boot().since(began));
    for diagnosis in watch.found.values().filter(|one| is_of(&victims, one.target.pid)) {
        assert_eq!(diagnosis.certainty, Certainty::Probable, "{}", diagnosis.sentence);
    }
}

fn is_of(victims: &[Named], pid: u32) -> bool {
    pids(victims).iter().any(|(_, family)| family.contains(&pid))
}

#[test]
fn who_only_waits_is_never_flagged() {
    let modes = [
        "convoy",
        "pool",
        "sigwait",
        "handler",
        "number",
        "epoll",
        "accept",
        "timed",
        "stopped",
        "stopped_holder",
        "traced",
        "vfork",
        "contended",
        "slow_hand_over",
        "self_pipe",
        "pipeline",
        "unix_timeout",
        "unix_served",
        "inode_lock",
    ];
    let idle = Idle::start();
    let mut victims: Vec<Named> = modes.into_iter().map(c).collect();
    let of_rust = ["pool", "decoy", "decoy_ticking", "transfer", "transfer_ticking"];
    let joined = ["joined", "joined_ticking", "notified", "notified_ticking", "stages", "stages_ticking"];
    victims.extend(of_rust.into_iter().chain(joined).map(aborting));
    victims.push(musl("musl_transfer", "transfer"));
    victims.push(musl("musl_transfer_ticking", "transfer_ticking"));
    victims.push(python("python_queue", "queue", false));
    victims.push(("sleep", Victim::start("/bin/sleep", &["100000"])));
    let mut watch = Watch::open();
    let own = machines_own();
    let is_full = std::env::var_os("HEALER_FULL").is_some();
    let deadline = clock::boot() + Duration::from_secs(if is_full { 600 } else { 60 });
    while clock::boot() < deadline {
        watch.scan();
    }
    say(&format!(
        "{} scans of {} processes of this machine and {} of ours",
        watch.scans,
        own.len(),
        victims.len()
    ));
    let at_rest = idle.all().map(|(name, pid)| (name, family(pid)));
    for (name, pids) in at_rest.chain(own.into_iter().map(|(pid, name)| (name, vec![pid]))) {
        let said: Vec<_> = pids.iter().filter_map(|pid| watch.found.get(pid)).collect();
        assert!(said.is_empty(), "{name}: {said:#?}");
    }
    for (name, pids) in pids(&victims) {
        let said: Vec<_> = pids.iter().filter_map(|pid| watch.found.get(pid)).collect();
        assert!(said.is_empty(), "{name}: {said:#?}");
        record(&watch, name, &pids);
    }
}

/// Programs of the system that run already: neither ours, nor another test's.
fn machines_own() -> Vec<(u32, &'static str)> {
    let pids = fs::read_dir("/proc").expect("/proc is mounted").flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_systems = |pid: &u32| {
        let exe = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
        let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        exe.starts_with("/usr") && !line.contains("healer") && !line.contains("/victims/")
    };
    pids.filter(is_systems).map(|pid| (pid, "the machine's own")).collect()
}

#[test]
fn a_kernel_lock_names_its_holder() {
    let victim = c("inode_lock");
    let mut watch = Watch::open_to_all();
    let holder = victim.1.tgid();
    let deadline = clock::boot() + Duration::from_secs(20);
    let seen = loop {
        watch.scan();
        let waiters = family(holder).into_iter().filter(|pid| *pid != holder);
        let task =
            waiters.filter_map(|pid| watch.last_seen(pid)).find(|task| !task.waits.is_empty()).cloned();
        if let Some(task) = task {
            break task;
        }
        assert!(clock::boot() < deadline, "nobody waits for a kernel lock: {:?}", watch.history.last());
    };
    say(&format!("{seen:?}"));
    assert_eq!(seen.condition, Condition::Uninterruptible);
    let wait = &seen.waits[0];
    assert_eq!((wait.kind, wait.source), (WaitKind::KernelLock, Source::Kernel));
    assert_eq!(wait.owners, [Owner::Task(holder)], "{}", wait.says);
    let convoys = convoys(watch.last_snapshot().expect("a scan was made"));
    let convoy = convoys.iter().find(|convoy| convoy.root == holder).expect("the convoy names its root");
    assert!(convoy.waiters.contains(&seen.tid));
    say(convoy.why.says());
}

#[test]
fn a_32_bit_program_is_left_out_and_that_is_said() {
    let victim = Victim::start(&programs().compat, &[]);
    let mut watch = Watch::open();
    for _scan in 0..3 {
        watch.scan();
    }
    let why = watch.left_out(victim.tgid());
    assert_eq!(why, Some(Condition::Compat), "this kernel runs 32-bit programs (CONFIG_IA32_EMULATION)");
    assert!(!watch.found.contains_key(&victim.tgid()));
    let mut by_proc = Watch::by_proc();
    by_proc.scan();
    by_proc.scan();
    assert_eq!(by_proc.left_out(victim.tgid()), Some(Condition::Compat));
}

#[test]
fn a_frozen_process_is_left_alone_until_it_thaws() {
    let Some(cgroup) = Frozen::new() else {
        say("no v2 hierarchy with a freezer here");
        return;
    };
    let victim = c("abba_live");
    let pid = victim.1.tgid();
    thread::sleep(Duration::from_millis(300));
    cgroup.take(pid);
    cgroup.freeze(true);
    let mut watch = Watch::open();
    for _scan in 0..5 {
        watch.scan();
    }
    assert!(!watch.found.contains_key(&pid), "{:?}", watch.found.get(&pid));
    cgroup.freeze(false);
    expect(&mut watch, &[victim], Certainty::Proved, 10);
}

/// A v2 cgroup of the test's own; thawed and removed on drop.
struct Frozen(PathBuf);

impl Frozen {
    fn new() -> Option<Self> {
        let roots = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"].map(Path::new);
        let root = roots.into_iter().find(|root| root.join("cgroup.controllers").exists())?;
        let path = root.join(unique_name());
        fs::create_dir(&path).ok()?;
        path.join("cgroup.freeze").exists().then_some(Self(path))
    }

    fn take(&self, pid: u32) {
        fs::write(self.0.join("cgroup.procs"), pid.to_string()).expect("the process can be moved");
    }

    fn freeze(&self, is_frozen: bool) {
        fs::write(self.0.join("cgroup.freeze"), if is_frozen { "1" } else { "0" }).expect("it can be frozen");
        thread::sleep(Duration::from_millis(100));
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        fs::write(self.0.join("cgroup.freeze"), "0").ok();
        for pid in fs::read_to_string(self.0.join("cgroup.procs")).unwrap_or_default().lines() {
            let root = self.0.parent().unwrap_or(&self.0);
            fs::write(root.join("cgroup.procs"), pid).ok();
        }
        fs::remove_dir(&self.0).ok();
    }
}

#[test]
fn a_proof_holds_on_the_second_look_until_somebody_runs() {
    let victims = [c("abba"), c("flock"), c("lost_wakeup"), rust("static"), c("abba_live")];
    let mut watch = Watch::open();
    expect(&mut watch, &victims, Certainty::Proved, 10);
    let proof = |(_, victim): &Named| {
        let found = family(victim.tgid()).iter().find_map(|pid| watch.found.get(pid));
        found.and_then(|found| found.detail.proof.clone()).expect("it was proved")
    };
    for victim in &victims {
        let began = clock::boot();
        let outcome = prove_again(&proof(victim), Path::new("/proc"));
        say(&format!("{}: {outcome:?} in {:?}", victim.0, clock::boot().since(began)));
        assert_eq!(outcome, Ok(()), "{}", victim.0);
    }
    let [first, ..] = &victims;
    let pid = rustix::process::Pid::from_raw(first.1.tgid() as i32).expect("a pid");
    for signal in [rustix::process::Signal::STOP, rustix::process::Signal::CONT] {
        rustix::process::kill_process(pid, signal).expect("the victim lives");
        thread::sleep(Duration::from_millis(50));
    }
    let outcome = prove_again(&proof(first), Path::new("/proc"));
    assert!(outcome.as_ref().is_err_and(|error| error.contains("has run since")), "{outcome:?}");
}

#[test]
fn without_iterators_proc_shows_the_same() {
    let victims = [c("abba"), c("abba_live"), c("shared"), c("flock"), rust("static")];
    expect(&mut Watch::by_proc(), &victims, Certainty::Proved, 25);
}
