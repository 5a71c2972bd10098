//! Whose end it is, and whether it was one.

use super::*;

#[test]
fn the_child_of_a_killed_supervisor_does_not_hide_its_successors_end() {
    let (orphan, child) = (supervised(7, 10), supervised(9, 3 * SECOND));
    let lines = run(
        &[
            registered(2 * SECOND, &orphan),
            // Its supervisor is gone, and another one has taken the name.
            registered(4 * SECOND, &child),
            killed(6 * SECOND, &child),
        ],
        policies(Mode::Shadow, &[ActionName::Restart]),
    );
    has(&lines, "web is down: web[9] ended by SIGKILL");
}

#[test]
fn who_was_moved_to_another_cgroup_ends_in_the_workload_where_it_began() {
    let web = supervised(7, 10);
    let moved = Process { workload: WorkloadKey("program/web@/elsewhere<".into()), ..web.clone() };
    let lines = run(
        &[registered(2 * SECOND, &web), killed(4 * SECOND, &moved)],
        policies(Mode::Shadow, &[ActionName::Restart]),
    );
    has(&lines, "web is down: web[7] ended by SIGKILL");
}

#[test]
fn who_obeys_a_signal_with_128_and_its_number_did_not_crash() {
    let web = supervised(7, 10);
    let term = SignalSent { signal: libc::SIGTERM, ..SignalSent::default() };
    let end = |code| signal(5 * SECOND, &web, Fact::Exited(Exit { code, ..Exit::default() }));
    let after = |code| {
        let sent = signal(4 * SECOND, &web, Fact::SignalSent(term.clone()));
        run(&[registered(2 * SECOND, &web), sent, end(code)], policies(Mode::Observe, &[]))
    };
    count(&after(128 + libc::SIGTERM), "diagnosis crash", 0);
    count(&after(1), "diagnosis crash", 1);
}
