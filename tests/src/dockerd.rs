//! A Docker of the test's own: its socket, data, images and cgroups are nobody else's.

use std::{
    ffi::OsStr,
    fs::{self, File},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use healer_userspace::clock;

use crate::{
    image::image_of_busybox,
    machine::{hierarchies, remove_empty},
    scratch::{Scratch, unique_name},
};

const UP_WITHIN: Duration = Duration::from_secs(30);
const STEP: Duration = Duration::from_millis(50);
const IMAGE: &str = "healer-test/busybox";

/// Containers are removed, the daemon is ended and its files are deleted on drop.
pub struct Dockerd {
    daemon: Child,
    home: Scratch,
    cgroup: String,
}

impl Dockerd {
    /// With an image of a static busybox, and without a network.
    ///
    /// # Panics
    /// Without root, dockerd, docker or busybox; or with the daemon's log, if it does not come up.
    #[must_use]
    pub fn start() -> Self {
        let home = Scratch::new();
        let cgroup = unique_name();
        let daemon = spawn(home.path(), &cgroup);
        let mut docker = Self { daemon, home, cgroup };
        docker.wait_for_socket();
        docker.import_image();
        docker
    }

    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.home.path().join("docker.sock")
    }

    /// The docker command; gives what it printed.
    ///
    /// # Panics
    /// With its words, if it fails.
    pub fn docker<Arg: AsRef<OsStr>>(&self, args: &[Arg]) -> String {
        let output = self.client().args(args).output().expect("this test needs docker (docker.io)");
        assert!(output.status.success(), "docker: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Starts a container that runs `busybox COMMAND`; `options` are docker's.
    pub fn run(&self, name: &str, options: &[&str], command: &[&str]) {
        self.run_program(name, options, &[&["/bin/busybox"], command].concat());
    }

    /// Starts a container that runs `command`, which `options` may bring in.
    pub fn run_program(&self, name: &str, options: &[&str], command: &[&str]) {
        let start = ["run", "--detach", "--network", "none", "--name", name];
        let words: Vec<&str> = [&start, options, &[IMAGE], command].into_iter().flatten().copied().collect();
        self.docker(&words);
    }

    /// Pid of a container's PID 1 here; 0 if it does not run.
    ///
    /// # Panics
    /// If there is no such container.
    #[must_use]
    pub fn pid(&self, name: &str) -> u32 {
        let pid = self.docker(&["inspect", "--format", "{{.State.Pid}}", name]);
        pid.parse().expect("docker prints a pid")
    }

    fn client(&self) -> Command {
        let mut command = Command::new("docker");
        command.env("DOCKER_HOST", format!("unix://{}", self.socket().display()));
        command.env("DOCKER_CONFIG", self.home.path());
        command
    }

    fn wait_for_socket(&mut self) {
        let deadline = clock::boot() + UP_WITHIN;
        loop {
            if self.client().arg("version").output().is_ok_and(|output| output.status.success()) {
                return;
            }
            let ended = self.daemon.try_wait().is_ok_and(|ended| ended.is_some());
            let log = self.home.path().join("log");
            assert!(
                !ended && clock::boot() < deadline,
                "dockerd is not up: {}",
                fs::read_to_string(&log).unwrap_or_default()
            );
            thread::sleep(STEP);
        }
    }

    fn import_image(&self) {
        let archive = image_of_busybox(self.home.path());
        self.docker(&[OsStr::new("import"), archive.as_os_str(), OsStr::new(IMAGE)]);
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        let listed = self.client().args(["ps", "--all", "--quiet"]).output();
        let listed = listed.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        for id in listed.unwrap_or_default().split_ascii_whitespace() {
            self.client().args(["rm", "--force", id]).output().ok();
        }
        if let Some(pid) = rustix::process::Pid::from_raw(self.daemon.id().cast_signed()) {
            rustix::process::kill_process(pid, rustix::process::Signal::TERM).ok();
        }
        for _look in 0..300 {
            if self.daemon.try_wait().is_ok_and(|ended| ended.is_some()) {
                break;
            }
            thread::sleep(STEP);
        }
        self.daemon.kill().ok();
        self.daemon.wait().ok();
        for hierarchy in hierarchies() {
            remove_empty(&hierarchy.join(&self.cgroup));
        }
    }
}

fn spawn(home: &Path, cgroup: &str) -> Child {
    let log = File::create(home.join("log")).expect("the scratch directory can be written");
    let socket = format!("unix://{}", home.join("docker.sock").display());
    // The cgroupfs driver's paths end with docker/ID.
    let parent = format!("/{cgroup}/docker");
    Command::new("dockerd")
        .args(["--iptables=false", "--ip6tables=false", "--bridge=none", "--ip-masq=false"])
        .args(["--exec-opt", "native.cgroupdriver=cgroupfs", "--cgroup-parent", &parent, "-H", &socket])
        .arg("--data-root")
        .arg(home.join("data"))
        .arg("--exec-root")
        .arg(home.join("exec"))
        .arg("--pidfile")
        .arg(home.join("pid"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .process_group(0)
        .spawn()
        .expect("this test needs root and dockerd (docker.io)")
}
