#![expect(clippy::print_stdout, reason = "a property says how often it was tried")]
//! What holds whatever happens: for random signals, random failures of the hands and of the disk, and random bytes.
//!
//! Each property is tried for some seconds; with `HEALER_FULL` for some minutes, what takes in untrusted bytes for ten.

mod bytes;
mod facts;
mod lent;
mod lives;
mod machine;
mod model;
mod outside;
mod promises;
mod steps;

use core::time::Duration;

use healer_userspace::clock;
use proptest::{
    strategy::Strategy,
    test_runner::{Config, TestCaseResult, TestRunner},
};

/// Cases between two looks at the clock.
const CASES: u32 = 32;

const A_WHILE: Duration = Duration::from_secs(12);
/// Fuzzing by mutation of what is sound.
const BRIEFLY: Duration = Duration::from_secs(8);
/// With `HEALER_FULL`, so many times as long.
const FULL: u32 = 75;

/// Tries `property` on values of `strategy` until its time is over, at least once.
fn hold<S: Strategy>(time: Duration, strategy: &S, property: impl Fn(S::Value) -> TestCaseResult) {
    let time = if std::env::var_os("HEALER_FULL").is_some() { FULL * time } else { time };
    let end = clock::boot() + time;
    let mut cases = 0;
    loop {
        let config = Config { cases: CASES, failure_persistence: None, ..Config::default() };
        if let Err(failure) = TestRunner::new(config).run(strategy, &property) {
            panic!("{failure}");
        }
        cases += CASES;
        if end <= clock::boot() {
            println!("{cases} cases held");
            return;
        }
    }
}

#[test]
fn the_engine_keeps_its_promises() {
    hold(A_WHILE, &steps::sequence(), |steps| {
        let mut machine = machine::Machine::new();
        for step in &steps {
            machine.take(step);
        }
        machine.finish();
        Ok(())
    });
}

#[test]
fn any_bytes_are_a_record_or_none() {
    hold(BRIEFLY, &bytes::record(), |bytes| {
        bytes::decode(&bytes);
        Ok(())
    });
}

#[test]
fn any_text_is_a_policy_or_refused_in_words() {
    hold(BRIEFLY, &bytes::policy(), |text| {
        bytes::check_policy(&text);
        Ok(())
    });
}

#[test]
fn any_lines_are_a_trace_or_refused_in_words() {
    hold(BRIEFLY, &bytes::trace(), |text| {
        bytes::replay_trace(&text);
        Ok(())
    });
}

#[test]
fn any_bytes_are_types_or_refused() {
    hold(BRIEFLY, &outside::types(), |bytes| {
        outside::read_types(&bytes);
        Ok(())
    });
}

#[test]
fn any_text_is_a_format_or_refused() {
    hold(BRIEFLY, &outside::formats(), |text| {
        outside::read_formats(&text);
        Ok(())
    });
}

#[test]
fn any_procfs_and_cgroup_files_are_read() {
    hold(BRIEFLY, &(outside::procfs(), outside::cpu_files()), |(process, cpu)| {
        thread_local!(static TREE: outside::Tree = outside::Tree::new("procfs"));
        TREE.with(|tree| tree.meet(&process));
        outside::read_cpu_files(&cpu);
        Ok(())
    });
}

#[test]
fn whatever_gates_hands_and_crashes_come_together() {
    // A prime that divides no base: every value of every digit comes, in changing company, and none twice.
    const STRIDE: usize = 1_009;
    let is_full = std::env::var_os("HEALER_FULL").is_some();
    let end = clock::boot() + if is_full { FULL * A_WHILE } else { A_WHILE };
    let (mut tried, mut number) = (0_usize, 0_usize);
    while tried < model::ALL && clock::boot() < end {
        model::run(number);
        tried += 1;
        number = (number + STRIDE) % model::ALL;
    }
    println!("{tried} of {} courses held", model::ALL);
    assert!(200 <= tried, "{tried}");
}
