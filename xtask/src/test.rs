use std::process::Command;
use std::thread;

use anyhow::{Context, Result, anyhow, bail};

use crate::ahead::Ahead;
use crate::arch::Arch;
use crate::step::Step;
use crate::toolchain::{self, Stage as Packages, ensure_packages, ensure_validator};
use crate::{build, doctor, lanes, lint, rights, root, signals, tidy, vm, workspace};

/// Run the tests: with no flag, everything that CI runs
#[derive(clap::Args, Default)]
pub(crate) struct Args {
    /// Tests beside the code: no root, no kernel
    #[arg(long)]
    unit: bool,
    /// Recorded traces and properties: no root, no kernel
    #[arg(long)]
    replay: bool,
    /// The kernel object as built: no root
    #[arg(long)]
    object: bool,
    /// Real failures on this kernel (root); NAME is a file tests/tests/live_NAME.rs or part of a test's name
    #[arg(long, value_name = "NAME", num_args = 0..=1)]
    live: Option<Option<String>>,
    /// Some of them again, by an agent with no more rights than the DaemonSet `act` gives it (root)
    #[arg(long)]
    rights: bool,
    /// Real failures on other kernels, in guests; KERNEL is one of 6.1-rt, 6.1-cloud, 6.12-cloud, 6.1-systemd, 6.12-systemd,
    /// and, if it is named, 5.10-cloud
    #[arg(long, value_name = "KERNEL", num_args = 0..)]
    vm: Option<Vec<String>>,
    /// With --vm: guests with this processor, all programs cross-built
    #[arg(long, requires = "vm", default_value = "x86_64")]
    arch: Arch,
    /// With --vm: write what the guests say of their sensors into healer-userspace/KERNELS.md
    #[arg(long, requires = "vm")]
    bless: bool,
    /// With --vm: static programs, and the agent as it is shipped; for another processor always so
    #[arg(long, requires = "vm")]
    r#static: bool,
    /// The long form of tests that have one (they read HEALER_FULL)
    #[arg(long)]
    full: bool,
    #[command(flatten)]
    toolchain: toolchain::Install,
}

/// What the test command is made of, in its order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Lint,
    Tidy,
    Build,
    Unit,
    Replay,
    Object,
    Vm,
    Rights,
    Live,
}

impl Stage {
    /// The live tests last: their runner's sum is what one looks for at the end.
    const ALL: [Self; 9] = [
        Self::Lint,
        Self::Tidy,
        Self::Build,
        Self::Unit,
        Self::Replay,
        Self::Object,
        Self::Vm,
        Self::Rights,
        Self::Live,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Lint => "lint",
            Self::Tidy => "tidy",
            Self::Unit => "unit",
            Self::Build => "build",
            Self::Replay => "replay",
            Self::Object => "object",
            Self::Rights => "rights",
            Self::Live => "live",
            Self::Vm => "vm",
        }
    }

    /// Whether the stage looks at what the build stage makes.
    fn needs_build(self) -> bool {
        match self {
            Self::Object | Self::Rights | Self::Live | Self::Vm => true,
            Self::Lint | Self::Tidy | Self::Unit | Self::Build | Self::Replay => false,
        }
    }
}

pub(crate) fn main(args: &Args) -> Result<()> {
    let failed = run_all(&chosen(args), |stage| run(stage, args));
    if failed.is_empty() {
        return Ok(());
    }
    eprintln!("\n==> failed");
    for (stage, error) in &failed {
        eprintln!("{}: {error:#}", stage.name());
    }
    let names: Vec<_> = failed.iter().map(|(stage, _)| stage.name()).collect();
    bail!("failed stages: {}", names.join(", "))
}

/// Everything that CI runs.
pub(crate) fn everything() -> Result<()> {
    main(&Args::default())
}

/// The stages that these flags ask for; without a flag, all.
fn chosen(args: &Args) -> Vec<Stage> {
    let asked = |stage: &Stage| match stage {
        Stage::Lint | Stage::Tidy => false,
        Stage::Unit => args.unit,
        Stage::Build => args.object || args.rights || args.live.is_some() || args.vm.is_some(),
        Stage::Replay => args.replay,
        Stage::Object => args.object,
        Stage::Rights => args.rights,
        Stage::Live => args.live.is_some(),
        Stage::Vm => args.vm.is_some(),
    };
    let some: Vec<_> = Stage::ALL.into_iter().filter(asked).collect();
    if some.is_empty() {
        return Stage::ALL.to_vec();
    }
    some
}

