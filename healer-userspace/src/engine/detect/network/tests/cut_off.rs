//! How far it reaches that somebody is cut off.

use super::*;

const NETNS: &str = "network_isolation netns probable";
const NODE: &str = "network_isolation node probable";
const OVER: &str = "network_isolation over";

const CLIENTS: [(&str, u32, u32); 2] = [("api", 7, 40), ("batch", 8, 41)];

/// One after the other, the first of them as a lesser rung of the sensors concludes, or the second.
fn one_is_suspected(is_first: bool) -> Story {
    let mut story = Story::new();
    for one in CLIENTS {
        (story.workload, story.netns, story.pid) = one;
        story.ok(500, A);
        story.ok(500, B);
    }
    for (number, from) in [(0, 1000), (1, 6000)] {
        (story.workload, story.netns, story.pid) = CLIENTS[number];
        story.by_lesser_rung = is_first == (number == 0);
        story.silence(from, from + 5000, &[A, B]);
    }
    story
}

#[test]
fn the_node_is_not_said_to_be_cut_off_more_surely_than_everybody_on_it() {
    let (suspected, of_node) = ("network_isolation netns suspected", "network_isolation node suspected");
    assert_eq!(one_is_suspected(true).words(), [suspected, NETNS]);
    assert_eq!(one_is_suspected(false).words(), [NETNS, of_node]);
    let mut story = one_is_suspected(true);
    (story.workload, story.netns, story.pid) = CLIENTS[0];
    story.by_lesser_rung = false;
    story.silence(11_000, 18_000, &[A, B]);
    assert_eq!(story.words()[2..], [NODE], "{:?}", story.said);
}

/// Two namespaces lose their peers, one after the other; the second asks nobody any more after 11 s.
fn both_are_cut_off() -> Story {
    let mut story = Story::new();
    let clients = CLIENTS;
    for one in clients {
        (story.workload, story.netns, story.pid) = one;
        story.ok(500, A);
        story.ok(500, B);
    }
    (story.workload, story.netns, story.pid) = clients[0];
    story.silence(1000, 6000, &[A, B]);
    (story.workload, story.netns, story.pid) = clients[1];
    story.silence(6000, 11_000, &[A, B]);
    assert_eq!(story.words(), [NETNS, NODE]);
    (story.workload, story.netns, story.pid) = clients[0];
    story
}

#[test]
fn once_one_is_connected_again_the_node_is_not_cut_off() {
    for ms in [12_000, 62_000, 400_000] {
        let mut story = both_are_cut_off();
        story.ok(ms, A);
        story.pass(ms + 3000);
        assert_eq!(story.words()[2..], [OVER, NETNS], "at {ms}: {:?}", story.said);
        assert!(story.said[3].0 == ms + 2000, "{:?}", story.said);
    }
}

#[test]
fn somebody_else_who_reaches_somebody_disproves_it_too() {
    for (netns, scope) in [(9, NETNS), (8, "network_isolation workload probable")] {
        let mut story = both_are_cut_off();
        (story.workload, story.netns, story.pid) = ("web", netns, 42);
        story.ok(12_000, C);
        assert_eq!(story.words()[2..], [scope], "{:?}", story.said);
        story.ok(13_000, C);
        assert_eq!(story.words().len(), 3, "it is said once");
    }
}

#[test]
fn nobody_else_is_left_who_is_cut_off() {
    let mut story = both_are_cut_off();
    story.tell(20_000, Fact::Exited(crate::signal::Exit::default()));
    story.pass(201_000);
    assert_eq!(story.words()[2..], [OVER, NETNS], "{:?}", story.said);
}
