//! What the README shows first: real failures, each called by its name, healed and verified, within a minute. Needs root.
//!
//! mostly waits

use std::process::Command;

use healer_tests::binary::healer;

#[test]
fn the_demo_heals_all_three_and_leaves_the_neighbour_alone() {
    let shown = Command::new(healer()).arg("demo").output().unwrap();
    let (words, errors) = (String::from_utf8_lossy(&shown.stdout), String::from_utf8_lossy(&shown.stderr));
    assert!(shown.status.success(), "{words}\n{errors}");
    for wanted in ["SIGSEGV", "SIGKILL", "status 1 after", "ran through all of it", "3 healed and verified"] {
        assert!(words.contains(wanted), "{wanted:?} is missing in {words}");
    }
}
