//! Files become checked types: policies (`HealPolicy`) and the administrator's `AgentConfig`.
//! Every fault of a file is reported, each with its line and column. The language: `policies/README.md`.

pub mod files; // which files a path stands for
pub mod load; // the way in: paths to `Loaded`

mod agent; // shape and check of AgentConfig
mod check; // a policy's shape to `engine::policy::Policy`
mod key; // the parts of which shapes are made
mod kind; // what some classes tell apart
mod moment; // when maintenance is
mod not_yet; // words of the language that nothing answers to yet
mod policy; // shape of HealPolicy
mod problem; // what is wrong, where, and the nearest right word
mod read; // serde over located nodes, collecting faults
pub mod schema; // JSON Schema of both kinds, from the shapes
mod sinks; // webhook
mod source; // YAML text to located nodes
pub mod yaml; // JSON as YAML, for what the API server keeps and is given
mod value; // durations, ports, signals, names

pub use agent::Agent;
pub use load::{FromCluster, Loaded, Sources, Verdict, load, load_with};
pub use problem::{Place, Problem, Problems};
pub use schema::Kind;
pub use value::duration;

#[cfg(test)]
mod tests;
