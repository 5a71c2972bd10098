//! How often healer may act on one workload.

use core::time::Duration;

/// At most `max` acts per workload in any window of `per`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    pub max: u32,
    pub per: Duration,
}

/// Wait before the second, third, … act on one workload; the first is immediate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backoff {
    pub initial: Duration,
    pub factor: f64,
    pub max: Duration,
    pub reset_after: Duration,
}

/// After `trip_after` failed verifications within `within`, hold for `probe_after`, then try one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Breaker {
    pub trip_after: u32,
    pub within: Duration,
    pub probe_after: Duration,
}
