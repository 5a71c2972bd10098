//! Needs root: the self-check at start, on every rung and with offsets that are wrong on purpose.
//!
//! guest: a_scan_of_the_tasks_that_lies_is_replaced_by_proc every_rung_tells_the_truth_of_healers_own_children
//! one third guest: a_wrong_offset_is_caught_and_its_sensor_is_down
//! old guest: a_wrong_offset_is_caught_and_its_sensor_is_down every_rung_tells_the_truth_of_healers_own_children

use std::{sync::Mutex, time::Duration};

use healer_common::event::Event;
use healer_tests::{
    eye::Eye,
    ladder::{blind_by, eye_on},
    victim::Victim,
};
use healer_userspace::sense::{Checked, Level, SENSORS, SensorState, SensorStatus, Settings};

/// Each check makes children of this process, which another one would see.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn can_be_checked(status: &SensorStatus) -> bool {
    // The table of sockets shows no refusal.
    ["process_exit", "signal_sent"].contains(&status.name)
        || status.via == Some("iter/task")
        || (status.name == "socket_state" && status.via != Some("sock_diag"))
}

/// Of who has a way on this rung: a sensor that goes down meanwhile is no other than one that works.
fn with_a_way(eye: &Eye, level: Level) -> impl Iterator<Item = &SensorStatus> {
    eye.sense.sensors().iter().filter(move |status| !blind_by(level).contains(&status.name))
}

fn was_checked(eye: &Eye, level: Level) -> bool {
    with_a_way(eye, level).all(|status| status.checked != Checked::No || !can_be_checked(status))
}

#[test]
fn every_rung_tells_the_truth_of_healers_own_children() {
    let _alone = ONE_AT_A_TIME.lock();
    for level in Level::ALL {
        // On a busy machine the children may end too late to be waited for: that says nothing of a sensor.
        let mut eyes = (0..20).map(|_try| eye_on(level));
        let found = eyes.find(|eye| was_checked(eye, level));
        let mut eye = found.unwrap_or_else(|| panic!("{level:?}: never checked"));
        eye.pause(Duration::from_millis(300));
        for status in with_a_way(&eye, level) {
            assert_ne!(status.state, SensorState::Down, "{level:?}: {status:?}");
            let expected = if can_be_checked(status) { Checked::Truthful } else { Checked::No };
            assert_eq!(status.checked, expected, "{level:?}: {status:?}");
        }
        let own = std::process::id();
        let children = eye.seen.iter().filter(|(_, event)| {
            matches!(event, Event::ProcessExit(exit)
                if exit.parent.tgid == own && exit.exit_code() == Some(23))
        });
        assert_eq!(children.count(), 0, "they are nobody's business");
        let refused = |(_, event): &&(_, Event)| matches!(event, Event::SocketState(state) if state.owner_tgid == own && state.remote_port != 0);
        assert_eq!(eye.seen.iter().find(refused), None, "nor is the refusal");
        let peers = eye.sense.peers();
        let own_peer = peers.iter().find(|(_, counters)| counters.owner_tgid == own);
        assert!(own_peer.is_none(), "{own_peer:?}");
    }
}

#[test]
fn a_wrong_offset_is_caught_and_its_sensor_is_down() {
    let _alone = ONE_AT_A_TIME.lock();
    let all: Vec<_> = SENSORS.iter().map(|sensor| sensor.kind.name()).collect();
    let lie = |name: &str, value: u32| Settings {
        wrong_offset: Some((name.to_owned(), value)),
        ..Settings::default()
    };
    let down = |settings: &Settings| {
        let mut eye = Eye::with(settings, &all);
        eye.pause(Duration::from_millis(1200));
        eye.seen.clear();
        let mut victim = Victim::start("/bin/sh", &["-c", "exit 3"]);
        eye.watch_end(&mut victim);
        eye.pause(Duration::from_millis(100));
        let lied: Vec<_> =
            eye.sense.sensors().iter().filter(|sensor| sensor.checked == Checked::Lied).collect();
        for sensor in &lied {
            assert_eq!(sensor.state, SensorState::Down);
            let reason = sensor.reason.as_deref().unwrap_or_default();
            assert!(reason.starts_with("it lied in the self-check"), "{reason}");
            assert!(!eye.seen.iter().any(|(_, event)| event.kind().name() == sensor.name), "{reason}");
        }
        lied.iter().map(|sensor| sensor.name).collect::<Vec<_>>()
    };
    // Only the status is wrong: of the sensors only that of ends lies.
    assert_eq!(down(&lie("SIGNAL_GROUP_EXIT_CODE", 0)), ["process_exit"]);
    // All programs name processes by these.
    assert_eq!(down(&lie("TASK_COMM", 0)), all);
    assert_eq!(down(&lie("TASK_START", 0)), all);
    // Of a refusal: what it was, and to whom, which is read by both in the same way.
    assert_eq!(down(&lie("SK_ERR", 0)), ["socket_state", "tcp_retransmit"]);
    assert_eq!(down(&lie("SKC_REMOTE_PORT", 0)), ["socket_state", "tcp_retransmit"]);
    // A row that no kernel has changes nothing.
    assert!(down(&lie("NO_SUCH_ROW", 0)).is_empty());
}

#[test]
fn a_scan_of_the_tasks_that_lies_is_replaced_by_proc() {
    let _alone = ONE_AT_A_TIME.lock();
    // Registers that tell what a thread waits for; no stack is the number of a call. Nobody seems to sleep by the unused half of the first word.
    for (row, value) in [("REGS_SYSCALL", 152), ("REGS_ARG1", 0), ("REGS_SP", 0), ("TASK_STATE", 4)] {
        let settings = Settings { wrong_offset: Some((row.to_owned(), value)), ..Settings::default() };
        let mut eye = Eye::with(&settings, &[]);
        let status = eye.sense.sensors().last().unwrap();
        assert_eq!((status.name, status.via), ("task_scan", Some("proc")), "{row}: {status:?}");
        let reason = status.reason.as_deref().unwrap_or_default();
        assert!(reason.starts_with("it lied in the self-check (iter/task): of a child"), "{row}: {reason}");
        assert!(eye.sense.take_task_scan().is_none(), "{row}");
    }
}
