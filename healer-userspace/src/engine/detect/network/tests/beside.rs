//! Silence that is known although the path was lossy, the client gave up, or it asked very often.

use super::*;

const NO_ANSWER: &str = "dependency_failure no_answer probable";

/// Two gaps of B's within the minute, and none in the last ten seconds: those would be the client's.
fn lossy() -> Story {
    let mut story = Story::new();
    for (cookie, ms) in [(71, 1000), (72, 2000)] {
        story.resent(ms, B, cookie, 1, true, 0);
        story.ok(ms + 200, B);
    }
    story.ok(12_900, A);
    story
}

#[test]
fn a_path_that_was_lossy_is_lost_with_another() {
    let mut story = lossy();
    story.silence(13_000, 20_000, &[A, B]);
    assert_eq!(story.words(), ["network_isolation netns probable"]);
    assert_eq!(story.said[0].0, 17_200);
    let mut story = lossy();
    story.silence(13_000, 16_000, &[A, B]);
    story.ok(16_000, B);
    story.silence(15_000, 20_000, &[A]);
    assert_eq!(story.words(), [NO_ANSWER], "it is lossy still");
}

#[test]
fn who_gives_up_for_the_first_time_has_heard_nothing_meanwhile() {
    let gives_up = |answered: Option<u64>| {
        let mut story = Story::new();
        story.ok(900, A);
        story.silence(1000, 4000, &[A]);
        story.fails(3600, A, FailureCause::GaveUp, 2000, 1);
        story.ok(4900, B);
        answered.into_iter().for_each(|ms| story.ok(ms, A));
        story.resent(5000, A, 99, 1, true, 0);
        story.pass(60_000);
        story.words().into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(gives_up(None), [NO_ANSWER]);
    assert_eq!(gives_up(Some(4950)), [""; 0]);
}

#[test]
fn a_client_that_asks_very_often_is_seen_to_get_no_answer() {
    let mut story = Story::new();
    story.ok(900, A);
    for ms in (1000..5000).step_by(50) {
        story.resent(ms, A, ms, 1, true, 0);
        story.ok(ms + 1, B);
    }
    assert_eq!(story.words(), [NO_ANSWER]);
    assert!(story.said[0].0 < 3400, "{:?}", story.said);
}
