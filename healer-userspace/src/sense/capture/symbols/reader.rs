//! The child that reads symbol tables: `healer read-symbols`. A line in, `OFFSET PATH`; a line out, the name or nothing.

use core::time::Duration;
use std::{
    ffi::OsStr,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    os::unix::ffi::OsStrExt as _,
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    thread,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::retry_on_intr,
    process::{Resource, Rlimit, Signal, setrlimit},
};

use super::names::Names;
use crate::own_binary::ourselves;

/// For one name; a big table takes a tenth of a second.
const PATIENCE: Duration = Duration::from_secs(2);
const ENDS_WITHIN: Duration = Duration::from_millis(500);
const STEP: Duration = Duration::from_millis(10);
const LINE_MAX: usize = 1024;
/// The files are mapped, and each has 64 MiB at most.
const MAPPED_MAX: u64 = 1 << 30;
/// Of its own: it shares the agent's cgroup, and its limit.
const MEMORY_MAX: u64 = 16 << 20;
/// What whoever reads anybody's files may meet is not worth a word of a crash.
const MISHAPS: [i32; 4] = [libc::SIGBUS, libc::SIGSEGV, libc::SIGABRT, libc::SIGXCPU];
const CPU_SECONDS_MAX: u64 = 10;

pub(super) struct Reader {
    child: Child,
    ask: Option<ChildStdin>,
    answers: ChildStdout,
    /// It has ended, or does not answer.
    is_lost: bool,
}

impl Reader {
    /// `None`: no process can be started now. The stacks are shown without names.
    pub(super) fn start() -> Option<Self> {
        let mut command = Command::new(ourselves());
        command.arg("read-symbols").env_clear().current_dir("/");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().ok()?;
        let (ask, answers) = (child.stdin.take(), child.stdout.take()?);
        Some(Self { child, ask, answers, is_lost: false })
    }

    pub(super) fn ask(&mut self, file: &Path, offset: u64) -> Option<String> {
        if self.is_lost {
            return None;
        }
        let answer = self.line(file, offset);
        self.is_lost = answer.is_none();
        answer.filter(|name| !name.is_empty())
    }

    fn line(&mut self, file: &Path, offset: u64) -> Option<String> {
        let path = file.as_os_str().as_bytes();
        if path.contains(&b'\n') {
            return Some(String::new());
        }
        let question = [format!("{offset} ").as_bytes(), path, b"\n"].concat();
        self.ask.as_mut()?.write_all(&question).ok()?;
        let mut line = Vec::new();
        while !line.ends_with(b"\n") {
            let mut ready = [PollFd::new(&self.answers, PollFlags::IN)];
            let patience = Timespec::try_from(PATIENCE).ok()?;
            let count = retry_on_intr(|| poll(&mut ready, Some(&patience))).ok()?;
            if count == 0 || LINE_MAX < line.len() {
                return None;
            }
            let mut bytes = [0; LINE_MAX];
            let count = self.answers.read(&mut bytes).ok().filter(|count| *count != 0)?;
            line.extend_from_slice(&bytes[..count]);
        }
        Some(String::from_utf8_lossy(&line).trim_end().to_owned())
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // The end of its input is the end of its work.
        self.ask = None;
        if self.is_lost {
            self.child.kill().ok();
        }
        if !self.ends() {
            self.child.kill().ok();
            self.ends();
        }
    }
}

impl Reader {
    fn ends(&mut self) -> bool {
        (0..ENDS_WITHIN.as_millis() / STEP.as_millis()).any(|_look| {
            let is_over = !matches!(self.child.try_wait(), Ok(None));
            if !is_over {
                thread::sleep(STEP);
            }
            is_over
        })
    }
}

/// The child's side, until its input ends. What it may use up is limited, and if memory is short it goes first.
///
/// # Errors
/// Whoever asks has gone, or there are no limits for it.
pub(crate) fn serve() -> io::Result<()> {
    restrict()?;
    let names = Names::new();
    let (input, mut output) = (BufReader::new(io::stdin().lock()), io::stdout().lock());
    for line in input.split(b'\n') {
        let line = line?;
        let mut words = line.splitn(2, |byte| *byte == b' ');
        let offset = words.next().and_then(|word| str::from_utf8(word).ok()?.parse().ok());
        let file = words.next().map(|path| Path::new(OsStr::from_bytes(path)));
        let name = offset.zip(file).and_then(|(offset, file)| names.find(file, offset)).unwrap_or_default();
        let name = name.replace('\n', " ");
        writeln!(output, "{name}")?;
        output.flush()?;
    }
    Ok(())
}

fn restrict() -> io::Result<()> {
    let limit = |most| Rlimit { current: Some(most), maximum: Some(most) };
    setrlimit(Resource::As, limit(MAPPED_MAX))?;
    setrlimit(Resource::Data, limit(MEMORY_MAX))?;
    // At the harder of the two the kernel kills; at the softer one it says so first.
    setrlimit(Resource::Cpu, Rlimit { maximum: Some(CPU_SECONDS_MAX + 1), ..limit(CPU_SECONDS_MAX) })?;
    setrlimit(Resource::Core, limit(0))?;
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).ok();
    std::fs::write("/proc/self/oom_score_adj", "1000").ok();
    MISHAPS.into_iter().for_each(leave_at);
    Ok(())
}

/// On the stack that the runtime keeps for it: its own may be what is used up.
fn leave_at(signal: i32) {
    // SAFETY: a `sigaction` of zeros is one without flags and with an empty mask; the handler makes one call, which is
    // safe in a handler and does not return.
    unsafe {
        let mut action = std::mem::zeroed::<libc::sigaction>();
        action.sa_sigaction = leave as *const () as libc::sighandler_t;
        action.sa_flags = libc::SA_ONSTACK;
        libc::sigaction(signal, &raw const action, std::ptr::null_mut());
    }
}

extern "C" fn leave(_signal: i32) {
    // SAFETY: takes a number.
    unsafe { libc::_exit(1) };
}
