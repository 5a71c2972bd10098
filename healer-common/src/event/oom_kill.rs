use super::{Invalid, Payload, part::TaskRef, wire::wire};

wire! {
    /// The kernel chose a victim because memory ran out: from `oom:mark_victim`.
    pub struct OomKill: 128 bytes {
        pub victim: TaskRef,
        /// The process whose allocation failed; often not the victim.
        pub trigger: TaskRef,
        /// Memory cgroup ids (v1 and v2 alike); 0 when the layout did not say.
        pub victim_memcg: u64,
        pub trigger_memcg: u64,
        /// The cgroup at its limit, the victim's own or an ancestor; 0 when none was.
        pub oom_memcg: u64,
        /// Of `oom_memcg` when the victim was chosen; 0 when there is none.
        pub usage_bytes: u64,
        pub limit_bytes: u64,
        /// Anonymous, file and shared pages of the victim, without per-CPU remainders; 0 unknown.
        pub rss_bytes: u64,
        /// One of the constants below.
        pub scope: u32,
        pub oom_score_adj: i32,
        /// Or of the constants below.
        pub flags: u32,
        pub pad: u32,
    }
}

impl OomKill {
    pub const SCOPE_UNKNOWN: u32 = 0;
    /// A memory cgroup was at its limit.
    pub const SCOPE_MEMCG: u32 = 1;
    /// The machine (or a NUMA node, or a cpuset) had no memory left.
    pub const SCOPE_GLOBAL: u32 = 2;

    /// The scope was read from the kernel stack; without it, from who was at the limit.
    pub const SCOPE_FROM_STACK: u32 = 1;
    /// Only `victim.tgid` is known of the victim: this kernel gives a pid (before mainline 6.9).
    pub const VICTIM_PID_ONLY: u32 = 2;
    /// The victim was in the TRACKED map.
    pub const TRACKED: u32 = 4;
    /// From a classic tracepoint: starts are 0 and no cgroup is known until user space adds them.
    pub const PARTIAL: u32 = 8;
    /// From the kernel's log, which says the scope itself.
    pub const FROM_LOG: u32 = 16;
}

impl Payload for OomKill {
    fn check(&self) -> Result<(), Invalid> {
        if self.scope > Self::SCOPE_GLOBAL {
            return Err(Invalid("scope"));
        }
        Ok(())
    }
}
