//! Needs root, gcc, perl, python3 and flock(1): parents that wait for children that wait for them.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use healer_tests::{
    hangs::{Watch, build, family},
    scratch::{Scratch, unique_name},
    victim::Victim,
};
use healer_userspace::{clock, engine::class::Certainty};

type Family = (&'static str, Reaped);

/// A victim whose children end with it: not all of them ask for that.
struct Reaped(Victim);

impl Drop for Reaped {
    fn drop(&mut self) {
        for pid in family(self.0.tgid()).into_iter().skip(1) {
            let pid = rustix::process::Pid::from_raw(pid.cast_signed());
            pid.map(|pid| rustix::process::kill_process(pid, rustix::process::Signal::KILL));
        }
    }
}

fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/victims").join(name)
}

fn perl(dir: &Scratch, mode: &'static str) -> Family {
    let script = source("family.pl").display().to_string();
    (mode, Reaped(Victim::start("perl", &[&script, mode, &dir.path().display().to_string()])))
}

/// With SIGINT ignored, as below a script's `nohup`, Python catches no signal.
fn python(mode: &'static str, trap: &str) -> Family {
    let line = format!("{trap}exec python3 {} {mode}", source("family.py").display());
    (mode, Reaped(Victim::start("sh", &["-c", &line])))
}

/// A job under flock(1) that starts itself anew.
fn nested(dir: &Scratch, inner: &str) -> Reaped {
    let lock = dir.path().join(unique_name());
    let line = format!("flock {0} sh -c '{inner}; true'; true", lock.display())
        .replace("LOCK", &lock.display().to_string());
    Reaped(Victim::start("sh", &["-c", &line]))
}

fn members(families: &[Family]) -> Vec<(&'static str, Vec<u32>)> {
    families.iter().map(|(name, one)| (*name, family(one.0.tgid()))).collect()
}

#[expect(clippy::print_stdout, reason = "what was said, for whoever reads the test's output")]
fn say(watch: &Watch, families: &[Family]) {
    for (name, pids) in members(families) {
        let said = pids.iter().find_map(|pid| watch.found.get(pid));
        println!("{name}: {}", said.map_or("-", |said| &said.sentence));
    }
}

/// Scans until somebody of each family has a diagnosis that is so certain. Interpreters start helpers of their own:
/// who belongs to a family is asked anew.
fn expect(watch: &mut Watch, families: &[Family], certainty: Certainty) {
    let deadline = clock::boot() + Duration::from_secs(60);
    loop {
        watch.scan();
        let is_said = |pid: &u32| watch.found.get(pid).is_some_and(|one| certainty <= one.certainty);
        let missing: Vec<_> = members(families)
            .into_iter()
            .filter(|(_, pids)| !pids.iter().any(is_said))
            .map(|(name, _)| name)
            .collect();
        if missing.is_empty() || deadline < clock::boot() {
            say(watch, families);
            assert!(missing.is_empty(), "not {}: {missing:?}", certainty.name());
            return;
        }
    }
}

#[test]
fn a_family_that_waits_for_itself_is_found() {
    let dir = Scratch::new();
    let semaphores = build(&dir, "semaphores.c");
    let sure = [
        perl(&dir, "unread"),
        perl(&dir, "locked"),
        perl(&dir, "unwritten"),
        perl(&dir, "chain"),
        python("locks", "trap '' INT; "),
        python("popen", "trap '' INT; "),
        python("queue", "trap '' INT; "),
        ("semaphores", Reaped(Victim::start(&semaphores, &[]))),
    ];
    // An interrupt, which they catch, could end the wait.
    let interruptible =
        [python("locks", ""), python("popen", ""), ("nested", nested(&dir, "flock LOCK true"))];
    let mut watch = Watch::open();
    expect(&mut watch, &sure, Certainty::Proved);
    expect(&mut watch, &interruptible, Certainty::Probable);
}

#[test]
fn a_parent_of_somebody_who_works_or_that_gives_up_in_time_is_left_alone() {
    let dir = Scratch::new();
    let semaphores = build(&dir, "semaphores.c");
    let families = [
        perl(&dir, "watched"),
        perl(&dir, "busy"),
        python("held", ""),
        python("pool", ""),
        ("posted", Reaped(Victim::start(&semaphores, &["posted"]))),
        ("nested", nested(&dir, "sleep 100000")),
    ];
    let mut watch = Watch::open();
    let deadline = clock::boot() + Duration::from_secs(15);
    while clock::boot() < deadline {
        watch.scan();
    }
    say(&watch, &families);
    for ((name, pids), least) in members(&families).into_iter().zip([2, 3, 4, 4, 4, 3]) {
        assert!(pids.iter().all(|pid| !watch.found.contains_key(pid)), "{name}");
        assert!(least <= pids.len(), "{name} lives: {pids:?}");
    }
}
