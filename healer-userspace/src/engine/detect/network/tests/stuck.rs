//! Connections that do not move.

use super::*;
use crate::signal::network::{FlowSnapshot, Stall, Stalled};

fn stalled(story: &Story, peer: &str, cookie: u64, why: Stall, since_ms: u64, halted: bool) -> Stalled {
    let client = Process {
        pid: 40,
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
    story.pass(3000);
    assert_eq!(story.words(), ["network_isolation netns proved"]);
    let mut story = Story::new();
    story.ok(500, A);
    let one = stalled(&story, A, 1, Stall::Held, 1000, false);
    flows(&mut story, 2000, vec![one]);
    story.ok(2100, B);
    story.pass(3000);
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
