//! Something in the namespace finds no route, and nobody says what it was for.

use super::*;
use crate::signal::network::{Change, FlowSnapshot, LinkChange};

impl Story {
    fn finds_no_route(&mut self, ms: u64) {
        self.has_found_no_route(ms, None);
    }

    fn has_found_no_route(&mut self, ms: u64, since_ms: Option<u64>) {
        let since = since_ms.map(|ms| BootTime(ms * 1_000_000));
        self.tell(ms, Fact::NoRoute(NoRoute { netns: 7, v4: 1, since, ..NoRoute::default() }));
    }

    /// Connections to both, one after the other.
    fn asks(&mut self, from_ms: u64, to_ms: u64, every_ms: usize) {
        for ms in (from_ms..to_ms).step_by(every_ms) {
            self.ok(ms, A);
            self.ok(ms + 10, B);
        }
    }
}

/// Of connections that are made, nothing is told before somebody is in trouble: the first that finds no route is that.
fn is_pool_cut_off(moves_every: Option<u64>, asks_until: u64) -> usize {
    let mut story = Story::new();
    story.asks(500, asks_until, 300);
    story.finds_no_route(12_500);
    if moves_every.is_some() {
        [A, B].iter().for_each(|peer| story.is_seen_to_have_moved(13_000, peer, 11_200));
    }
    for second in 13..60 {
        if moves_every.is_some_and(|every| second % every == 0) {
            [A, B].iter().for_each(|peer| story.moves(second * 1000 + 100, peer));
        }
        story.finds_no_route(second * 1000 + 500);
    }
    story.words().len()
}

#[test]
fn a_pool_is_not_what_finds_no_route() {
    assert_eq!(is_pool_cut_off(Some(1), 1400), 0);
    assert_eq!(is_pool_cut_off(Some(10), 1400), 0, "a heartbeat");
    assert_eq!(is_pool_cut_off(None, 1400), 0, "nobody uses it");
    assert_eq!(is_pool_cut_off(None, 12_000), 1, "it was asking until then");
}

/// It asks every twenty seconds, and something begins to find no route so long after the last time.
fn is_seldom_client_cut_off(began_after: u64) -> usize {
    let mut story = Story::new();
    story.asks(1000, 61_001, 20_000);
    for ms in (61_000 + began_after..200_000).step_by(3000) {
        story.finds_no_route(ms);
    }
    story.words().len()
}

#[test]
fn whoever_had_stopped_by_itself_when_it_began_does_not_miss_it() {
    assert_eq!(is_seldom_client_cut_off(65_000), 1);
    assert_eq!(is_seldom_client_cut_off(65_100), 0);
}

/// It asks until the twelfth second; the counter of its namespace is read late, and was read before at that time.
fn is_cut_off_if_read(ms: u64, before: Option<u64>) -> bool {
    let mut story = Story::new();
    story.asks(500, 12_000, 300);
    story.has_found_no_route(ms, before);
    story.has_found_no_route(ms + 3000, Some(ms));
    story.pass(ms + 6000);
    story.words() == ["network_isolation netns probable"]
}

#[test]
fn of_many_namespaces_each_is_read_seldom() {
    assert!(is_cut_off_if_read(32_000, Some(12_000)));
    assert!(!is_cut_off_if_read(32_000, Some(14_000)), "it had stopped by itself before");
    assert!(!is_cut_off_if_read(32_000, None));
    assert!(is_cut_off_if_read(17_000, None));
    assert!(!is_cut_off_if_read(50_000, Some(12_000)), "who knows what it did meanwhile");
}

/// Time is asked for every thousand seconds; whoever else lives there connects just before, and has done with it.
#[test]
fn what_finds_no_route_now_and_then_is_the_same_each_time() {
    let mut story = Story::new();
    for poll in 0..4 {
        let ms = 10_000 + poll * 1_000_000;
        if poll != 0 {
            story.asks(ms - 3000, ms, 300);
        }
        story.finds_no_route(ms + 4000);
        story.finds_no_route(ms + 7000);
    }
    story.pass(4_000_000);
    assert_eq!(story.words(), [""; 0]);
}

