//! What this machine itself would not send.

use super::*;
use crate::signal::network::{Change, FlowSnapshot, LinkChange};

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

/// The last container of a bridge ends, and a peer falls silent.
fn silent_beside_a_link_without_carrier(another_answers: bool) -> Option<String> {
    let mut story = Story::new();
    for peer in [A, B] {
        story.ok(500, peer);
    }
    let change = Change::Link { name: "docker0".to_owned(), up: true, carrier: false, gone: false };
    let links = vec![LinkChange { netns: 7, change }];
    story.tell(900, Fact::Flows(FlowSnapshot { links, ..FlowSnapshot::default() }));
    for ms in (1500..20_000).step_by(500) {
        story.resent(ms, A, ms / 1000, (ms / 1000) as u32, true, 0);
        if another_answers {
            story.ok(ms + 1, B);
        }
    }
    story.words().first().map(|said| (*said).to_owned())
}

#[test]
fn a_link_explains_nothing_while_another_peer_is_reached() {
    let said = silent_beside_a_link_without_carrier;
    assert_eq!(said(true).as_deref(), Some("dependency_failure no_answer probable"));
    assert_eq!(said(false).as_deref(), Some("dependency_failure unreachable suspected"));
}
