//! Needs root. Alone in its binary: the storm would fill the rings of other tests too.

use healer_tests::{
    eye::{Eye, as_exit},
    scratch::Scratch,
    victim::{Victim, compile},
};

#[test]
fn a_full_ring_is_counted_and_never_silent() {
    let mut eye = Eye::open();
    let dir = Scratch::new();
    // 256 KiB hold some 620 records, and nobody reads meanwhile.
    let source = r#"
        #include <stdlib.h>
        #include <sys/wait.h>
        #include <unistd.h>
        int main(void) { for (int i = 0; i < 1500; i++) { if (!fork()) abort(); wait(0); } }"#;
    let mut victim = Victim::start(compile(&dir, "storm", source), &[]);
    victim.wait();
    let lost = eye.sense.lost();
    assert!(0 < lost.urgent, "{lost:?}");
    eye.look();
    let exits = eye.seen.iter().filter_map(|(_, event)| as_exit(event));
    let told = exits.filter(|exit| exit.task.comm() == b"storm").count();
    assert!(500 < told, "{told}");
}
