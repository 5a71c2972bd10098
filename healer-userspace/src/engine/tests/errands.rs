//! A program that is run for a moment beside the server that it is.

use super::*;
use std::path::Path;

use crate::{
    config::load::{DEFAULT_POLICY, check_text},
    identity::process::{Container, Parent, Place},
    signal::network::Listens,
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

/// Two of one program; the younger ends after so many seconds, well.
fn beside(older: Process, younger: Process, served: bool, lived: u64) -> Vec<String> {
    let mut set = policies(Mode::Enforce, &[ActionName::Restart]);
    set.policies[0].matches = Match { exes: vec!["/usr/sbin/nginx".into()], ..Match::default() };
    let address = ([127, 0, 0, 1], 80).into();
    let listens = |on| Fact::Listens(Listens { cookie: 1, netns: 7, cgroup: 5, address, on });
    let ends = (5 + lived) * SECOND;
    let mut signals =
        vec![signal(2 * SECOND, &older, Fact::Execed), signal(5 * SECOND, &younger, Fact::Execed)];
    if served {
        signals.push(signal(5 * SECOND, &younger, listens(true)));
        signals.push(signal(ends, &younger, listens(false)));
    }
    signals.push(signal(ends, &younger, Fact::Exited(Exit::default())));
    let tick = Fact::Levels(LevelSnapshot::default());
    signals.push(Signal { at: BootTime(ends + 30 * SECOND), process: None, fact: tick });
    run(&signals, set)
}

#[test]
fn only_the_server_that_it_was_for_excuses_an_errand() {
    let server = || served(10, SECOND, "unit/a.service");
    let parent = |pid| Some(Parent { pid, ..Parent::default() });
    let errand = |pid| Process { parent: parent(pid), ..served(20, 5 * SECOND, "unit/b.service") };
    let in_container = |of: Process| {
        let container = Container { id: "c1".into(), ..Container::default() };
        Process { place: Place { container: Some(container), ..Place::default() }, ..of }
    };
    count(&beside(server(), errand(77), false, 60), "diagnosis down", 0);
    // A server of its own: it listened, or was init's child for a while, or ran where the other does not.
    count(&beside(server(), errand(77), true, 3), "diagnosis down", 1);
    count(&beside(server(), errand(1), false, 60), "diagnosis down", 1);
    count(&beside(in_container(server()), errand(77), false, 3), "diagnosis down", 1);
    count(&beside(server(), in_container(errand(77)), false, 3), "diagnosis down", 1);
}

/// systemd's word, before the end or after it.
fn job(exit: Exit, running: Option<bool>, is_late: bool) -> Vec<String> {
    let unit = Place { unit: Some("backup.service".into()), ..Place::default() };
    let one = Process { main: true, place: unit, ..served(10, SECOND, "unit/backup.service") };
    let mut set = policies(Mode::Enforce, &[ActionName::Restart]);
    set.policies[0].matches = Match { units: vec!["backup.service".into()], ..Match::default() };
    set.policies[0].expect.running = running;
    let word = |at| signal(at, &one, Fact::MeantToEnd);
    let mut signals = vec![signal(2 * SECOND, &one, Fact::Execed)];
    signals.push(if is_late { word(61 * SECOND) } else { word(3 * SECOND) });
    signals.push(signal(60 * SECOND, &one, Fact::Exited(exit)));
    signals.sort_by_key(|signal| signal.at);
    let tick = Fact::Levels(LevelSnapshot::default());
    signals.push(Signal { at: BootTime(90 * SECOND), process: None, fact: tick });
    run(&signals, set)
}

#[test]
fn a_job_that_is_over_is_not_down_unless_a_policy_wants_it_and_it_ended_badly() {
    let cut = Exit { signal: Some(libc::SIGKILL), ..Exit::default() };
    for is_late in [false, true] {
        count(&job(Exit::default(), Some(true), is_late), "diagnosis down", 0);
        count(&job(cut, None, is_late), "diagnosis down", 0);
        count(&job(cut, Some(true), is_late), "diagnosis down", 1);
    }
}

/// `ExecStart=/bin/sh -c 'prepare; exec backup'`
#[test]
fn a_jobs_second_program_is_the_same_job() {
    let unit = Place { unit: Some("backup.service".into()), ..Place::default() };
    let one = Process { main: true, place: unit, ..served(10, SECOND, "unit/backup.service") };
    let mut set = policies(Mode::Enforce, &[ActionName::Restart]);
    set.policies[0].matches = Match { units: vec!["backup.service".into()], ..Match::default() };
    set.policies[0].expect.running = None;
    let cut = Exit { signal: Some(libc::SIGKILL), ..Exit::default() };
    let tick = Fact::Levels(LevelSnapshot::default());
    let after =
        |second: u64, fact| Signal { at: BootTime(second * SECOND), process: Some(one.clone()), fact };
    let mut signals = vec![after(2, Fact::Execed), after(3, Fact::MeantToEnd), after(4, Fact::Execed)];
    signals.push(after(60, Fact::Exited(cut)));
    signals.push(Signal { at: BootTime(90 * SECOND), process: None, fact: tick });
    count(&run(&signals, set), "diagnosis down", 0);
}

#[test]
fn a_policy_that_says_that_it_need_not_run_is_taken_at_its_word() {
    let end = |running, place: Place| {
        let one = Process { main: true, place, ..served(10, SECOND, "unit/web.service") };
        let mut set = policies(Mode::Enforce, &[ActionName::Restart]);
        set.policies[0].matches = Match { exes: vec!["/usr/sbin/nginx".into()], ..Match::default() };
        set.policies[0].expect.running = running;
        let tick = Fact::Levels(LevelSnapshot::default());
        let tick = Signal { at: BootTime(90 * SECOND), process: None, fact: tick };
        run(&[signal(2 * SECOND, &one, Fact::Execed), killed(60 * SECOND, &one), tick], set)
    };
    for place in [
        Place { unit: Some("web.service".into()), ..Place::default() },
        Place { supervise: Some("web".into()), ..Place::default() },
    ] {
        count(&end(None, place.clone()), "diagnosis down", 1);
        count(&end(Some(false), place), "diagnosis down", 0);
    }
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
