//! The list of workloads that the agent follows, kept from the signals and facts that pass by.

use std::collections::BTreeMap;

use super::view::Workload;
use crate::{
    engine::report::{Report, ReportFact},
    identity::process::Process,
    signal::{Fact, Signal},
};

const WORKLOAD_CAP: usize = 4096;

/// Only main processes count: a helper that ends is not its workload's end.
pub(super) fn follow_signal(workloads: &mut BTreeMap<String, Workload>, signal: &Signal) {
    let Some(process) = &signal.process else {
        return;
    };
    match &signal.fact {
        Fact::Registered(registration) => {
            set(workloads, process, registration.waiting.is_none());
        }
        Fact::Execed if process.main => set(workloads, process, true),
        Fact::Exited(_) if process.main => ended(workloads, process),
        Fact::Deregistered => {
            workloads.remove(&process.workload.0);
        }
        Fact::Execed
        | Fact::Exited(_)
        | Fact::SignalSent(_)
        | Fact::OomKilled(_)
        | Fact::StopAsked { .. }
        | Fact::MeantToEnd
        | Fact::Answered { .. }
        | Fact::Waits(_)
        | Fact::Work(_)
        | Fact::Probed(_)
        | Fact::ConnectionFailed(_)
        | Fact::Retransmitted(_)
        | Fact::SyscallError(_)
        | Fact::Levels(_)
        | Fact::Listens(_)
        | Fact::NoRoute(_)
        | Fact::Memory(_)
        | Fact::ReclaimStalled(_)
        | Fact::TaskHung(_)
        | Fact::Flows(_)
        | Fact::Peers(_)
        | Fact::Lost { .. } => {}
    }
}

/// A verified successor is the workload's new main process.
pub(super) fn follow_report(workloads: &mut BTreeMap<String, Workload>, report: &Report) {
    if let ReportFact::Verification(verification) = &report.fact
        && let Some(successor) = &verification.successor
    {
        set(workloads, successor, true);
    }
}

fn set(workloads: &mut BTreeMap<String, Workload>, process: &Process, running: bool) {
    let key = &process.workload.0;
    if key.is_empty() || (workloads.len() >= WORKLOAD_CAP && !workloads.contains_key(key)) {
        return;
    }
    let workload = workloads.entry(key.clone()).or_default();
    workload.key.clone_from(key);
    workload.running = running;
    workload.pid = process.pid;
    if let Some(exe) = &process.exe {
        workload.exe.clone_from(exe);
    }
}

fn ended(workloads: &mut BTreeMap<String, Workload>, process: &Process) {
    // An old life's end, or one that was told already: by the kernel, and again by the supervisor.
    let is_no_news = |of: &Workload| of.running != (of.pid == process.pid);
    if workloads.get(&process.workload.0).is_some_and(is_no_news) {
        return;
    }
    set(workloads, process, false);
    if let Some(workload) = workloads.get_mut(&process.workload.0) {
        workload.ends += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        engine::time::BootTime,
        identity::process::WorkloadKey,
        signal::{Exit, Fact},
    };

    fn signal(pid: u32, fact: Fact) -> Signal {
        let process =
            Process { pid, main: true, workload: WorkloadKey::supervise("web"), ..Process::default() };
        Signal { at: BootTime(1), process: Some(process), fact }
    }

    #[test]
    fn an_old_life_does_not_end_the_new_one() {
        let mut workloads = BTreeMap::new();
        follow_signal(&mut workloads, &signal(10, Fact::Execed));
        follow_signal(&mut workloads, &signal(11, Fact::Execed));
        follow_signal(&mut workloads, &signal(10, Fact::Exited(Exit::default())));
        assert!(workloads["supervise/web"].running);
        follow_signal(&mut workloads, &signal(11, Fact::Exited(Exit::default())));
        assert!(!workloads["supervise/web"].running);
        assert_eq!(workloads["supervise/web"].ends, 1);
        follow_signal(&mut workloads, &signal(11, Fact::Deregistered));
        assert!(workloads.is_empty());
    }
}
