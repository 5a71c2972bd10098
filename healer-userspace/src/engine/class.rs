//! Failure classes: one closed list, the names that users see.

use serde::{Deserialize, Serialize};

macro_rules! classes {
    ($($(#[$doc:meta])* $class:ident = $name:literal,)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum Class { $($(#[$doc])* $class,)* }

        impl Class {
            pub const ALL: &[Self] = &[$(Self::$class,)*];

            /// As written in policies, metrics and the audit.
            pub fn name(self) -> &'static str {
                match self { $(Self::$class => $name,)* }
            }
        }
    };
}

classes! {
    /// A workload that should run has no living main process and no successor.
    Down = "down",
    /// A process ended by a fatal signal, or a workload's main process with a non-zero status.
    Crash = "crash",
    CrashLoop = "crash_loop",
    OomKill = "oom_kill",
    MemoryPressure = "memory_pressure",
    MemoryLeak = "memory_leak",
    Deadlock = "deadlock",
    Hang = "hang",
    Starved = "starved",
    CpuThrottled = "cpu_throttled",
    NetworkIsolation = "network_isolation",
    DependencyFailure = "dependency_failure",
    DegradedPath = "degraded_path",
    ListenOverflow = "listen_overflow",
    FdExhaustion = "fd_exhaustion",
    PidExhaustion = "pid_exhaustion",
    DiskFull = "disk_full",
    PortExhaustion = "port_exhaustion",
    IoError = "io_error",
    Unkillable = "unkillable",
    ZombieChildren = "zombie_children",
    ProbeFailed = "probe_failed",
}

impl Class {
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|class| class.name() == name)
    }
}

impl core::fmt::Display for Class {
    fn fmt(&self, out: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        out.write_str(self.name())
    }
}

/// How sure a diagnosis is; ordered from weak to strong.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Certainty {
    Suspected,
    Probable,
    Proved,
}

impl Certainty {
    pub fn name(self) -> &'static str {
        match self {
            Self::Suspected => "suspected",
            Self::Probable => "probable",
            Self::Proved => "proved",
        }
    }
}
