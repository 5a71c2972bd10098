use super::{
    Invalid, Payload,
    part::{CgroupRef, TaskRef},
    wire::wire,
};

wire! {
    /// A task had to look for memory itself, and it took long or found little: from
    /// `vmscan:mm_vmscan_memcg_reclaim_end`, and from `mm_vmscan_direct_reclaim_end` of the whole node.
    pub struct ReclaimStall: 88 bytes {
        pub task: TaskRef,
        /// Where the task is.
        pub cgroup: CgroupRef,
        /// Its memory cgroup; 0 when the layout did not say. The one at its limit may be an ancestor.
        pub memcg: u64,
        /// 0: its begin was not seen.
        pub took_ns: u64,
        pub pages: u64,
        /// One of the constants below.
        pub scope: u32,
        /// Of its cgroup up to now: see [`crate::reclaim::ReclaimCounters`].
        pub calls: u32,
        pub poor: u32,
        pub pad: u32,
    }
}

impl ReclaimStall {
    /// A memory cgroup was at its limit.
    pub const SCOPE_MEMCG: u32 = 1;
    /// The node was short of memory.
    pub const SCOPE_NODE: u32 = 2;
}

impl Payload for ReclaimStall {
    fn check(&self) -> Result<(), Invalid> {
        match self {
            Self { cgroup, .. } if !cgroup.is_valid() => Err(Invalid("cgroup.hierarchy")),
            Self { scope: Self::SCOPE_MEMCG | Self::SCOPE_NODE, .. } => Ok(()),
            Self { .. } => Err(Invalid("scope")),
        }
    }
}
