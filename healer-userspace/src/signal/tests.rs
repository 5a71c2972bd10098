use healer_common::event::{
    EventKind, RECORD_MAX, oom_kill as oom, part, process_exec as exec, process_exit as exit,
    signal_sent as sent, wire::Wire,
};

use super::*;
use crate::identity::{
    cgroup::{CgroupId, Hierarchy},
    exe::ExeId,
};

fn header(kind: EventKind) -> Header {
    Header { at_ns: 99, kind: kind as u32, ..Wire::ZERO }
}

fn task(tgid: u32, comm: &[u8]) -> part::TaskRef {
    let mut task = part::TaskRef { start_boot_ns: 1000, tgid, uid: 33, comm: [0; 16] };
    task.comm[..comm.len()].copy_from_slice(comm);
    task
}

fn args(text: &[u8]) -> part::Args {
    let mut args: part::Args = Wire::ZERO;
    args.bytes[..text.len()].copy_from_slice(text);
    args.len = u32::try_from(text.len()).unwrap();
    args
}

/// By way of the ring's bytes, as in the agent.
fn meaning(event: Event) -> Meaning {
    let mut room = [0; RECORD_MAX];
    let bytes = event.encode(header(event.kind()), &mut room).unwrap();
    let (header, event) = Event::decode(bytes).unwrap();
    interpret(&header, &event)
}

fn raw(event: Event) -> Raw {
    match meaning(event) {
        Meaning::Happened(raw) => raw,
        Meaning::SelfProbe { .. } => panic!("nothing happened"),
    }
}

fn exit_of(wait_status: u32) -> Exit {
    let event = Event::ProcessExit(exit::ProcessExit { task: task(7, b"web"), wait_status, ..Wire::ZERO });
    let Fact::Exited(exit) = raw(event).fact else {
        panic!("no exit");
    };
    exit
}

#[test]
fn an_exit_is_read_as_wait_does() {
    let check = |status, code, signal, core| {
        let expected = Exit { code, signal, core, seen_by: SeenBy::Kernel };
        assert_eq!(exit_of(status), expected);
    };
    check(0, 0, None, false);
    check(1 << 8, 1, None, false);
    check(255 << 8, 255, None, false);
    check(9, 0, Some(9), false);
    check(11 | 0x80, 0, Some(11), true);
}

#[test]
fn an_exit_brings_all_that_the_kernel_kept() {
    let raw = raw(Event::ProcessExit(exit::ProcessExit {
        task: task(7, b"a\x1b\n\xff"),
        parent: task(1, b"init"),
        cgroup: part::CgroupRef { id: 120, hierarchy: part::CgroupRef::V1_MEMORY, pad: 0 },
        exe: part::ExeRef { dev: 5, ino: 6 },
        args: args(b"/bin/web\0web\0-x\0"),
        ..Wire::ZERO
    }));
    let seen = raw.seen.unwrap();
    assert_eq!(raw.at, BootTime(99));
    assert_eq!((seen.task.id.pid, seen.task.id.start, seen.task.uid), (7, BootTime(1000), 33));
    assert_eq!(seen.task.comm, "a\x1b\n\u{fffd}");
    assert_eq!(seen.parent.unwrap().comm, "init");
    let hierarchy = Hierarchy::V1Memory;
    assert_eq!(seen.cgroup, Some(CgroupId { hierarchy, id: 120 }));
    assert_eq!(seen.exe, Some(ExeId { dev: 5, ino: 6 }));
    assert_eq!(seen.filename.as_deref(), Some("/bin/web"));
    assert_eq!(seen.args, ["web", "-x"]);
}

#[test]
fn what_the_kernel_did_not_know_is_absent() {
    let raw = raw(Event::ProcessExec(exec::ProcessExec { task: task(7, b"web"), ..Wire::ZERO }));
    let seen = raw.seen.unwrap();
    assert_eq!(raw.fact, Fact::Execed);
    assert_eq!((seen.parent, seen.cgroup, seen.exe, seen.filename), (None, None, None, None));
    assert!(seen.args.is_empty());
}

