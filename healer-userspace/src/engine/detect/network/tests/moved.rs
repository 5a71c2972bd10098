//! Pools: connections that are made once, and move.

use super::*;
use crate::signal::network::{FlowSnapshot, Moved};

impl Story {
    pub(super) fn moves(&mut self, ms: u64, peer: &str) {
        self.is_seen_to_have_moved(ms, peer, ms);
    }

    pub(super) fn is_seen_to_have_moved(&mut self, ms: u64, peer: &str, at_ms: u64) {
        let (netns, peer, at) = (self.netns, peer.parse().unwrap(), BootTime(at_ms * 1_000_000));
        let moved = vec![Moved { netns, cgroup: 5, peer, at }];
        self.tell(ms, Fact::Flows(FlowSnapshot { moved, ..FlowSnapshot::default() }));
    }

    /// Data on two connections to each, sent again and again.
    fn gets_nothing_from(&mut self, peers: &[&str]) {
        for (times, ms) in [(2, 2000), (3, 3500), (4, 6500)] {
            for (number, peer) in peers.iter().enumerate() {
                self.resent(ms, peer, 10 + number as u64, times, false, 100);
                self.resent(ms + 1, peer, 20 + number as u64, times, false, 100);
            }
        }
    }
}

fn pool(moves_again: bool) -> Story {
    let mut story = Story::new();
    for peer in [A, B] {
        story.ok(500, peer);
        story.moves(900, peer);
    }
    story.gets_nothing_from(&[A, B]);
    for ms in [20_000, 21_000, 22_500, 24_000] {
        if moves_again {
            story.moves(ms, A);
            story.moves(ms + 1, B);
        }
        story.pass(ms + 100);
    }
    story
}

#[test]
fn a_pool_that_moves_again_is_no_longer_cut_off() {
    let story = pool(true);
    assert_eq!(story.words(), ["network_isolation netns probable", "network_isolation over"]);
    assert!((22_000..22_600).contains(&story.said[1].0), "{:?}", story.said);
    assert_eq!(pool(false).words(), ["network_isolation netns probable"]);
}

/// The third peer is asked for no new connection for longer than a minute.
fn two_are_silent(third_moves: bool) -> Story {
    let mut story = Story::new();
    story.ok(500, C);
    for ms in (1000..80_000).step_by(500) {
        for (number, peer) in [A, B].into_iter().enumerate() {
            match ms {
                ..70_000 => story.ok(ms, peer),
                _ => story.resent(ms, peer, ms / 1000 * 10 + number as u64, 1, true, 0),
            }
        }
        if third_moves {
            story.moves(ms + 1, C);
        }
    }
    story
}

#[test]
fn who_is_heard_of_on_a_connection_that_is_made_is_not_cut_off() {
    let one_by_one = ["dependency_failure no_answer probable"; 2];
    assert_eq!(two_are_silent(true).words(), one_by_one);
    assert_eq!(two_are_silent(false).words(), ["network_isolation netns probable"]);
}

/// A server that has no room for new ones serves those that it has.
#[test]
fn connections_that_move_say_nothing_of_new_ones() {
    let mut story = Story::new();
    story.ok(500, A);
    for ms in (1500..9000).step_by(500) {
        story.resent(ms, A, ms / 1000, (ms / 1000) as u32, true, 0);
        story.ok(ms + 1, B);
        story.moves(ms + 2, A);
    }
    assert_eq!(story.words(), ["dependency_failure no_answer probable"]);
}

/// Of what was asked anew while the path was lost, something is left.
fn asked_anew_meanwhile(moves_again: bool) -> Story {
    let mut story = Story::new();
    story.ok(500, A);
    story.moves(900, A);
    for ms in (1500..9000).step_by(500) {
        story.resent(ms, A, ms / 1000, (ms / 1000) as u32, true, 0);
        story.ok(ms + 1, B);
    }
    for ms in (9000..60_000).step_by(1000) {
        if moves_again {
            story.moves(ms, A);
        }
        story.pass(ms + 1);
    }
    story
}

