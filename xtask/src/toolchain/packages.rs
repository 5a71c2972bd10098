//! THE PACKAGE TABLE: what each stage needs of the system, by its Debian names.

use std::path::Path;

use crate::workspace;

/// What a package is needed for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stage {
    /// Building the kernel programs.
    Ebpf,
    /// The live tests: compilers and programs their victims are made of.
    Test,
    /// The bench: servers whose requests are timed, and their clients.
    Bench,
    /// Guests: the emulator, and what they are made of.
    Vm,
    /// What is shipped for the other processor: little of it is C.
    Cross,
    /// Guests with the other processor.
    Arm,
}

/// One Debian package, and what shows that it (or its like on another system) is there.
#[derive(Debug)]
pub(crate) struct Package {
    pub(crate) stage: Stage,
    pub(crate) name: &'static str,
    pub(crate) sign: Sign,
}

/// How a package is recognised without asking the package manager.
#[derive(Debug)]
pub(crate) enum Sign {
    /// A program in PATH.
    Program(&'static str),
    /// A file or directory.
    Path(&'static str),
}

/// Add a line here for whatever a stage starts to need.
pub(crate) const PACKAGES: &[Package] = &[
    Package::new(Stage::Ebpf, "g++", Sign::Program("g++")),
    Package::new(Stage::Ebpf, "rustc-web", Sign::Path("/usr/bin/rustc")),
    Package::new(
        Stage::Ebpf,
        "libstd-rust-web-dev-bpf",
        Sign::Path("/usr/lib/rustlib/bpfel-unknown-none/lib"),
    ),
    Package::new(Stage::Ebpf, "llvm-22-dev", Sign::Path("/usr/lib/llvm-22/include/llvm")),
    Package::new(Stage::Test, "gcc", Sign::Program("gcc")),
    Package::new(Stage::Test, "g++", Sign::Program("g++")),
    Package::new(Stage::Test, "python3", Sign::Program("python3")),
    Package::new(Stage::Test, "python3-venv", Sign::Path("/usr/share/doc/python3-venv")),
    Package::new(Stage::Test, "iproute2", Sign::Program("ip")),
    Package::new(Stage::Test, "procps", Sign::Program("ps")),
    Package::new(Stage::Test, "musl-tools", Sign::Program("musl-gcc")),
    Package::new(Stage::Test, "golang-go", Sign::Program("go")),
    Package::new(Stage::Test, "default-jdk-headless", Sign::Program("javac")),
    Package::new(Stage::Test, "nodejs", Sign::Program("node")),
    Package::new(Stage::Test, "ruby", Sign::Program("ruby")),
    Package::new(Stage::Test, "perl", Sign::Program("perl")),
    Package::new(Stage::Test, "util-linux", Sign::Program("flock")),
    Package::new(Stage::Test, "e2fsprogs", Sign::Program("chattr")),
    Package::new(Stage::Test, "cron", Sign::Path("/usr/sbin/cron")),
    Package::new(Stage::Test, "runit", Sign::Program("runsv")),
    Package::new(Stage::Test, "s6", Sign::Program("s6-supervise")),
    Package::new(Stage::Test, "daemontools", Sign::Program("supervise")),
    Package::new(Stage::Test, "redis-server", Sign::Program("redis-server")),
    Package::new(Stage::Test, "nginx-light", Sign::Path("/usr/sbin/nginx")),
    Package::new(Stage::Test, "postgresql", Sign::Path("/usr/lib/postgresql")),
    Package::new(Stage::Test, "wrk", Sign::Program("wrk")),
    Package::new(Stage::Test, "redis-tools", Sign::Program("redis-benchmark")),
    Package::new(Stage::Test, "stress-ng", Sign::Program("stress-ng")),
    Package::new(Stage::Bench, "nginx-light", Sign::Path("/usr/sbin/nginx")),
    Package::new(Stage::Bench, "wrk", Sign::Program("wrk")),
    Package::new(Stage::Bench, "redis-server", Sign::Program("redis-server")),
    Package::new(Stage::Bench, "redis-tools", Sign::Program("redis-benchmark")),
    Package::new(Stage::Test, "systemd-container", Sign::Program("systemd-nspawn")),
    Package::new(Stage::Test, "mmdebstrap", Sign::Program("mmdebstrap")),
    Package::new(Stage::Test, "docker.io", Sign::Program("dockerd")),
    Package::new(Stage::Test, "containerd", Sign::Program("containerd")),
    Package::new(Stage::Test, "runc", Sign::Path("/usr/sbin/runc")),
    Package::new(Stage::Test, "podman", Sign::Program("podman")),
    Package::new(Stage::Test, "prometheus", Sign::Program("promtool")),
    Package::new(Stage::Test, "prometheus-alertmanager", Sign::Program("prometheus-alertmanager")),
    Package::new(Stage::Test, "busybox-static", Sign::Path("/usr/share/doc/busybox-static")),
    Package::new(Stage::Vm, "qemu-system-x86", Sign::Program("qemu-system-x86_64")),
    Package::new(Stage::Vm, "busybox-static", Sign::Path("/usr/share/doc/busybox-static")),
    Package::new(Stage::Vm, "xz-utils", Sign::Program("xz")),
    Package::new(Stage::Vm, "mmdebstrap", Sign::Program("mmdebstrap")),
    Package::new(Stage::Vm, "cpio", Sign::Program("cpio")),
    Package::new(Stage::Arm, "qemu-system-arm", Sign::Program("qemu-system-aarch64")),
    Package::new(Stage::Cross, "gcc-aarch64-linux-gnu", Sign::Program("aarch64-linux-gnu-gcc")),
    Package::new(Stage::Cross, "libc6-dev-arm64-cross", Sign::Path("/usr/aarch64-linux-gnu/lib/libc.a")),
];

impl Package {
    const fn new(stage: Stage, name: &'static str, sign: Sign) -> Self {
        Self { stage, name, sign }
    }

    /// Whether what the package brings is on this machine.
    pub(crate) fn is_here(&self) -> bool {
        match self.sign {
            Sign::Program(name) => workspace::find_program(name).is_some(),
            Sign::Path(path) => Path::new(path).exists(),
        }
    }
}

/// The packages of `stage` that are not on this machine.
pub(crate) fn missing(stage: Stage) -> Vec<&'static Package> {
    PACKAGES.iter().filter(|package| package.stage == stage && !package.is_here()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_names_a_package_once() {
        for (at, package) in PACKAGES.iter().enumerate() {
            let twin = |other: &&Package| other.stage == package.stage && other.name == package.name;
            assert_eq!(PACKAGES[at..].iter().filter(twin).count(), 1, "{package:?}");
        }
    }

    #[test]
    fn what_no_machine_has_is_missing() {
        let absent = Package::new(Stage::Test, "x", Sign::Program("healer-no-such-program"));
        assert!(!absent.is_here());
        assert!(!Package::new(Stage::Test, "x", Sign::Path("/nonexistent/x")).is_here());
    }
}
