//! Needs root. Alone in its binary: the storm would fill the rings of other tests too.
//!
//! one guest: all

use healer_tests::{
    eye::{Eye, as_exit},
    scratch::Scratch,
    victim::{Victim, built},
};

#[test]
fn a_full_ring_is_counted_and_never_silent() {
    let mut eye = Eye::open();
    let dir = Scratch::new();
    // 256 KiB hold some 620 records, and nobody reads meanwhile.
    let mut victim = Victim::start(built(&dir, "storm"), &[]);
    victim.wait();
    let lost = eye.sense.lost();
    assert!(0 < lost.urgent, "{lost:?}");
    eye.look();
    let exits = eye.seen.iter().filter_map(|(_, event)| as_exit(event));
    let told = exits.filter(|exit| exit.task.comm() == b"storm").count();
    assert!(500 < told, "{told}");
}
