//! What the tests of several crates share: victims, cgroups of their own, and the eye of the agent.

pub mod bench;
pub mod agent;
pub mod binary;
pub mod cgroup;
pub mod eye;
pub mod hangs;
pub mod ladder;
pub mod machine;
pub mod scratch;
pub mod victim;
