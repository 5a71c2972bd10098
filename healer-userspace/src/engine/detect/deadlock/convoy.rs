//! Stuck threads whose chain ends in somebody who may still run: no deadlock, but one root with a reason.

use std::collections::BTreeSet;

use super::graph::{Grade, Graph};
use crate::signal::{
    calls,
    waits::{Condition, Source, Task, WaitSnapshot},
};

/// Waiters that all wait for one root, directly or through each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Convoy {
    /// The thread at the head.
    pub root: u32,
    pub why: Root,
    pub waiters: BTreeSet<u32>,
}

/// What keeps the head of a convoy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Root {
    Runs,
    /// Waits in a system call that ends by itself or by somebody unknown.
    Sleeps,
    WaitsForNetwork,
    Uninterruptible,
    Stopped,
    Traced,
    Frozen,
    Exits,
    InKernel,
}

impl Root {
    pub fn says(self) -> &'static str {
        match self {
            Self::Runs => "runs",
            Self::Sleeps => "sleeps",
            Self::WaitsForNetwork => "waits for the network",
            Self::Uninterruptible => "is in uninterruptible sleep",
            Self::Stopped => "is stopped by a signal",
            Self::Traced => "is held by a debugger",
            Self::Frozen => "is in a frozen cgroup",
            Self::Exits => "exits",
            Self::InKernel => "is a thread of the kernel",
        }
    }
}

/// Of waits with a definite owner, the chains that end in somebody who may run.
pub fn convoys(snapshot: &WaitSnapshot) -> Vec<Convoy> {
    let graph = Graph::new(snapshot);
    let dead = graph.dead(Grade::Any);
    let mut convoys: Vec<Convoy> = Vec::new();
    for task in snapshot.tasks.iter().filter(|task| !dead.contains(&task.tid)) {
        let Some(root) = root_of(&graph, task).filter(|root| root.tid != task.tid) else {
            continue;
        };
        match convoys.iter_mut().find(|convoy| convoy.root == root.tid) {
            Some(convoy) => {
                convoy.waiters.insert(task.tid);
            }
            None => {
                convoys.push(Convoy { root: root.tid, why: why(root), waiters: BTreeSet::from([task.tid]) })
            }
        }
    }
    convoys
}

/// Follows single owners to the end.
fn root_of<'a>(graph: &Graph<'a>, first: &'a Task) -> Option<&'a Task> {
    let mut seen = BTreeSet::new();
    let mut task = first;
    while seen.insert(task.tid) {
        let wait = task.waits.iter().find(|wait| wait.source < Source::Stack && wait.owners.len() == 1);
        let next = wait.and_then(|wait| match graph.threads_of(wait.owners[0])[..] {
            [only] => graph.task(only),
            _ => None,
        });
        match next {
            Some(next) => task = next,
            None => return Some(task),
        }
    }
    None
}

fn why(root: &Task) -> Root {
    match root.condition {
        Condition::Live => Root::Runs,
        Condition::Stuck if is_network(root.syscall) => Root::WaitsForNetwork,
        Condition::Stuck => Root::Sleeps,
        Condition::Uninterruptible => Root::Uninterruptible,
        Condition::Stopped => Root::Stopped,
        Condition::Traced => Root::Traced,
        Condition::Frozen => Root::Frozen,
        Condition::Exiting => Root::Exits,
        Condition::Kernel => Root::InKernel,
        Condition::Compat => Root::Sleeps,
    }
}

fn is_network(syscall: i32) -> bool {
    use calls::{ACCEPT, ACCEPT4, CONNECT, RECVFROM, RECVMSG, SENDMSG, SENDTO};
    matches!(syscall, CONNECT | ACCEPT | ACCEPT4 | SENDTO | SENDMSG | RECVFROM | RECVMSG)
}
