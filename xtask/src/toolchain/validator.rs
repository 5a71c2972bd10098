//! The validator of Kubernetes manifests, with the API's schemas of many versions: a program of PyPI, kept beside the
//! build. Without it the tests of the manifests fail.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use super::Install;
use crate::step::{Step, answer};
use crate::workspace;

/// It brings the schemas of 1.25 to 1.37.
const VALIDATOR: &str = "kubernetes-validate==1.37.0";
const REMEDY: &str = "look at the network and at pip's index, or put kubernetes-validate into target/kubernetes-validate/bin; until then the tests of the manifests fail";

/// The program, where it is or would be.
pub(crate) fn validator() -> PathBuf {
    dir().join("bin/kubernetes-validate")
}

fn dir() -> PathBuf {
    workspace::target_dir().join("kubernetes-validate")
}

/// Made once: 10 s and 25 MB of downloads.
pub(crate) fn ensure_validator(args: Install) {
    // Its interpreter may have gone, or its place may have moved, since it was made.
    if answer(Command::new(validator()).arg("--version")).is_some() {
        return;
    }
    let dir = dir();
    if args.no_install {
        eprintln!("missing, not installed (--no-install): {VALIDATOR} of PyPI");
        return;
    }
    if let Err(error) = install(&dir) {
        eprintln!("{error:#}");
        fs::remove_dir_all(&dir).ok();
    }
}

fn install(dir: &Path) -> Result<()> {
    let mut venv = Command::new("python3");
    venv.args(["-m", "venv"]).arg(dir);
    Step { name: "make a place for Python programs", remedy: REMEDY, command: venv }.run()?;
    let mut pip = Command::new(dir.join("bin/pip"));
    // A network that comes and goes fails nothing.
    pip.args([
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--retries",
        "8",
        "--timeout",
        "30",
        VALIDATOR,
    ]);
    Step { name: "install the manifests' validator", remedy: REMEDY, command: pip }.run()
}
