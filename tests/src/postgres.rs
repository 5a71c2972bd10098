//! PostgreSQL, as `nobody`: it refuses to run as root.

use std::{
    fs,
    os::unix::{fs::chown, process::CommandExt as _},
    path::PathBuf,
    process::{Command, Stdio},
};

use rustix::process::Signal;

use crate::scratch::Scratch;

const NOBODY: u32 = 65534;

/// Killed, a server leaves its shared memory (shmget(2)) on the machine. By this signal it ends at once as well, whoever
/// is connected, and takes that along (its manual, "Shutting Down the Server").
pub const QUITS_BY: Signal = Signal::QUIT;
/// setpriv(1) takes no numbers.
const QUITS_BY_NAME: &str = "QUIT";

/// For the user `test`.
pub struct Cluster {
    data: PathBuf,
}

impl Cluster {
    /// # Panics
    /// Without root or postgresql.
    #[must_use]
    pub fn new(dir: &Scratch) -> Self {
        let data = dir.path().join("postgres");
        fs::create_dir(&data).expect("the scratch directory can be written");
        chown(&data, Some(NOBODY), Some(NOBODY)).expect("this test needs root");
        let mut init = Command::new(programs().join("initdb"));
        init.args(["--no-sync", "--auth=trust", "--username=test", "-D"]).arg(&data).uid(NOBODY).gid(NOBODY);
        let status = init.stdout(Stdio::null()).stderr(Stdio::null()).status();
        assert!(status.is_ok_and(|status| status.success()), "initdb makes a cluster");
        Self { data }
    }

    /// Its server, with these settings and its socket in the cluster's directory. It is to end by [`QUITS_BY`], and so it
    /// does with the thread that starts it.
    #[must_use]
    pub fn server(&self, settings: &[&str]) -> Command {
        let mut command = Command::new("setpriv");
        command.arg(format!("--reuid={NOBODY}")).arg(format!("--regid={NOBODY}")).arg("--clear-groups");
        // A change of user clears it (prctl(2)), and comes first in setpriv.
        command.args(["--pdeathsig", QUITS_BY_NAME]);
        command.arg(server_program()).arg("-D").arg(&self.data).arg("-k").arg(&self.data);
        // In its directory: one that is killed with the whole run would leave it in /dev/shm.
        let common = "dynamic_shared_memory_type=mmap";
        for setting in [common].iter().chain(settings) {
            command.args(["-c", *setting]);
        }
        command
    }

    /// A client of that server, to go on with its options.
    #[must_use]
    pub fn pgbench(&self) -> String {
        format!("{}/pgbench -h {} -U test", programs().display(), self.data.display())
    }
}

/// # Panics
/// Without postgresql.
#[must_use]
pub fn server_program() -> PathBuf {
    programs().join("postgres")
}

fn programs() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").expect("this test needs postgresql");
    let mut paths: Vec<_> = versions.flatten().map(|version| version.path().join("bin")).collect();
    paths.sort();
    paths.pop().expect("some version of postgresql is installed")
}
