//! The files of `deploy/`, used as they are: rights, rules, alerts. Needs root.

mod alerts;
mod base;
mod container;
mod manifests;
mod pids;
mod rights;