/// Runs every stage that can run, and returns those that failed.
fn run_all(stages: &[Stage], mut run: impl FnMut(Stage) -> Result<()>) -> Vec<(Stage, anyhow::Error)> {
    let mut failed: Vec<(Stage, anyhow::Error)> = Vec::new();
    for &stage in stages {
        println!("\n==> {}", stage.name());
        let no_build = failed.iter().any(|(failed, _)| *failed == Stage::Build);
        let outcome = if stage.needs_build() && no_build {
            Err(anyhow!("not run: the build failed"))
        } else {
            run(stage)
        };
        if let Err(error) = outcome {
            eprintln!("{error:#}");
            failed.push((stage, error));
        }
    }
    failed
}

fn run(stage: Stage, args: &Args) -> Result<()> {
    match stage {
        Stage::Lint => lint::all(),
        Stage::Tidy => tidy::check(),
        Stage::Unit => test_step("unit", cargo_test(&UNIT)).run(),
        Stage::Build => build(args),
        Stage::Replay => replay(args),
        Stage::Object => from_files("object", &existing(&["object"])?, args, &[]),
        Stage::Rights => with_rights(args),
        Stage::Live => live(args),
        Stage::Vm => guests(args),
    }
}

fn build(args: &Args) -> Result<()> {
    build::kernel_programs(args.toolchain)?;
    let is_all = chosen(args) == Stage::ALL;
    let _tests = Ahead::of(if is_all { all_tests()? } else { Vec::new() });
    build::agent(true)
}

/// What compiles the tests that run on this machine.
fn all_tests() -> Result<Vec<Command>> {
    let files = test_files(|name| !name.starts_with("guest_"))?;
    let mut all = vec![cargo_test(&UNIT), cargo_test(&PROPERTIES), tests_package(&files)];
    for command in &mut all {
        command.arg("--no-run");
    }
    Ok(all)
}

/// The properties, some seconds each, are run with the traces.
const UNIT: [&str; 9] = [
    "--package",
    "healer-common",
    "--package",
    "healer-userspace",
    "--package",
    "xtask",
    "--lib",
    "--bins",
    "--test=policy",
];
const PROPERTIES: [&str; 4] = ["--package", "healer-userspace", "--test", "properties"];
/// What the library alone can be asked: its fuzz targets.
const ANSWERS: [&str; 3] = ["--package", "healer-userspace", "--lib"];

fn cargo_test(what: &[&str]) -> Command {
    let mut command = workspace::cargo("test");
    command.arg("--no-fail-fast").args(what);
    command
}

fn tests_package(files: &[String]) -> Command {
    let mut command = cargo_test(&["--package", "healer-tests"]);
    for file in files {
        command.args(["--test", file]);
    }
    command
}

/// All of them, even if the first fails.
fn replay(args: &Args) -> Result<()> {
    let traces = from_files("replay", &existing(&["replay"])?, args, &[]);
    // Each goes by the clock, not by the processor: all of them side by side.
    let mut properties = cargo_test(&PROPERTIES);
    properties.args(["--", "--test-threads=16"]);
    let mut answers = cargo_test(&ANSWERS);
    answers.args(["--", "runtimes::fuzz::", "--test-threads=16"]);
    for command in [&mut properties, &mut answers] {
        command.env("HEALER_FUZZ", "1");
        if args.full {
            command.env("HEALER_FULL", "1");
        }
    }
    let (properties, answers) = thread::scope(|scope| {
        let answers = scope.spawn(|| test_step("answers of runtimes", answers).run());
        (test_step("properties", properties).run(), answers.join())
    });
    let answers = answers.unwrap_or_else(|_| Err(anyhow!("the step panicked")));
    let failed: Vec<_> = [traces, properties, answers].into_iter().filter_map(Result::err).collect();
    let words: Vec<_> = failed.iter().map(|error| format!("{error:#}")).collect();
    if words.is_empty() { Ok(()) } else { bail!("{}", words.join("\n")) }
}

fn live(args: &Args) -> Result<()> {
    ensure_packages(Packages::Test, args.toolchain)?;
    root::mount_tracefs();
    others_make(args);
    let all = test_files(|name| name.starts_with("live_") || name == "live")?;
    let name = args.live.clone().flatten();
    let file = name.as_ref().map(|name| format!("live_{name}"));
    // A file's name chooses the file, anything else is left to the test runner as a filter.
    let (files, filter) = match file.filter(|file| all.contains(file)) {
        Some(file) => (vec![file], None),
        None => (all, name),
    };
    let mut runner = vec!["--test-threads=2".to_owned()];
    runner.extend(filter);
    let (beside, main) = lanes::split(&workspace::root().join("tests/tests"), files)?;
    let step = |files: &[String]| {
        let mut command = from(files, args, &runner);
        root::runs_tests(&mut command);
        test_step("live", signals::heard(command))
    };
    match (beside.is_empty(), main.is_empty()) {
        (false, false) => {
            lanes::run(step(&beside), &workspace::target_dir().join("live-beside.log"), step(&main))
        }
        (false, true) => step(&beside).run(),
        (true, false) => step(&main).run(),
        (true, true) => bail!("tests/tests has no live tests"),
    }
}

