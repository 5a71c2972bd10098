#![doc = include_str!("../ARCHITECTURE.md")]

pub mod cli; // the command line over all that follows
pub mod clock; // the only reader of time
mod own_binary; // this program, run again for a chore
mod memlock; // a limit that old kernels have for maps
mod nofile; // how many files may be open
mod patience; // what may hang is asked beside

pub mod agent; // the straight line: one loop over a closed enum of reasons to wake

pub mod capabilities; // what healer may be allowed, and what it gives up
pub mod sense; // 1 kernel in
pub mod signal; // 2 bytes to meaning
pub mod identity; // 3 who: process, cgroup, unit, container, pod
pub mod engine; // 4-7 pure: diagnosis, plan, gates, verification
pub mod action; // 8 the hands
pub mod report; // 9 what happened: log, metrics, audit, HTTP
pub mod config; // policy and agent files to checked types
pub mod control; // the socket by which the command line asks a running agent
pub mod fault; // makes real failures, bounded
pub mod kubernetes; // its API server: what is handed over to it, and what it is told
pub mod replay; // a recorded trace through the whole engine
pub mod runtimes; // whoever owns a workload: systemd, container runtimes
pub mod store; // the journal, and the worker that syncs it
pub mod supervise; // `healer supervise`, and the agent's side of its socket
pub mod text; // untrusted bytes on their way to people
