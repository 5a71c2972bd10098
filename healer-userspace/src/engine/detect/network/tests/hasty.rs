//! Clients that give up within a second.

use super::*;

#[test]
fn who_no_longer_answers_a_hasty_client_is_silent() {
    let mut story = Story::new();
    for ms in (1000..20_000).step_by(500) {
        story.ok(ms, A);
    }
    for (streak, ms) in (20_000..30_000).step_by(500).enumerate() {
        story.fails(ms, A, FailureCause::GaveUp, 500, streak as u32 + 1);
    }
    let words = story.words();
    assert!(words.iter().any(|word| word.starts_with("dependency_failure no_answer")), "{words:?}");
}

#[test]
fn a_client_that_gives_up_says_nothing_of_a_peer_of_which_no_more_is_known() {
    // A client that gives up before the kernel would ask again.
    let mut story = Story::new();
    for (streak, ms) in (1000..20_000).step_by(500).enumerate() {
        story.fails(ms, A, FailureCause::GaveUp, 300, streak as u32 + 1);
    }
    assert_eq!(story.words(), [""; 0]);
    // The same by a client that never gives its peer the time that it always took.
    let mut story = Story::new();
    story.ok(900, A);
    for (streak, ms) in (1000..20_000).step_by(500).enumerate() {
        story.fails(ms, A, FailureCause::GaveUp, 50, streak as u32 + 1);
    }
    assert_eq!(story.words(), [""; 0]);
}