/// What only some of the live tests use, and say so where it is missing.
fn others_make(args: &Args) {
    if let Err(error) = vm::debian_archive() {
        eprintln!("{error:#}\nnote: until then the tests that boot a systemd fail");
    }
    ensure_validator(args.toolchain);
    if workspace::find_program("kubectl").is_none() {
        eprintln!("note: {}: until then the tests of the manifests fail", doctor::KUBECTL);
    }
}

fn with_rights(args: &Args) -> Result<()> {
    ensure_packages(Packages::Test, args.toolchain)?;
    root::mount_tracefs();
    others_make(args);
    let all = test_files(|name| name.starts_with("live_"))?;
    let marked = rights::marked(&workspace::root().join("tests/tests"), &all)?;
    let mut runner = vec!["--test-threads=2".to_owned(), "--exact".to_owned()];
    runner.extend(marked.tests);
    let mut command = from(&marked.files, args, &runner);
    command.env("HEALER_TEST_RIGHTS", "act");
    root::runs_tests(&mut command);
    test_step("rights", signals::heard(command)).run()
}

fn guests(args: &Args) -> Result<()> {
    ensure_packages(Packages::Test, args.toolchain)?;
    ensure_packages(Packages::Vm, args.toolchain)?;
    if args.arch == Arch::Aarch64 {
        ensure_packages(Packages::Cross, args.toolchain)?;
        ensure_packages(Packages::Arm, args.toolchain)?;
    }
    let files = test_files(|name| name.starts_with("live_") || name.starts_with("guest_"))?;
    let guests = args.vm.as_deref().unwrap_or_default();
    vm::run(&vm::Wanted { guests, arch: args.arch, bless: args.bless, is_static: args.r#static }, &files)
}

/// Runs these test files of the tests package; says so if there are none yet.
fn from_files(name: &'static str, files: &[String], args: &Args, runner: &[String]) -> Result<()> {
    if files.is_empty() {
        println!("no {name} tests yet: tests/tests has no file for them");
        return Ok(());
    }
    test_step(name, signals::heard(from(files, args, runner))).run()
}

fn from(files: &[String], args: &Args, runner: &[String]) -> Command {
    let mut command = tests_package(files);
    command.arg("--").args(runner);
    command.env("HEALER_BIN", workspace::healer_release()).env("HEALER_OBJECT", workspace::ebpf_object());
    command.env("HEALER_VALIDATOR", toolchain::validator());
    if args.full {
        command.env("HEALER_FULL", "1");
    }
    command
}

fn test_step(name: &'static str, command: Command) -> Step {
    Step { name, remedy: "the failures are listed above; the command runs this stage alone", command }
}

fn existing(names: &[&str]) -> Result<Vec<String>> {
    test_files(|name| names.contains(&name))
}

/// The files of tests/tests that `wanted` picks, by their stems, in order of name.
fn test_files(wanted: impl Fn(&str) -> bool) -> Result<Vec<String>> {
    let dir = workspace::root().join("tests/tests");
    if !dir.exists() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for entry in dir.read_dir().with_context(|| dir.display().to_string())? {
        let entry = entry?;
        let file = entry.file_name();
        // A test of several files is a folder with a main.rs.
        let is_folder = entry.path().join("main.rs").exists();
        let stem =
            file.to_str().and_then(|name| if is_folder { Some(name) } else { name.strip_suffix(".rs") });
        found.extend(stem.filter(|stem| wanted(stem)).map(str::to_owned));
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_flag_means_all_stages() {
        assert_eq!(chosen(&Args::default()), Stage::ALL);
        let full = Args { full: true, ..Args::default() };
        assert_eq!(chosen(&full), Stage::ALL);
    }

    #[test]
    fn a_flag_narrows_and_brings_the_build_it_needs() {
        let live = Args { live: Some(None), ..Args::default() };
        assert_eq!(chosen(&live), [Stage::Build, Stage::Live]);
        let vm = Args { vm: Some(Vec::new()), ..Args::default() };
        assert_eq!(chosen(&vm), [Stage::Build, Stage::Vm]);
        let unit = Args { unit: true, ..Args::default() };
        assert_eq!(chosen(&unit), [Stage::Unit]);
    }

    #[test]
    fn a_failed_stage_stops_only_what_depends_on_it() {
        let mut ran = Vec::new();
        let failed = run_all(&Stage::ALL, |stage| {
            ran.push(stage);
            if matches!(stage, Stage::Lint | Stage::Build) {
                bail!("broken")
            }
            Ok(())
        });
        let names: Vec<_> = failed.iter().map(|(stage, _)| stage.name()).collect();
        assert_eq!(names, ["lint", "build", "object", "vm", "rights", "live"]);
        assert!(ran.contains(&Stage::Replay));
        assert!(!ran.contains(&Stage::Live));
    }
}
