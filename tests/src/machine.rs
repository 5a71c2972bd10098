//! A Debian with its own systemd, as a container of systemd-nspawn, for tests over D-Bus.

use std::{
    fs::{self, File},
    io,
    os::unix::{fs::symlink, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::Duration,
};

use healer_userspace::clock;
use rustix::fs::{FlockOperation, flock};

use crate::{
    binary::target_dir,
    scratch::{Scratch, unique_name},
};

const BOOTS_WITHIN: Duration = Duration::from_secs(60);
const STEP: Duration = Duration::from_millis(50);

/// Powered off, killed and removed on drop. One at a time on a machine: units of two would share their cgroups.
pub struct Machine {
    nspawn: Child,
    leader: u32,
    _root: Scratch,
    _only_one: File,
}

impl Machine {
    /// Boots with these services (name without `.service`, lines of `[Service]`) and these files in `/usr/local/bin`.
    ///
    /// # Panics
    /// Without root, systemd-nspawn or mmdebstrap; or if it does not boot.
    #[must_use]
    pub fn boot(services: &[(&str, &str)], programs: &[&Path]) -> Self {
        let only_one = lock();
        let root = unpack(&base());
        for program in programs {
            let name = program.file_name().expect("a program has a name");
            fs::copy(program, root.path().join("usr/local/bin").join(name)).expect("the program is copied");
        }
        for (name, lines) in services {
            install(root.path(), name, lines);
        }
        let mut nspawn = spawn(root.path());
        let leader = wait_for_bus(&mut nspawn);
        Self { nspawn, leader, _root: root, _only_one: only_one }
    }

    /// Its system bus, as seen from here.
    #[must_use]
    pub fn bus(&self) -> PathBuf {
        format!("/proc/{}/root/run/dbus/system_bus_socket", self.leader).into()
    }

    /// Its first process.
    #[must_use]
    pub fn leader(&self) -> u32 {
        self.leader
    }

    /// systemctl inside; gives what it printed.
    ///
    /// # Panics
    /// If it cannot be run.
    pub fn systemctl(&self, args: &[&str]) -> String {
        self.inside("systemctl", args)
    }

    /// A program of its own; gives what it printed.
    ///
    /// # Panics
    /// If it cannot be run.
    pub fn inside(&self, program: &str, args: &[&str]) -> String {
        let leader = self.leader.to_string();
        let mut command = Command::new("nsenter");
        command.args(["-t", &leader, "-m", "-p", program]).args(args);
        said(command.output().expect("this test needs nsenter (util-linux)"))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // systemd(1): SIGRTMIN+4 powers off.
        signal(self.leader, libc::SIGRTMIN() + 4);
        for _look in 0..100 {
            if self.nspawn.try_wait().is_ok_and(|ended| ended.is_some()) {
                break;
            }
            thread::sleep(STEP);
        }
        signal(self.leader, libc::SIGKILL);
        self.nspawn.kill().ok();
        self.nspawn.wait().ok();
        for hierarchy in hierarchies() {
            for part in ["payload", "supervisor"] {
                remove_empty(&hierarchy.join(part));
            }
        }
    }
}

fn lock() -> File {
    let file = File::create(std::env::temp_dir().join("healer-test-machine.lock")).expect("a lock file");
    flock(&file, FlockOperation::LockExclusive).expect("the lock is waited for");
    file
}

/// The archive of a minimal Debian, kept beside the build (xtask/src/vm/debian.rs).
fn base() -> PathBuf {
    let archive = target_dir().join("systemd-root/root.tar");
    assert!(archive.is_file(), "{} is missing: cargo xtask test --live makes it", archive.display());
    archive
}

fn unpack(archive: &Path) -> Scratch {
    let root = Scratch::new();
    let mut tar = Command::new("tar");
    let done = tar.arg("-xf").arg(archive).arg("-C").arg(root.path()).status().expect("tar runs");
    assert!(done.success(), "tar: {done}");
    root
}

fn install(root: &Path, name: &str, lines: &str) {
    let units = root.join("etc/systemd/system");
    let file = format!("{name}.service");
    fs::write(units.join(&file), format!("[Service]\n{lines}\n")).expect("the unit is written");
    let wants = units.join("multi-user.target.wants");
    fs::create_dir_all(&wants).expect("the root can be written");
    symlink(Path::new("..").join(&file), wants.join(&file)).expect("the unit is enabled");
}

/// In the root cgroup: below any other its units would be named after that one.
fn spawn(root: &Path) -> Child {
    let procs = hierarchies()[0].join("cgroup.procs");
    let mut command = Command::new("systemd-nspawn");
    command
        .args(["--register=no", "--keep-unit", "--private-network", "--boot", "--console=pipe", "--quiet"])
        .args(["--machine", &unique_name()])
        .arg("--directory")
        .arg(root)
        .env("SYSTEMD_NSPAWN_UNIFIED_HIERARCHY", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0);
    let path = std::ffi::CString::new(procs.to_string_lossy().into_owned()).expect("a path without NUL");
    // SAFETY: between fork and exec only open, write and close are called, on memory made before.
    unsafe {
        command.pre_exec(move || {
            let procs = rustix::fs::open(&path, rustix::fs::OFlags::WRONLY, rustix::fs::Mode::empty())?;
            rustix::io::write(&procs, b"0")?;
            Ok(())
        });
    }
    command.spawn().expect("this test needs root and systemd-nspawn (systemd-container)")
}

/// The v2 hierarchy first.
pub(crate) fn hierarchies() -> Vec<PathBuf> {
    let top = Path::new("/sys/fs/cgroup");
    if top.join("cgroup.controllers").exists() {
        return vec![top.to_owned()];
    }
    let mounted = fs::read_dir(top).into_iter().flatten().flatten().map(|entry| entry.path());
    let unified = top.join("unified");
    std::iter::once(unified.clone()).chain(mounted.filter(|path| *path != unified)).collect()
}

fn wait_for_bus(nspawn: &mut Child) -> u32 {
    let deadline = clock::boot() + BOOTS_WITHIN;
    while clock::boot() < deadline {
        if let Some(leader) = crate::hangs::family(nspawn.id()).get(1)
            && Path::new(&format!("/proc/{leader}/root/run/dbus/system_bus_socket")).exists()
        {
            return *leader;
        }
        assert!(nspawn.try_wait().is_ok_and(|ended| ended.is_none()), "systemd-nspawn has ended");
        thread::sleep(STEP);
    }
    nspawn.kill().ok();
    panic!("the machine has no system bus within {BOOTS_WITHIN:?}");
}

/// Directories without processes, innermost first.
pub(crate) fn remove_empty(cgroup: &Path) {
    for entry in fs::read_dir(cgroup).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_empty(&entry.path());
        }
    }
    fs::remove_dir(cgroup).ok();
}

fn signal(pid: u32, signal: i32) {
    // SAFETY: kill(2) takes numbers only.
    let sent = unsafe { libc::kill(pid.cast_signed(), signal) };
    if sent != 0 && io::Error::last_os_error().raw_os_error() != Some(libc::ESRCH) {
        eprintln!("signal {signal} to {pid}: {}", io::Error::last_os_error());
    }
}

fn said(output: Output) -> String {
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
