//! One peer of several workloads.

use super::*;

/// In a namespace of its own each; somebody else is answered by B, or nobody is.
fn asks_in_vain(workloads: &[(&'static str, u32)], is_anybody_reached: bool) -> Story {
    let mut story = Story::new();
    for (workload, netns) in workloads.iter().copied() {
        (story.workload, story.netns) = (workload, netns);
        story.ok(500, A);
    }
    for ms in (1500..12_000).step_by(500) {
        if is_anybody_reached {
            (story.workload, story.netns) = ("other", 99);
            story.ok(ms - 1, B);
        }
        for (workload, netns) in workloads.iter().copied() {
            (story.workload, story.netns) = (workload, netns);
            story.resent(ms, A, ms / 1000, (ms / 1000) as u32, true, 0);
        }
    }
    story
}

const SUSPECTED: &str = "dependency_failure no_answer suspected";
const PROBABLE: &str = "dependency_failure no_answer probable";

#[test]
fn an_only_peer_of_two_workloads_is_blamed_for_both_and_of_one_it_is_suspected() {
    assert_eq!(asks_in_vain(&[("api", 7)], true).words(), [SUSPECTED]);
    let told_again = [SUSPECTED, PROBABLE, PROBABLE];
    assert_eq!(asks_in_vain(&[("api", 7), ("web", 7)], true).words(), told_again);
    assert_eq!(asks_in_vain(&[("api", 7), ("web", 8)], true).words(), told_again);
}

/// The node's own way out may be lost.
#[test]
fn while_nobody_is_reached_at_all_nobody_is_blamed() {
    assert_eq!(asks_in_vain(&[("api", 7), ("web", 8)], false).words(), [SUSPECTED; 2]);
}

#[test]
fn one_workload_in_two_namespaces_is_one() {
    assert_eq!(asks_in_vain(&[("api", 7), ("api", 8)], true).words(), [SUSPECTED; 2]);
}
