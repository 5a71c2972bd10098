use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::step::answer;
use crate::toolchain::{self, PACKAGES, Stage};
use crate::{root, workspace};

/// Say what of the toolchain is here, and the command that brings what is not
#[derive(clap::Args)]
pub(crate) struct Args {}

const TRACEFS: &str = "/sys/kernel/tracing";
/// What a clean clone grows by, with the guests and the containers of the tests.
const ROOM_GB: u64 = 30;

/// What no release of Debian 12 has new enough.
pub(crate) const KUBECTL: &str = "install kubectl 1.21 or later: https://kubernetes.io/docs/tasks/tools (Debian 12's kubernetes-client is older)";

/// One line of the table.
struct Finding {
    what: String,
    /// What was found, or nothing.
    found: Option<String>,
    /// The command that mends it.
    fix: String,
}

pub(crate) fn main(_args: &Args) -> Result<()> {
    let mut findings = host_tools();
    findings.extend(ebpf_toolchain());
    findings.extend(test_packages());
    findings.extend(this_machine());
    print!("{}", table(&findings));
    let missing = findings.iter().filter(|f| f.found.is_none()).count();
    if missing > 0 {
        bail!("{missing} of {} are missing", findings.len());
    }
    Ok(())
}

fn host_tools() -> Vec<Finding> {
    let tool = |name: &str, fix: &str| Finding {
        what: name.to_owned(),
        found: answer(Command::new(name).arg("--version")),
        fix: fix.to_owned(),
    };
    vec![
        tool("cargo", "see rustup.rs"),
        tool("rustfmt", "rustup component add rustfmt"),
        tool("cargo-clippy", "rustup component add clippy"),
    ]
}

fn ebpf_toolchain() -> Vec<Finding> {
    let fix = || "cargo xtask build   # installs it; prints each command first".to_owned();
    vec![
        Finding { what: "rustc with core for BPF".to_owned(), found: toolchain::rustc_name(), fix: fix() },
        Finding {
            what: format!("bpf-linker >= {}", toolchain::BPF_LINKER),
            found: toolchain::find_linker().map(|path| path.display().to_string()),
            fix: fix(),
        },
    ]
}

fn test_packages() -> Vec<Finding> {
    let what_for = |stage| match stage {
        Stage::Ebpf => None,
        Stage::Test => Some("live tests"),
        Stage::Bench => Some("bench"),
        Stage::Vm => Some("guests"),
        Stage::Cross => Some("dist for arm64"),
        Stage::Arm => Some("arm64 guests"),
    };
    let of_tests = PACKAGES.iter().filter_map(|package| Some((package, what_for(package.stage)?)));
    of_tests
        .map(|(package, stage)| Finding {
            what: format!("{} ({stage})", package.name),
            found: package.is_here().then(|| "here".to_owned()),
            fix: format!("apt-get install {}", package.name),
        })
        .collect()
}

fn this_machine() -> Vec<Finding> {
    let way = if root::is_root() {
        Some("root".to_owned())
    } else {
        workspace::find_program("sudo").map(|path| path.display().to_string())
    };
    let exists = |path: &str| Path::new(path).exists().then(|| path.to_owned());
    vec![
        Finding {
            what: "root, or sudo".to_owned(),
            found: way,
            fix: "run as root: loading kernel programs needs it".to_owned(),
        },
        Finding {
            what: "kernel type information (BTF)".to_owned(),
            found: exists("/sys/kernel/btf/vmlinux"),
            fix: "a kernel built with CONFIG_DEBUG_INFO_BTF=y".to_owned(),
        },
        Finding {
            what: "kubectl >= 1.21 (live tests)".to_owned(),
            found: workspace::find_program("kubectl").map(|path| path.display().to_string()),
            fix: KUBECTL.to_owned(),
        },
        Finding {
            what: format!("{ROOM_GB} GB of disk (all tests, cold)"),
            found: room().filter(|gigabytes| ROOM_GB <= *gigabytes).map(|free| format!("{free} GB free")),
            fix: "free some, or set CARGO_TARGET_DIR to another disk".to_owned(),
        },
        Finding {
            what: "tracefs".to_owned(),
            found: root::is_mounted(TRACEFS).then(|| TRACEFS.to_owned()),
            fix: "mount -t tracefs tracefs /sys/kernel/tracing".to_owned(),
        },
    ]
}

/// Gigabytes that are free where the build goes.
fn room() -> Option<u64> {
    let said = answer(Command::new("df").args(["--output=avail", "-B1G"]).arg(workspace::target_dir()))?;
    said.split_whitespace().last()?.parse().ok()
}

fn table(findings: &[Finding]) -> String {
    let width = findings.iter().map(|f| f.what.len()).max().unwrap_or(0);
    let line = |f: &Finding| match &f.found {
        Some(found) => format!("ok       {:width$}  {found}\n", f.what),
        None => format!("MISSING  {:width$}  fix: {}\n", f.what, f.fix),
    };
    findings.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_known() {
        assert!(room().is_some());
    }

    #[test]
    fn a_missing_thing_is_shown_with_what_brings_it() {
        let finding = |what: &str, found: Option<&str>| Finding {
            what: what.to_owned(),
            found: found.map(str::to_owned),
            fix: "install it".to_owned(),
        };
        let text = table(&[finding("a", Some("1.0")), finding("bcd", None)]);
        assert_eq!(text, "ok       a    1.0\nMISSING  bcd  fix: install it\n");
    }
}
