//! What says why, and need not be waited for.

use super::*;
use crate::signal::network::{Change, FlowSnapshot, LinkChange};

/// A cannot be reached from 1010 ms on, and somebody says so after so long; when that is said of A.
fn is_unreachable_after(age_ms: u64) -> u64 {
    let mut story = Story::new();
    story.ok(500, A);
    for (streak, ms) in (1000..5000).step_by(200).enumerate() {
        story.ok(ms, B);
        story.fails(ms + 10, A, FailureCause::Unreachable, age_ms, streak as u32 + 1);
    }
    assert_eq!(story.words(), ["dependency_failure unreachable probable"], "{age_ms}");
    story.said[0].0
}

#[test]
fn who_is_told_that_there_is_no_way_is_told_so_for_a_while_first() {
    for age_ms in [1, 3000] {
        assert_eq!(is_unreachable_after(age_ms), 3210, "a pod that is replaced takes as long as a restart");
    }
    let mut story = Story::new();
    for (streak, ms) in [1010, 1210].into_iter().enumerate() {
        story.ok(ms - 10, A);
        story.fails(ms, A, FailureCause::Unreachable, 1, streak as u32 + 1);
    }
    story.ok(1300, A);
    story.pass(60_000);
    assert_eq!(story.words(), [""; 0], "a moment");
}

#[test]
fn a_filter_of_this_machine_is_its_own_cause() {
    let filtered = |errno: i32| {
        let mut story = Story::new();
        for peer in [A, B] {
            story.ok(500, peer);
        }
        for (cookie, peer) in [(1, A), (2, B)] {
            let sent = Retransmitted {
                flow: story.flow(peer, cookie),
                connecting: true,
                retransmits: 1,
                unacknowledged: 0,
                local_error: Some(errno),
                streak: 0,
                sampled: false,
            };
            story.tell(2000, Fact::Retransmitted(sent));
        }
        story.pass(60_000);
        assert_eq!(story.words()[..1], ["network_isolation netns proved"]);
        story.said[0].0
    };
    assert_eq!(filtered(libc::EPERM), 2200);
    assert_eq!(filtered(libc::ENETUNREACH), 4000, "a route may be gone");
}

/// A and B are silent from 500 ms on; when that is said of their client.
fn is_cut_off(lost: Option<Change>, is_another_reached: bool) -> u64 {
    let mut story = Story::new();
    for peer in [A, B] {
        story.ok(400, peer);
    }
    let links: Vec<_> = lost.into_iter().map(|change| LinkChange { netns: 7, change }).collect();
    story.tell(900, Fact::Flows(FlowSnapshot { links, ..FlowSnapshot::default() }));
    if is_another_reached {
        story.workload = "web";
        story.ok(1000, C);
        story.workload = "api";
    }
    story.silence(500, 9000, &[A, B]);
    assert_eq!(story.words().len(), 1, "{:?}", story.said);
    story.said[0].0
}

#[test]
fn who_falls_silent_with_the_link_is_cut_off_and_no_loss_is_waited_out() {
    let link = |up, gone| Change::Link { name: "eth0".to_owned(), up, carrier: false, gone };
    assert_eq!(is_cut_off(Some(link(false, false)), false), 2700);
    let others = [
        (None, false),
        (Some(link(false, true)), false),
        (Some(link(true, false)), false),
        (Some(link(false, false)), true),
    ];
    for (lost, is_another_reached) in others {
        assert_eq!(is_cut_off(lost.clone(), is_another_reached), 4700, "{lost:?}, {is_another_reached}");
    }
}
