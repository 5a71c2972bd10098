//! Whatever a container runtime or Docker answers, it is read or refused; never a panic.
//!
//! For some seconds each; with `HEALER_FUZZ` for a minute, with `HEALER_FULL` for ten.

use core::time::Duration;

use bollard::models::{ContainerInspectResponse, EventMessage};
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};

use super::{cri, docker};
use crate::clock;

const BRIEFLY: Duration = Duration::from_secs(6);
const LONGER: Duration = Duration::from_mins(1);
const FULL: Duration = Duration::from_mins(10);

fn for_a_while<S: Strategy>(strategy: &S, read: impl Fn(S::Value)) {
    let is_set = |name| std::env::var_os(name).is_some();
    let longer = || if is_set("HEALER_FUZZ") { LONGER } else { BRIEFLY };
    let time = if is_set("HEALER_FULL") { FULL } else { longer() };
    let end = clock::boot() + time;
    while clock::boot() < end {
        let config = Config { cases: 64, failure_persistence: None, ..Config::default() };
        let tried = TestRunner::new(config).run(strategy, |value| {
            read(value);
            Ok(())
        });
        tried.unwrap_or_else(|failure| panic!("{failure}"));
    }
}

/// A sound answer with up to four pieces replaced by something else, or noise.
fn mutated(sound: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    let put = prop_oneof![
        3 => prop::collection::vec(any::<u8>(), 0..6),
        1 => "[0-9]{1,25}".prop_map(String::into_bytes),
        1 => prop::sample::select(vec!["null", "-1", "\"", "{", "[]", "\\u0000", "1e999", "\u{1b}[31m"])
            .prop_map(|text| text.as_bytes().to_vec()),
    ];
    let edits = prop::collection::vec((any::<prop::sample::Index>(), 0_usize..12, put), 0..=4);
    let edited = edits.prop_map(move |edits| {
        let mut bytes = sound.clone();
        for (at, cut, put) in edits {
            let at = at.index(bytes.len() + 1);
            let end = (at + cut).min(bytes.len());
            bytes.splice(at..end, put);
        }
        bytes
    });
    prop_oneof![8 => edited, 1 => prop::collection::vec(any::<u8>(), 0..200)]
}

#[test]
fn whatever_a_container_runtime_answers() {
    for_a_while(&mutated(cri::sound_answers()), |bytes| cri::read_answers(&bytes));
}

const INSPECTED: &str = r#"{"Id":"c0ffee","Name":"/web","LogPath":"/var/log/c.log","State":{"Status":"running","Running":true,
    "Paused":false,"Restarting":false,"Pid":4711,"ExitCode":137},"Config":{"Image":"app:1","Labels":{"tier":"front"}},
    "HostConfig":{"NanoCpus":500000000,"CpuQuota":-1,"CpuPeriod":100000,"CpuShares":1024}}"#;
const EVENT: &str = r#"{"Type":"container","Action":"die","Actor":{"ID":"c0ffee","Attributes":{"name":"web","image":"app:1",
    "exitCode":"137","signal":"9"}},"scope":"local","time":1764345600,"timeNano":1764345600000000000}"#;

fn docker_reads(sound: &str) {
    for_a_while(&mutated(sound.as_bytes().to_vec()), |bytes| {
        if let Ok(answer) = serde_json::from_slice::<ContainerInspectResponse>(&bytes) {
            docker::read_answer(answer);
        }
        if let Ok(event) = serde_json::from_slice::<EventMessage>(&bytes) {
            docker::read_event(event);
        }
    });
}

#[test]
fn whatever_docker_answers() {
    docker_reads(INSPECTED);
    let sound: ContainerInspectResponse = serde_json::from_str(INSPECTED).unwrap();
    assert!(docker::read_answer(sound).contains("4711"));
}

#[test]
fn whatever_docker_announces() {
    docker_reads(EVENT);
}