#[test]
fn a_pool_that_moves_again_and_needs_no_new_connection_has_its_peer_back() {
    let story = asked_anew_meanwhile(true);
    assert_eq!(story.words(), ["dependency_failure no_answer probable", "dependency_failure over"]);
    assert!((28_000..30_000).contains(&story.said[1].0), "{:?}", story.said);
    assert_eq!(asked_anew_meanwhile(false).words(), ["dependency_failure no_answer probable"]);
}

#[test]
fn what_is_heard_after_the_evidence_is_old_ends_the_failure_too() {
    let mut story = asked_anew_meanwhile(false);
    story.pass(200_000);
    assert_eq!(story.words(), ["dependency_failure no_answer probable"]);
    story.moves(201_000, A);
    story.pass(207_000);
    assert_eq!(story.words()[1..], ["dependency_failure over"]);
}

#[test]
fn what_was_asked_in_vain_while_it_was_cut_off_is_no_ghost_of_a_dependency() {
    let mut story = Story::new();
    for peer in [A, B] {
        story.ok(500, peer);
    }
    story.silence(1000, 9000, &[A, B]);
    for ms in [9500, 10_500, 12_000, 14_000] {
        story.moves(ms, A);
        story.moves(ms + 1, B);
    }
    story.pass(40_000);
    assert_eq!(story.words(), ["network_isolation netns probable", "network_isolation over"]);
}

/// A path that is lost for a moment, and then again.
fn lost_again(heals_for_good: bool) -> Story {
    let mut story = Story::new();
    for peer in [A, B] {
        story.ok(500, peer);
    }
    for ms in [2000, 2500] {
        for (number, peer) in [A, B].into_iter().enumerate() {
            story.resent(ms, peer, ms + number as u64, 1, true, 0);
        }
    }
    for ms in (3000..15_000).step_by(500) {
        for (number, peer) in [A, B].into_iter().enumerate() {
            if heals_for_good || ms < 4000 {
                story.moves(ms, peer);
            }
            if 4000 <= ms {
                story.resent(ms + 1, peer, ms / 1000 * 10 + number as u64, 1, true, 0);
            }
        }
    }
    story
}

#[test]
fn that_a_path_was_well_between_two_losses_hides_no_isolation() {
    let story = lost_again(false);
    assert_eq!(story.words(), ["network_isolation netns probable"]);
    assert!((8000..9500).contains(&story.said[0].0), "{:?}", story.said);
    assert!(!lost_again(true).words().iter().any(|said| said.contains("isolation")));
}

/// Its connections may be older than the agent.
#[test]
fn who_was_heard_of_is_not_said_never_to_have_answered() {
    let said = |is_heard: bool| {
        let mut story = Story::new();
        story.resent(500, A, 1, 1, true, 0);
        if is_heard {
            story.moves(900, A);
        }
        for ms in (1500..9000).step_by(500) {
            story.resent(ms, A, ms / 1000, (ms / 1000) as u32, true, 0);
            story.ok(ms + 1, B);
        }
        story.sentences.concat()
    };
    assert!(said(true).contains(", last heard of "), "{}", said(true));
    assert!(said(false).contains(", no answer of it was seen"), "{}", said(false));
}

/// What moves is told for ten minutes after somebody was in trouble.
#[test]
fn the_time_between_two_spells_of_trouble_is_no_habit() {
    let mut story = Story::new();
    for second in 1..700_u64 {
        [A, B].iter().for_each(|peer| story.ok(second * 1000, peer));
        if matches!(second, 2 | 3 | 699) {
            [A, B].iter().for_each(|peer| story.moves(second * 1000 + 200, peer));
        }
    }
    for second in 702..712 {
        story.tell(second * 1000, Fact::NoRoute(NoRoute { netns: 7, v4: 2, ..NoRoute::default() }));
    }
    assert_eq!(story.words(), ["network_isolation netns probable"]);
}