/// Another program of the host asks for what it has no route to, every three seconds.
fn beside_it(ask: impl Fn(&mut Story, u64), to: u64) -> Story {
    let mut story = Story::new();
    for ms in (1000..to).step_by(200) {
        ask(&mut story, ms);
        if ms % 3000 == 0 {
            story.finds_no_route(ms);
        }
    }
    story
}

#[test]
fn who_was_answered_meanwhile_is_not_what_finds_no_route() {
    let until = |last: u64| {
        move |story: &mut Story, ms: u64| {
            if ms <= last && ms.is_multiple_of(400) {
                story.ok(ms, A);
                story.ok(ms + 10, B);
            }
        }
    };
    assert_eq!(beside_it(until(5000), 300_000).words(), [""; 0], "a pool, or a client that hangs");
    assert_eq!(beside_it(until(60_000), 300_000).words(), [""; 0]);
    let beside_a_pool = |story: &mut Story, ms: u64| {
        if ms.is_multiple_of(5000) {
            story.ok(ms, A);
        }
        if ms < 2000 {
            story.ok(ms + 10, B);
        }
    };
    assert_eq!(beside_it(beside_a_pool, 100_000).words(), [""; 0]);
}

#[test]
fn whoever_loses_the_way_out_is_cut_off_beside_it_too() {
    let lost = |change: Option<Change>| {
        let ask = |story: &mut Story, ms: u64| {
            if ms <= 30_000 && ms.is_multiple_of(400) {
                story.ok(ms, A);
                story.ok(ms + 10, B);
            }
            if ms == 30_200 {
                let links: Vec<_> =
                    change.iter().cloned().map(|change| LinkChange { netns: 7, change }).collect();
                story.tell(ms, Fact::Flows(FlowSnapshot { links, ..FlowSnapshot::default() }));
            }
        };
        let story = beside_it(ask, 60_000);
        story.words().into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let cut_off = ["network_isolation netns probable"];
    let link = Change::Link { name: "eth0".to_owned(), up: false, carrier: false, gone: false };
    assert_eq!(lost(Some(link)), cut_off);
    assert_eq!(lost(Some(Change::Route { to: "default".to_owned(), usable: false })), cut_off);
    assert_eq!(lost(Some(Change::Route { to: "10.0.0.0/24".to_owned(), usable: false })), cut_off);
    let last_address = Change::Route { to: "192.168.1.0/24".to_owned(), usable: false };
    assert_eq!(lost(Some(last_address)), cut_off, "the default route goes with it and is not told");
    assert_eq!(lost(None), [""; 0], "it hangs");
}

/// A and B are lost at 12 s, and something finds no route from then on; a third is asked by somebody all the while.
fn beside_one_who_answers(workload: &'static str, is_on_this_node: bool) -> Vec<String> {
    let mut story = Story::new();
    if is_on_this_node {
        story.lives_on_this_node(C);
    }
    story.asks(500, 12_000, 300);
    for ms in (12_000..20_000).step_by(500) {
        story.workload = workload;
        story.ok(ms, C);
        story.workload = "api";
        if ms % 1000 == 500 {
            story.finds_no_route(ms + 100);
        }
    }
    story.words().into_iter().map(str::to_owned).collect()
}

#[test]
fn whoever_answers_on_this_node_does_not_show_that_the_way_out_is_there() {
    assert_eq!(beside_one_who_answers("web", true), ["network_isolation netns probable"]);
    assert_eq!(beside_one_who_answers("api", true), ["dependency_failure unreachable probable"; 2]);
    for workload in ["web", "api"] {
        assert_eq!(beside_one_who_answers(workload, false), [""; 0], "{workload}");
    }
}
