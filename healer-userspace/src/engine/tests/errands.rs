//! A program that is run for a moment beside the server that it is.

use super::*;
use std::path::Path;

use crate::{
    config::load::{DEFAULT_POLICY, check_text},
    identity::process::{Container, Place},
};

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

/// With the policy that healer has built in.
fn end_of(exit: Exit, place: Place, main: bool) -> Vec<String> {
    let name = if place.container.is_some() { "container/web" } else { "unit/web.service" };
    let one = Process { main, place, ..served(10, SECOND, name) };
    let tick = Fact::Levels(LevelSnapshot::default());
    let signals = [
        signal(2 * SECOND, &one, Fact::Execed),
        signal(60 * SECOND, &one, Fact::Exited(exit)),
        Signal { at: BootTime(90 * SECOND), process: None, fact: tick },
    ];
    let built_in = check_text(Path::new("default"), DEFAULT_POLICY, &|_class| true);
    run(&signals, built_in.unwrap_or_else(|_| panic!("it is checked by a test of its own")).policies)
}

#[test]
fn a_unit_or_container_that_is_cut_down_is_down_also_by_the_policy_built_in() {
    let by = |signal| Exit { signal: Some(signal), ..Exit::default() };
    let unit = Place { unit: Some("web.service".into()), ..Place::default() };
    let container = Container { id: "c1".into(), name: "web".into(), ..Container::default() };
    let container = Place { container: Some(container), ..Place::default() };
    for place in [&unit, &container] {
        for signal in [libc::SIGKILL, libc::SIGSEGV] {
            count(&end_of(by(signal), place.clone(), true), "diagnosis down", 1);
            count(&end_of(by(signal), place.clone(), false), "diagnosis down", 0);
        }
        for exit in [by(libc::SIGTERM), Exit::default(), Exit { code: 1, ..Exit::default() }] {
            count(&end_of(exit, place.clone(), true), "diagnosis down", 0);
        }
    }
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
