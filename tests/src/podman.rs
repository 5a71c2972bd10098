//! A podman of the test's own, and its service, which answers to Docker's API.

use std::{
    fs::{self, File},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use rustix::process::Signal;

use crate::{
    daemon,
    home::{signal_to, until},
    image::image_of_busybox,
    machine::{hierarchies, remove_empty},
    scratch::{Scratch, unique_name},
};

const IMAGE: &str = "healer-test/busybox";

/// Containers are removed, the service is ended and its files are deleted on drop.
pub struct Podman {
    service: Child,
    home: Scratch,
    cgroup: String,
}

impl Podman {
    /// With an image of a static busybox, and without a network.
    ///
    /// # Panics
    /// Without root, podman, runc or busybox; or if it does not answer.
    #[must_use]
    pub fn start() -> Self {
        let home = Scratch::new();
        configure(home.path());
        let podman = Self { service: serve(home.path()), home, cgroup: unique_name() };
        until("podman answers", || podman.socket().exists().then_some(()));
        podman.import_image();
        podman
    }

    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.home.path().join("podman.sock")
    }

    /// The podman command; gives what it printed.
    ///
    /// # Panics
    /// With its words, if it fails.
    pub fn podman(&self, args: &[&str]) -> String {
        let output = client(self.home.path()).args(args).output().expect("this test needs podman");
        assert!(output.status.success(), "podman: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Starts a container that runs `busybox COMMAND`; `options` are podman's.
    pub fn run(&self, name: &str, options: &[&str], command: &[&str]) {
        let parent = format!("/{}", self.cgroup);
        let mut words = vec!["run", "--detach", "--network", "none", "--cgroup-parent", parent.as_str()];
        words.extend(["--name", name]);
        words.extend(options);
        words.extend([IMAGE, "/bin/busybox"]);
        words.extend(command);
        self.podman(&words);
    }

    /// Pid of a container's PID 1 here; 0 if it does not run.
    ///
    /// # Panics
    /// If there is no such container.
    #[must_use]
    pub fn pid(&self, name: &str) -> u32 {
        let pid = self.podman(&["inspect", "--format", "{{.State.Pid}}", name]);
        pid.parse().expect("podman prints a pid")
    }

    /// `running`, `paused`, `exited`, …: podman's own word.
    #[must_use]
    pub fn status(&self, name: &str) -> String {
        self.podman(&["inspect", "--format", "{{.State.Status}}", name])
    }

    fn import_image(&self) {
        let archive = image_of_busybox(self.home.path()).display().to_string();
        self.podman(&["import", "--quiet", &archive, IMAGE]);
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        // Whoever is paused may not be removed.
        client(self.home.path()).args(["unpause", "--all"]).output().ok();
        client(self.home.path()).args(["rm", "--force", "--time", "0", "--all"]).output().ok();
        signal_to(self.service.id(), Signal::KILL);
        self.service.wait().ok();
        // Who tidies up after the containers would make the directories anew.
        daemon::clear(self.home.path(), &self.cgroup);
        for hierarchy in hierarchies() {
            remove_empty(&hierarchy.join(&self.cgroup));
        }
    }
}

/// Locks in files: those in shared memory are one set for all podmans of root. Limits: its own are higher than a root
/// without CAP_SYS_RESOURCE may set.
fn configure(home: &Path) {
    let at = home.display();
    let storage = format!("[storage]\ndriver = \"vfs\"\ngraphroot = \"{at}/root\"\nrunroot = \"{at}/run\"\n");
    let engine = format!(
        "[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=16384:16384\"]\n\
         [engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\nlock_type = \"file\"\n\
         runtime = \"runc\"\ntmp_dir = \"{at}/tmp\"\n\
         [network]\nnetwork_config_dir = \"{at}/networks\"\n"
    );
    for (name, text) in [("storage.conf", storage), ("containers.conf", engine)] {
        fs::write(home.join(name), text).expect("the scratch directory can be written");
    }
}

fn client(home: &Path) -> Command {
    let mut command = Command::new("podman");
    command.env("CONTAINERS_STORAGE_CONF", home.join("storage.conf"));
    command.env("CONTAINERS_CONF", home.join("containers.conf"));
    command
}

fn serve(home: &Path) -> Child {
    let log = File::create(home.join("log")).expect("the scratch directory can be written");
    client(home)
        .args(["system", "service", "--time", "0"])
        .arg(format!("unix://{}", home.join("podman.sock").display()))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .process_group(0)
        .spawn()
        .expect("this test needs root and podman")
}
