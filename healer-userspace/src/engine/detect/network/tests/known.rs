//! Clients and peers that make room for others.

use super::*;
use crate::{
    engine::detect::network::known::Gone,
    signal::network::{FlowSnapshot, Stall, Stalled},
};

const FAILS: &str = "dependency_failure refuses probable";

/// A refuses while B answers; then so many others ask somebody.
fn refused_beside(others: u32) -> Story {
    let mut story = Story::new();
    for (streak, ms) in (1000..5000).step_by(500).enumerate() {
        story.ok(ms, B);
        story.refused(ms + 10, A, streak as u32 + 1);
    }
    assert_eq!(story.words(), [FAILS]);
    story.workload = "other";
    for number in 0..others {
        (story.netns, story.pid) = (100 + number, 100 + number);
        story.ok(6000, C);
    }
    story
}

#[test]
fn what_was_said_of_a_client_that_makes_room_is_taken_back() {
    assert_eq!(refused_beside(1000).words(), [FAILS]);
    let story = refused_beside(1030);
    assert_eq!(story.words(), [FAILS, "dependency_failure over"]);
    assert_eq!(story.detector.by_process.len(), story.detector.clients.len());
}

#[test]
fn whoever_is_cut_off_makes_room_last_and_is_not_said_to_be_connected_by_it() {
    let mut story = Story::new();
    for peer in [A, B] {
        story.ok(500, peer);
    }
    story.silence(1000, 9000, &[A, B]);
    story.workload = "other";
    for number in 0..1030 {
        (story.netns, story.pid) = (100 + number, 100 + number);
        story.ok(9100, C);
    }
    assert_eq!(story.words(), ["network_isolation netns probable"]);
    let (who, mut found) = ((WorkloadKey("api".to_owned()), 7), Vec::new());
    story.detector.forget(&who, Gone::MadeRoom, &mut found);
    story.note(9200, found);
    assert_eq!(story.words()[1..], ["network_isolation over"]);
    assert_eq!(story.sentences[1], "nothing more is known of it: others took its room");
}

#[test]
fn a_path_is_not_said_to_be_steady_because_its_client_makes_room() {
    let mut story = loses_packets();
    assert_eq!(story.words(), ["degraded_path loss probable"]);
    story.workload = "other";
    for number in 0..1030 {
        (story.netns, story.pid) = (100 + number, 100 + number);
        story.ok(60_000, C);
    }
    assert_eq!(story.words()[1..], ["degraded_path over"]);
    assert_eq!(story.sentences[1], format!("{A}: it is forgotten"));
}

#[test]
fn a_path_is_not_said_to_be_steady_because_its_client_has_ended() {
    let mut story = loses_packets();
    let (who, mut found) = ((WorkloadKey("api".to_owned()), 7), Vec::new());
    story.detector.forget(&who, Gone::Ended, &mut found);
    story.note(60_000, found);
    assert_eq!(story.sentences[1], format!("{A}: its client has ended"));
}

#[test]
fn whoever_takes_over_from_a_process_ends_by_itself() {
    let mut story = Story::new();
    for (pid, ms) in [(40, 1000), (41, 2000)] {
        story.pid = pid;
        story.ok(ms, A);
    }
    let ended = |story: &Story| story.detector.clients.values().filter(|one| one.ended.is_some()).count();
    for (pid, ended_by_then) in [(40, 0), (41, 1)] {
        story.pid = pid;
        story.tell(3000, Fact::Exited(crate::signal::Exit::default()));
        assert_eq!(ended(&story), ended_by_then, "{pid}");
    }
    assert!(story.detector.by_process.is_empty());
}

/// So many others of its peers are asked at last.
fn asks_others(story: &mut Story, ms: u64) {
    for host in 0..256 {
        story.ok(ms, &format!("10.9.{host}.1:80"));
    }
}

/// Until the sixtieth second.
fn loses_packets() -> Story {
    let mut story = Story::new();
    for second in 1..60_u64 {
        let ms = second * 1000;
        story.resent(ms, A, second, 1, true, 0);
        if second.is_multiple_of(5) {
            story.resent(ms + 100, A, second, 3, true, 0);
        } else {
            story.ok(ms + 400, A);
        }
    }
    story
}

#[test]
fn what_was_said_of_a_peer_that_makes_room_is_taken_back() {
    let mut story = loses_packets();
    asks_others(&mut story, 60_000);
    assert_eq!(story.words(), ["degraded_path loss probable", "degraded_path over"]);
    assert_eq!(story.sentences[1], format!("{A}: it is forgotten"));
    let mut story = Story::new();
    story.ok(500, A);
    for second in 10..40_u64 {
        story.ok(second * 1000, A);
        let client = Process {
            pid: 40,
            comm: "api".to_owned(),
            workload: WorkloadKey("api".to_owned()),
            ..Process::default()
        };
        let (flow, why, since) = (story.flow(A, 1), Stall::Unanswered, BootTime(8_000_000_000));
        let stalled =
            vec![Stalled { client, flow, why, since, retransmits: 9, acked: 5, server: None, halted: false }];
        story.tell(second * 1000 + 500, Fact::Flows(FlowSnapshot { stalled, ..FlowSnapshot::default() }));
    }
    assert_eq!(story.words(), ["dependency_failure stale probable"]);
    asks_others(&mut story, 39_600);
    assert_eq!(story.words()[1..], ["dependency_failure over"]);
}
