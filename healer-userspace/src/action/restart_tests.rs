//! Restarts by a supervisor, a command and an owner, on a machine of words.

use super::{
    host::fake::Fake,
    tests::{TARGET, act, perform, plain, text},
    *,
};
use crate::{
    engine::{command::Look, time::BootTime},
    identity::process::{Container, Place, ProcessId},
    supervise::server::RestartAnswer,
};

fn supervised(mut act: Act) -> Act {
    act.target.place.supervise = Some("web".to_owned());
    act.look = vec![Look::StillDown(act.target.id())];
    act
}

#[test]
fn restart_of_a_supervised_command_goes_to_its_supervisor() {
    let child = ProcessId { pid: 8, start: BootTime(300) };
    let answers = [
        (RestartAnswer::Restarted { child, already: false }, "done"),
        (RestartAnswer::Refused { reason: "no".to_owned() }, "refused"),
        (RestartAnswer::NotRegistered, "failed"),
        (RestartAnswer::Lost, "unknown"),
    ];
    for (answer, outcome) in answers {
        let host = Fake { answer: Some(answer), ..Fake::default() };
        let act = supervised(act(ActionName::Restart));
        assert_eq!(perform(&act, &host).name(), outcome);
        assert_eq!(host.done(), ["restart web of pid 7 with key k"]);
    }
}

/// A worker is sick: it is stopped, and the order is about the child that the supervisor knows.
#[test]
fn the_master_of_a_living_worker_is_restarted_and_a_successor_is_not() {
    let restarted = |child_start: u64| {
        let mut host = Fake::with([(TARGET, plain())]);
        let child = ProcessId { pid: 5, start: BootTime(child_start) };
        host.supervised.insert("web".to_owned(), child);
        host.answer = Some(RestartAnswer::Restarted { child, already: false });
        let act = Act { look: Vec::new(), ..supervised(act(ActionName::Restart)) };
        assert_eq!(perform(&act, &host).name(), "done");
        host.done()
    };
    assert_eq!(restarted(50), ["signal 15 to 7", "restart web of pid 5 with key k"]);
    assert_eq!(restarted(200), ["restart web of pid 7 with key k"], "the supervisor refuses that");
}

#[test]
fn restart_is_refused_if_it_is_not_down() {
    let host = Fake::with([(TARGET, plain())]);
    let outcome = perform(&supervised(act(ActionName::Restart)), &host);
    assert_eq!((outcome.name(), text(&outcome)), ("refused", "pid 7 lives"));

    let mut host = Fake::default();
    let successor = ProcessId { pid: 8, start: BootTime(300) };
    host.supervised.insert("web".to_owned(), successor);
    let outcome = perform(&supervised(act(ActionName::Restart)), &host);
    assert_eq!(text(&outcome), "a successor lives already: pid 8");
    assert_eq!(host.done(), [""; 0]);
}

#[test]
fn without_a_supervisor_the_rung_says_how_or_nobody_does() {
    let mut act = act(ActionName::Restart);
    assert_eq!(perform(&act, &Fake::default()).name(), "failed");
    act.rung.command = vec!["web".to_owned(), "-d".to_owned()];
    let host = Fake::default();
    assert_eq!(perform(&act, &host).name(), "done");
    assert_eq!(host.done(), ["launch [\"web\", \"-d\"]"]);
}

#[test]
fn restart_of_what_somebody_owns_goes_to_the_owner() {
    let unit = Place { unit: Some("web.service".to_owned()), ..Place::default() };
    let container =
        Container { runtime: "docker".to_owned(), id: "c0ffee".to_owned(), ..Container::default() };
    let contained = Place { container: Some(container), ..Place::default() };
    for (place, name) in [(unit, "Unit(\"web.service\")"), (contained, "c0ffee")] {
        let mut act = act(ActionName::Restart);
        act.target.place = place;
        let dead = Fake::default();
        assert_eq!(perform(&act, &dead).name(), "done");
        assert!(dead.done()[0].contains(name) && dead.done()[0].ends_with("dead: true"), "{:?}", dead.done());
        let alive = Fake::with([(TARGET, plain())]);
        assert_eq!(perform(&act, &alive).name(), "done");
        assert!(alive.done()[0].ends_with("dead: false"), "{:?}", alive.done());
    }
}

#[test]
fn a_unit_of_a_users_own_manager_is_left_to_a_command() {
    let of = |unit: &str, command: &[&str], mode| {
        let mut act = Act { mode, ..act(ActionName::Restart) };
        act.target.place = Place { unit: Some(unit.to_owned()), ..Place::default() };
        act.rung.command = command.iter().map(|word| (*word).to_owned()).collect();
        let host = Fake::default();
        (perform(&act, &host), host.done().len())
    };
    for mode in [Mode::Enforce, Mode::Shadow] {
        let (outcome, asked) = of("user@1000.service/web.service", &[], mode);
        assert_eq!((outcome.name(), asked), ("failed", 0));
        assert!(text(&outcome).contains("--machine=1000@.host, restart, web.service"), "{outcome:?}");
    }
    let (outcome, asked) = of("user@1000.service/web.service", &["systemctl", "restart"], Mode::Enforce);
    assert_eq!((outcome.name(), asked), ("done", 1));
    let (outcome, asked) = of("web.service", &[], Mode::Enforce);
    assert_eq!((outcome.name(), asked), ("done", 1));
}

#[test]
fn what_the_owner_says_is_the_outcome() {
    let reason = || "systemd has restarted it itself: pid 8 lives".to_owned();
    let answers = [
        (Err(ActionOutcome::Refused { reason: reason() }), "refused"),
        (Err(ActionOutcome::Unknown { reason: reason() }), "unknown"),
        (Ok(reason()), "done"),
    ];
    for (owned, outcome) in answers {
        let mut act = act(ActionName::Restart);
        act.target.place = Place { unit: Some("web.service".to_owned()), ..Place::default() };
        let host = Fake { owned: Some(owned), ..Fake::default() };
        let said = perform(&act, &host);
        assert_eq!((said.name(), text(&said)), (outcome, reason().as_str()));
    }
}
