//! What the tests of several crates share: victims, cgroups of their own, and the eye of the agent.

pub mod agent;
pub mod apiserver;
pub mod bench;
pub mod binary;
pub mod cgroup;
pub mod containerd;
pub mod deploy;
pub mod dockerd;
pub mod eye;
pub mod hangs;
pub mod home;
pub mod idle;
pub mod ladder;
pub mod lent;
pub mod machine;
pub mod network;
pub mod policies;
pub mod rights;
pub mod scratch;
pub mod silent;
pub mod small_disk;
pub mod supervised;
pub mod told;
pub mod types;
pub mod victim;
pub mod work;
