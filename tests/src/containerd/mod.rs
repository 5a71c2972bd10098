//! A containerd of the test's own, and a hand that does over the CRI what a kubelet does.

mod image;
mod kubelet;
mod specification;

use std::{
    fs::{self, File},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use healer_userspace::clock;
use serde_json::Value;

use self::kubelet::Kubelet;
pub use self::kubelet::Pod;
use crate::{
    machine::{hierarchies, remove_empty},
    scratch::{Scratch, unique_name},
};

const UP_WITHIN: Duration = Duration::from_secs(30);
const STEP: Duration = Duration::from_millis(50);

/// Pods are stopped and removed, the daemon is ended and its files are deleted on drop.
pub struct Containerd {
    daemon: Child,
    home: Scratch,
    cgroup: String,
    kubelet: Kubelet,
}

impl Containerd {
    /// With an image of a static busybox, and without a network.
    ///
    /// # Panics
    /// Without root, containerd, runc or busybox; or with the daemon's log, if it does not come up.
    #[must_use]
    pub fn start() -> Self {
        let home = Scratch::new();
        let config = home.path().join("config.toml");
        fs::write(&config, configuration(home.path())).expect("the scratch directory can be written");
        let mut daemon = spawn(home.path(), &config);
        wait_for_socket(&mut daemon, home.path());
        image::import(home.path());
        let kubelet = Kubelet::new(home.path().join("containerd.sock"));
        Self { daemon, home, cgroup: unique_name(), kubelet }
    }

    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.home.path().join("containerd.sock")
    }

    /// Starts the sandbox of a pod, below `kubepods` as the kubelet's cgroupfs driver has it; gives its id.
    ///
    /// # Panics
    /// With the runtime's words.
    pub fn pod(&self, pod: &Pod<'_>) -> String {
        let cgroup = format!("/{}/kubepods/besteffort/pod{}", self.cgroup, pod.uid);
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
        specification::of(self.home.path(), root, rights, memory)
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
        self.kubelet.remove_all();
        if let Some(pid) = rustix::process::Pid::from_raw(self.daemon.id().cast_signed()) {
            rustix::process::kill_process(pid, rustix::process::Signal::TERM).ok();
        }
        for _look in 0..200 {
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

fn spawn(home: &Path, config: &Path) -> Child {
    let log = File::create(home.join("log")).expect("the scratch directory can be written");
    Command::new("containerd")
        .arg("--config")
        .arg(config)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .process_group(0)
        .spawn()
        .expect("this test needs root and containerd")
}

fn wait_for_socket(daemon: &mut Child, home: &Path) {
    let deadline = clock::boot() + UP_WITHIN;
    while !image::ctr(home, &["version"]).status.success() {
        let ended = daemon.try_wait().is_ok_and(|ended| ended.is_some());
        assert!(
            !ended && clock::boot() < deadline,
            "containerd is not up: {}",
            fs::read_to_string(home.join("log")).unwrap_or_default()
        );
        thread::sleep(STEP);
    }
}
