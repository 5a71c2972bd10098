//! A deadlock is proved on every kernel and processor that runs in a guest, by its iterator and by /proc.
//! tests/tests/live_hangs.rs has more, with compilers.
//!
//! guest: all

use std::{thread, time::Duration};

use healer_tests::{
    hangs::Watch,
    scratch::Scratch,
    victim::{Victim, built},
};
use healer_userspace::engine::class::Certainty;

const PATIENCE: Duration = Duration::from_secs(40);

#[test]
fn two_locks_taken_crosswise_are_proved_by_either_way_and_a_long_wait_is_not() {
    let dir = Scratch::new();
    let program = built(&dir, "abba");
    let dead = Victim::start(&program, &[]);
    let well = Victim::start(&program, &["well"]);
    let look = |way: &str, open: fn() -> Watch| {
        let mut watch = open();
        let missing = watch.wait_for(&[("abba", vec![dead.tgid()])], Certainty::Proved, PATIENCE);
        assert!(missing.is_empty(), "by {way}: {:?}", watch.found);
        assert!(!watch.found.contains_key(&well.tgid()), "by {way}: {:?}", watch.found);
    };
    thread::scope(|scope| {
        scope.spawn(|| look("iter/task", Watch::open));
        scope.spawn(|| look("proc", Watch::by_proc));
    });
}
