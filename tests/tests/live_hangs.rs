//! Needs root and compilers: real programs, really stuck, beside others that only wait.

use std::{path::PathBuf, sync::OnceLock, time::Duration};

use healer_tests::{
    hangs::{Watch, build, family},
    scratch::Scratch,
    victim::Victim,
};
use healer_userspace::engine::class::Certainty;

struct Programs {
    dir: Scratch,
    c: PathBuf,
    cc: PathBuf,
    rs: PathBuf,
}

fn programs() -> &'static Programs {
    static PROGRAMS: OnceLock<Programs> = OnceLock::new();
    PROGRAMS.get_or_init(|| {
        let dir = Scratch::new();
        let (c, cc, rs) = (build(&dir, "locks.c"), build(&dir, "locks.cc"), build(&dir, "locks.rs"));
        Programs { dir, c, cc, rs }
    })
}

fn c(mode: &'static str) -> (&'static str, Victim) {
    let programs = programs();
    (mode, Victim::start(&programs.c, &[mode, programs.dir.path().to_str().expect("a plain path")]))
}

fn rust(mode: &'static str) -> (&'static str, Victim) {
    (mode, Victim::start(&programs().rs, &[mode]))
}

#[test]
fn what_is_locked_for_ever_is_proved() {
    let mut victims: Vec<(&'static str, Victim)> = [
        "abba",
        "abba_live",
        "three",
        "pi",
        "recursive",
        "robust",
        "self",
        "rwlock",
        "shared",
        "pipes",
        "pipe_self",
        "flock",
        "ofd",
        "flock_pipe",
        "lost_wakeup",
    ]
    .into_iter()
    .map(c)
    .collect();
    victims.push(("std::mutex", Victim::start(&programs().cc, &[])));
    victims.push(rust("mutex"));
    victims.push(rust("static"));
    let mut watch = Watch::open();
    std::thread::sleep(Duration::from_millis(600));
    let pids: Vec<_> = victims.iter().map(|(name, victim)| (*name, family(victim.tgid()))).collect();
    let missing = watch.wait_for(&pids, Certainty::Proved, Duration::from_secs(12));
    for (name, pids) in &pids {
        let said = pids.iter().find_map(|pid| watch.found.get(pid));
        println!("{name}: {}", said.map_or("-", |said| &said.sentence));
    }
    assert!(missing.is_empty(), "not proved: {missing:?}");
}
