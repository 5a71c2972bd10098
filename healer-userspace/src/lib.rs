//! The agent, in the order a signal travels. See `ARCHITECTURE.md`.

pub mod cli; // the command line over all that follows

pub mod engine; // pure: signals in, commands out; no clock and no I/O
pub mod identity; // who: process, cgroup, workload
pub mod replay;
pub mod report; // what happened, for people: the audit
pub mod signal; // what a kernel record or a poll means
pub mod store; // what outlives a crash: journal, audit, lock
pub mod text;
