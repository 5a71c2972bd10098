#![expect(clippy::print_stdout, reason = "a property says how often it was tried")]
//! What holds whatever happens: for random signals, random failures of the hands and of the disk, and random bytes.
//!
//! Each property is tried for some seconds; with `HEALER_FUZZ`, what takes in untrusted bytes for a minute, and with `HEALER_FULL` for ten.

mod bytes;
mod facts;
mod hands;
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
const BRIEFLY: Duration = Duration::from_secs(6);
/// So many times as long: with `HEALER_FUZZ`, and with `HEALER_FULL`.
const LONGER: u32 = 10;
const FULL: u32 = 100;

fn times() -> u32 {
    let is_set = |name| std::env::var_os(name).is_some();
    if is_set("HEALER_FULL") {
        FULL
    } else if is_set("HEALER_FUZZ") {
        LONGER
    } else {
        1
    }
}

fn a_while() -> Duration {
    match times() {
        1 => A_WHILE,
        LONGER => 4 * A_WHILE,
        more => more * A_WHILE,
    }
}

/// Fuzzing.
fn take_in<S: Strategy>(strategy: &S, property: impl Fn(S::Value) -> TestCaseResult) {
    hold(times() * BRIEFLY, strategy, property);
}

/// Tries `property` on values of `strategy` until its time is over, at least once.
fn hold<S: Strategy>(time: Duration, strategy: &S, property: impl Fn(S::Value) -> TestCaseResult) {
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
    hold(a_while(), &steps::sequence(), |steps| {
        let mut machine = machine::Machine::new();
        for step in &steps {
            machine.take(step);
        }
        machine.finish();
        Ok(())
    });
}

/// Found by the property above in its long form.
#[test]
fn a_later_life_gives_no_key_of_an_intent_that_the_disk_refused() {
    use steps::{Disk, End, Hands, Step};
    let mut machine = machine::Machine::new();
    let begin = [Step::Hands(Hands::TakeTheirTime), Step::Start(0), Step::Disk(Disk::Refuses)];
    let fails = [Step::End(0, End::Status(220)), Step::LongPass(32_263), Step::Disk(Disk::Writes)];
    let again = [Step::AgentDies, Step::Reload(150), Step::Lost(6)];
    begin.iter().chain(&fails).chain(&again).for_each(|step| machine.take(step));
    machine.finish();
}

#[test]
fn any_bytes_are_a_record_or_none() {
    take_in(&bytes::record(), |bytes| {
        bytes::decode(&bytes);
        Ok(())
    });
}

#[test]
fn any_text_is_a_policy_or_refused_in_words() {
    take_in(&bytes::policy(), |text| {
        bytes::check_policy(&text);
        Ok(())
    });
}

#[test]
fn any_lines_are_a_trace_or_refused_in_words() {
    take_in(&bytes::trace(), |text| {
        bytes::replay_trace(&text);
        Ok(())
    });
}

#[test]
fn any_bytes_are_types_or_refused() {
    take_in(&outside::types(), |bytes| {
        outside::read_types(&bytes);
        Ok(())
    });
}

#[test]
fn any_text_is_a_format_or_refused() {
    take_in(&outside::formats(), |text| {
        outside::read_formats(&text);
        Ok(())
    });
}

#[test]
fn any_procfs_and_cgroup_files_are_read() {
    take_in(&(outside::procfs(), outside::cpu_files()), |(process, cpu)| {
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
    let end = clock::boot() + a_while();
    let (mut tried, mut number) = (0_usize, 0_usize);
    while tried < model::ALL && clock::boot() < end {
        model::run(number);
        tried += 1;
        number = (number + STRIDE) % model::ALL;
    }
    println!("{tried} of {} courses held", model::ALL);
    assert!(200 <= tried, "{tried}");
}
