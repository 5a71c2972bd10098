//! Decides. Pure: the caller brings time and signals and takes commands, journal entries and reports away.
//! The same trace gives the same decisions.

pub mod class;
pub mod command;
pub mod diagnosis;
pub mod policy;
pub mod report;
pub mod time;
