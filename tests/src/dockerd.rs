//! A Docker of the test's own: its socket, data, images and cgroups are nobody else's.

use std::{
    ffi::OsStr,
    fs, io,
    path::{Path, PathBuf},
    process::{Child, Command},
    thread,
};

use healer_userspace::clock;

use crate::{
    daemon::{self, STEP, UP_WITHIN},
    image::image_of_busybox,
    machine::{hierarchies, remove_empty},
    scratch::{Scratch, unique_name},
    supervised::lives,
};

const IMAGE: &str = "healer-test/busybox";

/// Containers are removed, the daemon is ended and its files are deleted on drop.
pub struct Dockerd {
    daemon: Child,
    options: &'static [&'static str],
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
        Self::start_with(&[])
    }

    /// As `start`; what it runs lives on without it, and is its own again once it is back.
    ///
    /// # Panics
    /// As `start`.
    #[must_use]
    pub fn start_with_live_restore() -> Self {
        Self::start_with(&["--live-restore"])
    }

    fn start_with(options: &'static [&'static str]) -> Self {
        let home = Scratch::new();
        let cgroup = unique_name();
        let daemon = spawn(home.path(), &cgroup, options);
        let daemon = daemon.expect("this test needs root and dockerd (docker.io)");
        let mut docker = Self { daemon, options, home, cgroup };
        docker.wait_for_socket();
        docker.import_image();
        docker
    }

    /// By SIGKILL, as the OOM killer would.
    ///
    /// # Panics
    /// If it cannot be waited for.
    pub fn kill(&mut self) {
        daemon::kill(&mut self.daemon);
        self.forget_containerd();
    }

    /// On the same socket and data.
    ///
    /// # Panics
    /// With its log, if it does not come up.
    pub fn restart(&mut self) {
        self.daemon = spawn(self.home.path(), &self.cgroup, self.options).expect("it started before");
        self.wait_for_socket();
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

    /// dockerd's own containerd dies with it (PR_SET_PDEATHSIG). Where nobody reaps it, dockerd's next life takes it for
    /// alive, and waits for its answer.
    fn forget_containerd(&self) {
        let file = self.home.path().join("exec/containerd/containerd.pid");
        let text = fs::read_to_string(&file).unwrap_or_default();
        let Ok(pid) = text.trim().parse() else { return };
        for _look in 0..100 {
            if !lives(pid) {
                fs::remove_file(&file).ok();
                return;
            }
            thread::sleep(STEP);
        }
    }

    fn wait_for_socket(&mut self) {
        assert!(self.comes_up(), "dockerd is not up: {}", daemon::log(self.home.path()));
    }

    fn comes_up(&mut self) -> bool {
        let deadline = clock::boot() + UP_WITHIN;
        while !daemon::has_ended(&mut self.daemon) && clock::boot() < deadline {
            if self.client().arg("version").output().is_ok_and(|output| output.status.success()) {
                return true;
            }
            thread::sleep(STEP);
        }
        false
    }

    /// Containers end in peace through their daemon alone.
    fn revive(&mut self) {
        if let Ok(next) = spawn(self.home.path(), &self.cgroup, self.options) {
            self.daemon = next;
            self.comes_up();
        }
    }

    fn import_image(&self) {
        let archive = image_of_busybox(self.home.path());
        self.docker(&[OsStr::new("import"), archive.as_os_str(), OsStr::new(IMAGE)]);
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        if daemon::has_ended(&mut self.daemon) {
            self.revive();
        }
        let listed = self.client().args(["ps", "--all", "--quiet"]).output();
        let listed = listed.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        for id in listed.unwrap_or_default().split_ascii_whitespace() {
            self.client().args(["rm", "--force", id]).output().ok();
        }
        daemon::end(&mut self.daemon);
        daemon::clear(self.home.path(), &self.cgroup);
        for hierarchy in hierarchies() {
            remove_empty(&hierarchy.join(&self.cgroup));
        }
    }
}

fn spawn(home: &Path, cgroup: &str, options: &[&str]) -> io::Result<Child> {
    let socket = format!("unix://{}", home.join("docker.sock").display());
    // The cgroupfs driver's paths end with docker/ID.
    let parent = format!("/{cgroup}/docker");
    let mut command = Command::new("dockerd");
    command
        .args(["--iptables=false", "--ip6tables=false", "--bridge=none", "--ip-masq=false"])
        .args(["--exec-opt", "native.cgroupdriver=cgroupfs", "--cgroup-parent", &parent, "-H", &socket])
        .args(options)
        .arg("--data-root")
        .arg(home.join("data"))
        .arg("--exec-root")
        .arg(home.join("exec"))
        .arg("--pidfile")
        .arg(home.join("pid"));
    daemon::spawn(&mut command, home)
}
