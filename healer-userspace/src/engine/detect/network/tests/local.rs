//! What this machine itself would not send.

use super::*;

#[test]
fn a_filter_against_one_peer_cuts_nobody_off() {
    let mut story = Story::new();
    for peer in [A, B] {
        story.ok(500, peer);
    }
    for ms in [1000, 2000, 3000] {
        let sent = Retransmitted {
            flow: story.flow(A, ms),
            connecting: true,
            retransmits: 1,
            unacknowledged: 0,
            local_error: Some(1),
            streak: 0,
            sampled: false,
        };
        story.tell(ms, Fact::Retransmitted(sent));
        story.ok(ms + 300, B);
    }
    story.pass(30_000);
    assert_eq!(story.words(), ["dependency_failure no_answer probable"]);
}

#[test]
fn want_of_room_in_this_machine_is_no_filter() {
    let mut story = Story::new();
    for (ms, errno) in [(1000, libc::ENOBUFS), (1200, libc::EBUSY), (1400, libc::ENOMEM)] {
        story.ok(ms - 100, A);
        let flow = story.flow(A, 1);
        let (retransmits, local_error) = (1, Some(errno));
        let sent = Retransmitted {
            flow,
            connecting: false,
            retransmits,
            unacknowledged: 7,
            local_error,
            streak: 0,
            sampled: false,
        };
        story.tell(ms, Fact::Retransmitted(sent));
    }
    story.ok(1500, B);
    story.pass(30_000);
    assert_eq!(story.words(), [""; 0]);
}
