//! `healer locks`: asks /proc and the memory of the waiters themselves, not the agent.

use std::{path::Path, process::ExitCode, thread, time::Duration};

use anyhow::Context as _;

use super::output::{emit, emit_json};
use crate::{
    engine::{
        detect::deadlock::{
            Convoy, Root, convoys,
            graph::Graph,
            proof::{Proof, proofs},
        },
        policy::PolicySet,
        time::Human,
    },
    sense::waits::Scanner,
    signal::waits::{Task, WaitSnapshot},
    text::printable,
};

/// Between the two looks that show who has not run.
const BETWEEN: Duration = Duration::from_millis(500);

/// Who waits for whom now: deadlocks, and queues behind one thread
#[derive(clap::Args)]
pub struct Args {
    /// Only what this process is part of
    pid: Option<u32>,
    /// For scripts: the snapshot of all waits
    #[arg(long)]
    json: bool,
}

/// Exit status 1 if a deadlock was seen.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut scanner = Scanner::new(None, Path::new("/proc")).showing_all();
    scanner.scan(&mut |_, _| None).context("look at all threads")?;
    thread::sleep(BETWEEN);
    let snapshot = scanner.scan(&mut |_, _| None).context("look at all threads again")?;
    let deadlocks: Vec<Proof> =
        proofs(&Graph::new(&snapshot)).into_iter().filter(|proof| is_part(args.pid, &tgids(proof))).collect();
    if args.json {
        emit_json(&snapshot)?;
    } else {
        let left_out = args.pid.and_then(|pid| Some((pid, scanner.left_out(pid)?)));
        let note = left_out.map(|(pid, why)| format!("{pid} is not judged: it is {}\n", why.says()));
        emit(&(render(&snapshot, &deadlocks, args.pid) + &note.unwrap_or_default()))?;
    }
    Ok(if deadlocks.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn is_part(pid: Option<u32>, tgids: &[u32]) -> bool {
    pid.is_none_or(|pid| tgids.contains(&pid))
}

fn tgids(proof: &Proof) -> Vec<u32> {
    proof.threads.iter().map(|link| link.task.tgid).collect()
}

fn render(snapshot: &WaitSnapshot, deadlocks: &[Proof], pid: Option<u32>) -> String {
    let mut text = String::new();
    for proof in deadlocks {
        if let Some(process) = proof.cheapest(&PolicySet::default()) {
            text += &format!("deadlock ({})  {}\n", proof.certainty.name(), proof.sentence(process));
        }
    }
    let task = |tid: u32| snapshot.tasks.iter().find(|task| task.tid == tid);
    for convoy in convoys(snapshot) {
        let members: Vec<&Task> =
            convoy.waiters.iter().chain([&convoy.root]).filter_map(|tid| task(*tid)).collect();
        let tgids: Vec<u32> = members.iter().map(|task| task.tgid).collect();
        if is_part(pid, &tgids) {
            text += &line(&convoy, &members);
        }
    }
    if text.is_empty() { "nobody waits for somebody in particular\n".to_owned() } else { text }
}

/// `members`: the waiters, then the root.
fn line(convoy: &Convoy, members: &[&Task]) -> String {
    let name = |task: &Task| format!("{}[{}]", printable(&task.comm), task.tid);
    let Some((root, waiters)) = members.split_last() else {
        return String::new();
    };
    let waiters: Vec<String> = waiters.iter().take(5).map(|task| name(task)).collect();
    let more = match convoy.waiters.len().saturating_sub(waiters.len()) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let since = match convoy.why {
        Root::Runs => String::new(),
        Root::Sleeps
        | Root::WaitsForNetwork
        | Root::Uninterruptible
        | Root::Stopped
        | Root::Traced
        | Root::Frozen
        | Root::Exits
        | Root::InKernel => {
            let waited = Human(Duration::from_millis(root.waited_ms));
            let on = root.file_system.as_ref().map(|one| format!(", {}", one.says())).unwrap_or_default();
            format!(" (system call {}, for {waited} at least{on})", root.syscall)
        }
    };
    format!("queue  {}{more} behind {}, which {}{since}\n", waiters.join(", "), name(root), convoy.why.says())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        engine::time::BootTime,
        signal::waits::{Condition, FileSystem, Owner, Source, Wait, WaitKind},
    };

    fn task(tid: u32, waits: Vec<Wait>) -> Task {
        Task {
            tid,
            start: BootTime(1),
            tgid: 1,
            comm: "web".into(),
            condition: Condition::Stuck,
            syscall: 230,
            args: [0; 4],
            waited_ms: 2_000,
            switches: 1,
            waits,
            file_system: None,
        }
    }

    fn for_two() -> Vec<Wait> {
        vec![Wait {
            kind: WaitKind::Mutex,
            lock: "0x10".into(),
            source: Source::Layout,
            word: Some(2),
            owners: vec![Owner::Task(2)],
            says: String::new(),
        }]
    }

    #[test]
    fn a_queue_names_its_root() {
        let tasks = vec![task(1, for_two()), task(2, Vec::new())];
        let snapshot = WaitSnapshot { scan: 1, tasks, ..WaitSnapshot::default() };
        let text = "queue  web[1] behind web[2], which sleeps (system call 230, for 2.0s at least)\n";
        assert_eq!(render(&snapshot, &[], None), text);
        assert_eq!(render(&snapshot, &[], Some(9)), "nobody waits for somebody in particular\n");
    }
    #[test]
    fn a_queue_behind_a_frozen_file_system_names_it() {
        let frozen = FileSystem { kind: "ext4".into(), point: "/data\n".into(), is_frozen: true };
        let (condition, file_system) = (Condition::Uninterruptible, Some(frozen));
        let writer = Task { condition, syscall: 18, file_system, ..task(2, Vec::new()) };
        let snapshot =
            WaitSnapshot { scan: 1, tasks: vec![task(1, for_two()), writer], ..WaitSnapshot::default() };
        let text = "queue  web[1] behind web[2], which is in uninterruptible sleep \
                    (system call 18, for 2.0s at least, on ext4 at /data\\n, which is frozen)\n";
        assert_eq!(render(&snapshot, &[], None), text);
    }
}
