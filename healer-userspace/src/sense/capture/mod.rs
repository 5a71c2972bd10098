//! What a patient looks like, taken before anything is done to it: who waits for whom, the stacks of its threads, its
//! descriptors and connections, the figures of its cgroup, the end of its log. Read from outside, without stopping it;
//! bounded in time and size.

mod graph;
mod group;
mod journal;
mod logs;
mod maps;
mod stack;
mod symbols;
mod tail;

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    path::{Path, PathBuf},
};

use crate::{
    clock,
    engine::{detect::deadlock::proof::Proof, diagnosis::Diagnosis, policy::Wanted, time::Human},
    identity::process::Process,
    sense::{
        poll::sockets,
        waits::{Proc, memory},
    },
    text::printable,
};
use symbols::Symbols;
pub(crate) use symbols::serve as read_symbols;

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

/// Where it is looked.
#[derive(Clone, Debug)]
pub struct Sources {
    pub proc: PathBuf,
    /// The directory of the cgroup mounts, or the mount itself.
    pub cgroup: PathBuf,
    /// Where the kubelet keeps the logs of pods.
    pub pods: PathBuf,
    /// Directories of journald.
    pub journals: Vec<PathBuf>,
}

impl Sources {
    /// Of this machine; `bus`: of the systemd whose units are watched, which may have a root of its own.
    pub fn of(bus: &Path) -> Self {
        let root = bus.to_str().and_then(|bus| bus.strip_suffix("run/dbus/system_bus_socket"));
        let root = Path::new(root.unwrap_or("/"));
        Self {
            proc: "/proc".into(),
            cgroup: "/sys/fs/cgroup".into(),
            pods: "/var/log/pods".into(),
            journals: ["var/log/journal", "run/log/journal"].map(|path| root.join(path)).into(),
        }
    }
}

/// Looks at the target of `diagnosis` and whoever its proof names.
pub fn capture(diagnosis: &Diagnosis, wanted: Wanted, sources: &Sources) -> Capture {
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
    let is_late = || wanted.max_time < clock::boot().since(began);
    let look = Look { proc: Proc::new(&sources.proc), sources, wanted, first, is_late: &is_late };
    for process in involved(diagnosis, &proofs) {
        look.at(&process, &mut text);
    }
    let took = clock::boot().since(began);
    text.truncate(text.floor_char_boundary(TEXT_MAX));
    let after = Human(began.since(diagnosis.detected_at));
    text += &format!("\ntaken in {}, {after} after the diagnosis, without stopping anybody\n", Human(took));
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

struct Look<'a> {
    proc: Proc,
    sources: &'a Sources,
    wanted: Wanted,
    /// Threads that a proof names.
    first: BTreeSet<u32>,
    is_late: &'a dyn Fn() -> bool,
}

impl Look<'_> {
    fn at(&self, process: &Process, text: &mut String) {
        let pid = process.pid;
        *text += &format!("\nprocess {}[{pid}]\n", printable(&process.comm));
        let lives = self
            .proc
            .stat(pid, pid)
            .is_some_and(|stat| self.proc.ticks(stat.start_boot_ns) == self.proc.ticks(process.start.0));
        if !lives {
            *text += "  it is gone\n";
        }
        if lives && self.wanted.stacks {
            self.threads(pid, text);
        }
        if lives && self.wanted.sockets {
            *text += &descriptors(&self.proc, pid);
            *text += &connections(&self.proc, pid);
        }
        *text += &group::figures(&self.sources.cgroup, &self.proc, process, lives);
        if 0 < self.wanted.log_lines && !(self.is_late)() {
            *text += &logs::last(self.sources, &self.proc, process, lives, self.wanted.log_lines as usize);
        }
    }

    fn threads(&self, pid: u32, text: &mut String) {
        let mut threads = self.proc.threads(pid);
        threads.sort_by_key(|tid| (!self.first.contains(tid), *tid));
        let is_open = memory::is_open(pid);
        let maps = if is_open { maps::Maps::of(&self.proc, pid) } else { maps::Maps::default() };
        if !is_open {
            *text += "  its memory is locked: stacks cannot be read\n";
        }
        let mut symbols = Symbols::new(pid);
        for (at, tid) in threads.iter().enumerate() {
            if THREADS_MAX <= at || (self.is_late)() {
                *text += &format!("  {} more threads are not shown\n", threads.len() - at);
                break;
            }
            *text += &one_thread(&self.proc, pid, *tid, &maps, &mut symbols);
        }
    }
}

fn one_thread(proc: &Proc, pid: u32, tid: u32, maps: &maps::Maps, symbols: &mut Symbols) -> String {
    let comm = proc.stat(pid, tid).map(|stat| stat.comm).unwrap_or_default();
    let state = proc.status(pid, tid).map_or('?', |status| status.state);
    let mut text = format!("  thread {}[{tid}] {state}", printable(&comm));
    if matches!(state, 'Z' | 'X' | '?') {
        return text + ", it has ended\n";
    }
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

#[cfg(test)]
mod tests;
