use super::*;
use crate::signal::{
    network::{Change, FlowSnapshot, LinkChange},
    syscall_error::SyscallError,
};

impl Story {
    fn has_no_way(&mut self, ms: u64, peer: &str, errno: i32) {
        let address = Some(peer.parse().unwrap());
        let error = SyscallError { call: "connect".to_owned(), errno, address, ..SyscallError::default() };
        self.tell(ms, Fact::SyscallError(Box::new(error)));
    }

    pub(super) fn loses(&mut self, ms: u64, route: &str) {
        let change = Change::Route { to: route.to_owned(), usable: false };
        let links = vec![LinkChange { netns: self.netns, change }];
        self.tell(ms, Fact::Flows(FlowSnapshot { links, ..FlowSnapshot::default() }));
    }
}

#[test]
fn a_call_that_finds_no_route_says_of_which_peer() {
    let mut story = Story::new();
    for peer in [A, B, C] {
        story.ok(500, peer);
    }
    for second in 1..4 {
        let ms = second * 1000;
        for (later, peer) in [A, B, C].into_iter().enumerate() {
            story.has_no_way(ms + 250 * later as u64, peer, libc::ENETUNREACH);
        }
        story.tell(ms + 900, Fact::NoRoute(NoRoute { netns: 7, v4: 9, ..NoRoute::default() }));
    }
    story.pass(60_000);
    assert_eq!(story.words(), ["network_isolation netns probable"]);
    assert!(story.said[0].0 <= 4000, "{:?}", story.said);
}

#[test]
fn being_cut_off_waits_a_moment_for_its_cause_and_no_longer() {
    let story = |told: Option<u64>| {
        let mut story = Story::new();
        for peer in [A, B] {
            story.ok(500, peer);
        }
        for ms in [1000, 1250, 1500, 1750] {
            story.has_no_way(ms, A, libc::ENETUNREACH);
            story.has_no_way(ms, B, libc::ENETUNREACH);
        }
        story.tell(1900, Fact::NoRoute(NoRoute { netns: 7, v4: 9, ..NoRoute::default() }));
        told.into_iter().for_each(|ms| story.loses(ms, "10.0.0.0/24"));
        story.pass(60_000);
        assert_eq!(story.words(), ["network_isolation netns probable"]);
        story.said[0].0
    };
    assert_eq!(story(None), 3000);
    assert!((2300..2600).contains(&story(Some(2300))));
}

/// What is told is gone at 2500 ms, and something finds no route at 3800; what was said by 4100.
fn misses(change: Option<Change>, is_reached_since: bool) -> usize {
    let mut story = Story::new();
    for ms in (500..2500).step_by(400) {
        story.ok(ms, A);
        story.ok(ms + 1, B);
    }
    let links: Vec<_> = change.into_iter().map(|change| LinkChange { netns: 7, change }).collect();
    story.tell(2500, Fact::Flows(FlowSnapshot { links, ..FlowSnapshot::default() }));
    if is_reached_since {
        story.ok(2510, A);
        story.ok(2510, B);
    }
    story.tell(3800, Fact::NoRoute(NoRoute { netns: 7, v4: 9, ..NoRoute::default() }));
    story.pass(4100);
    story.words().len()
}

#[test]
fn who_misses_a_link_or_a_route_that_is_told_gone_misses_it_once() {
    let link = |up, gone| Change::Link { name: "eth0".to_owned(), up, carrier: false, gone };
    let route = Change::Route { to: "10.0.0.0/24".to_owned(), usable: false };
    assert_eq!((misses(Some(link(false, false)), false), misses(Some(route), false)), (1, 1));
    assert_eq!(misses(Some(link(false, false)), true), 0, "by another link");
    assert_eq!((misses(Some(link(false, true)), false), misses(None, false)), (0, 0), "it may be another's");
}

#[test]
fn a_route_that_says_no_is_an_unreachable_peer() {
    let mut story = Story::new();
    for second in 1..8 {
        story.ok(second * 1000, B);
        if second == 2 {
            story.ok(1900, A);
            story.loses(2000, "10.0.0.1/32");
        }
        if 2 <= second {
            story.has_no_way(second * 1000 + 100, A, libc::EHOSTUNREACH);
        }
    }
    assert_eq!(story.words(), ["dependency_failure unreachable probable"]);
}

#[test]
fn what_nobody_reached_before_and_what_an_edge_told_are_not_counted() {
    // An address of a name that this machine has no route to: the next one answers.
    let mut story = Story::new();
    for second in 1..20 {
        story.ok(second * 1000, B);
        story.has_no_way(second * 1000, "[fd00::1]:80", libc::ENETUNREACH);
    }
    assert_eq!(story.words(), [""; 0]);
    let mut story = Story::new();
    story.ok(500, A);
    story.fails(1000, A, FailureCause::Unreachable, 3, 1);
    story.has_no_way(1001, A, libc::EHOSTUNREACH);
    story.ok(1500, A);
    story.pass(60_000);
    assert_eq!(story.words(), [""; 0]);
}
