//! `expect.probe`: one question, asked no faster than it can be answered.

use core::time::Duration;

use super::{
    super::{key::At, policy as shape, problem::Fault},
    count, period, required,
};
use crate::engine::policy::{Probe, ProbeAsk};

const PERIOD_MIN: Duration = Duration::from_secs(1);

pub(super) fn read(given: &At<shape::Probe>, faults: &mut Vec<Fault>) -> Option<Probe> {
    let shape = &given.value;
    let before = faults.len();
    let kubelet = shape.kubelet.value().copied().unwrap_or(false).then_some(ProbeAsk::Kubelet);
    let asks = [http(shape, faults), tcp(shape, faults), exec(shape, faults), kubelet];
    let asks: Vec<ProbeAsk> = asks.into_iter().flatten().collect();
    let period_given = period(&shape.period, "period", Probe::PERIOD, faults);
    let timeout = period(&shape.timeout, "timeout", Probe::TIMEOUT.min(period_given), faults);
    let failures = count(&shape.failures, "failures", Probe::FAILURES, faults);
    if period_given < PERIOD_MIN {
        faults.push(Fault::new(given.place, "probe: the period must be 1s or longer"));
    }
    if period_given < timeout {
        let message = format!("probe: the timeout {timeout:?} is longer than the period {period_given:?}");
        faults.push(Fault::new(given.place, message));
    }
    if asks.len() != 1 && faults.len() == before {
        faults.push(Fault::new(given.place, "probe: exactly one of http, tcp, exec and kubelet is needed"));
    }
    let start_grace = shape.start_grace.value().map_or(Probe::START_GRACE, |grace| grace.0);
    let ask = asks.into_iter().next()?;
    Some(Probe { ask, period: period_given, timeout, failures, start_grace })
}

fn http(shape: &shape::Probe, faults: &mut Vec<Fault>) -> Option<ProbeAsk> {
    let given = shape.http.given()?;
    let port = required(&given.value.port, "port", "http", given.place, faults)?;
    nonzero(port, faults);
    let path = given.value.path.value().cloned().unwrap_or_else(|| "/".to_owned());
    if !path.starts_with('/') || path.bytes().any(|byte| byte <= b' ' || 0x7f <= byte) {
        let message = format!("path: {path:?} does not begin with / or has characters that need escaping");
        faults.push(Fault::new(given.place, message));
    }
    Some(ProbeAsk::Http { port: port.value, path })
}

fn tcp(shape: &shape::Probe, faults: &mut Vec<Fault>) -> Option<ProbeAsk> {
    let given = shape.tcp.given()?;
    let port = required(&given.value.port, "port", "tcp", given.place, faults)?;
    nonzero(port, faults);
    Some(ProbeAsk::Tcp { port: port.value })
}

fn exec(shape: &shape::Probe, faults: &mut Vec<Fault>) -> Option<ProbeAsk> {
    let given = shape.exec.given()?;
    let words = required(&given.value.command, "command", "exec", given.place, faults)?;
    let command: Vec<String> = words.value.0.iter().map(|at| at.value.clone()).collect();
    if command.first().is_none_or(String::is_empty) || command.iter().any(|word| word.contains('\0')) {
        faults.push(Fault::new(words.place, "command: names no program, or has a NUL byte"));
    }
    Some(ProbeAsk::Exec { command })
}

fn nonzero(port: &At<u16>, faults: &mut Vec<Fault>) {
    if port.value == 0 {
        faults.push(Fault::new(port.place, "port: cannot be 0"));
    }
}
