//! The second look before a blow: the proof once more, on the victims alone.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    thread,
    time::Duration,
};

use super::{
    extract::Extractor,
    glibc,
    procfs::Proc,
    snapshot::{Depth, Shot},
    table::Table,
};
use crate::{
    clock,
    engine::detect::deadlock::{
        graph::Graph,
        proof::{self, Proof},
    },
    sense::{freezer::CGROUPS, poll::work::life},
    signal::{
        waits::{Owner, WaitSnapshot},
        work::Life,
    },
};

/// Between the two looks at the switch counts.
const BETWEEN: Duration = Duration::from_millis(20);

/// Does what `detail.proof` of a deadlock says still hold? `root` is `/proc`. Takes some tens of milliseconds.
///
/// # Errors
/// In words: what has changed, or what cannot be read.
pub fn prove_again(proof: &serde_json::Value, root: &Path) -> Result<(), String> {
    let proofs: Vec<Proof> =
        serde_json::from_value(proof.clone()).map_err(|error| format!("not a proof of ours: {error}"))?;
    let first = proofs.first().ok_or("the proof is empty")?;
    let proc = Proc::new(root);
    unchanged(&proc, first)?;
    let mut extractor = Extractor::new(proc, glibc::self_test());
    let snapshot = look(&mut extractor, first);
    unchanged(&extractor.proc, first)?;
    let wanted = members(&extractor.proc, first);
    let found = proof::proofs(&Graph::new(&snapshot));
    let holds = found
        .iter()
        .any(|one| first.certainty <= one.certainty && members(&extractor.proc, one).is_superset(&wanted));
    if holds { Ok(()) } else { Err("the threads are no longer locked into each other".to_owned()) }
}

/// Nobody in the proof has run since it was made.
fn unchanged(proc: &Proc, proof: &Proof) -> Result<(), String> {
    for link in &proof.threads {
        let task = &link.task;
        let start = proc.stat(task.tgid, task.tid).map(|stat| proc.ticks(stat.start_boot_ns));
        if start != Some(proc.ticks(task.start.0)) {
            return Err(format!("thread {} has ended", task.tid));
        }
        match life(&proc.path(""), Path::new(CGROUPS), task.tgid) {
            Life::Free => {}
            Life::Frozen => return Err(format!("process {} is in a frozen cgroup", task.tgid)),
            Life::Stopped => return Err(format!("process {} is stopped by a signal", task.tgid)),
            Life::Traced => return Err(format!("process {} is held by a debugger", task.tgid)),
        }
        let status = proc.status(task.tgid, task.tid).unwrap_or_default();
        if status.switches != task.switches {
            return Err(format!("thread {} has run since", task.tid));
        }
        if !matches!(status.state, 'S' | 'D') {
            return Err(format!("thread {} is in state {} now", task.tid, status.state));
        }
    }
    Ok(())
}

/// All sleepers of the processes of the proof, and of whoever these wait for.
fn look(extractor: &mut Extractor, proof: &Proof) -> WaitSnapshot {
    let owners = proof.threads.iter().flat_map(|link| &link.wait.owners);
    let others = owners.filter_map(|owner| match owner {
        Owner::Process(tgid) => Some(*tgid),
        Owner::Task(_) | Owner::Gone(_) => None,
    });
    let tgids: BTreeSet<u32> = proof.threads.iter().map(|link| link.task.tgid).chain(others).collect();
    let before = switches(&extractor.proc, &tgids);
    thread::sleep(BETWEEN);
    let now = clock::boot();
    let mut table = Table::default();
    for tgid in &tgids {
        let threads = extractor.proc.threads(*tgid);
        let leader = extractor.proc.stat(*tgid, *tgid).map_or(0, |stat| stat.start_boot_ns);
        for tid in &threads {
            let record = extractor.proc.record(*tgid, *tid, leader, threads.len() as u32);
            let slept = |switches| before.get(tid) == Some(&switches);
            if let Some(record) = record.filter(|record| record.state != 0 && slept(record.switches)) {
                table.insert(record);
            }
        }
    }
    let waits = extractor.waits(&mut table, now, true, &mut Proc::asleep_now);
    extractor.learn_wakers(&table, &tgids);
    Shot { extractor, table: &table, waits: &waits, scan: 0, now }.take(Depth::Everybody, &mut |_, _| None)
}

fn switches(proc: &Proc, tgids: &BTreeSet<u32>) -> BTreeMap<u32, u64> {
    let threads = tgids.iter().flat_map(|tgid| proc.threads(*tgid).into_iter().map(move |tid| (*tgid, tid)));
    threads.filter_map(|(tgid, tid)| Some((tid, proc.status(tgid, tid)?.switches))).collect()
}

/// By tid and start, in clock ticks.
fn members(proc: &Proc, proof: &Proof) -> BTreeSet<(u32, u64)> {
    proof.members().into_iter().map(|(tid, start)| (tid, proc.ticks(start.0))).collect()
}
