//! The kernel in.

pub mod format;
