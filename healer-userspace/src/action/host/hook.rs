//! One run of a user's program, bounded in time and output.

use core::time::Duration;
use std::{io, os::unix::process::ExitStatusExt as _, process::Stdio};

use rustix::process::{Pid, Signal};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::unix::pipe::Receiver,
    process::{Child, ChildStdin, Command},
};

use super::{Hook, HookEnd, plain};
use crate::signal::{Exit, SeenBy};

const OUTPUT: usize = 4096;
/// A child of the hook may keep its output open; what comes after the hook's own end is waited for this long.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// # Errors
/// It could not be started. Once started, whatever happened is in the `HookEnd`.
pub(super) async fn run(hook: Hook) -> io::Result<HookEnd> {
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&reader, true)?;
    let mut child = start(&hook, writer)?;
    let mut output = Output::default();
    let stdin = child.stdin.take();
    let mut reader = Receiver::from_owned_fd(reader)?;
    let exit = {
        let talk = async {
            tokio::join!(feed(stdin, &hook.stdin), output.read(&mut reader));
            core::future::pending::<()>().await;
        };
        tokio::select! {
            ended = tokio::time::timeout(hook.limit, child.wait()) => ended.ok(),
            () = talk => None,
        }
    };
    if exit.is_none() {
        kill_group(&mut child).await;
    }
    tokio::time::timeout(LAST_WORDS, output.read(&mut reader)).await.ok();
    let exit = exit.transpose()?.map(|status| Exit {
        code: status.code().unwrap_or(0),
        signal: status.signal(),
        core: status.core_dumped(),
        seen_by: SeenBy::Supervisor,
    });
    Ok(HookEnd { exit, output: String::from_utf8_lossy(&output.kept).into_owned(), cut: output.cut })
}

/// Clean environment, own process group, root directory; stdout and stderr in one pipe.
fn start(hook: &Hook, writer: std::os::fd::OwnedFd) -> io::Result<Child> {
    let (program, arguments) =
        hook.argv.split_first().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    let also_writer = writer.try_clone()?;
    let mut command = Command::new(program);
    // SAFETY: async-signal-safe, and nothing is shared with it.
    unsafe {
        command.pre_exec(|| {
            plain::reset();
            Ok(())
        });
    }
    command
        .args(arguments)
        .env_clear()
        .env("PATH", plain::PATH)
        .envs(hook.environment.iter().cloned())
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(writer)
        .stderr(also_writer)
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
}

/// A hook that does not read its stdin is fine.
async fn feed(stdin: Option<ChildStdin>, text: &str) {
    if let Some(mut stdin) = stdin {
        stdin.write_all(text.as_bytes()).await.ok();
    }
}

/// Before the leader is reaped its pid, and so its group's id, cannot be anybody else's.
async fn kill_group(child: &mut Child) {
    let pid = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
    if let Some(pid) = pid {
        rustix::process::kill_process_group(pid, Signal::KILL).ok();
    }
    child.wait().await.ok();
}

#[derive(Default)]
struct Output {
    kept: Vec<u8>,
    cut: bool,
}

impl Output {
    /// Drains to the end, so that the hook never blocks on a full pipe, and keeps the beginning.
    async fn read(&mut self, reader: &mut Receiver) {
        let mut buffer = [0_u8; 1024];
        while let Ok(count @ 1..) = reader.read(&mut buffer).await {
            let room = OUTPUT - self.kept.len();
            self.kept.extend_from_slice(&buffer[..count.min(room)]);
            self.cut |= count > room;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, limit: Duration) -> HookEnd {
        let hook = Hook {
            argv: ["sh", "-c", script].map(str::to_owned).to_vec(),
            stdin: "{\"incident\":1}\n".to_owned(),
            environment: vec![("HEALER_INCIDENT", "i1".to_owned())],
            limit,
        };
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build().unwrap();
        runtime.block_on(run(hook)).unwrap()
    }

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn it_reads_the_incident_and_speaks_on_both_channels() {
        let end = shell("read line; echo \"$line $HEALER_INCIDENT $HOME\"; echo bad >&2; exit 3", LONG);
        assert_eq!(end.output, "{\"incident\":1} i1 \nbad\n");
        assert_eq!(end.exit.unwrap().code, 3);
    }

    #[test]
    fn the_kernels_favour_for_the_agent_is_not_inherited() {
        std::fs::write("/proc/self/oom_score_adj", "5").unwrap();
        assert_eq!(shell("cat /proc/self/oom_score_adj", LONG).output, "0\n");
        std::fs::write("/proc/self/oom_score_adj", "0").unwrap();
    }

    #[test]
    fn neither_are_its_limits() {
        let before = shell("ulimit -l", LONG).output;
        crate::memlock::lift();
        assert_eq!(shell("ulimit -l", LONG).output, before);
        let before = crate::nofile::raise_from_less();
        assert_eq!(shell("ulimit -n", LONG).output, format!("{before}\n"));
    }

    #[test]
    fn output_is_bounded_and_never_blocks_it() {
        let end = shell("head -c 300000 /dev/zero | tr '\\0' x", LONG);
        assert_eq!(end.output.len(), OUTPUT);
        assert!(end.cut && end.exit.is_some());
    }

    #[test]
    fn its_whole_group_is_killed_at_the_limit() {
        let end = shell("sleep 1000 & echo $!; wait", Duration::from_millis(300));
        assert_eq!(end.exit, None);
        let left = end.output.trim();
        let lives = || {
            let stat = std::fs::read_to_string(format!("/proc/{left}/stat"));
            stat.is_ok_and(|stat| !stat.contains(") Z "))
        };
        // The kill is sent; the end of a grandchild is the kernel's to finish.
        while lives() {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn a_background_child_does_not_hold_it_up() {
        let end = shell("sleep 3 & exit 0", LONG);
        assert_eq!(end.exit.unwrap().code, 0);
    }
}
