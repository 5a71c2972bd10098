//! One look at memory: cgroups near their limit, the node when it is short, and who grew.

use serde::{Deserialize, Serialize};

use crate::identity::process::Process;

/// Only cgroups of which there is something to say; whoever is missing has room.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemorySnapshot {
    pub cgroups: Vec<CgroupMemory>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeMemory>,
}

impl MemorySnapshot {
    pub fn is_empty(&self) -> bool {
        self.cgroups.is_empty() && self.node.is_none()
    }
}

/// Bytes; counts and times are since the look before at this cgroup.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupMemory {
    /// Below the mount of the hierarchy that controls memory.
    pub cgroup: String,
    pub over_ms: u64,
    pub usage: u64,
    /// Anonymous and shared memory: what nobody can take away.
    pub anon: u64,
    pub limit: u64,
    /// How often the limit was hit: page cache does that all the time.
    #[serde(default)]
    pub hits: u64,
    /// In which some task of it waited for memory (`memory.pressure`); `None` where that is not told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pressed_ms: Option<u64>,
    #[serde(default)]
    pub major_faults: u64,
    /// File pages read again that had been dropped shortly before (`workingset_refault_file`).
    #[serde(default)]
    pub refaults: u64,
    /// `None`: the kernel's programs do not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reclaim: Option<Reclaim>,
    /// Who grew most, who is biggest, and whom the OOM killer would choose.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<MemoryUser>,
    /// Parents of like workers that all grow, so that none has grown by half of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub families: Vec<MemoryUser>,
    /// `None`: its processes were not looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grown: Option<Grown>,
}

/// Against which the growth of one process is measured: also of those that are not told, and of what is nobody's own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grown {
    /// Of all its processes together.
    pub users: Growth,
    /// Of the cgroup's memory; of the node, of what is not available.
    pub whole: Growth,
}

/// By both measures of a [`MemoryUser`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Growth {
    pub lately: u64,
    pub from_low: u64,
}

/// By one process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    pub anon: u64,
    pub reserved: u64,
}

impl Taken {
    /// As [`MemoryUser::fills_its_own`].
    #[must_use]
    pub fn fills_its_own(&self) -> bool {
        self.reserved < self.anon / RESERVED_PART
    }
}

/// Calls of tasks that had to look for memory themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reclaim {
    pub calls: u64,
    /// That gave fewer than 32 pages.
    pub poor: u64,
    pub pages: u64,
    pub took_ms: u64,
}

/// A process, and how it has grown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryUser {
    pub process: Process,
    /// Of a family: how many workers the numbers are the sum of; the process is their parent.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub workers: u32,
    pub anon: u64,
    /// Since it is watched; from nothing, if it began meanwhile.
    pub grown: u64,
    /// The same of its address space: what it has reserved.
    pub reserved: u64,
    pub watched_ms: u64,
    /// In the last [`RECENT_MS`] or less.
    pub grown_lately: u64,
    /// In the last [`LONG_MS`] or less, from low to low: what a heap gives back now and then does not count.
    #[serde(default)]
    pub grown_from_low: u64,
    /// Since it is of age, or is watched if it was so before; `None`: it is too young.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of_age: Option<Taken>,
    /// Since the last look.
    #[serde(default)]
    pub major_faults: u64,
    /// `/proc/PID/oom_score`: the highest is killed first.
    #[serde(default)]
    pub oom_score: u32,
}

/// Of what it grew, what a process must have asked the kernel for meanwhile.
const RESERVED_PART: u64 = 4;

impl MemoryUser {
    /// Within seconds, or from low to low within two minutes: whichever is more.
    #[must_use]
    pub fn grown_of_late(&self) -> u64 {
        self.grown_lately.max(self.grown_from_low)
    }

    /// At least half of what was taken of late is its growth, its own start left out.
    #[must_use]
    pub fn explains(&self, grown: &Grown) -> bool {
        let by = |growth: Growth| match self.grown_from_low <= self.grown_lately {
            true => growth.lately,
            false => growth.from_low,
        };
        let own = self.grown_of_late().min(self.of_age.map_or(0, |taken| taken.anon));
        0 < own && by(grown.users).max(by(grown.whole)) <= own.saturating_mul(2)
    }

    /// It takes what it had reserved, as a JVM fills its heap, and that has an end.
    #[must_use]
    pub fn fills_its_own(&self) -> bool {
        self.reserved < self.grown / RESERVED_PART
    }
}

impl CgroupMemory {
    /// Whoever has grown most, or whose like workers have.
    #[must_use]
    pub fn most_grown(&self, grown: fn(&MemoryUser) -> u64) -> Option<&MemoryUser> {
        most_grown(&self.users, grown).or_else(|| self.grown_family(grown))
    }

    /// Like workers of which none has grown by half: whose they are. Others of the cgroup must not have grown as much.
    fn grown_family(&self, grown: fn(&MemoryUser) -> u64) -> Option<&MemoryUser> {
        let most = self.families.iter().max_by_key(|family| grown(family))?;
        let others = self.families.iter().map(grown).sum::<u64>() - grown(most);
        let single = self.users.iter().map(grown).max().unwrap_or(0);
        (others.max(single) < grown(most)).then_some(most)
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// What [`MemoryUser::grown_lately`] looks back.
pub const RECENT_MS: u64 = 15_000;
/// What [`MemoryUser::grown_from_low`] looks back.
pub const LONG_MS: u64 = 120_000;

/// Whoever has grown most, by one of these measures, and at least by half of what all have.
pub fn most_grown(users: &[MemoryUser], grown: fn(&MemoryUser) -> u64) -> Option<&MemoryUser> {
    let most = users.iter().max_by_key(|user| grown(user))?;
    let all: u64 = users.iter().map(grown).sum();
    (0 < grown(most) && all <= 2 * grown(most)).then_some(most)
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeMemory {
    pub over_ms: u64,
    pub total: u64,
    /// `MemAvailable`.
    pub available: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pressed_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reclaim: Option<Reclaim>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<MemoryUser>,
    /// `None`: they were not looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grown: Option<Grown>,
}

/// One task had to reclaim, for long or in vain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReclaimStalled {
    /// For the whole node, not for a cgroup at its limit.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub node: bool,
    /// 0: not known.
    pub took_us: u64,
    pub pages: u64,
    /// Calls in its cgroup up to now, and how many of them gave little.
    pub calls: u32,
    pub poor: u32,
}
