use core::time::Duration;

use super::*;
use crate::engine::{
    class::{Certainty, Class},
    diagnosis::Detail,
    time::BootTime,
};

fn sources() -> Sources {
    Sources::of(Path::new("/run/dbus/system_bus_socket"))
}

fn diagnosis(pid: u32, proof: Option<serde_json::Value>) -> Diagnosis {
    Diagnosis {
        class: Class::Deadlock,
        certainty: Certainty::Proved,
        target: Process { pid, comm: "victim".into(), ..Process::default() },
        related: Vec::new(),
        fault_at: BootTime(0),
        detected_at: BootTime(0),
        sentence: "stuck".into(),
        evidence: Vec::new(),
        lost: 0,
        from_absence: false,
        detail: Detail { proof, ..Detail::default() },
    }
}

#[test]
fn a_sleeper_shows_where_it_sleeps_and_what_it_has_open() {
    let mut sleeper = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    let asleep = || stack::Call::of(&Proc::new(Path::new("/proc")), sleeper.id(), sleeper.id());
    for _ in 0..500 {
        if asleep().is_some_and(|call| call.number == 230) {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let mut sick = diagnosis(sleeper.id(), None);
    let stat = Proc::new(Path::new("/proc")).stat(sleeper.id(), sleeper.id()).unwrap();
    sick.target.start = BootTime(stat.start_boot_ns);
    let text = capture(&sick, Wanted::default(), &sources()).text;
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
    assert!(text.contains("nanosleep"), "{text}");
    assert!(text.contains("libc.so") && text.contains("descriptors"), "{text}");
}

#[test]
fn whoever_is_gone_is_no_failure() {
    let text = capture(&diagnosis(4_100_000, None), Wanted::default(), &sources()).text;
    assert!(text.starts_with("stuck (proved)\n"), "{text}");
}

#[test]
fn the_picture_is_of_the_cycle_and_names_are_no_markup() {
    let trace = include_str!("../../../../tests/traces/deadlock/abba.expected");
    assert!(trace.contains("deadlock proved"));
    let task = |tid: u32| serde_json::json!({"tid": tid, "start": 1, "tgid": 7, "comm": "a<b&", "condition": "stuck", "syscall": 202});
    let wait = |owner: u32| serde_json::json!({"kind": "mutex", "lock": "0x10", "source": "layout", "owners": [{"task": owner}], "says": "word"});
    let link =
        |tid, owner| serde_json::json!({"task": task(tid), "wait": wait(owner), "sources": ["layout"]});
    let proof = serde_json::json!([{"certainty": "proved", "shape": "cycle", "threads": [link(8, 9), link(9, 8)], "behind": 0, "processes": []}]);
    let found = capture(&diagnosis(4_100_000, Some(proof)), Wanted::default(), &sources());
    assert!(found.text.contains("waits 0µs for mutex 0x10: word"), "{}", found.text);
    let svg = found.svg.unwrap();
    assert_eq!((svg.matches("<circle").count(), svg.matches("<line").count()), (2, 2));
    assert!(svg.contains("a&lt;b&amp;[8]") && !svg.contains("a<b"), "{svg}");
}

#[test]
fn calls_are_told_from_other_instructions() {
    assert!(stack::ends_in_call(&[0, 0, 0xe8, 1, 2, 3, 4]));
    assert!(stack::ends_in_call(&[0, 0, 0, 0, 0, 0xff, 0xd0]));
    assert!(stack::ends_in_call(&[0, 0xff, 0x15, 1, 2, 3, 4]));
    assert!(!stack::ends_in_call(&[0, 0, 0, 0, 0, 0xff, 0xe0]));
    let call = stack::Call::parse("202 0x1 0x80 0x2 0x0 0x0 0x0 0x7ffd10 0x7f1234").unwrap();
    assert_eq!(call.number, 202);
    assert!(stack::Call::parse("running").is_none());
}
