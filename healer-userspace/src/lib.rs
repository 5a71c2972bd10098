#![doc = include_str!("../ARCHITECTURE.md")]

pub mod cli; // the command line over all that follows
pub mod clock; // the only reader of time

pub mod sense; // 1 the kernel in
pub mod signal; // 2 bytes to meaning
pub mod identity; // 3 who: process, cgroup, unit, container, pod
pub mod engine; // 4-7 pure: diagnosis, plan, gates, verification
pub mod action; // 8 hands: what a decision does to a process
pub mod report; // 9 what happened: log, metrics, audit, HTTP
pub mod control; // the socket by which the command line asks a running agent
pub mod replay; // a recorded trace through the whole engine
pub mod supervise; // `healer supervise`, and the agent's side of its socket
pub mod text; // untrusted bytes on their way to people
