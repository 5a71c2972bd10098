//! What the agent itself costs, read from /proc/self at each scrape.

use core::fmt;
use std::fs;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};

#[derive(Debug)]
pub(super) struct OwnCost;

impl Collector for OwnCost {
    fn encode(&self, mut to: DescriptorEncoder) -> Result<(), fmt::Error> {
        if let Some(seconds) = fs::read_to_string("/proc/self/stat").ok().and_then(cpu_seconds) {
            let help = "CPU time of the agent, user and system";
            let name = "process_cpu_seconds";
            let metric = to.encode_descriptor(name, help, None, MetricType::Counter)?;
            ConstCounter::new(seconds).encode(metric)?;
        }
        if let Some(bytes) = fs::read_to_string("/proc/self/statm").ok().and_then(resident_bytes) {
            let help = "Resident memory of the agent";
            let name = "process_resident_memory_bytes";
            let metric = to.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(bytes).encode(metric)?;
        }
        if let Ok(fds) = fs::read_dir("/proc/self/fd") {
            let help = "Open file descriptors of the agent";
            let open = i64::try_from(fds.count()).unwrap_or(i64::MAX);
            let metric = to.encode_descriptor("process_open_fds", help, None, MetricType::Gauge)?;
            ConstGauge::new(open).encode(metric)?;
        }
        Ok(())
    }
}

/// Fields 14 and 15 of /proc/PID/stat (proc(5)); the name in field 2 may hold blanks and `)`.
fn cpu_seconds(stat: String) -> Option<f64> {
    let (_, after_comm) = stat.rsplit_once(')')?;
    let mut fields = after_comm.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    #[expect(clippy::cast_precision_loss, reason = "ticks since start stay far below 2^52")]
    let seconds = (user + system) as f64 / rustix::param::clock_ticks_per_second() as f64;
    Some(seconds)
}

fn resident_bytes(statm: String) -> Option<i64> {
    let pages: i64 = statm.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(pages.saturating_mul(i64::try_from(rustix::param::page_size()).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_name_does_not_shift_the_fields() {
        let stat = "7 (a) S (b) c) S 1 7 7 0 -1 4194560 1 0 0 0 150 50 0 0 20 0 1 0 5 0 0";
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        assert_eq!(cpu_seconds(stat.into()), Some(200.0 / ticks));
    }

    #[test]
    fn resident_pages_become_bytes() {
        let page = i64::try_from(rustix::param::page_size()).expect("small");
        assert_eq!(resident_bytes("900 3 1 1 0 1 0".into()), Some(3 * page));
    }
}
