//! Tests in guests: the same tests on kernels that differ in what healer reads of them.

pub(crate) mod apt;
mod binaries;
mod console;
mod cpio;
mod debian;
mod initramfs;
mod kernels;
mod qemu;
mod subset;
mod table;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use anyhow::{Context, Result, bail};

use self::apt::Apt;
use self::binaries::Binaries;
use self::console::Transcript;
use self::initramfs::Contents;
use self::kernels::{GUESTS, Guest, Root};
use self::qemu::Machine;
use self::subset::Chosen;
pub(crate) use self::subset::tests_of;
use self::table::Facts;
use crate::arch::Arch;
use crate::workspace;

/// Seconds for one test, and for a guest as a whole: against what hangs, on the slowest machine.
const TEST_LIMIT: u32 = 200;
const GUEST_LIMIT: u32 = 900;
/// A getty would wait 90 s for its terminal: nobody announces devices here.
const SYSTEMD_ARGUMENTS: &str =
    "systemd.wants=healer-guest.service systemd.mask=serial-getty@ttyS0.service systemd.mask=getty.target";
/// Most of their time they wait; more of them would make each slow enough to fail for it.
const AT_A_TIME: usize = 4;

/// What is asked of the guests.
pub(crate) struct Wanted<'a> {
    /// Their names; none for all of the processor.
    pub(crate) guests: &'a [String],
    pub(crate) arch: Arch,
    /// KERNELS.md is written, not compared.
    pub(crate) bless: bool,
    /// All programs are static, also those of this processor, and the agent is the one that is shipped.
    pub(crate) is_static: bool,
}

/// Runs the tests of `files` (stems in tests/tests) that are for guests. With all of a
/// processor KERNELS.md is compared.
pub(crate) fn run(wanted: &Wanted<'_>, files: &[String]) -> Result<()> {
    let guests = named(wanted)?;
    let dir = workspace::target_dir().join("vm");
    let mut chosen = subset::choose(&workspace::root().join("tests/tests"), files)?;
    chosen.retain(|chosen| guests.iter().any(|guest| chosen.runs_in(guest)));
    let binaries = binaries::build(wanted.arch, wanted.is_static, &dir.join(wanted.arch.name()), &chosen)?;
    let apt = Apt::new(wanted.arch, &dir.join(wanted.arch.name()))?;
    let workshop = Workshop { dir: &dir, chosen: &chosen, binaries: &binaries, apt: &apt };
    let machines = guests.iter().map(|guest| workshop.machine(guest)).collect::<Result<Vec<_>>>()?;
    let begun = uptime();
    let outcomes = run_all(&machines);
    println!("\nthe guests took {:.0} s", uptime() - begun);
    verdict(&outcomes)?;
    let is_whole = wanted.guests.is_empty();
    if is_whole { table::check(&facts(&guests, &outcomes), wanted.arch, wanted.bless) } else { Ok(()) }
}

/// Seconds since this machine's start (proc_uptime(5)).
fn uptime() -> f64 {
    let text = fs::read_to_string("/proc/uptime").unwrap_or_default();
    text.split(' ').next().and_then(|seconds| seconds.parse().ok()).unwrap_or_default()
}

/// What guests are made of.
struct Workshop<'a> {
    dir: &'a Path,
    chosen: &'a [Chosen],
    binaries: &'a Binaries,
    apt: &'a Apt,
}

