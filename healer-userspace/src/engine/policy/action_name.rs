//! What a rung can do, and what kind of an act that is.

use serde::{Deserialize, Serialize};

macro_rules! actions {
    ($($(#[$doc:meta])* $action:ident = $name:literal, destructive: $destructive:literal;)*) => {
        /// The closed list of remedies; each has its file in `action/`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum ActionName { $($(#[$doc])* $action,)* }

        impl ActionName {
            pub const ALL: &[Self] = &[$(Self::$action,)*];

            pub fn name(self) -> &'static str {
                match self { $(Self::$action => $name,)* }
            }

            /// Ends or replaces a process: needs second reasons, budgets, a second look.
            pub fn is_destructive(self) -> bool {
                match self { $(Self::$action => $destructive,)* }
            }
        }
    };
}

actions! {
    /// Log (and later sinks). Touches nothing and always succeeds.
    Notify = "notify", destructive: false;
    /// Keeps what it looks like now. Touches nothing.
    Capture = "capture", destructive: false;
    /// Through whoever owns the workload: supervisor, systemd, container runtime, or a given command.
    Restart = "restart", destructive: true;
    /// Signal, grace, SIGKILL; by pidfd.
    Stop = "stop", destructive: true;
    /// SIGKILL to the scope.
    Kill = "kill", destructive: true;
    /// Halts the scope, for a while.
    Freeze = "freeze", destructive: false;
    /// Lets run again what somebody has halted.
    Thaw = "thaw", destructive: false;
    /// Less CPU, or memory that is reclaimed sooner, for a while.
    Throttle = "throttle", destructive: false;
    /// More of what it runs out of, up to a bound, for a while.
    RaiseLimit = "raise_limit", destructive: false;
    /// Others are killed first when memory runs out, for a while.
    Protect = "protect", destructive: false;
    /// A program of the user's: argv, no shell, incident as JSON on stdin; at most once.
    RunHook = "run_hook", destructive: true;
    /// Ends connections that stay dead although their peer is well.
    ResetConnections = "reset_connections", destructive: false;
    /// Moves the pod to another node, if its PodDisruptionBudget lets it go.
    Evict = "evict", destructive: true;
    /// No new pods on this node, for a while.
    Cordon = "cordon", destructive: false;
    /// New pods go elsewhere, but for those that tolerate it, for a while.
    Taint = "taint", destructive: false;
    /// A condition of the node, for whoever repairs nodes, for a while.
    Condition = "condition", destructive: false;
}

impl ActionName {
    /// Borrowed, and given back whatever follows.
    pub fn is_lease(self) -> bool {
        match self {
            Self::Freeze | Self::Throttle | Self::RaiseLimit | Self::Protect => true,
            Self::Cordon | Self::Taint | Self::Condition => true,
            Self::Notify
            | Self::Capture
            | Self::Restart
            | Self::Stop
            | Self::Kill
            | Self::Thaw
            | Self::RunHook
            | Self::ResetConnections
            | Self::Evict => false,
        }
    }

    /// A lease that cures nothing by itself: the ladder goes on beside it, and it stands until the patient is well.
    pub fn is_standing(self) -> bool {
        matches!(self, Self::Cordon | Self::Taint | Self::Condition)
    }

    /// Asks Kubernetes' API server.
    pub fn is_of_the_cluster(self) -> bool {
        matches!(self, Self::Evict | Self::Cordon | Self::Taint | Self::Condition)
    }

    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|action| action.name() == name)
    }
}
