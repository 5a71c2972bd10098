//! Shared helpers

pub mod binary;
pub mod scratch;
