//! Signals that whoever started us had ignored: nohup(1), or a shell for what it runs behind its back.

use std::fs;
use std::process::Command;

/// SIGHUP, SIGINT and SIGQUIT, as bits of `SigIgn` in proc_pid_status(5).
const STOPS: u64 = 0b111;

/// `command`, which hears the signals that live tests send to what they start: ignored ones are inherited.
/// As it is where nothing is ignored.
pub(crate) fn heard(command: Command) -> Command {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    if ignored(&status) & STOPS == 0 {
        return command;
    }
    let mut through = Command::new("env");
    through.arg("--default-signal=HUP,INT,QUIT").arg(command.get_program()).args(command.get_args());
    for (key, value) in command.get_envs() {
        match value {
            Some(value) => through.env(key, value),
            None => through.env_remove(key),
        };
    }
    if let Some(dir) = command.get_current_dir() {
        through.current_dir(dir);
    }
    through
}

/// The mask of ignored signals that a `status` file of /proc tells; 0 if it tells none.
fn ignored(status: &str) -> u64 {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mask_is_read() {
        assert_eq!(ignored("Name:\tx\nSigIgn:\t0000000000001007\nSigCgt:\t0\n"), 0x1007);
        assert_eq!(ignored("Name:\tx\n"), 0);
    }
}
