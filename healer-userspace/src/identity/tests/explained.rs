//! What is found out beside the record of a signal or of an OOM kill.

use super::*;
use crate::signal::CpuUsed;

const LIMITED: &str = "\
Limit                     Soft Limit           Hard Limit           Units     \n\
Max cpu time              1                    2                    seconds   \n";
const UNLIMITED: &str = "\
Limit                     Soft Limit           Hard Limit           Units     \n\
Max cpu time              unlimited            unlimited            seconds   \n";

/// Of process 40, which has used 2.05 s and whose parent has not asked for it yet.
fn cpu(limits: &str, start_ticks: u64, si_code: i32) -> Option<CpuUsed> {
    let tree = Tree::new();
    tree.process(&Fake::new(40, "web"));
    let mut identity = met(&tree);
    tree.file("proc/40/limits", limits);
    let stat = format!("40 (web) Z 1 1 1 0 -1 0 0 0 0 0 150 55 0 0 20 0 1 0 {start_ticks} 0 0 0 0 0 0 0\n");
    tree.file("proc/40/stat", &stat);
    let fact = Fact::SignalSent(SignalSent { signal: 9, si_code, ..SignalSent::default() });
    let signal = identity.enrich(raw(seen(40, "web"), fact));
    let Fact::SignalSent(sent) = signal.fact else {
        panic!("{signal:?}");
    };
    sent.cpu
}

#[test]
fn whom_the_kernel_kills_is_asked_for_its_cpu_time() {
    const BY_KERNEL: i32 = 128;
    assert_eq!(cpu(LIMITED, 40, BY_KERNEL), Some(CpuUsed { used_ms: 2050, limit_s: 2 }));
    let unlimited = CpuUsed { used_ms: 2050, ..CpuUsed::default() };
    assert_eq!(cpu(UNLIMITED, 40, BY_KERNEL), Some(unlimited), "which is known");
    assert_eq!(cpu("", 40, BY_KERNEL), None, "which is not");
    assert_eq!(cpu(LIMITED, 41, BY_KERNEL), None, "the next owner of the pid");
    assert_eq!(cpu(LIMITED, 40, 0), None, "of a person the sender is known");
}

/// Of a victim in `/box/app`.
fn kill(tree: &Tree, at_limit: Option<u64>, is_scope_guessed: bool) -> OomKill {
    let group = |id| CgroupId { hierarchy: Hierarchy::Memory, id };
    let victims = tree.cgroup("/box/app");
    tree.process(&Fake::new(40, "hog").in_cgroup("/box/app"));
    let mut identity = met(tree);
    let told = if at_limit.is_some() { 100 } else { 0 };
    let fact = Fact::OomKilled(OomKill {
        scope: OomScope::Memcg,
        is_scope_guessed,
        trigger: party(41, "writer"),
        memcg: String::new(),
        usage: told,
        limit: told,
    });
    let seen = Seen { cgroup: Some(group(victims)), ..seen(40, "hog") };
    let signal = identity.enrich(Raw { at_limit: at_limit.map(group), ..raw(seen, fact) });
    let Fact::OomKilled(kill) = signal.fact else {
        panic!("{:?}", signal.fact);
    };
    kill
}

fn said(kill: &OomKill) -> (&str, u64, u64) {
    (kill.memcg.as_str(), kill.usage, kill.limit)
}

#[test]
fn the_cgroup_that_ran_out_is_the_victims_or_above_it() {
    let tree = Tree::new();
    let (full, cache) = (tree.cgroup("/box"), tree.cgroup("/cache"));
    tree.file("cgroup/box/memory.max", "4096\n");
    tree.file("cgroup/box/app/memory.max", "max\n");
    assert_eq!(said(&kill(&tree, Some(full), false)), ("/box", 100, 100), "as the kernel told");
    assert_eq!(said(&kill(&tree, None, false)), ("/box", 0, 4096), "the trigger is elsewhere");
    assert_eq!(said(&kill(&tree, Some(cache), false)), ("/box", 0, 4096), "its own is full of cache");
    let guessed = kill(&tree, Some(cache), true);
    assert_eq!((guessed.scope, said(&guessed)), (OomScope::Unknown, ("", 0, 0)));
    tree.file("cgroup/box/app/memory.max", "2048\n");
    assert_eq!(said(&kill(&tree, None, false)), ("", 0, 0), "one of two");
}
