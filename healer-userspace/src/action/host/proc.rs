//! The few fields of /proc/PID/stat that the hands need (proc_pid_stat(5)).

use crate::{engine::time::BootTime, supervise::child::TICK_NS};

/// `PF_KTHREAD`, include/linux/sched.h.
const KERNEL_THREAD: u64 = 0x0020_0000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stat {
    pub(super) state: char,
    pub(super) group: u32,
    pub(super) kernel_thread: bool,
    /// Threads, a dead leader counted too.
    threads: u64,
    /// Rounded down to 10 ms.
    pub(super) start: BootTime,
}

impl Stat {
    pub(super) fn of(pid: u32) -> Option<Self> {
        Self::parse(&std::fs::read(format!("/proc/{pid}/stat")).ok()?)
    }

    /// comm may hold anything, a closing parenthesis too: the last one ends it.
    fn parse(stat: &[u8]) -> Option<Self> {
        let after_comm = stat.iter().rposition(|byte| *byte == b')')? + 1;
        let rest = std::str::from_utf8(&stat[after_comm..]).ok()?;
        let fields: Vec<_> = rest.split_ascii_whitespace().collect();
        let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
        Some(Self {
            state: fields.first()?.chars().next()?,
            group: u32::try_from(number(2)?).ok()?,
            kernel_thread: number(6)? & KERNEL_THREAD != 0,
            threads: number(17)?,
            start: BootTime(number(19)? * TICK_NS),
        })
    }

    /// Dead and not yet reaped. A zombie leader whose threads go on is alive.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.state, 'Z' | 'X') && self.threads <= 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_names_do_not_shift_fields() {
        let line = b"42 (a) Z 1 (b) S 1 7 7 0 -1 2097216 0 0 0 0 0 0 0 0 20 0 1 0 1234 0 0";
        let stat = Stat::parse(line).unwrap();
        assert_eq!((stat.state, stat.group, stat.kernel_thread), ('S', 7, true));
        assert_eq!(stat.start, BootTime(12_340_000_000));
    }

    #[test]
    fn cut_lines_are_nothing() {
        for bad in [&b""[..], b"42 (a", b"42 (a) S 1", b"42 (a) \xff"] {
            assert_eq!(Stat::parse(bad), None);
        }
    }
}
