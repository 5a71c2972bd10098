//! Tests in guests: the same tests on kernels that differ in what healer reads of them.

mod binaries;
mod console;
mod cpio;
mod initramfs;
mod kernels;
mod qemu;
mod subset;

use std::fs;
use std::sync::Mutex;

use anyhow::{Context, Result, bail};

use self::console::Transcript;
use self::initramfs::Contents;
use self::kernels::{KERNELS, Kernel};
use self::qemu::Machine;
use crate::workspace;

/// Seconds for one test, and for a guest as a whole.
const TEST_LIMIT: u32 = 60;
const GUEST_LIMIT: u32 = 180;
/// More guests at a time make each slow enough to fail for it.
const AT_A_TIME: usize = 2;

/// Runs the tests of `files` (stems in tests/tests) that are for guests, on the kernels named, or all.
pub(crate) fn run(wanted: &[String], files: &[String]) -> Result<()> {
    let kernels = named(wanted)?;
    let dir = workspace::target_dir().join("vm");
    let chosen = subset::choose(&workspace::root().join("tests/tests"), files)?;
    let binaries = binaries::build(&workspace::target_dir().join("vm-build"), &chosen)?;
    let plan = subset::plan(&chosen);
    let contents = Contents { binaries: &binaries, plan: &plan, test_limit: TEST_LIMIT };
    let mut machines = Vec::new();
    for kernel in kernels {
        let unpacked = kernel.fetch(&dir.join("kernels"))?;
        let logs = dir.join(kernel.name);
        fs::create_dir_all(&logs).with_context(|| logs.display().to_string())?;
        let initrd = logs.join("initramfs");
        initramfs::write(&initrd, &unpacked, &contents)?;
        machines.push(Machine {
            name: kernel.name.to_owned(),
            image: unpacked.image,
            initrd,
            logs,
            memory_mib: 1024,
            limit: GUEST_LIMIT,
            kernel_arguments: "",
        });
    }
    verdict(&run_all(&machines))
}

/// The names of all guests.
pub(crate) fn names() -> Vec<&'static str> {
    KERNELS.iter().map(|kernel| kernel.name).collect()
}

fn named(wanted: &[String]) -> Result<Vec<&'static Kernel>> {
    if wanted.is_empty() {
        return Ok(KERNELS.iter().collect());
    }
    let find = |name: &String| {
        let kernel = KERNELS.iter().find(|kernel| kernel.name == name);
        kernel.with_context(|| format!("no guest is called {name}: there are {}", names().join(", ")))
    };
    wanted.iter().map(find).collect()
}

/// Every guest's outcome, in the order of `machines`.
fn run_all(machines: &[Machine]) -> Vec<Result<Transcript>> {
    let next = Mutex::new(machines.iter().enumerate());
    let outcomes = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME.min(machines.len()) {
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
