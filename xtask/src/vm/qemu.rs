//! Runs a guest: QEMU's emulation, never KVM, so that a guest runs alike on every machine.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use super::console::{Ended, Line, Transcript};
use crate::arch::Arch;
use crate::step::shown;

/// A guest ready to start.
#[derive(Debug)]
pub(crate) struct Machine {
    /// What its lines on the terminal begin with.
    pub(crate) name: String,
    pub(crate) arch: Arch,
    pub(crate) image: PathBuf,
    pub(crate) initrd: PathBuf,
    /// Where what it says is kept.
    pub(crate) logs: PathBuf,
    pub(crate) memory_mib: u32,
    /// Seconds after which it is ended.
    pub(crate) limit: u32,
    /// Words for the kernel besides those that every guest gets.
    pub(crate) kernel_arguments: &'static str,
}

/// Of a guest that failed, this many of its kernel's last lines are shown.
const SHOWN: usize = 60;

/// An emulator copies and clears byte by byte where the kernel believes that the processor is fast at it (erms, fsrm), and
/// walks the fifth level of page tables by hand.
const X86_64_CPU: &str = "max,-erms,-fsrm,-la57";
/// A panic ends the guest at once (-no-reboot). What guards against speculation and against the kernel's own mistakes is
/// dear to an emulator, which does not speculate.
const COMMON_ARGUMENTS: &str = "panic=-1 psi=1 cgroup_no_v1=all mitigations=off init_on_alloc=0 hardened_usercopy=off randomize_kstack_offset=off";

/// Where such a guest speaks to us.
pub(crate) const fn terminal(arch: Arch) -> &'static str {
    match arch {
        Arch::X86_64 => "ttyS1",
        Arch::Aarch64 => "ttyAMA0",
    }
}

impl Machine {
    /// Runs the guest to its end, printing each test as it ends, as `cargo test` does.
    pub(crate) fn run(&self) -> Result<Transcript> {
        let kernel_log = self.logs.join("kernel.log");
        let mut command = self.command(&kernel_log);
        eprintln!("$ {}", shown(&command));
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("start {}", command.get_program().display()))?;
        let mut transcript = Transcript::default();
        let mut text = String::new();
        if let Some(stdout) = child.stdout.take() {
            for line in BufReader::new(stdout).split(b'\n') {
                let line = String::from_utf8_lossy(&line?).trim_end().to_owned();
                text.push_str(&line);
                text.push('\n');
                let line = Line::parse(&line);
                self.show(&line);
                transcript.add(line);
            }
        }
        let status = child.wait()?;
        // timeout(1): 124 when it ended the command, 137 when it had to kill it.
        transcript.close(&match status.code() {
            Some(124 | 137) => format!("ended after its limit of {} s", self.limit),
            _ => format!("the guest went in the middle ({status})"),
        });
        fs::write(self.logs.join("guest.log"), text)?;
        if transcript.failed() > 0 {
            self.show_console(&kernel_log);
        }
        Ok(transcript)
    }

    fn command(&self, kernel_log: &Path) -> Command {
        let mut command = Command::new("timeout");
        command.args(["--foreground", "--kill-after=5", &self.limit.to_string()]);
        let (program, machine, cpu) = match self.arch {
            Arch::X86_64 => ("qemu-system-x86_64", "q35", X86_64_CPU),
            Arch::Aarch64 => ("qemu-system-aarch64", "virt", "cortex-a72"),
        };
        // One CPU: of two emulated ones, one may run what the other has patched away, and a kernel that
        // switches tracepoints meets its own breakpoints (`Oops: int3`). And nobody waits for the other's turn.
        command.args([program, "-M", machine, "-accel", "tcg,thread=single", "-cpu", cpu, "-smp", "1"]);
        command.args(["-m", &self.memory_mib.to_string()]);
        command.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
        if self.has_own_line() {
            command.arg("-serial").arg(format!("file:{}", kernel_log.display()));
        }
        command.args(["-serial", "stdio", "-kernel"]).arg(&self.image);
        command.arg("-initrd").arg(&self.initrd);
        // Where the kernel shares our line it says nothing that could cut ours.
        let console = if self.has_own_line() { "console=ttyS0 quiet" } else { "console=ttyAMA0 loglevel=1" };
        command.arg("-append");
        command.arg(format!("{console} {COMMON_ARGUMENTS} {}", self.kernel_arguments));
        command
    }

    /// Whether the kernel has a serial line of its own: `virt` has but one.
    fn has_own_line(&self) -> bool {
        self.arch == Arch::X86_64
    }

    fn show(&self, line: &Line) {
        match line {
            Line::Up(release) => println!("guest {}: Linux {release}", self.name),
            Line::Ended(Ended { name, has_passed: true, detail }) => {
                println!("test {} {name} ... ok {detail}", self.name);
            }
            Line::Ended(Ended { name, has_passed: false, detail }) => {
                println!("test {} {name} ... FAILED {detail}", self.name);
            }
            Line::Other(text) if !text.is_empty() => println!("{} {text}", self.name),
            Line::Other(_) | Line::Runs(_) | Line::Data { .. } | Line::Done => {}
        }
    }

    fn show_console(&self, kernel_log: &Path) {
        let log = fs::read(kernel_log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<_> = log.lines().collect();
        println!("---- {}: the kernel's last lines, all in {}", self.name, kernel_log.display());
        for line in &lines[lines.len().saturating_sub(SHOWN)..] {
            println!("{} kernel: {}", self.name, line.escape_debug());
        }
    }
}
