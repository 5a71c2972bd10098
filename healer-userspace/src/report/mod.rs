//! What happened, for people and machines that were not there.

pub mod audit;
pub mod history;
