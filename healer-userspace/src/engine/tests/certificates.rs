//! Every end has its certificate, whether or not it is an incident.

use super::*;
use crate::{
    engine::death::Death,
    identity::process::Parent,
    signal::{Aim, CpuUsed, OomKill, OomScope, Party},
};

/// Of a program that nobody named.
fn child(pid: u32, parent: &Process, comm: &str) -> Process {
    let parent =
        Parent { pid: parent.pid, start: parent.start, comm: parent.comm.clone(), ..Parent::default() };
    Process {
        pid,
        start: BootTime(3 * SECOND),
        comm: comm.into(),
        args: vec![comm.into()],
        parent: Some(parent),
        workload: WorkloadKey(format!("program//bin/{comm}@/<web")),
        ..Process::default()
    }
}

fn killer() -> Party {
    Party { id: ProcessId { pid: 77, start: BootTime(1) }, comm: "bash".into(), ..Party::default() }
}

fn struck(at: u64, process: &Process, by: i32) -> Signal {
    let sent = SignalSent {
        signal: by,
        sender: Some(killer()),
        group: true,
        aim: Aim::One,
        ..SignalSent::default()
    };
    signal(at, process, Fact::SignalSent(sent))
}

fn exited(at: u64, process: &Process, code: i32) -> Signal {
    signal(at, process, Fact::Exited(Exit { code, ..Exit::default() }))
}

fn deaths(signals: &[Signal]) -> Vec<Death> {
    let mut engine =
        Engine::new(BootTime(0), policies(Mode::Observe, &[ActionName::Notify]), Recovered::default());
    for signal in signals {
        engine.observe(signal.at, signal);
    }
    core::iter::from_fn(|| engine.poll_death()).collect()
}

fn sentences(signals: &[Signal]) -> Vec<String> {
    deaths(signals).into_iter().map(|death| death.sentence).collect()
}

#[test]
fn who_killed_a_program_that_nobody_named_is_known_and_is_no_incident() {
    let sleep = child(20, &supervised(10, SECOND), "sleep");
    let trace = [struck(8 * SECOND, &sleep, libc::SIGKILL), killed(8 * SECOND, &sleep)];
    let found = deaths(&trace);
    assert_eq!(found.len(), 1);
    let says = "sleep[20], started by web[10], killed by SIGKILL from bash[77] (uid 0) after 5.0s";
    assert_eq!(found[0].sentence, says);
    assert_eq!(found[0].evidence[0].says, "SIGKILL (si_code 0) from bash[77] (uid 0)");
    assert_eq!(run(&trace, policies(Mode::Observe, &[ActionName::Notify])), Vec::<String>::new());
}

#[test]
fn a_program_that_did_its_work_is_not_kept_and_a_main_process_is() {
    let web = supervised(10, SECOND);
    let trace = [
        registered(2 * SECOND, &web),
        exited(8 * SECOND, &child(20, &web, "true"), 0),
        exited(9 * SECOND, &web, 0),
    ];
    assert_eq!(sentences(&trace), ["web[10] of web exited with status 0 after 8.0s"]);
}

#[test]
fn nobody_takes_them_away_and_memory_is_bounded() {
    let web = supervised(10, SECOND);
    let signals: Vec<_> = (20..9999).map(|pid| exited(8 * SECOND, &child(pid, &web, "false"), 1)).collect();
    assert_eq!(deaths(&signals).len(), 1024);
}

#[test]
fn helpers_that_fail_are_no_ends_of_their_service() {
    let (first, second) = (supervised(10, SECOND), supervised(11, 9 * SECOND));
    let helper = |pid| Process { workload: WorkloadKey::supervise("web"), ..child(pid, &first, "false") };
    let mut trace = vec![registered(2 * SECOND, &first)];
    trace.extend((20..27).map(|pid| exited(3 * SECOND, &helper(pid), 1)));
    trace.extend([
        exited(8 * SECOND, &first, 3),
        registered(9 * SECOND, &second),
        exited(19 * SECOND, &second, 3),
    ]);
    let told = sentences(&trace);
    assert_eq!(told[7], "web[10] of web exited with status 3 after 7.0s");
    assert_eq!(told[8], "web[11] of web exited with status 3 after 10.0s (2nd end)");
}

#[test]
fn ends_of_what_nobody_named_are_counted_by_command() {
    let web = supervised(10, SECOND);
    let trace: Vec<_> = (20..23).map(|pid| killed(8 * SECOND, &child(pid, &web, "srv"))).collect();
    let told = sentences(&trace);
    assert!(told[0].ends_with("was not seen after 5.0s"), "{told:?}");
    assert!(told[2].ends_with("was not seen after 5.0s (3rd end)"), "{told:?}");
}

