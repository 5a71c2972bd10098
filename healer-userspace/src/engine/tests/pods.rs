//! What ends in a pod: the kubelet knows what is to run again.

use super::*;
use crate::identity::process::{Container, Pod};

fn after_an_end_in_a_pod(exit: Exit, supervise: Option<&str>) -> Vec<String> {
    let mut set = policies(Mode::Enforce, &[ActionName::Restart]);
    set.policies[0].matches = Match { exes: vec!["/usr/sbin/nginx".into()], ..Match::default() };
    let mut migrate = served(10, SECOND, "pod/prod/web-0/migrate");
    migrate.main = true;
    migrate.place.pod = Some(Pod { namespace: "prod".into(), name: "web-0".into(), ..Pod::default() });
    migrate.place.supervise = supervise.map(str::to_owned);
    let mut signals = vec![signal(2 * SECOND, &migrate, Fact::Execed)];
    signals.push(signal(6 * SECOND, &migrate, Fact::Exited(exit)));
    let tick =
        Signal { at: BootTime(30 * SECOND), process: None, fact: Fact::Levels(LevelSnapshot::default()) };
    signals.push(tick);
    run(&signals, set)
}

#[test]
fn a_success_in_a_pod_is_the_kubelets_to_judge() {
    count(&after_an_end_in_a_pod(Exit::default(), None), "diagnosis down", 0);
    count(&after_an_end_in_a_pod(Exit { code: 1, ..Exit::default() }, None), "diagnosis down", 1);
    count(&after_an_end_in_a_pod(Exit::default(), Some("web")), "diagnosis down", 1);
}

/// The main process was never seen: its child ran out of memory, and the container was stopped for that.
#[test]
fn what_the_runtime_says_late_of_a_container_that_was_stopped_is_no_successors_end() {
    let run_again = |id: &str| {
        let mut first = served(10, SECOND, "pod/prod/web-0/app");
        first.main = true;
        first.place.pod = Some(Pod { namespace: "prod".into(), name: "web-0".into(), ..Pod::default() });
        first.place.container =
            Some(Container { id: "c1".into(), name: "app".into(), ..Container::default() });
        let mut hearsay = first.clone();
        (hearsay.pid, hearsay.start) = (0, BootTime(12 * SECOND));
        hearsay.place.container =
            Some(Container { id: id.into(), name: "app".into(), ..Container::default() });
        let signals = [
            signal(SECOND, &first, Fact::Execed),
            killed(2 * SECOND, &first),
            signal(12 * SECOND, &hearsay, Fact::Execed),
            signal(12 * SECOND, &hearsay, Fact::Exited(Exit { code: 1, ..Exit::default() })),
        ];
        let mut set = policies(Mode::Enforce, &[ActionName::Restart]);
        set.policies[0].matches = Match { exes: vec!["/usr/sbin/nginx".into()], ..Match::default() };
        run(&signals, set)
    };
    count(&run_again("c1"), "verification unchanged: the successor", 0);
    count(&run_again("c2"), "verification unchanged: the successor", 1);
}

/// Restarted in vain; its next rung waits for the budget when it is removed.
fn removed_while_a_rung_waits(is_of_pod: bool) -> Vec<String> {
    let mut web = served(10, SECOND, "web");
    web.main = true;
    let pod = Pod { namespace: "prod".into(), name: "web-0".into(), ..Pod::default() };
    web.place.pod = is_of_pod.then_some(pod);
    let mut set = policies(Mode::Enforce, &[ActionName::Restart, ActionName::Restart]);
    set.policies[0].matches = Match { exes: vec!["/usr/sbin/nginx".into()], ..Match::default() };
    set.policies[0].safety.budget.max = 1;
    let removed = signal(300 * SECOND, &web, Fact::StopAsked { signal: libc::SIGTERM });
    let lines = run(&[signal(2 * SECOND, &web, Fact::Execed), killed(6 * SECOND, &web), removed], set);
    has(&lines, "gate budget hold");
    lines
}

#[test]
fn what_is_removed_from_a_pod_no_person_has_stopped() {
    count(&removed_while_a_rung_waits(true), "gate stale refuse", 0);
    let elsewhere = removed_while_a_rung_waits(false);
    has(&elsewhere, "300.000s i1 web notify (healer has acted, and goes no further: it was asked to stop");
    has(&elsewhere, "300.000s i1 web closed refused: gate stale refused: it was asked to stop since");
}
