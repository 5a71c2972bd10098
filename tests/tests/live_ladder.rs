//! Needs root: every rung of every sensor on the running kernel, each forced, with real deaths.
//!
//! guest: all
//! old guest: by_classic_tracepoints_the_same_is_told_but_for_what_they_list
//! old guest: without_a_program_of_ours_the_same_is_told_but_for_what_is_listed
//! old guest: without_the_connector_the_zombie_or_the_signal_tells_the_status

use std::{process::Command, time::Duration};

use healer_common::event::{oom_kill::OomKill, process_exit::ProcessExit, signal_sent::SignalSent};
use healer_tests::{
    cgroup::MemoryCgroup,
    eye::{Eye, as_oom_kill, as_signal},
    ladder::{blind_by, eye_on, kernel_with},
    scratch::Scratch,
    victim::{HOGS, Victim, built},
};
use healer_userspace::sense::{Level, SENSORS, SensorState, Settings};

const SIGKILL: u8 = 9;
const SIGSEGV: u8 = 11;
/// `/proc` tells starts in these.
const TICK_NS: u64 = 10_000_000;

fn has_signals(level: Level) -> bool {
    level != Level::User
}

/// What happens before the eye of each rung, one after the other.
const SCENES: &[fn(&mut Eye, Level)] = &[
    the_rung_is_taken_and_says_what_it_lacks,
    a_fault_is_the_same_death,
    a_kill_is_the_same_and_names_its_sender,
    ends_of_a_tracked_process_are_told_and_of_others_only_failures,
    a_leader_that_leaves_its_threads_is_alive,
    a_watched_executable_is_seen_starting,
    an_oom_kill_is_the_same_class,
];

fn play_on(level: Level) -> Eye {
    let mut eye = eye_on(level);
    for scene in SCENES {
        scene(&mut eye, level);
        eye.seen.clear();
    }
    eye
}

#[test]
fn by_typed_arguments_all_is_told() {
    play_on(Level::TpBtf);
}

#[test]
fn by_bare_arguments_all_is_told() {
    play_on(Level::RawTp);
}

#[test]
fn by_classic_tracepoints_the_same_is_told_but_for_what_they_list() {
    let mut eye = play_on(Level::Tracepoint);
    a_handled_fault_is_not_told(&mut eye);
}

#[test]
fn without_a_program_of_ours_the_same_is_told_but_for_what_is_listed() {
    play_on(Level::User);
}

fn the_rung_is_taken_and_says_what_it_lacks(eye: &mut Eye, level: Level) {
    for (status, sensor) in eye.sense.sensors().iter().zip(SENSORS) {
        let Some(rung) = sensor.rungs.iter().find(|rung| rung.level() == level) else {
            assert_eq!(status.state, SensorState::Down, "{}", status.name);
            let reason = status.reason.as_deref().unwrap_or_default();
            assert!(reason.ends_with(sensor.otherwise), "{reason}");
            continue;
        };
        assert_eq!(status.via, Some(rung.via()), "{}: {:?}", status.name, status.reason);
        // Whether the records lack it, and no other: tests/live_fields.
        for field in rung.lacks() {
            assert!(status.missing.iter().any(|missing| missing == field), "{status:?}");
        }
        // A kernel may lack a field whatever the rung.
        let is_best = level == Level::TpBtf && status.missing.is_empty();
        let expected = if is_best { SensorState::Attached } else { SensorState::Degraded };
        assert_eq!(status.state, expected, "{status:?}");
        assert_eq!(status.reason.is_some(), level != Level::TpBtf, "why the best was not taken");
        if level == Level::RawTp {
            let reason = status.reason.as_deref().unwrap_or_default();
            assert!(reason.contains("the verifier refused it"), "{reason}");
        }
    }
}

fn a_fault_is_the_same_death(eye: &mut Eye, level: Level) {
    let dir = Scratch::new();
    let mut victim = Victim::start(built(&dir, "segv"), &["first"]);
    let tgid = victim.tgid();
    let status = eye.watch_end(&mut victim);
    let (header, exit) = eye.exit_of(tgid);
    assert_eq!(exit.wait_status, status, "{level:?}");
    assert_eq!(exit.signal(), Some(SIGSEGV));
    assert_eq!(exit.flags & (ProcessExit::PARTIAL | ProcessExit::NO_STATUS | ProcessExit::INFERRED), 0);
    assert_eq!(exit.task.comm(), b"segv");
    assert_eq!(exit.parent.tgid, std::process::id());
    let uptime = header.at_ns - exit.task.start_boot_ns;
    assert!(50_000_000 - TICK_NS < uptime && uptime < 10_000_000_000, "{level:?}: {uptime}");
    assert_eq!(eye.exits_of(tgid), 1, "{level:?}");
    if has_signals(level) {
        let sent = eye.signal_to(tgid, SIGSEGV.into());
        assert_ne!(sent.flags & SignalSent::BY_KERNEL, 0);
        let address = if level == Level::Tracepoint { 0 } else { 0x1230 };
        assert_eq!(sent.fault_address, address, "{level:?}: listed as missing");
    }
}

