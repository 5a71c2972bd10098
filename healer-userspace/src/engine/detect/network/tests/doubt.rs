//! What a lesser rung of the sensors concludes makes nobody surer than suspicious.

use super::*;

fn lesser() -> Story {
    Story { by_lesser_rung: true, ..Story::new() }
}

fn unreachable(mut story: Story) -> Vec<String> {
    for ms in (1000..6000).step_by(500) {
        story.ok(ms, B);
        story.fails(ms + 10, A, FailureCause::Unreachable, 5, (ms / 500) as u32);
    }
    story.said.into_iter().map(|(_, says)| says).collect()
}

#[test]
fn a_cause_that_was_concluded_is_suspected_and_one_that_was_told_is_probable() {
    assert_eq!(unreachable(Story::new()), ["dependency_failure unreachable probable"]);
    assert_eq!(unreachable(lesser()), ["dependency_failure unreachable suspected"]);
}

#[test]
fn what_was_told_meanwhile_makes_it_probable() {
    let mut story = lesser();
    story.ok(500, A);
    for (streak, ms) in (2000..8000).step_by(1000).enumerate() {
        story.ok(ms, B);
        story.fails(ms + 10, A, FailureCause::TimedOut, 1500, streak as u32 + 1);
    }
    assert_eq!(story.words(), ["dependency_failure no_answer suspected"]);
    story.by_lesser_rung = false;
    for ms in (8000..14_000).step_by(500) {
        story.ok(ms, B);
        story.resent(ms + 10, A, ms / 1000, (ms / 1000) as u32, true, 0);
    }
    assert_eq!(
        story.words(),
        ["dependency_failure no_answer suspected", "dependency_failure no_answer probable"]
    );
}

#[test]
fn a_refusal_is_the_peers_own_word_whatever_else_was_concluded() {
    let mut story = Story::new();
    for (streak, ms) in (1000..6000).step_by(500).enumerate() {
        story.ok(ms, B);
        story.by_lesser_rung = true;
        story.fails(ms + 5, A, FailureCause::GaveUp, 10, streak as u32 + 1);
        story.by_lesser_rung = false;
        story.refused(ms + 10, A, streak as u32 + 2);
    }
    assert_eq!(story.words(), ["dependency_failure refuses probable"]);
}

#[test]
fn silence_between_looks_is_suspected_of_one_peer_and_of_all() {
    let mut story = lesser();
    story.ok(500, A);
    for ms in (1500..8000).step_by(500) {
        story.resent(ms, A, ms / 1000, (ms / 1000) as u32, true, 0);
        story.ok(ms + 1, B);
    }
    assert_eq!(story.words(), ["dependency_failure no_answer suspected"]);
    let mut story = lesser();
    for peer in [A, B, C] {
        story.ok(500, peer);
    }
    story.silence(1000, 9000, &[A, B, C]);
    assert_eq!(story.words(), ["network_isolation netns suspected"]);
    story.by_lesser_rung = false;
    story.silence(9000, 15_000, &[A, B, C]);
    assert_eq!(story.words(), ["network_isolation netns suspected", "network_isolation netns probable"]);
    for ms in [15_100, 16_000, 17_500] {
        for peer in [A, B, C] {
            story.ok(ms, peer);
        }
    }
    story.pass(30_000);
    assert_eq!(story.words().len(), 3, "it ends once: {:?}", story.said);
}
