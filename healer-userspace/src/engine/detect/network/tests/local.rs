//! What this machine itself would not send.

use super::*;
use crate::signal::network::{Change, FlowSnapshot, LinkChange, Listens};

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

/// A container ends; a peer answers on, and much later does not.
fn lost_long_after() -> Story {
    let mut story = Story::new();
    story.lives_on_this_node(B);
    let change = Change::Link { name: "docker0".to_owned(), up: true, carrier: false, gone: false };
    let links = vec![LinkChange { netns: 7, change }];
    story.tell(900, Fact::Flows(FlowSnapshot { links, ..FlowSnapshot::default() }));
    for ms in (1500..40_000).step_by(500) {
        story.ok(ms, B);
        match ms {
            0..20_000 => story.ok(ms + 1, A),
            _ => story.resent(ms + 1, A, ms / 1000, (ms / 1000) as u32, true, 0),
        }
    }
    story
}

#[test]
fn a_link_without_which_the_peer_itself_answered_explains_nothing() {
    let silent = lost_long_after();
    assert_eq!(silent.words(), ["dependency_failure no_answer probable"]);
    assert!(!silent.sentences[0].contains("docker0"), "{}", silent.sentences[0]);
}

#[test]
fn a_route_without_which_the_peer_itself_answered_explains_nothing() {
    let told = |at: u64| {
        let mut story = Story::new();
        for ms in (1500..40_000).step_by(500) {
            if ms == at {
                let links = vec![LinkChange {
                    netns: 7,
                    change: Change::Route { to: "default".to_owned(), usable: false },
                }];
                story.tell(ms, Fact::Flows(FlowSnapshot { links, ..FlowSnapshot::default() }));
            }
            story.ok(ms, B);
            match ms {
                0..20_000 => story.ok(ms + 1, A),
                _ => story.resent(ms + 1, A, ms / 1000, (ms / 1000) as u32, true, 0),
            }
        }
        story.sentences.into_iter().next().unwrap()
    };
    assert!(!told(3000).contains("the route to"), "{}", told(3000));
    assert!(told(20_000).contains("the route to default is gone"), "{}", told(20_000));
}

#[test]
fn to_whom_was_reached_no_link_is_missing() {
    let mut story = Story::new();
    story.lives_on_this_node(B);
    for ms in (1500..10_000).step_by(500) {
        if ms == 4000 {
            let change = Change::Link { name: "docker0".to_owned(), up: true, carrier: false, gone: false };
            let links = vec![LinkChange { netns: 7, change }];
            story.tell(ms, Fact::Flows(FlowSnapshot { links, ..FlowSnapshot::default() }));
        }
        story.ok(ms, B);
        match ms {
            0..4500 => story.ok(ms + 1, A),
            _ => story.refused(ms + 1, A, ((ms - 4000) / 500) as u32),
        }
    }
    assert_eq!(story.words(), ["dependency_failure refuses probable"]);
    assert!(!story.sentences[0].contains("docker0"), "{}", story.sentences[0]);
}

impl Story {
    pub(super) fn lives_on_this_node(&mut self, peer: &str) {
        let listens = Listens { address: peer.parse().unwrap(), netns: 99, cgroup: 6, cookie: 1, on: true };
        let server = Process { pid: 50, workload: WorkloadKey("pod".to_owned()), ..Process::default() };
        let signal = Signal { at: BootTime(1), process: Some(server), fact: Fact::Listens(listens) };
        self.world.update(BootTime(1), &signal, &self.policies);
    }
}

/// B is silent since long before the uplink goes; somebody else on the host is answered by C until then, or all the
/// while.
fn is_uplink_blamed(is_c_on_this_node: bool, c_answers_until: u64) -> bool {
    const CUT: u64 = 8000;
    let mut story = Story::new();
    if is_c_on_this_node {
        story.lives_on_this_node(C);
    }
    story.ok(500, A);
    story.ok(501, B);
    for ms in (1500..16_000).step_by(500) {
        if ms == CUT {
            let change = Change::Link { name: "eth0".to_owned(), up: false, carrier: false, gone: false };
            let links = vec![LinkChange { netns: 7, change }];
            story.tell(ms, Fact::Flows(FlowSnapshot { links, ..FlowSnapshot::default() }));
        }
        story.resent(ms + 1, B, ms / 1000, (ms / 1000) as u32, true, 0);
        if ms < CUT {
            story.ok(ms + 2, A);
        } else {
            story.resent(ms + 2, A, ms / 1000, (ms / 1000) as u32, true, 0);
        }
        if ms < c_answers_until {
            story.workload = "web";
            story.ok(ms + 3, C);
            story.workload = "api";
        }
    }
    let cut_off = story.sentences.iter().find(|sentence| sentence.contains("is cut off ("));
    cut_off.unwrap().contains("link eth0 is down")
}

#[test]
fn a_dead_uplink_is_the_cause_whoever_on_this_node_answers_and_whoever_did_before() {
    assert!(is_uplink_blamed(true, 16_000), "C needs no uplink");
    assert!(is_uplink_blamed(false, 8000), "C answered before it went");
    assert!(!is_uplink_blamed(false, 16_000), "C is reached without that link");
}