#[test]
fn a_wrapper_hands_on_who_killed_its_child() {
    let web = supervised(10, SECOND);
    let sleep = child(20, &web, "sleep");
    let killed = [struck(8 * SECOND, &sleep, libc::SIGKILL), killed(8 * SECOND, &sleep)];
    let after = |at, code| {
        let trace =
            [registered(2 * SECOND, &web), killed[0].clone(), killed[1].clone(), exited(at, &web, code)];
        sentences(&trace).pop().unwrap_or_default()
    };
    assert_eq!(
        after(8 * SECOND + 1, 137),
        "web[10] of web exited with status 137: its child sleep[20] was killed by SIGKILL from bash[77] (uid 0), \
         after 7.0s"
    );
    // Long after, or of another signal: not its child's word.
    assert_eq!(after(10 * SECOND, 137), "web[10] of web exited with status 137 after 9.0s");
    assert_eq!(after(8 * SECOND + 1, 143), "web[10] of web exited with status 143 after 7.0s");
}

fn chosen(at: u64, victim: &Process) -> Signal {
    let oom = OomKill {
        scope: OomScope::Global,
        trigger: killer(),
        memcg: String::new(),
        usage: 0,
        limit: 0,
        is_scope_guessed: false,
    };
    signal(at, victim, Fact::OomKilled(oom))
}

/// `task_will_free_mem` (mm/oom_kill.c): the kernel marks it, and strikes nobody.
#[test]
fn who_was_killed_and_then_chosen_was_killed() {
    let web = supervised(10, SECOND);
    let says = |first: Signal, second: Signal| {
        let trace = [registered(2 * SECOND, &web), first, second, killed(8 * SECOND, &web)];
        sentences(&trace).pop().unwrap_or_default()
    };
    let struck = |at| struck(at, &web, libc::SIGKILL);
    let by_a_person = says(struck(7 * SECOND), chosen(7 * SECOND + 1, &web));
    assert!(by_a_person.contains("killed by SIGKILL from bash[77]"), "{by_a_person}");
    // By its owner, who puts an end to the rest.
    let by_the_kernel = says(chosen(7 * SECOND, &web), struck(7 * SECOND + 1));
    assert!(by_the_kernel.contains("OOM-killed"), "{by_the_kernel}");
}

#[test]
fn a_wrapper_hands_on_that_memory_ran_out() {
    let web = supervised(10, SECOND);
    let hog = child(20, &web, "hog");
    let trace = [
        registered(2 * SECOND, &web),
        chosen(8 * SECOND, &hog),
        killed(8 * SECOND, &hog),
        exited(8 * SECOND, &web, 137),
    ];
    let says = sentences(&trace).pop().unwrap_or_default();
    assert!(says.contains("status 137: its child hog[20] was OOM-killed because the whole node"), "{says}");
}

#[test]
fn a_forbidden_system_call_is_told_from_a_crash() {
    let web = supervised(10, SECOND);
    let after = |signal_number, si_code| {
        let forbidden_call = (si_code == 1).then(|| "ptrace (101)".to_owned());
        let sent = SignalSent {
            signal: signal_number,
            si_code,
            fault_address: 16,
            forbidden_call,
            ..SignalSent::default()
        };
        let end = Exit { signal: Some(signal_number), ..Exit::default() };
        let trace = [
            registered(2 * SECOND, &web),
            signal(8 * SECOND, &web, Fact::SignalSent(sent)),
            signal(8 * SECOND, &web, Fact::Exited(end)),
        ];
        sentences(&trace).pop().unwrap_or_default()
    };
    let says = after(libc::SIGSYS, 1);
    assert!(
        says.contains("ended by SIGSYS: seccomp forbids the call ptrace (101) that it made at 0x10 after"),
        "{says}"
    );
    for (number, code) in [(libc::SIGSYS, 2), (libc::SIGSEGV, 1)] {
        assert!(after(number, code).contains("crashed with SIG"), "{number}");
    }
}

/// The kernel gives the child its next parent before it sends the signal: whose child it is says nothing.
#[test]
fn a_parents_end_is_told_from_the_kernels_own_signals() {
    let init = Process { pid: 1, comm: "init".into(), ..supervised(10, SECOND) };
    let orphan = child(20, &init, "worker");
    let after = |aim, group| {
        let sent =
            SignalSent { signal: libc::SIGHUP, sender: Some(killer()), group, aim, ..SignalSent::default() };
        let end = Exit { signal: Some(libc::SIGHUP), ..Exit::default() };
        let trace = [
            signal(8 * SECOND, &orphan, Fact::SignalSent(sent)),
            signal(8 * SECOND, &orphan, Fact::Exited(end)),
        ];
        sentences(&trace).pop().unwrap_or_default()
    };
    let says =
        "worker[20], started by init[1], ended by SIGHUP, which it had asked for at its parent's end: ";
    assert!(after(Aim::Ending, true).starts_with(&format!("{says}bash[77] (uid 0) ended after")));
    let of_thread = format!("{says}the thread that had started it, of bash[77] (uid 0) ended after");
    assert!(after(Aim::ThreadEnding, true).starts_with(&of_thread), "{}", after(Aim::ThreadEnding, true));
    // Whoever leads a session lets go of its terminal.
    assert!(after(Aim::NoCall, true).contains("ended by SIGHUP from the kernel"));
    assert!(after(Aim::One, true).contains("killed by SIGHUP from bash[77]"));
}

