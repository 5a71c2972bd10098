//! Who counts as failing for those who use it.

use super::*;
use crate::signal::network::Listens;

const DB: &str = "unit/db.service";

fn db() -> Process {
    Process { comm: "db".into(), exe: Some("/usr/bin/db".into()), main: true, ..served(20, SECOND, DB) }
}

fn fails_after(exit: Exit, is_expected: bool) -> bool {
    let mut set = policies(Mode::Enforce, &[ActionName::Restart]);
    set.policies[0].matches = Match { exes: vec!["/usr/bin/db".into()], ..Match::default() };
    set.policies[0].expect.running = is_expected;
    let mut engine = Engine::new(BootTime(SECOND), set, Recovered::default());
    engine.observe(BootTime(2 * SECOND), &signal(2 * SECOND, &db(), Fact::Execed));
    engine.observe(BootTime(3 * SECOND), &signal(3 * SECOND, &db(), Fact::Exited(exit)));
    engine.advance(BootTime(90 * SECOND));
    engine.failing_since(&WorkloadKey(DB.into())).is_some()
}

#[test]
fn who_has_done_its_work_does_not_fail_those_who_used_it() {
    let crash = Exit { signal: Some(libc::SIGSEGV), ..Exit::default() };
    assert!(!fails_after(Exit::default(), false));
    assert!(fails_after(Exit::default(), true), "it should run");
    assert!(fails_after(crash, false));
}

#[test]
fn who_listened_long_ago_is_nobodys_server() {
    let address = "10.0.0.1:80".parse().unwrap();
    let mut engine = Engine::new(BootTime(SECOND), PolicySet::default(), Recovered::default());
    let mut tell = |second: u64, on| {
        let listens = Listens { cookie: 1, netns: 7, cgroup: 5, address, on };
        engine.observe(BootTime(second * SECOND), &signal(second * SECOND, &db(), Fact::Listens(listens)));
        let other = signal((second + 1) * SECOND, &served(30, SECOND, "unit/x.service"), Fact::Execed);
        engine.observe(BootTime((second + 1) * SECOND), &other);
        engine.world().topology().server(7, &address).is_some()
    };
    assert!(tell(2, true) && tell(10, false), "its clients may be down for it");
    let later = signal(1000 * SECOND, &served(30, SECOND, "unit/x.service"), Fact::Execed);
    engine.observe(BootTime(1000 * SECOND), &later);
    assert!(engine.world().topology().server(7, &address).is_none());
}
