//! Random loss has runs of bad luck; a dead peer has nothing else.

use super::*;

/// Each of them is asked for connections, and answers the second time, if at all.
fn loses(story: &mut Story, ms: u64, peers: &[&str]) {
    for (number, peer) in peers.iter().enumerate() {
        let ms = ms + 10 * number as u64;
        story.resent(ms, peer, ms, 1, true, 0);
        story.ok(ms + 5, peer);
    }
}

/// One peer that is silent from the fourth second on, beside others.
fn silence_beside(beside: impl Fn(&mut Story, u64)) -> Story {
    let mut story = Story::new();
    story.ok(500, A);
    for ms in (1000..23_000).step_by(500) {
        beside(&mut story, ms);
        if 4000 <= ms {
            let asked = (ms - 4000) / 1000;
            story.resent(ms + 100, A, asked, asked as u32 + 1, true, 0);
        }
    }
    story
}

#[test]
fn whose_other_paths_lose_packets_waits_longer_for_an_answer() {
    let hurried = silence_beside(|story, ms| [B, C].iter().for_each(|peer| story.ok(ms, peer)));
    assert_eq!(hurried.words(), ["dependency_failure no_answer probable"]);
    assert!(hurried.said[0].0 < 8000, "{:?}", hurried.said);
    let patient = silence_beside(|story, ms| loses(story, ms, &[B, C]));
    let of_it: Vec<_> = patient.said.iter().filter(|(_, says)| says.starts_with("dependency")).collect();
    assert!(matches!(&of_it[..], [(ms, _)] if 19_000 < *ms), "{:?}", patient.said);
}

#[test]
fn one_that_is_slow_to_answer_beside_others_makes_no_path_lossy() {
    let hurried = silence_beside(|story, ms| {
        loses(story, ms, &[B]);
        story.ok(ms + 30, C);
    });
    let failed = hurried.said.iter().find(|(_, says)| says.starts_with("dependency"));
    assert!(failed.is_some_and(|(ms, _)| *ms < 8000), "{:?}", hurried.said);
}

#[test]
fn losses_that_are_over_put_nothing_off() {
    let story = silence_beside(|story, ms| match ms {
        0..2000 => loses(story, ms, &[B, C]),
        _ => [B, C].iter().for_each(|peer| story.ok(ms, peer)),
    });
    let failed = story.said.iter().find(|(_, says)| says.starts_with("dependency"));
    assert!(failed.is_some_and(|(ms, _)| (11_000..15_000).contains(ms)), "{:?}", story.said);
}

/// What made the case stays, however much is heard after it.
#[test]
fn who_is_asked_very_often_is_found_silent_all_the_same() {
    let mut story = Story::new();
    story.ok(500, A);
    for ms in (1000..20_000).step_by(500) {
        loses(&mut story, ms, &[B, C]);
        for part in (20..500).step_by(20) {
            story.fails(ms + part, A, FailureCause::GaveUp, 1500, 2);
        }
    }
    let failed = story.said.iter().find(|(_, says)| says.starts_with("dependency"));
    assert!(failed.is_some_and(|(ms, _)| (16_000..17_000).contains(ms)), "{:?}", story.said);
}