/// The sender is named where signals are seen.
fn a_kill_is_the_same_and_names_its_sender(eye: &mut Eye, level: Level) {
    let mut victim = Victim::start("/bin/sleep", &["60"]);
    let tgid = victim.tgid();
    eye.pause(Duration::from_millis(50));
    let mut killer = Victim::start("/bin/sh", &["-c", &format!("kill -9 {tgid}; sleep 0.2")]);
    eye.watch_end(&mut victim);
    let (_, exit) = eye.exit_of(tgid);
    assert_eq!(exit.signal(), Some(SIGKILL), "{level:?}");
    if has_signals(level) {
        let sent = eye.signal_to(tgid, SIGKILL.into());
        assert_eq!(sent.sender.tgid, killer.tgid(), "{level:?}");
        assert_eq!(sent.sender.comm(), b"sh");
        assert_eq!((sent.si_code, sent.result), (0, SignalSent::DELIVERED));
        assert_eq!(sent.target.start_boot_ns / TICK_NS, exit.task.start_boot_ns / TICK_NS);
    }
    eye.watch_end(&mut killer);
}

fn ends_of_a_tracked_process_are_told_and_of_others_only_failures(eye: &mut Eye, level: Level) {
    for code in [0, 1] {
        let script = format!("sleep 0.3; exit {code}");
        let mut tracked = Victim::start("/bin/sh", &["-c", &script]);
        let mut other = Victim::start("/bin/sh", &["-c", &script]);
        let (tgid, other_tgid) = (tracked.tgid(), other.tgid());
        eye.sense.track(tgid).unwrap();
        eye.watch_end(&mut tracked);
        eye.watch_end(&mut other);
        let (_, exit) = eye.exit_of(tgid);
        assert_eq!((exit.exit_code(), exit.signal()), (Some(code), None), "{level:?}");
        assert_ne!(exit.flags & ProcessExit::TRACKED, 0, "{level:?}");
        assert_eq!(eye.exits_of(tgid), 1, "{level:?}");
        if code == 0 {
            assert_eq!(eye.exits_of(other_tgid), 0, "{level:?}");
        } else {
            eye.exit_of(other_tgid);
        }
    }
}

fn a_leader_that_leaves_its_threads_is_alive(eye: &mut Eye, level: Level) {
    let dir = Scratch::new();
    let mut victim = Victim::start(built(&dir, "leader"), &[]);
    let tgid = victim.tgid();
    eye.sense.track(tgid).unwrap();
    assert_eq!(eye.exits_of(tgid), 0, "{level:?}: threads go on");
    eye.watch_end(&mut victim);
    let (_, exit) = eye.exit_of(tgid);
    assert_eq!(exit.exit_code(), Some(5), "{level:?}");
    assert_eq!(eye.exits_of(tgid), 1, "{level:?}");
}

fn a_watched_executable_is_seen_starting(eye: &mut Eye, level: Level) {
    use std::os::unix::fs::MetadataExt as _;
    let dir = Scratch::new();
    let program = built(&dir, "brief");
    let file = std::fs::metadata(&program).unwrap();
    eye.sense.watch_exe(file.ino()).unwrap();
    let mut victim = Victim::start(&program, &["argument"]);
    let tgid = victim.tgid();
    let exec = eye.exec_of(tgid, "brief");
    assert_eq!((exec.exe.dev, exec.exe.ino), (file.dev(), file.ino()), "{level:?}");
    assert_eq!(exec.args.argv().last(), Some(b"argument".as_slice()), "{level:?}");
    assert_eq!(exec.parent.tgid, std::process::id());
    eye.watch_end(&mut victim);
}

/// Who is killed is not who asked for too much; by every rung both are named.
fn an_oom_kill_is_the_same_class(eye: &mut Eye, level: Level) {
    const LIMIT: u64 = 64 << 20;
    let dir = Scratch::new();
    let group = MemoryCgroup::new();
    group.set_limit(LIMIT);
    let start = |name| {
        let run = group.run(&built(&dir, name));
        Victim::spawn(Command::new("/bin/sh").args(["-c", &run]))
    };
    let mut hog = start("hog");
    hog.has_taken(HOGS);
    let leak = start("leak");
    let tgid = hog.tgid();
    let killed = eye.wait_for(&format!("the OOM kill by {level:?}"), |_, event| {
        as_oom_kill(event).filter(|kill| kill.victim.tgid == tgid).copied()
    });
    assert_eq!(killed.victim.comm(), b"hog", "{level:?}");
    assert_eq!((killed.trigger.tgid, killed.trigger.comm()), (leak.tgid(), &b"leak"[..]), "{level:?}");
    assert_eq!(killed.scope, OomKill::SCOPE_MEMCG, "{level:?}");
    assert_ne!(killed.victim.start_boot_ns, 0, "{level:?}");
    let knows_limit = level != Level::Tracepoint;
    assert_eq!(killed.limit_bytes, if knows_limit { LIMIT } else { 0 }, "{level:?}: listed as missing");
    if knows_limit {
        assert_eq!(killed.oom_memcg, group.id(), "{level:?}");
    }
    eye.watch_end(&mut hog);
    let (_, exit) = eye.exit_of(tgid);
    assert_eq!(exit.signal(), Some(SIGKILL), "{level:?}");
    assert_eq!(exit.task.start_boot_ns / TICK_NS, killed.victim.start_boot_ns / TICK_NS);
}

