//! The contract between the kernel half and the userspace half of healer.
//!
//! Every byte that crosses a ring buffer is described in [`event`], what a
//! scan of the tasks writes in [`task_scan`], what is counted of connections in [`network`], every value the loader writes into the kernel programs in [`tuning`], and both
//! nowhere else. The crate has no dependencies and no features, so that both
//! targets build the same code.
#![cfg_attr(not(test), no_std)]

pub mod event;
pub mod network;
pub mod reclaim;
pub mod task_scan;
pub mod tuning;
