//! A program that is run for a moment beside the server that it is.

use super::*;

fn after_an_errand(exit: Exit, server_lives: bool) -> Vec<String> {
    let mut set = policies(Mode::Enforce, &[ActionName::Restart]);
    set.policies[0].matches = Match { exes: vec!["/usr/sbin/nginx".into()], ..Match::default() };
    let server = served(10, SECOND, "unit/nginx.service");
    let errand = served(20, 5 * SECOND, "unit/logrotate.service");
    let mut signals = Vec::new();
    if server_lives {
        signals.push(signal(2 * SECOND, &server, Fact::Execed));
    }
    signals.push(signal(5 * SECOND, &errand, Fact::Execed));
    signals.push(signal(6 * SECOND, &errand, Fact::Exited(exit)));
    let tick =
        Signal { at: BootTime(30 * SECOND), process: None, fact: Fact::Levels(LevelSnapshot::default()) };
    signals.push(tick);
    run(&signals, set)
}

#[test]
fn an_errand_of_a_program_that_serves_elsewhere_is_not_down() {
    count(&after_an_errand(Exit::default(), true), "diagnosis down", 0);
    count(&after_an_errand(Exit::default(), false), "diagnosis down", 1);
    let cut_down = Exit { signal: Some(libc::SIGSEGV), ..Exit::default() };
    count(&after_an_errand(cut_down, true), "diagnosis down", 1);
}

#[test]
fn an_errand_that_fails_soon_is_not_down_and_a_server_that_fails_is() {
    let failed = Exit { code: 1, ..Exit::default() };
    count(&after_an_errand(failed, true), "diagnosis down", 0);
    count(&after_an_errand(failed, false), "diagnosis down", 1);
    let signals = |lived: u64| {
        let (first, second) =
            (served(10, SECOND, "unit/a.service"), served(20, 5 * SECOND, "unit/b.service"));
        let ends = (5 + lived) * SECOND;
        let tick = Fact::Levels(LevelSnapshot::default());
        vec![
            signal(2 * SECOND, &first, Fact::Execed),
            signal(5 * SECOND, &second, Fact::Execed),
            signal(ends, &second, Fact::Exited(failed)),
            Signal { at: BootTime(ends + 30 * SECOND), process: None, fact: tick },
        ]
    };
    let mut set = policies(Mode::Enforce, &[ActionName::Restart]);
    set.policies[0].matches = Match { exes: vec!["/usr/sbin/nginx".into()], ..Match::default() };
    count(&run(&signals(3), set.clone()), "diagnosis down", 0);
    count(&run(&signals(60), set), "diagnosis down", 1);
}