/// As a kernel without memory cgroups, or one in which a tracepoint was renamed.
#[test]
fn a_sensor_with_several_hooks_goes_on_with_those_that_are_there() {
    for hook in ["mm_vmscan_memcg_reclaim_end", "mm_vmscan_direct_reclaim_begin"] {
        let settings = Settings { absent_hook: Some(hook.to_owned()), ..Settings::default() };
        let eye = Eye::with(&settings, &[]);
        let status = eye.sense.sensors().iter().find(|status| status.name == "reclaim_stall").unwrap();
        assert_eq!((status.via, status.state), (Some("tp_btf"), SensorState::Degraded), "{status:?}");
        assert!(status.missing.contains(&format!("vmscan:{hook}")), "{status:?}");
    }
}

/// As without CAP_SYSLOG.
#[test]
fn with_hidden_symbols_the_scope_of_an_oom_kill_is_a_guess_and_listed() {
    let hidden = Scratch::new();
    let kallsyms = hidden.path().join("kallsyms");
    std::fs::write(&kallsyms, "0000000000000000 t mem_cgroup_out_of_memory\n").unwrap();
    let settings = Settings { kallsyms, ..Settings::default() };
    let mut eye = Eye::with(&settings, &[]);
    let status = eye.sense.sensors().iter().find(|status| status.name == "oom_kill").unwrap();
    assert!(status.missing.iter().any(|field| field == "kallsyms:mem_cgroup_out_of_memory"), "{status:?}");
    assert_eq!((status.via, status.state), (Some("tp_btf"), SensorState::Degraded));
    assert!(status.remedy.as_deref().unwrap_or_default().contains("CAP_SYSLOG"), "{status:?}");
    let kill = an_oom_kill(&mut eye, "with hidden symbols");
    assert_eq!((kill.scope, kill.flags & OomKill::SCOPE_FROM_STACK), (OomKill::SCOPE_MEMCG, 0));
    let seen = Eye::open();
    let status = seen.sense.sensors().iter().find(|status| status.name == "oom_kill").unwrap();
    assert!(!status.missing.iter().any(|field| field.starts_with("kallsyms")), "{status:?}");
}

fn an_oom_kill(eye: &mut Eye, what: &str) -> OomKill {
    let dir = Scratch::new();
    let group = MemoryCgroup::new();
    group.set_limit(48 << 20);
    let run = group.run(&built(&dir, "grows"));
    let mut hog = Victim::spawn(Command::new("/bin/sh").args(["-c", &run]));
    let tgid = hog.tgid();
    let kill = eye.wait_for(&format!("the OOM kill {what}"), |_, event| {
        as_oom_kill(event).filter(|kill| kill.victim.tgid == tgid).copied()
    });
    eye.watch_end(&mut hog);
    kill
}

#[test]
fn without_the_connector_the_zombie_or_the_signal_tells_the_status() {
    let settings = Settings { connector: false, ..kernel_with(Level::Tracepoint) };
    let mut eye = Eye::with(&settings, blind_by(Level::Tracepoint));
    let mut victim = Victim::start("/bin/sh", &["-c", "sleep 0.2; kill -SEGV $$"]);
    let tgid = victim.tgid();
    eye.sense.track(tgid).unwrap();
    // Not reaped meanwhile.
    let (_, exit) = eye.exit_of(tgid);
    assert_eq!((exit.signal(), exit.flags & ProcessExit::NO_STATUS), (Some(SIGSEGV), 0));
    victim.wait();
}

/// The classic tracepoint does not say that it is handled.
fn a_handled_fault_is_not_told(eye: &mut Eye) {
    let dir = Scratch::new();
    let mut victim = Victim::start(built(&dir, "handles"), &[]);
    let tgid = victim.tgid();
    eye.watch_end(&mut victim);
    let faults = eye.seen.iter().filter_map(|(_, event)| as_signal(event));
    assert_eq!(faults.filter(|sent| sent.target.tgid == tgid).count(), 0);
}
