//! The heart of a deadlock: threads that wait for each other and for nobody else.

use std::collections::{BTreeMap, BTreeSet};

use super::graph::Graph;

type Edges = BTreeMap<u32, BTreeSet<u32>>;

/// The sets at the end of every chain in `dead`: strongly connected, and nothing leads out of them.
pub fn cores(graph: &Graph<'_>, dead: &BTreeSet<u32>) -> Vec<BTreeSet<u32>> {
    let edges: Edges = dead.iter().map(|tid| (*tid, successors(graph, *tid, dead))).collect();
    let mut cores: Vec<BTreeSet<u32>> = Vec::new();
    let mut in_core = BTreeSet::new();
    for first in dead {
        let reached = reachable(&edges, *first);
        // A chain into a known core may lead into another as well: that one is found from its own members.
        if !reached.is_disjoint(&in_core) {
            continue;
        }
        // Whoever reaches fewest others is at an end, and reaches that end and nothing else.
        let sets = reached.iter().map(|tid| reachable(&edges, *tid));
        if let Some(core) = sets.min_by_key(BTreeSet::len) {
            in_core.extend(core.iter().copied());
            cores.push(core);
        }
    }
    cores
}

/// Threads of `core` in the order in which they wait for each other, from the first.
pub fn in_order(graph: &Graph<'_>, core: &BTreeSet<u32>) -> Vec<u32> {
    let mut order: Vec<u32> = Vec::new();
    let mut next = core.first().copied();
    while let Some(tid) = next {
        order.push(tid);
        let after = successors(graph, tid, core);
        next = after.into_iter().chain(core.iter().copied()).find(|one| !order.contains(one));
    }
    order
}

fn reachable(edges: &Edges, from: u32) -> BTreeSet<u32> {
    let mut found = BTreeSet::from([from]);
    let mut open = vec![from];
    while let Some(tid) = open.pop() {
        let next = edges.get(&tid).into_iter().flatten().copied();
        open.extend(next.filter(|next| found.insert(*next)));
    }
    found
}

fn successors(graph: &Graph<'_>, tid: u32, dead: &BTreeSet<u32>) -> BTreeSet<u32> {
    let owners = graph.chosen(tid, dead).map_or(&[][..], |wait| wait.owners.as_slice());
    let threads = owners.iter().flat_map(|owner| graph.threads_of(*owner));
    threads.filter(|owner| dead.contains(owner)).collect()
}
