//! What the kernel half counts of reclaim: the map RECLAIM, one entry per memory cgroup.

use crate::event::wire::wire;

wire! {
    /// Key of the map RECLAIM.
    pub struct ReclaimKey: 16 bytes {
        /// Memory cgroup of the task that had to reclaim (v1 and v2 alike), or where the layout is not known its v2
        /// cgroup; 0 unknown.
        pub cgroup_id: u64,
        /// A `SCOPE_` of [`crate::event::reclaim_stall::ReclaimStall`].
        pub scope: u32,
        pub pad: u32,
    }
}

wire! {
    /// Value of the map RECLAIM. Counts go up only; they begin anew when the entry was crowded out.
    pub struct ReclaimCounters: 40 bytes {
        /// All calls together.
        pub took_ns: u64,
        pub pages: u64,
        /// `CLOCK_BOOTTIME`, ns: the last record sent.
        pub last_told_ns: u64,
        pub calls: u32,
        /// Calls that gave fewer than [`POOR_PAGES`].
        pub poor: u32,
        pub slowest_us: u32,
        pub pad: u32,
    }
}

/// The kernel asks for 32 pages at least (`SWAP_CLUSTER_MAX`): a call that gives less has little left to give. Measured:
/// 0 to 2 before an OOM kill, 256 to 512 while files are streamed.
pub const POOR_PAGES: u64 = 32;
/// A task that had to reclaim for longer was held up.
pub const STALL_NS: u64 = 50_000_000;
/// Of the records about one cgroup, one in this time.
pub const TOLD_EVERY_NS: u64 = 250_000_000;
/// Memory cgroups remembered; the least recently used make room.
pub const RECLAIM_MAX: u32 = 1024;
/// Tasks in the middle of reclaim.
pub const RECLAIMING_MAX: u32 = 512;
