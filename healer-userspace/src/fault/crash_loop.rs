//! A parent that starts the same failing program again and again, as init systems do.

use core::time::Duration;
use std::process::Command;

use super::{End, Fault};
use crate::{engine::class::Class, own_binary::ourselves};

pub(super) const CRASH_LOOP: Fault = Fault::failing(
    "crash-loop",
    Class::CrashLoop,
    "a parent starts the same child again and again, and each aborts",
    End::Status(0),
    parent,
);

const TIMES: usize = 6;
const PAUSE: Duration = Duration::from_millis(200);

fn parent() -> u8 {
    for _time in 0..TIMES {
        let child = Command::new(ourselves()).args(["fault-child", "abort"]).status();
        if child.is_err() {
            return 1;
        }
        std::thread::sleep(PAUSE);
    }
    0
}
