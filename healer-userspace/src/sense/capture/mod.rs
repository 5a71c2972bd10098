//! What a stuck process looks like, taken before anything is done to it: who waits for whom, the stacks of its
//! threads, its descriptors and its connections. Read from outside, without stopping it; bounded in time and size.

mod graph;
mod maps;
mod stack;
mod symbols;

use core::time::Duration;
use std::{collections::BTreeSet, fmt::Write as _, fs, path::Path};

use crate::{
    clock,
    engine::{detect::deadlock::proof::Proof, diagnosis::Diagnosis, time::Human},
    identity::process::Process,
    sense::{poll::sockets, waits::Proc},
    text::printable,
};
use symbols::Symbols;

/// After that no further thread is looked at.
const TIME_MAX: Duration = Duration::from_millis(800);
const PROCESSES_MAX: usize = 4;
const THREADS_MAX: usize = 32;
const FDS_MAX: usize = 40;
const SOCKETS_MAX: usize = 20;
/// Of the text: a megabyte of names is no evidence.
const TEXT_MAX: usize = 128 * 1024;

/// Evidence of one incident.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capture {
    pub text: String,
    /// The wait-for graph as a picture, where a diagnosis has one.
    pub svg: Option<String>,
}

/// Looks at the target of `diagnosis` and whoever its proof names. `proc` is `/proc`.
pub fn capture(diagnosis: &Diagnosis, proc: &Path) -> Capture {
    let began = clock::boot();
    let proof = &diagnosis.detail.proof;
    let proofs: Vec<Proof> =
        proof.clone().and_then(|proof| serde_json::from_value(proof).ok()).unwrap_or_default();
    let mut text = format!("{} ({})\n", diagnosis.sentence, diagnosis.certainty.name());
    for proof in &proofs {
        text += &graph::text(proof);
    }
    let first: BTreeSet<u32> =
        proofs.iter().flat_map(|proof| &proof.threads).map(|link| link.task.tid).collect();
    let is_late = || TIME_MAX < clock::boot().since(began);
    for process in involved(diagnosis, &proofs) {
        one_process(&Proc::new(proc), &process, &first, &is_late, &mut text);
    }
    let took = clock::boot().since(began);
    let mut end = text.len().min(TEXT_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text += &format!("\ntaken in {} without stopping anybody\n", Human(took));
    Capture { text, svg: proofs.first().map(graph::svg) }
}

fn involved(diagnosis: &Diagnosis, proofs: &[Proof]) -> Vec<Process> {
    let mut all = vec![diagnosis.target.clone()];
    for one in proofs.iter().flat_map(|proof| &proof.processes) {
        if all.iter().all(|known| known.pid != one.process.pid) {
            all.push(one.process.clone());
        }
    }
    all.truncate(PROCESSES_MAX);
    all
}

fn one_process(
    proc: &Proc,
    process: &Process,
    first: &BTreeSet<u32>,
    is_late: &dyn Fn() -> bool,
    text: &mut String,
) {
    let pid = process.pid;
    *text += &format!("\nprocess {}[{pid}]\n", printable(&process.comm));
    let mut threads = proc.threads(pid);
    threads.sort_by_key(|tid| (!first.contains(tid), *tid));
    let maps = maps::Maps::of(proc, pid);
    let mut symbols = Symbols::new(pid);
    for (at, tid) in threads.iter().enumerate() {
        if THREADS_MAX <= at || is_late() {
            *text += &format!("  {} more threads are not shown\n", threads.len() - at);
            break;
        }
        *text += &one_thread(proc, pid, *tid, &maps, &mut symbols);
    }
    *text += &descriptors(proc, pid);
    *text += &connections(proc, pid);
}

fn one_thread(proc: &Proc, pid: u32, tid: u32, maps: &maps::Maps, symbols: &mut Symbols) -> String {
    let comm = proc.stat(pid, tid).map(|stat| stat.comm).unwrap_or_default();
    let state = proc.status(pid, tid).map_or('?', |status| status.state);
    let mut text = format!("  thread {}[{tid}] {state}", printable(&comm));
    let Some(call) = stack::Call::of(proc, pid, tid) else {
        return text + ", on the CPU\n";
    };
    let kernel = proc.text(&format!("{pid}/task/{tid}/wchan")).unwrap_or_default();
    writeln!(text, " system call {} in {}", call.number, printable(kernel.trim())).ok();
    for frame in stack::frames(pid, &call, maps) {
        let mark = if frame.is_sure { "" } else { "~ " };
        writeln!(text, "    {mark}{}", symbols.name(frame.address, maps)).ok();
    }
    text
}

fn descriptors(proc: &Proc, pid: u32) -> String {
    let fds = proc.fds(pid);
    let mut text = format!("  {} descriptors\n", fds.len());
    for fd in fds.iter().take(FDS_MAX) {
        let target = proc.fd_target(pid, *fd).unwrap_or_default();
        writeln!(text, "    {fd} {}", printable(&target)).ok();
    }
    if FDS_MAX < fds.len() {
        writeln!(text, "    … {} more", fds.len() - FDS_MAX).ok();
    }
    text
}

/// TCP, of its own network namespace.
fn connections(proc: &Proc, pid: u32) -> String {
    let target = |fd| proc.fd_target(pid, fd);
    let inode = |target: String| target.strip_prefix("socket:[")?.strip_suffix(']')?.parse::<u32>().ok();
    let own: BTreeSet<u32> = proc.fds(pid).into_iter().filter_map(target).filter_map(inode).collect();
    let Some((_, namespace)) = proc.net_namespace(pid).filter(|_| !own.is_empty()) else {
        return String::new();
    };
    let all = match sockets::SockDiag::open_in(&namespace).and_then(|mut diag| diag.dump()) {
        Ok(all) => all,
        Err(error) => return format!("  its connections cannot be seen: {error}\n"),
    };
    let ours: Vec<_> = all.iter().filter(|socket| own.contains(&socket.inode)).collect();
    let mut text = format!("  {} TCP sockets\n", ours.len());
    for socket in ours.iter().take(SOCKETS_MAX) {
        text += &match socket.state {
            sockets::LISTEN => {
                let (port, waiting) = (socket.local_port, socket.receive_queue);
                format!("    port {port} listens, {waiting} of at most {} wait\n", socket.send_queue)
            }
            _ => format!(
                "    port {} to {}: {} bytes unread, {} not acknowledged\n",
                socket.local_port, socket.peer_port, socket.receive_queue, socket.send_queue
            ),
        };
    }
    text
}

/// The symbol table of a bigger file would cost too much memory.
fn is_readable(path: &Path) -> bool {
    const FILE_MAX: u64 = 64 << 20;
    fs::metadata(path).is_ok_and(|file| file.len() <= FILE_MAX)
}

#[cfg(test)]
mod tests;
