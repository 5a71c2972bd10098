//! The line that khungtaskd writes into the kernel's log (kernel/hung_task.c). Pure.

/// The thread of `INFO: task NAME:PID blocked for more than 120 seconds.`, in newer kernels
/// `… in I/O wait for more than …`. The name is the thread's own choice: the last colon before the number counts.
pub(super) fn thread(line: &[u8]) -> Option<u32> {
    let line = str::from_utf8(line).ok()?.trim_start().strip_prefix("INFO: task ")?;
    let (who, rest) = line.rsplit_once(" for more than ")?;
    rest.ends_with(" seconds.").then_some(())?;
    let (who, _how) = who.rsplit_once(" blocked").or_else(|| who.rsplit_once(" in I/O wait"))?;
    who.rsplit_once(':')?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_thread_is_the_number_behind_its_name() {
        let thread = |line: &str| thread(line.as_bytes());
        assert_eq!(thread("INFO: task dd:4711 blocked for more than 120 seconds."), Some(4711));
        let state = "INFO: task dd:4711 blocked in I/O wait for more than 120 seconds.";
        assert_eq!(thread(state), Some(4711));
        let state = "INFO: task dd:4711 in I/O wait for more than 120 seconds.";
        assert_eq!(thread(state), Some(4711));
        // A program may call itself so.
        assert_eq!(thread("INFO: task a:1 blocked:7 blocked for more than 1 seconds."), Some(7));
        for other in [
            "",
            "INFO: task dd:x blocked for more than 1 seconds.",
            "task dd:1 blocked for more than 1 seconds.",
            "INFO: task dd:1 is blocked on a mutex likely owned by task dd:2.",
        ] {
            assert_eq!(thread(other), None, "{other}");
        }
    }
}
