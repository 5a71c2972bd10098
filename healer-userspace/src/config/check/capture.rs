//! `capture`: what is kept, within the bounds of a look that holds nobody up.

use core::time::Duration;

use super::{
    super::{policy as shape, problem::Fault},
    period,
};
use crate::engine::policy::Wanted;

const LINES_MAX: u32 = 1000;
/// An act waits no longer for it.
const TIME_MAX: Duration = Duration::from_secs(2);

pub(super) fn read(shape: &shape::Capture, faults: &mut Vec<Fault>) -> Wanted {
    let default = Wanted::default();
    if let Some(lines) = shape.log_lines.given().filter(|lines| LINES_MAX < lines.value) {
        faults.push(Fault::new(lines.place, format!("logLines: {} is more than {LINES_MAX}", lines.value)));
    }
    let max_time = period(&shape.max_time, "maxTime", default.max_time, faults);
    if let Some(given) = shape.max_time.given().filter(|_| TIME_MAX < max_time) {
        let message = "maxTime: more than 2s: an act would not wait for it".to_owned();
        faults.push(Fault::new(given.place, message));
    }
    Wanted {
        stacks: shape.stacks.value().copied().unwrap_or(default.stacks),
        sockets: shape.sockets.value().copied().unwrap_or(default.sockets),
        log_lines: shape.log_lines.value().copied().unwrap_or(default.log_lines),
        max_time,
    }
}
