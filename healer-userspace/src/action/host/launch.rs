//! Starting a program that is to outlive us.

use std::{
    fs::{File, OpenOptions},
    io,
    os::{fd::AsRawFd as _, unix::process::CommandExt as _},
    process::{Command, Stdio},
};

use super::{plain, scope};

/// In a session of its own, in the cgroup of the one it replaces where that still exists (else a restart of the
/// agent's own unit would take it down), with /dev/null for stdio.
///
/// # Errors
/// Of fork(2) and execve(2).
pub(super) fn detached(argv: &[String], cgroup: &str) -> io::Result<u32> {
    let (program, arguments) =
        argv.split_first().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    let doors: Vec<File> = scope::directories(cgroup)
        .iter()
        .filter_map(|dir| OpenOptions::new().write(true).open(dir.join("cgroup.procs")).ok())
        .collect();
    let mut command = Command::new(program);
    command.args(arguments).current_dir("/").env_clear().env("PATH", plain::PATH);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // SAFETY: only open(2), write(2), close(2), setrlimit(2) and setsid(2), which are async-signal-safe; `doors` was moved into the
    // closure.
    unsafe {
        command.pre_exec(move || {
            for door in &doors {
                // "0" is the writer itself (cgroups(7)); outside its cgroup it would run all the same.
                libc::write(door.as_raw_fd(), b"0".as_ptr().cast(), 1);
            }
            plain::reset();
            libc::setsid();
            Ok(())
        });
    }
    // Dropping the handle leaves the reaping to tokio, as long as this agent lives.
    let child = tokio::process::Command::from(command).spawn()?;
    Ok(child.id().unwrap_or_default())
}