/// systemd's watchdog, gunicorn's `timeout`.
#[test]
fn whom_its_own_parent_aborts_has_crashed_and_whom_a_stranger_aborts_was_killed() {
    let abort = |mut process: Process, parent: u32, is_main: bool| {
        let start = BootTime(1);
        process.place.unit = Some("web.service".into());
        process.main = is_main;
        process.parent = Some(Parent { pid: parent, start, comm: "systemd".into(), ..Parent::default() });
        let end = Exit { signal: Some(libc::SIGABRT), ..Exit::default() };
        let trace =
            [struck(8 * SECOND, &process, libc::SIGABRT), signal(8 * SECOND, &process, Fact::Exited(end))];
        let mut lines = run(&trace, policies(Mode::Observe, &[ActionName::Notify]));
        lines.retain(|line| line.contains("crash"));
        lines.join("\n")
    };
    let worker = || child(20, &supervised(10, SECOND), "worker");
    let (main, suspected) = (abort(worker(), 77, true), abort(worker(), 77, false));
    assert!(main.contains("a watchdog or a time limit gave it up") && main.contains("proved"), "{main}");
    assert!(suspected.contains("suspected"), "{suspected}");
    assert_eq!(abort(worker(), 78, true), "");
}

/// `ulimit -t`: the kernel strikes without a word of its own.
#[test]
fn a_limit_of_cpu_time_is_told_from_other_kills_by_the_kernel() {
    let web = supervised(10, SECOND);
    let by_kernel = |at, number, cpu| {
        let sent = SignalSent { signal: number, si_code: 128, cpu, ..SignalSent::default() };
        signal(at, &web, Fact::SignalSent(sent))
    };
    let after = |used_ms: Option<u64>, is_warned: bool| {
        let cpu = used_ms.map(|used_ms| CpuUsed { used_ms, limit_s: 2 });
        let mut trace = vec![registered(2 * SECOND, &web)];
        trace.extend(is_warned.then(|| by_kernel(7 * SECOND, libc::SIGXCPU, None)));
        trace.extend([by_kernel(8 * SECOND, libc::SIGKILL, cpu), killed(8 * SECOND, &web)]);
        sentences(&trace).pop().unwrap_or_default()
    };
    let met = after(Some(2000), false);
    assert!(
        met.contains("from the kernel (its hard limit of 2 s of CPU time, of which it had used 2.0s) after"),
        "{met}"
    );
    let warned = after(None, true);
    assert!(warned.contains("as it seems: SIGXCPU, for the soft one, came 1.0s before) after"), "{warned}");
    for (used_ms, is_warned) in [(None, false), (Some(900), false), (Some(900), true)] {
        let other = after(used_ms, is_warned);
        assert!(other.contains("ended by SIGKILL from the kernel after"), "{other}");
    }
}

/// Of a soft limit alone, or of one of real-time scheduling, SIGXCPU warns as well.
#[test]
fn who_has_no_hard_limit_of_cpu_time_did_not_meet_it() {
    let web = supervised(10, SECOND);
    let by_kernel = |at: u64, number: i32, cpu: Option<CpuUsed>| {
        signal(
            at,
            &web,
            Fact::SignalSent(SignalSent { signal: number, si_code: 128, cpu, ..SignalSent::default() }),
        )
    };
    let unlimited = CpuUsed { used_ms: 2000, ..CpuUsed::default() };
    let trace = [
        registered(2 * SECOND, &web),
        by_kernel(7 * SECOND, libc::SIGXCPU, None),
        by_kernel(8 * SECOND, libc::SIGKILL, Some(unlimited)),
        killed(8 * SECOND, &web),
    ];
    let said = sentences(&trace).pop().unwrap_or_default();
    assert!(said.contains("ended by SIGKILL from the kernel after"), "{said}");
}

#[test]
fn what_is_not_known_of_a_full_cgroup_is_said_to_be_unknown() {
    let web = supervised(10, SECOND);
    let says = |usage, limit| {
        let oom = OomKill {
            scope: OomScope::Memcg,
            is_scope_guessed: false,
            trigger: killer(),
            memcg: String::new(),
            usage,
            limit,
        };
        let chosen = signal(8 * SECOND, &web, Fact::OomKilled(oom));
        let trace = [registered(2 * SECOND, &web), chosen, killed(8 * SECOND, &web)];
        sentences(&trace).pop().unwrap_or_default()
    };
    let mib = 1 << 20;
    assert!(says(64 * mib, 64 * mib).contains("its memory cgroup (64.0 MiB of 64.0 MiB used) ran out when"));
    assert!(says(0, 64 * mib).contains("its memory cgroup (limit 64.0 MiB) ran out when"));
    assert!(says(0, 0).contains("its memory cgroup or one above, which was not told, ran out when"));
}
