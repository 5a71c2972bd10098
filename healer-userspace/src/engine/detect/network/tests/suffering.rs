//! One peer of several workloads.

use super::*;

fn asks_in_vain(workloads: &[&'static str]) -> Story {
    let mut story = Story::new();
    for workload in workloads.iter().copied() {
        story.workload = workload;
        story.ok(500, A);
    }
    for ms in (1500..12_000).step_by(500) {
        for workload in workloads.iter().copied() {
            story.workload = workload;
            story.resent(ms, A, ms / 1000, (ms / 1000) as u32, true, 0);
        }
    }
    story
}

#[test]
fn an_only_peer_of_two_workloads_is_blamed_for_both_and_of_one_it_is_suspected() {
    assert_eq!(asks_in_vain(&["api"]).words(), ["dependency_failure no_answer suspected"]);
    let [one, other] = ["suspected", "probable"].map(|sure| format!("dependency_failure no_answer {sure}"));
    assert_eq!(asks_in_vain(&["api", "web"]).words(), [&one, &other, &other], "the first one is told again");
}
