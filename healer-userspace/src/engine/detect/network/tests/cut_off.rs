//! How far it reaches that somebody is cut off.

use super::*;

const NETNS: &str = "network_isolation netns probable";
const NODE: &str = "network_isolation node probable";
const NETNS_ANEW: &str = "network_isolation netns probable anew";
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

#[test]
fn whoever_is_suspected_to_be_cut_off_does_not_disprove_that_the_node_is() {
    let mut story = Story::new();
    let all = [("api", 7, 40), ("batch", 8, 41), ("web", 9, 42)];
    for one in all {
        (story.workload, story.netns, story.pid) = one;
        story.ok(500, A);
        story.ok(500, B);
    }
    for (one, from) in all.into_iter().zip([1000, 6000, 11_000]) {
        (story.workload, story.netns, story.pid) = one;
        story.by_lesser_rung = one.0 == "batch";
        story.silence(from, from + 5000, &[A, B]);
    }
    assert_eq!(story.words(), [NETNS, "network_isolation netns suspected", NODE], "{:?}", story.said);
}

/// Two namespaces lose their peers, one after the other; the second asks nobody any more after 11 s.
fn both_are_cut_off() -> Story {
    let mut story = Story::new();
    both_lose_all(&mut story);
    assert_eq!(story.words(), [NETNS, NODE]);
    story
}

fn both_lose_all(story: &mut Story) {
    for one in CLIENTS {
        (story.workload, story.netns, story.pid) = one;
        story.ok(500, A);
        story.ok(500, B);
    }
    for (one, from) in CLIENTS.into_iter().zip([1000, 6000]) {
        (story.workload, story.netns, story.pid) = one;
        story.silence(from, from + 5000, &[A, B]);
    }
    (story.workload, story.netns, story.pid) = CLIENTS[0];
}

#[test]
fn whoever_reaches_somebody_on_this_node_only_does_not_disprove_that_it_is_cut_off() {
    for (is_on_this_node, said) in [(true, [NETNS, NODE]), (false, [NETNS, NETNS])] {
        let mut story = Story::new();
        if is_on_this_node {
            story.lives_on_this_node(C);
        }
        let reaches_c = |story: &mut Story, ms| {
            (story.workload, story.netns, story.pid) = ("web", 9, 42);
            story.ok(ms, C);
        };
        reaches_c(&mut story, 400);
        both_lose_all(&mut story);
        assert_eq!(story.words(), said, "{:?}", story.said);
        reaches_c(&mut story, 12_000);
        story.pass(20_000);
        assert_eq!(story.words(), said, "{:?}", story.said);
    }
}

#[test]
fn whoever_is_answered_on_this_node_only_is_cut_off_all_the_same() {
    for (is_on_this_node, said) in [(true, &[][..]), (false, &[OVER, NETNS_ANEW][..])] {
        let mut story = both_are_cut_off();
        if is_on_this_node {
            story.lives_on_this_node(C);
        }
        story.ok(12_000, C);
        story.pass(15_000);
        assert_eq!(story.words()[2..], *said, "{:?}", story.said);
    }
}

#[test]
fn whoever_asks_nobody_outside_this_node_any_more_is_not_cut_off_for_ever() {
    let mut story = both_are_cut_off();
    story.lives_on_this_node(C);
    for ms in (100_000..=600_000).step_by(100_000) {
        story.ok(ms, C);
    }
    story.pass(620_000);
    assert_eq!(story.words()[2..], [OVER, NETNS_ANEW, OVER], "{:?}", story.said);
    assert_eq!(story.said[2].0, 605_501, "ten minutes after the last try: {:?}", story.said);
    assert!(story.sentences[2].contains("any peer outside this node"), "{:?}", story.sentences);
}

#[test]
fn once_one_is_connected_again_the_node_is_not_cut_off() {
    for ms in [12_000, 62_000, 400_000] {
        let mut story = both_are_cut_off();
        story.ok(ms, A);
        story.pass(ms + 3000);
        assert_eq!(story.words()[2..], [OVER, NETNS_ANEW], "at {ms}: {:?}", story.said);
        assert!(story.said[3].0 == ms + 2000, "{:?}", story.said);
    }
}

