//! Connections that do not move.

use super::*;
use crate::signal::network::{FlowSnapshot, Stall, Stalled};

fn stalled(story: &Story, peer: &str, cookie: u64, why: Stall, since_ms: u64, halted: bool) -> Stalled {
    let client = Process {
        pid: story.pid,
        comm: story.workload.to_owned(),
        workload: WorkloadKey(story.workload.to_owned()),
        ..Process::default()
    };
    let since = BootTime(since_ms * 1_000_000);
    let flow = story.flow(peer, cookie);
    Stalled { client, flow, why, since, retransmits: 9, acked: 5, server: None, halted }
}

fn flows(story: &mut Story, ms: u64, stalled: Vec<Stalled>) {
    story.tell(ms, Fact::Flows(FlowSnapshot { stalled, ..FlowSnapshot::default() }));
}

#[test]
fn what_cannot_leave_this_machine_cuts_it_off_and_one_filter_does_not() {
    let mut story = Story::new();
    story.ok(500, A);
    story.ok(500, B);
    let both = [(A, 1), (B, 2)].map(|(peer, cookie)| stalled(&story, peer, cookie, Stall::Held, 1000, false));
    flows(&mut story, 2000, both.to_vec());
    story.pass(6000);
    assert_eq!(story.words(), ["network_isolation netns proved"]);
    let mut story = Story::new();
    story.ok(500, A);
    let one = stalled(&story, A, 1, Stall::Held, 1000, false);
    flows(&mut story, 2000, vec![one]);
    story.ok(2100, B);
    story.pass(6000);
    assert_eq!(story.words(), ["dependency_failure no_answer probable"]);
}

#[test]
fn a_peer_that_is_stopped_is_frozen_soon_and_one_that_reads_late_is_suspected() {
    for (halted, said) in [(true, "probable"), (false, "suspected")] {
        let mut story = Story::new();
        for second in 1..14_u64 {
            // Its kernel takes connections all the while.
            story.ok(second * 1000, A);
            let one = stalled(&story, A, 1, Stall::Unread, 1000, halted);
            flows(&mut story, second * 1000 + 500, vec![one]);
        }
        assert_eq!(story.words(), [format!("dependency_failure frozen {said}")], "{:?}", story.said);
        assert_eq!(story.said[0].0 < 5000, halted, "{:?}", story.said);
        story.pass(40_000);
        assert_eq!(story.words()[1..], ["dependency_failure over"]);
    }
}

#[test]
fn dead_connections_beside_new_ones_are_stale_and_a_lossy_path_is_not() {
    let mut story = Story::new();
    story.ok(500, A);
    for second in 10..40_u64 {
        if second % 2 == 0 {
            story.ok(second * 1000, A);
        }
        let one = stalled(&story, A, 1, Stall::Unanswered, 8000, false);
        flows(&mut story, second * 1000 + 500, vec![one]);
    }
    assert_eq!(story.words(), ["dependency_failure stale probable"], "{:?}", story.said);
    story.pass(60_000);
    assert_eq!(story.words()[1..], ["dependency_failure over"]);
    let mut story = Story::new();
    story.ok(500, A);
    for second in 1..12_u64 {
        let mut one = stalled(&story, A, 1, Stall::Unanswered, 1000, false);
        one.retransmits = 5;
        flows(&mut story, second * 1000 + 500, vec![one]);
        story.ok(second * 1000 + 600, A);
    }
    story.pass(60_000);
    assert_eq!(story.words(), [""; 0]);
}

const NAMES: &str = "10.0.0.53:53";

/// One question after the other, each for so long; `received`: what comes in meanwhile, a second.
fn asks(lasts_ms: u64, received: u64) -> Story {
    let mut story = Story::new();
    for ms in (1000..20_000).step_by(500) {
        story.ok(ms, A);
        let since = ms / lasts_ms * lasts_ms;
        if 1000 <= ms - since {
            let question = stalled(&story, NAMES, since + 1, Stall::NoReply, since, false);
            flows(&mut story, ms, vec![Stalled { acked: ms / 1000 * received, ..question }]);
        }
    }
    story
}

#[test]
fn a_name_server_that_answers_nobody_is_a_failed_dependency_until_it_does() {
    let mut story = asks(2000, 0);
    assert_eq!(story.words(), ["dependency_failure dns probable"]);
    assert!(story.said[0].0 <= 6000, "{:?}", story.said);
    story.pass(60_000);
    assert_eq!(story.words(), ["dependency_failure dns probable", "dependency_failure over"]);
    assert_eq!(asks(5000, 9).words(), ["dependency_failure dns probable"], "others are answered");
}

/// Each waits for a second, and is seen to wait at half of it; what has come in by then.
fn impatient(count: u64, received: impl Fn(u64) -> u64) -> Story {
    let mut story = Story::new();
    for number in 1..=count {
        let since = number * 1400;
        let question = stalled(&story, NAMES, number, Stall::NoReply, since, false);
        flows(&mut story, since + 500, vec![Stalled { acked: received(number), ..question }]);
    }
    story.pass(30_000);
    story
}

#[test]
fn who_asks_for_a_second_each_time_and_hears_nothing_is_seen() {
    let story = impatient(6, |_| 7);
    assert_eq!(story.words()[..1], ["dependency_failure dns suspected"]);
    assert_eq!(story.said[0].0, 4700);
    assert_eq!(impatient(6, |number| number).words(), [""; 0], "each is answered in the end");
    assert_eq!(impatient(2, |_| 7).words(), [""; 0], "one was given up");
}

/// `options timeout:1 attempts:2`, and then it gives up altogether and is started again.
#[test]
fn a_client_that_dies_of_names_is_seen_to_depend_on_their_server() {
    let mut story = Story::new();
    for life in 0..5_u64 {
        story.pid = 40 + life as u32;
        let began = 1000 + life * 3000;
        for since in [began, began + 1000] {
            let question = stalled(&story, NAMES, since, Stall::NoReply, since, false);
            flows(&mut story, since + 500, vec![question]);
        }
        story.tell(began + 2100, Fact::Exited(crate::signal::Exit { code: 1, ..Default::default() }));
    }
    assert_eq!(story.words(), ["dependency_failure dns suspected"], "{:?}", story.said);
    assert_eq!(story.said[0].0, 4500);
}

#[test]
fn a_slow_answer_before_the_silence_hides_nothing() {
    let story = impatient(8, |number| if number <= 2 { number } else { 7 });
    assert_eq!(story.words()[..1], ["dependency_failure dns suspected"]);
    assert!((7_000..8_000).contains(&story.said[0].0), "{:?}", story.said);
}

#[test]
fn slow_name_servers_and_sockets_that_were_left_open_are_well() {
    assert_eq!(asks(2000, 9).words(), [""; 0], "it takes long and answers");
    let mut story = Story::new();
    for ms in (1000..30_000).step_by(500) {
        story.ok(ms, A);
        let open = (0..ms / 5000).map(|cookie| stalled(&story, NAMES, cookie, Stall::NoReply, 1000, false));
        let open = open.collect();
        flows(&mut story, ms, open);
    }
    assert_eq!(story.words(), [""; 0]);
}
