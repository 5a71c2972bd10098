//! A containerd of the test's own, and a hand that does over the CRI what a kubelet does.

mod image;
mod kubelet;
mod specification;

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Child, Command},
    thread,
};

use healer_userspace::clock;
use serde_json::Value;

use self::kubelet::Kubelet;
pub use self::kubelet::Pod;
use crate::{
    daemon::{self, STEP, UP_WITHIN},
    machine::{hierarchies, remove_empty},
    scratch::{Scratch, unique_name},
};

const CONFIG: &str = "config.toml";

/// Pods are stopped and removed, the daemon is ended and its files are deleted on drop.
pub struct Containerd {
    kubelet: Kubelet,
    daemon: Daemon,
}

/// Has an end also where it does not come up.
struct Daemon {
    child: Child,
    home: Scratch,
    cgroup: String,
}

impl Containerd {
    /// With an image of a static busybox, and without a network.
    ///
    /// # Panics
    /// Without root, containerd, runc or busybox; or with the daemon's log, if it does not come up.
    #[must_use]
    pub fn start() -> Self {
        let home = Scratch::new();
        fs::write(home.path().join(CONFIG), configuration(home.path()))
            .expect("the scratch directory can be written");
        let child = spawn(home.path()).expect("this test needs root and containerd");
        let mut daemon = Daemon { child, home, cgroup: unique_name() };
        let is_up = comes_up(&mut daemon.child, daemon.home.path());
        assert!(is_up, "containerd is not up: {}", daemon::log(daemon.home.path()));
        image::import(daemon.home.path());
        let kubelet = Kubelet::new(daemon.home.path().join("containerd.sock"));
        Self { kubelet, daemon }
    }

    /// By SIGKILL, as the OOM killer would: pods live on without it.
    ///
    /// # Panics
    /// If it cannot be waited for.
    pub fn kill(&mut self) {
        daemon::kill(&mut self.daemon.child);
    }

    /// On the same socket and data, with the pods that it had.
    ///
    /// # Panics
    /// With its log, if it does not come up.
    pub fn restart(&mut self) {
        assert!(self.revive(), "containerd is not up: {}", daemon::log(self.daemon.home.path()));
    }

    /// Whether it is up, and knows its pods again.
    fn revive(&mut self) -> bool {
        let Ok(next) = spawn(self.daemon.home.path()) else { return false };
        self.daemon.child = next;
        if !comes_up(&mut self.daemon.child, self.daemon.home.path()) {
            return false;
        }
        let (socket, deadline) = (self.socket(), clock::boot() + UP_WITHIN);
        while clock::boot() < deadline {
            if self.kubelet.connect_anew(socket.clone()).is_ok() {
                return true;
            }
            thread::sleep(STEP);
        }
        false
    }

    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.daemon.home.path().join("containerd.sock")
    }

    /// Starts the sandbox of a pod, below `kubepods` as the kubelet's cgroupfs driver has it; gives its id.
    ///
    /// # Panics
    /// With the runtime's words.
    pub fn pod(&self, pod: &Pod<'_>) -> String {
        let cgroup = format!("/{}/kubepods/besteffort/pod{}", self.daemon.cgroup, pod.uid);
        let id = self.kubelet.run_pod(pod, &cgroup);
        // The pod's own group is the kubelet's, limits included.
        for limit in ["memory.limit_in_bytes", "memory.max"].into_iter().filter(|_| pod.memory > 0) {
            for hierarchy in hierarchies() {
                let file = hierarchy.join(cgroup.trim_start_matches('/')).join(limit);
                if file.exists() {
                    fs::write(file, pod.memory.to_string()).expect("the limit is set");
                }
            }
        }
        id
    }

    /// Creates and starts a container that runs `busybox COMMAND`; gives its id.
    ///
    /// # Panics
    /// With the runtime's words.
    pub fn container(&self, sandbox: &str, name: &str, memory: i64, command: &[&str]) -> String {
        self.kubelet.container(sandbox, name, memory, command)
    }

    /// As an OCI specification: what it would have runc run on this root, read-only, in namespaces of its own, under
    /// its default seccomp profile, within so many bytes, and with these capabilities (`CAP_BPF`, …) alone.
    ///
    /// # Panics
    /// With ctr's words.
    #[must_use]
    pub fn specification(&self, root: &Path, rights: &[String], memory: u64) -> Value {
        specification::of(self.daemon.home.path(), root, rights, memory)
    }

    /// # Panics
    /// With the runtime's words.
    pub fn stop(&self, container: &str, grace: i64) {
        self.kubelet.stop(container, grace);
    }

    /// # Panics
    /// With the runtime's words.
    pub fn stop_pod(&self, sandbox: &str) {
        self.kubelet.stop_pod(sandbox);
    }

    /// The state as the CRI has it, for example `(2, 137, "OOMKilled")` of one that has exited.
    ///
    /// # Panics
    /// With the runtime's words.
    #[must_use]
    pub fn state(&self, container: &str) -> (i32, i32, String) {
        self.kubelet.state(container)
    }

    /// Pid of its PID 1 here.
    ///
    /// # Panics
    /// If it does not run.
    #[must_use]
    pub fn pid(&self, container: &str) -> u32 {
        let pids = crate::agent::pids_in(container);
        *pids.iter().min().expect("the container runs")
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        // Pods end in peace through their daemon alone.
        if !daemon::has_ended(&mut self.daemon.child) || self.revive() {
            self.kubelet.remove_all();
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        daemon::end(&mut self.child);
        daemon::clear(self.home.path(), &self.cgroup);
        for hierarchy in hierarchies() {
            remove_empty(&hierarchy.join(&self.cgroup));
        }
    }
}

fn configuration(home: &Path) -> String {
    let home = home.display();
    format!(
        "version = 2\nroot = \"{home}/root\"\nstate = \"{home}/state\"\n\
         [grpc]\n  address = \"{home}/containerd.sock\"\n\
         [plugins.\"io.containerd.grpc.v1.cri\"]\n  sandbox_image = \"{}\"\n  disable_apparmor = true\n  \
         restrict_oom_score_adj = true\n  disable_tcp_service = true\n  \
         [plugins.\"io.containerd.grpc.v1.cri\".cni]\n    bin_dir = \"{home}\"\n    conf_dir = \"{home}/cni\"\n",
        image::PAUSE
    )
}

fn spawn(home: &Path) -> io::Result<Child> {
    let mut command = Command::new("containerd");
    command.arg("--config").arg(home.join(CONFIG));
    daemon::spawn(&mut command, home)
}

fn comes_up(daemon: &mut Child, home: &Path) -> bool {
    let deadline = clock::boot() + UP_WITHIN;
    while !daemon::has_ended(daemon) && clock::boot() < deadline {
        if image::ctr(home, &["version"]).status.success() {
            return true;
        }
        thread::sleep(STEP);
    }
    false
}