#[test]
fn somebody_else_who_reaches_somebody_disproves_it_too() {
    for (netns, scope) in [(9, NETNS_ANEW), (8, "network_isolation workload probable anew")] {
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
    assert_eq!(story.words()[2..], [OVER, NETNS_ANEW], "{:?}", story.said);
}

/// Both peers of a client are lost, and it goes on to ask them; it falls back to a third, and others are reached by
/// another namespace.
fn falls_back(lost: [&str; 2], reached_elsewhere: &[&str]) -> Story {
    falls_back_after(lost, reached_elsewhere, |_| {})
}

/// What happens 4 s after the start, before anything is said.
fn falls_back_after(lost: [&str; 2], reached_elsewhere: &[&str], happens: impl FnOnce(&mut Story)) -> Story {
    let mut story = Story::new();
    story.lives_on_this_node(C);
    lost.iter().for_each(|peer| story.ok(500, peer));
    story.silence(1000, 4000, &lost);
    happens(&mut story);
    (story.workload, story.netns, story.pid) = CLIENTS[0];
    story.silence(4000, 6000, &lost);
    for ms in (6000..20_000).step_by(500) {
        (story.workload, story.netns, story.pid) = CLIENTS[0];
        story.ok(ms, C);
        for (number, peer) in lost.into_iter().enumerate().filter(|(_, peer)| *peer != C) {
            story.resent(ms + 1, peer, ms / 1000 * 10 + number as u64, 1, true, 0);
        }
        (story.workload, story.netns, story.pid) = ("web", 9, 42);
        reached_elsewhere.iter().for_each(|peer| story.ok(ms + 2, peer));
    }
    story
}

const D: &str = "10.0.0.4:80";
const SILENT: &str = "dependency_failure no_answer probable";

#[test]
fn whoever_falls_back_to_a_neighbour_is_cut_off_until_others_are_reached_outside_this_node() {
    assert_eq!(falls_back([A, B], &[D]).words(), [NETNS, OVER, SILENT, SILENT]);
    assert_eq!(falls_back([A, B], &[]).words(), [NETNS], "the way out of the node may be lost");
    for reached in [&[A][..], &[A, D]] {
        assert_eq!(falls_back([A, B], reached).words(), [NETNS], "the lost are there, and it is cut off");
    }
}

#[test]
fn whoever_has_lost_its_own_way_out_is_not_connected_by_those_whom_others_reach() {
    let story = falls_back_after([A, B], &[D], |story| story.loses(4000, "default"));
    assert_eq!(story.words(), [NETNS]);
}

#[test]
fn whom_somebody_has_reached_since_it_was_lost_is_not_gone() {
    let reached_once = |story: &mut Story| {
        (story.workload, story.netns, story.pid) = ("web", 9, 42);
        story.ok(4000, A);
    };
    assert_eq!(falls_back_after([A, B], &[D], reached_once).words(), [NETNS]);
}

#[test]
fn a_neighbour_that_was_lost_too_and_answers_again_shows_that_it_is_over() {
    let story = falls_back([A, C], &[]);
    assert_eq!(story.words(), [NETNS, OVER, SILENT]);
    assert_eq!(story.said[1].0, 8000, "{:?}", story.said);
}

#[test]
fn whoever_was_known_long_before_and_is_asked_all_the_while_shows_that_it_is_over() {
    let mut story = Story::new();
    story.ok(500, C);
    [A, B].iter().for_each(|peer| story.ok(70_000, peer));
    story.silence(71_000, 76_000, &[A, B]);
    (76_000..80_000).step_by(500).for_each(|ms| story.ok(ms, C));
    assert_eq!(story.words(), [NETNS, OVER]);
    assert_eq!(story.said[1].0, 78_000, "{:?}", story.said);
}