impl Workshop<'_> {
    fn machine(&self, guest: &Guest) -> Result<Machine> {
        let kernel = match guest.release {
            None => guest.fetch(self.apt)?,
            Some(release) => guest.fetch(&Apt::of_release(release, guest.arch, &self.dir.join(release))?)?,
        };
        let logs = self.dir.join(guest.name);
        fs::create_dir_all(&logs).with_context(|| logs.display().to_string())?;
        let initrd = logs.join("initramfs");
        let plan = subset::plan(guest, self.chosen);
        let contents = Contents {
            binaries: self.binaries,
            plan: &plan,
            test_limit: TEST_LIMIT,
            busybox: &self.busybox(guest.arch)?,
            terminal: qemu::terminal(guest.arch),
        };
        initramfs::write(&initrd, guest.root, &kernel, &contents)?;
        let (memory_mib, kernel_arguments) = match guest.root {
            Root::Busybox => (1024, ""),
            Root::Systemd => (1536, SYSTEMD_ARGUMENTS),
        };
        let (name, arch, image) = (guest.name.to_owned(), guest.arch, kernel.image);
        Ok(Machine { name, arch, image, initrd, logs, memory_mib, limit: GUEST_LIMIT, kernel_arguments })
    }

    /// A static one.
    fn busybox(&self, arch: Arch) -> Result<PathBuf> {
        if arch.name() == std::env::consts::ARCH {
            return Ok(PathBuf::from("/bin/busybox"));
        }
        Ok(self.apt.unpacked("busybox-static")?.join("bin/busybox"))
    }
}

/// The archive of a minimal Debian for the live tests' containers.
pub(crate) fn debian_archive() -> Result<()> {
    debian::archive().map(drop)
}

/// What the guests told of their sensors.
fn facts(guests: &[&Guest], outcomes: &[Result<Transcript>]) -> Vec<Facts> {
    let told = guests.iter().zip(outcomes.iter().flatten());
    let mut facts: Vec<_> = told
        .filter(|(guest, _)| guest.root == Root::Busybox)
        .map(|(guest, transcript)| {
            let facts = transcript.data.iter().filter(|(name, _)| name == "fact");
            Facts { kernel: guest.name.to_owned(), lines: facts.map(|(_, text)| text.clone()).collect() }
        })
        .collect();
    facts.sort_by(|left, right| left.kernel.cmp(&right.kernel));
    facts
}

fn named(wanted: &Wanted<'_>) -> Result<Vec<&'static Guest>> {
    let ours = || GUESTS.iter().filter(|guest| guest.arch == wanted.arch);
    if wanted.guests.is_empty() {
        return Ok(ours().filter(|guest| guest.release.is_none()).collect());
    }
    let find = |name: &String| {
        ours().find(|guest| guest.name == name).with_context(|| {
            let names: Vec<_> = ours().map(|guest| guest.name).collect();
            format!("no guest for {} is called {name}: there are {}", wanted.arch.name(), names.join(", "))
        })
    };
    wanted.guests.iter().map(find).collect()
}

/// Every guest's outcome, in the order of `machines`.
fn run_all(machines: &[Machine]) -> Vec<Result<Transcript>> {
    let next = Mutex::new(machines.iter().enumerate());
    let outcomes = Mutex::new(Vec::new());
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME.min(2 * processors).min(machines.len()) {
            scope.spawn(|| {
                let take = || next.lock().ok()?.next();
                while let Some((at, machine)) = take() {
                    let outcome = machine.run();
                    if let Ok(mut outcomes) = outcomes.lock() {
                        outcomes.push((at, outcome));
                    }
                }
            });
        }
    });
    let mut outcomes = outcomes.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    outcomes.sort_by_key(|(at, _)| *at);
    outcomes.into_iter().map(|(_, outcome)| outcome).collect()
}

/// Prints the sum as the test runner does.
fn verdict(outcomes: &[Result<Transcript>]) -> Result<()> {
    let (mut passed, mut failed) = (0, 0);
    for outcome in outcomes {
        match outcome {
            Ok(transcript) => {
                passed += transcript.passed();
                failed += transcript.failed();
            }
            Err(error) => {
                println!("guest did not run: {error:#}");
                failed += 1;
            }
        }
    }
    let word = if failed == 0 { "ok" } else { "FAILED" };
    println!(
        "\ntest result: {word}. {passed} passed; {failed} failed; 0 ignored; in {} guests",
        outcomes.len()
    );
    if failed > 0 {
        bail!("step `vm` failed: {failed} tests in guests; each guest's output is under target/vm");
    }
    Ok(())
}
