//! Needs root: real programs on the running kernel, real deaths.
//!
//! guest: an_exec_among_threads_is_no_death a_target_that_ignores_the_signal_is_known
//! guest: a_fault_that_its_target_handles_is_not_sent
//! old guest: a_fault_that_its_target_handles_is_not_sent a_target_that_ignores_the_signal_is_known
//! old guest: an_exec_among_threads_is_no_death

use std::{path::Path, process::Command, time::Duration};

use healer_common::event::{
    oom_kill::OomKill, part::CgroupRef, process_exec::ProcessExec, process_exit::ProcessExit,
    signal_sent::SignalSent,
};
use healer_tests::{
    cgroup::MemoryCgroup,
    eye::{Eye, as_exec, as_exit, as_oom_kill, as_signal},
    scratch::Scratch,
    victim::{HOGS, Victim, built},
};

const SIGKILL: u32 = 9;
const SIGSEGV: u32 = 11;
const SIGTERM: u32 = 15;

#[test]
fn a_fault_in_another_thread_is_one_death_with_its_address() {
    let mut eye = Eye::open();
    let dir = Scratch::new();
    let mut victim = Victim::start(built(&dir, "segv"), &["first", "second"]);
    let tgid = victim.tgid();
    let status = eye.watch_end(&mut victim);
    let (header, exit) = eye.exit_of(tgid);

    assert_eq!(exit.wait_status, status);
    assert_eq!(exit.signal(), Some(SIGSEGV as u8));
    assert_eq!(exit.task.comm(), b"segv");
    assert_eq!(exit.parent.tgid, std::process::id());
    assert!(exit.args.filename().unwrap().ends_with(b"/segv"));
    let argv: Vec<_> = exit.args.argv().skip(1).collect();
    assert_eq!(argv, [b"first".as_slice(), b"second"]);
    let uptime = header.at_ns - exit.task.start_boot_ns;
    assert!(50_000_000 < uptime && uptime < 10_000_000_000, "{uptime}");
    assert_eq!(eye.exits_of(tgid), 1);

    let sent = eye.signal_to(tgid, SIGSEGV);
    assert_eq!(sent.fault_address, 0x1230);
    assert_eq!(sent.si_code, 1, "SEGV_MAPERR");
    assert_ne!(sent.flags & SignalSent::BY_KERNEL, 0);
    assert_eq!(sent.sender.tgid, 0);
}

#[test]
fn a_failed_exit_of_an_untracked_process_arrives_with_the_sweep() {
    let mut eye = Eye::open();
    let mut victim = Victim::start("/bin/sh", &["-c", "exit 3"]);
    let tgid = victim.tgid();
    eye.watch_end(&mut victim);
    let (_, exit) = eye.exit_of(tgid);
    assert_eq!((exit.exit_code(), exit.signal()), (Some(3), None));
    assert_eq!(exit.flags & ProcessExit::TRACKED, 0);
}

#[test]
fn a_good_end_is_counted_and_not_sent() {
    let mut eye = Eye::open();
    let before = eye.sense.quiet_exits();
    let mut victim = Victim::start("/bin/true", &[]);
    let tgid = victim.tgid();
    eye.watch_end(&mut victim);
    assert_eq!(eye.exits_of(tgid), 0);
    assert!(before < eye.sense.quiet_exits());
}

#[test]
fn a_good_end_of_a_tracked_process_is_sent() {
    let mut eye = Eye::open();
    let mut victim = Victim::start("/bin/sh", &["-c", "sleep 0.3; exit 0"]);
    let tgid = victim.tgid();
    eye.sense.track(tgid).unwrap();
    eye.watch_end(&mut victim);
    let (_, exit) = eye.exit_of(tgid);
    assert_eq!(exit.wait_status, 0);
    assert_ne!(exit.flags & ProcessExit::TRACKED, 0);
    assert_eq!(eye.exits_of(tgid), 1);
    eye.sense.untrack(tgid).unwrap();
}

#[test]
fn a_leader_that_leaves_its_threads_is_not_dead() {
    let mut eye = Eye::open();
    let dir = Scratch::new();
    let mut victim = Victim::start(built(&dir, "leader"), &[]);
    let tgid = victim.tgid();
    eye.sense.track(tgid).unwrap();
    assert_eq!(eye.exits_of(tgid), 0, "threads go on");
    eye.watch_end(&mut victim);
    let (_, exit) = eye.exit_of(tgid);
    assert_eq!(exit.exit_code(), Some(5));
    assert_ne!(exit.pid, tgid, "a thread left last");
    assert_eq!(eye.exits_of(tgid), 1);
}

#[test]
fn an_exec_among_threads_is_no_death() {
    let mut eye = Eye::open();
    let dir = Scratch::new();
    let mut victim = Victim::start(built(&dir, "changer"), &[]);
    let tgid = victim.tgid();
    eye.sense.track(tgid).unwrap();
    // Its own start may be told too: spawn returns a moment before the kernel is done with it.
    let exec = eye.exec_of(tgid, "sh");
    assert_ne!(exec.flags & ProcessExec::TRACKED, 0);
    assert_ne!(exec.old_pid, tgid, "a thread called it");
    eye.watch_end(&mut victim);
    let (_, exit) = eye.exit_of(tgid);
    assert_eq!(exit.exit_code(), Some(4));
    assert_eq!(eye.exits_of(tgid), 1);
}