#[test]
fn our_own_thread_is_no_death() {
    let event =
        Event::ProcessExit(exit::ProcessExit { flags: exit::ProcessExit::SELF_PROBE, pid: 12, ..Wire::ZERO });
    let (at, thread) = (BootTime(99), 12);
    assert_eq!(meaning(event), Meaning::SelfProbe { at, thread });
}

fn signal_of(si_code: i32, flags: u32, sender: u32) -> SignalSent {
    let event = Event::SignalSent(sent::SignalSent {
        target: task(7, b"web"),
        sender: match sender {
            0 => Wire::ZERO,
            pid => task(pid, b"sh"),
        },
        signal: 9,
        si_code,
        flags,
        result: sent::SignalSent::IGNORED,
        ..Wire::ZERO
    });
    let Fact::SignalSent(signal) = raw(event).fact else {
        panic!("no signal");
    };
    signal
}

#[test]
fn a_sender_is_named_only_if_somebody_sent_it() {
    let sender = |si_code, flags, pid| signal_of(si_code, flags, pid).sender.map(|s| s.id.pid);
    assert_eq!(sender(0, 0, 5), Some(5));
    assert_eq!(sender(-6, 0, 5), Some(5));
    assert_eq!(sender(-1, 0, 5), Some(5));
    assert_eq!(sender(0x80, 0, 5), None);
    assert_eq!(sender(1, 0, 7), None);
    assert_eq!(sender(-2, 0, 5), None);
    assert_eq!(sender(0, sent::SignalSent::BY_KERNEL, 5), None);
    let of_namespace = sent::SignalSent::BY_KERNEL | sent::SignalSent::NAMESPACE_ENDING;
    assert_eq!(sender(0x80, of_namespace, 5), Some(5));
    assert_eq!(sender(0, 0, 0), None);
}

#[test]
fn a_signal_says_how_it_was_sent() {
    let group = signal_of(0, sent::SignalSent::GROUP, 5);
    assert!(group.group && group.ignored);
    assert!(!signal_of(-6, 0, 5).group);
}

#[test]
fn an_oom_kill_has_victim_trigger_and_the_cgroup_at_its_limit() {
    let raw = raw(Event::OomKill(oom::OomKill {
        victim: task(7, b"hog"),
        trigger: task(8, b"leak"),
        victim_memcg: 40,
        oom_memcg: 41,
        usage_bytes: 100,
        limit_bytes: 90,
        scope: oom::OomKill::SCOPE_MEMCG,
        ..Wire::ZERO
    }));
    let hierarchy = Hierarchy::Memory;
    assert_eq!(raw.at_limit, Some(CgroupId { hierarchy, id: 41 }));
    let seen = raw.seen.unwrap();
    assert_eq!(seen.cgroup, Some(CgroupId { hierarchy, id: 40 }));
    let Fact::OomKilled(kill) = raw.fact else {
        panic!("{:?}", raw.fact);
    };
    assert_eq!((&*seen.task.comm, &*kill.trigger.comm), ("hog", "leak"));
    assert_eq!((kill.scope, kill.usage, kill.limit), (OomScope::Memcg, 100, 90));
}

#[test]
fn the_scope_of_an_oom_kill_is_told_by_the_stack_or_the_log_and_guessed_else() {
    let guessed = |scope, flags| {
        let told = raw(Event::OomKill(oom::OomKill { scope, flags, ..Wire::ZERO }));
        let Fact::OomKilled(kill) = told.fact else {
            panic!("{:?}", told.fact);
        };
        kill.is_scope_guessed
    };
    assert!(guessed(oom::OomKill::SCOPE_MEMCG, oom::OomKill::TRACKED));
    assert!(!guessed(oom::OomKill::SCOPE_MEMCG, oom::OomKill::SCOPE_FROM_STACK));
    assert!(!guessed(oom::OomKill::SCOPE_GLOBAL, oom::OomKill::FROM_LOG));
    assert!(!guessed(oom::OomKill::SCOPE_UNKNOWN, 0));
}
