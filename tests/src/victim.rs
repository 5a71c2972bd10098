//! Programs made to fail: C, compiled by the test, and children that do not outlive it.

use std::{
    ffi::OsStr,
    fs, io,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

use crate::scratch::Scratch;

/// The program of `tests/src/victims/guest/NAME.c`, in `dir`. It is compiled here, or copied from where
/// `HEALER_VICTIMS` says they were compiled: a guest has no compiler.
///
/// # Panics
/// If it was not compiled there; or with the compiler's words, if there is no gcc or it refuses.
#[must_use]
pub fn built(dir: &Scratch, name: &str) -> PathBuf {
    let program = dir.path().join(name);
    if let Some(victims) = std::env::var_os("HEALER_VICTIMS") {
        fs::copy(Path::new(&victims).join(name), &program).expect("the victim was built with the others");
        return program;
    }
    let source =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("src/victims/guest").join(name).with_extension("c");
    gcc(&source, &program);
    program
}

/// Compiles `source` into `dir`; gives the program's path. [`built`] works in guests too.
///
/// # Panics
/// With the compiler's words, if there is no gcc or it refuses.
#[must_use]
pub fn compile(dir: &Scratch, name: &str, source: &str) -> PathBuf {
    let program = dir.path().join(name);
    let text = program.with_extension("c");
    fs::write(&text, source).expect("the scratch directory can be written");
    gcc(&text, &program);
    program
}

fn gcc(source: &Path, program: &Path) {
    let output = Command::new("gcc")
        .args(["-O0", "-pthread", "-o"])
        .args([program, source])
        .output()
        .expect("this test needs gcc to build its victims");
    assert!(output.status.success(), "gcc: {}", String::from_utf8_lossy(&output.stderr));
}

/// What the victim `hog` takes, and keeps.
pub const HOGS: u64 = 40 << 20;

/// A child that is killed and reaped on drop.
pub struct Victim {
    child: Child,
    told_first: Option<Signal>,
}

impl Victim {
    /// # Panics
    /// If the program cannot be started.
    #[must_use]
    pub fn start(program: impl AsRef<OsStr>, args: &[&str]) -> Self {
        let mut command = Command::new(program);
        command.args(args);
        Self::spawn(&mut command)
    }

    /// # Panics
    /// If the program cannot be started.
    #[must_use]
    pub fn spawn(command: &mut Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut started = command.spawn();
        // Another test's fork holds what we wrote for a moment, until its exec (execve(2), ETXTBSY).
        for _try in 0..100 {
            if started.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::ExecutableFileBusy) {
                thread::sleep(Duration::from_millis(20));
                started = command.spawn();
            }
        }
        Self { child: started.expect("the victim starts"), told_first: None }
    }

    #[must_use]
    pub fn tgid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its end; gives the raw wait status.
    ///
    /// # Panics
    /// If it was already waited for.
    pub fn wait(&mut self) -> u32 {
        use std::os::unix::process::ExitStatusExt as _;
        let status = self.child.wait().expect("the victim is our child");
        status.into_raw() as u32
    }
}

impl Victim {
    /// On a slow machine it takes longer than its neighbour waits.
    ///
    /// # Panics
    /// If it ends before.
    pub fn has_taken(&self, bytes: u64) {
        let file = format!("/proc/{}/statm", self.tgid());
        loop {
            let statm = fs::read_to_string(&file).unwrap_or_default();
            // Of who has ended all are 0 (proc_pid_statm(5)).
            assert!(!statm.is_empty() && !statm.starts_with("0 "), "{} ended early", self.tgid());
            let resident = statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
            if bytes <= resident.unwrap_or(0) * rustix::param::page_size() as u64 {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// On drop it gets this signal, and ten seconds to take away what it would leave behind if it were killed.
    pub fn tell_first(&mut self, signal: Signal) {
        self.told_first = Some(signal);
    }

    fn take_leave(&mut self, signal: Signal) {
        for pause in 0..500 {
            // Who was reaped before has a pid that may be another's by now.
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            if pause == 0 {
                kill_process(Pid::from_child(&self.child), signal).ok();
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Its raw wait status, if it has ended.
    ///
    /// # Panics
    /// If somebody else reaped it.
    pub fn try_wait(&mut self) -> Option<u32> {
        use std::os::unix::process::ExitStatusExt as _;
        let status = self.child.try_wait().expect("the victim is our child");
        status.map(|status| status.into_raw() as u32)
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        if let Some(signal) = self.told_first {
            self.take_leave(signal);
        }
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