#[test]
fn a_kill_names_its_sender_and_comes_before_the_end() {
    let mut eye = Eye::open();
    let mut victim = Victim::start("/bin/sleep", &["60"]);
    let tgid = victim.tgid();
    let mut killer = Victim::start("/bin/sh", &["-c", &format!("kill -9 {tgid}; sleep 0.2")]);
    eye.watch_end(&mut victim);
    let sent = eye.signal_to(tgid, SIGKILL);
    assert_eq!(sent.sender.tgid, killer.tgid());
    assert_eq!(sent.sender.comm(), b"sh");
    assert_eq!(sent.si_code, 0, "SI_USER");
    assert_eq!(sent.result, SignalSent::DELIVERED);
    let (_, exit) = eye.exit_of(tgid);
    assert_eq!(exit.signal(), Some(SIGKILL as u8));
    let told = eye.seen.iter().filter_map(|(_, event)| {
        let sent = as_signal(event).filter(|sent| sent.target.tgid == tgid);
        let exit = as_exit(event).filter(|exit| exit.task.tgid == tgid);
        sent.map(|_| "signal").or(exit.map(|_| "exit"))
    });
    assert_eq!(told.collect::<Vec<_>>(), ["signal", "exit"]);
    eye.watch_end(&mut killer);
}

#[test]
fn a_target_that_ignores_the_signal_is_known() {
    let mut eye = Eye::open();
    let deaf = Victim::start("/bin/sh", &["-c", "trap '' TERM; sleep 60 & wait"]);
    let tgid = deaf.tgid();
    eye.pause(Duration::from_millis(300));
    let mut sender = Victim::start("/bin/sh", &["-c", &format!("kill -TERM {tgid}")]);
    eye.watch_end(&mut sender);
    let sent = eye.signal_to(tgid, SIGTERM);
    assert_eq!(sent.result, SignalSent::IGNORED);
    assert_eq!(eye.exits_of(tgid), 0);
}

#[test]
fn a_fault_that_its_target_handles_is_not_sent() {
    let mut eye = Eye::open();
    let dir = Scratch::new();
    let mut victim = Victim::start(built(&dir, "jvm"), &[]);
    let tgid = victim.tgid();
    eye.watch_end(&mut victim);
    eye.exit_of(tgid);
    let sent = eye.seen.iter().filter_map(|(_, event)| as_signal(event));
    let faults = sent.filter(|sent| sent.target.tgid == tgid).map(|sent| sent.fault_address);
    assert_eq!(faults.collect::<Vec<_>>(), [0x40]);
}

#[test]
fn a_watched_executable_is_seen_starting_and_others_are_not() {
    use std::os::unix::fs::MetadataExt as _;
    let mut eye = Eye::open();
    let dir = Scratch::new();
    let program = built(&dir, "watched");
    let file = std::fs::metadata(&program).unwrap();
    eye.sense.watch_exe(file.ino()).unwrap();
    let mut other = Victim::start("/bin/true", &[]);
    let mut victim = Victim::start(&program, &["argument"]);
    let (tgid, other_tgid) = (victim.tgid(), other.tgid());
    eye.watch_end(&mut other);
    eye.watch_end(&mut victim);
    let exec = eye.exec_of(tgid, "watched");
    assert_eq!(exec.flags, ProcessExec::WATCHED);
    assert_eq!((exec.exe.dev, exec.exe.ino), (file.dev(), file.ino()));
    assert_eq!(exec.args.argv().last(), Some(b"argument".as_slice()));
    let mut execs = eye.seen.iter().filter_map(|(_, event)| as_exec(event));
    assert!(!execs.any(|exec| exec.task.tgid == other_tgid));
    eye.sense.unwatch_exe(file.ino()).unwrap();
}

#[test]
fn an_oom_kill_names_victim_trigger_and_limit() {
    const LIMIT: u64 = 64 * 1024 * 1024;
    let mut eye = Eye::open();
    let dir = Scratch::new();
    let group = MemoryCgroup::new();
    group.set_limit(LIMIT);
    let start = |program: &Path| Victim::spawn(Command::new("/bin/sh").args(["-c", &group.run(program)]));
    let mut hog = start(&built(&dir, "hog"));
    hog.has_taken(HOGS);
    let leak = start(&built(&dir, "leak"));
    let tgid = hog.tgid();
    let killed = eye.wait_for("the OOM kill", |_, event| {
        as_oom_kill(event).filter(|kill| kill.victim.tgid == tgid).copied()
    });
    assert_eq!(killed.victim.comm(), b"hog");
    assert_eq!((killed.trigger.tgid, killed.trigger.comm()), (leak.tgid(), b"leak".as_slice()));
    assert_eq!(killed.scope, OomKill::SCOPE_MEMCG);
    assert_eq!((killed.victim_memcg, killed.trigger_memcg), (group.id(), group.id()));
    assert_eq!((killed.oom_memcg, killed.limit_bytes), (group.id(), LIMIT));
    assert!(LIMIT - (4 << 20) < killed.usage_bytes && killed.usage_bytes <= LIMIT);
    assert!(38 << 20 <= killed.rss_bytes, "{}", killed.rss_bytes);
    eye.watch_end(&mut hog);
    let (_, exit) = eye.exit_of(tgid);
    assert_eq!(exit.signal(), Some(SIGKILL as u8));
    if exit.cgroup.hierarchy == CgroupRef::V1_MEMORY {
        assert_eq!(exit.cgroup.id, group.id());
    }
    let sent = eye.signal_to(tgid, SIGKILL);
    assert_ne!(sent.flags & SignalSent::BY_KERNEL, 0);
}

#[test]
fn the_self_probe_comes_back() {
    let mut eye = Eye::open();
    eye.pause(Duration::from_secs(1));
    assert!(eye.sense.self_probe().seen.is_some());
}
