//! Can the agent see? Programs attached, its own probe seen through the kernel, few records lost.

use core::time::Duration;
use std::collections::VecDeque;

use super::view::Sensor;
use crate::engine::time::{BootTime, Human};

/// A thread of the agent ends every 5 s; two misses mean that nothing comes through.
pub const PROBE_LIMIT: Duration = Duration::from_secs(10);
/// Records lost within [`LOSS_WINDOW`] beyond which the agent says that it is half blind.
pub const LOSS_LIMIT: u64 = 1000;
pub const LOSS_WINDOW: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub struct Readiness {
    probe_seen: Option<BootTime>,
    losses: VecDeque<(BootTime, u64)>,
}

impl Readiness {
    /// The self-probe came back through the kernel path.
    pub fn probe_seen(&mut self, at: BootTime) {
        self.probe_seen = self.probe_seen.max(Some(at));
    }

    pub fn lost(&mut self, at: BootTime, count: u64) {
        while self.losses.front().is_some_and(|(then, _)| at.since(*then) > LOSS_WINDOW) {
            self.losses.pop_front();
        }
        match self.losses.back_mut() {
            // One entry a second is enough, and bounds the list.
            Some((then, sum)) if at.since(*then) < Duration::from_secs(1) => *sum += count,
            Some(_) | None => self.losses.push_back((at, count)),
        }
    }

    /// Why the agent is not ready, in words; empty if it is.
    pub fn complaints(&self, sensors: &[Sensor], now: BootTime) -> Vec<String> {
        [no_sensor(sensors), self.probe_late(now), self.too_many_lost(now)].into_iter().flatten().collect()
    }

    fn probe_late(&self, now: BootTime) -> Option<String> {
        match self.probe_seen.map(|at| now.since(at)) {
            None => Some("the self-probe has not been seen through the kernel yet".into()),
            Some(ago) if ago > PROBE_LIMIT => {
                Some(format!("the self-probe was last seen {} ago, limit {}", Human(ago), Human(PROBE_LIMIT)))
            }
            Some(_) => None,
        }
    }

    fn too_many_lost(&self, now: BootTime) -> Option<String> {
        let recent = |(at, _): &&(BootTime, u64)| now.since(*at) <= LOSS_WINDOW;
        let lost: u64 = self.losses.iter().filter(recent).map(|(_, count)| count).sum();
        (lost > LOSS_LIMIT)
            .then(|| format!("{lost} records lost in the last {}, limit {LOSS_LIMIT}", Human(LOSS_WINDOW)))
    }
}

fn no_sensor(sensors: &[Sensor]) -> Option<String> {
    if sensors.iter().any(Sensor::is_kernel) {
        return None;
    }
    let reasons: Vec<_> = sensors.iter().filter_map(|sensor| sensor.reason.as_deref()).collect();
    let why = reasons.first().map_or(String::new(), |reason| format!(": {reason}"));
    Some(format!("no kernel program is attached{why}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::view::SensorState;

    const SECOND: u64 = 1_000_000_000;

    fn attached() -> Vec<Sensor> {
        vec![Sensor {
            name: "process_exit".into(),
            state: SensorState::Attached,
            via: Some("tp_btf".into()),
            ..Sensor::default()
        }]
    }

    #[test]
    fn ready_needs_eyes_and_a_probe() {
        let mut readiness = Readiness::default();
        let now = BootTime(100 * SECOND);
        assert_eq!(
            readiness.complaints(&[], now),
            ["no kernel program is attached", "the self-probe has not been seen through the kernel yet"]
        );
        readiness.probe_seen(BootTime(95 * SECOND));
        assert!(readiness.complaints(&attached(), now).is_empty());
        let later = BootTime(106 * SECOND);
        assert_eq!(
            readiness.complaints(&attached(), later),
            ["the self-probe was last seen 11.0s ago, limit 10.0s"]
        );
    }

    #[test]
    fn losses_are_forgiven_after_a_minute() {
        let mut readiness = Readiness::default();
        readiness.lost(BootTime(10 * SECOND), 600);
        readiness.lost(BootTime(20 * SECOND), 401);
        readiness.probe_seen(BootTime(71 * SECOND));
        let complaints = |at| readiness.complaints(&attached(), BootTime(at * SECOND));
        assert_eq!(complaints(69), ["1001 records lost in the last 1m00s, limit 1000"]);
        assert!(complaints(71).is_empty());
    }

    #[test]
    fn what_needs_no_program_of_ours_is_none() {
        for via in ["connector", "kmsg", "sock_diag", "proc", "poll", "cgroup files, pressure"] {
            let sensor = Sensor { via: Some(via.into()), ..attached().remove(0) };
            assert!(no_sensor(&[sensor]).is_some(), "{via}");
        }
        for via in ["tp_btf", "raw_tp", "tracepoint"] {
            let sensor = Sensor { via: Some(via.into()), ..attached().remove(0) };
            assert_eq!(no_sensor(&[sensor]), None, "{via}");
        }
    }
}
