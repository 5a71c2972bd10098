#![expect(clippy::print_stdout, reason = "a property says how often it was tried")]
//! What holds whatever happens: for random signals, random failures of the hands and of the disk, and random bytes.
//!
//! Each property is tried for some seconds, with `HEALER_FULL` for some minutes.

mod bytes;
mod machine;
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

/// Tries `property` on values of `strategy` until its time is over, at least once.
fn hold<S: Strategy>(strategy: &S, property: impl Fn(S::Value) -> TestCaseResult) {
    let time = match std::env::var_os("HEALER_FULL") {
        Some(_) => Duration::from_secs(240),
        None => Duration::from_secs(12),
    };
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
    hold(&steps::sequence(), |steps| {
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
    hold(&bytes::record(), |bytes| {
        bytes::decode(&bytes);
        Ok(())
    });
}

#[test]
fn any_text_is_a_policy_or_refused_in_words() {
    hold(&bytes::policy(), |text| {
        bytes::check_policy(&text);
        Ok(())
    });
}

#[test]
fn any_lines_are_a_trace_or_refused_in_words() {
    hold(&bytes::trace(), |text| {
        bytes::replay_trace(&text);
        Ok(())
    });
}
