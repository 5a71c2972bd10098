//! Actions on real processes and cgroups: the right ones end, nobody else does.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::{path::Path, process::Command, sync::Arc, time::Duration};

use healer_userspace::{
    action::{self, host::linux::Linux},
    engine::{
        class::Class,
        command::{Act, ActionKey, ActionOutcome, IncidentId, Look},
        policy::{ActionName, Mode, Protect, Rung, Scope, Terms},
        time::BootTime,
    },
    fault::{Fault, victim::Victim},
    identity::process::{Process, ProcessId, WorkloadKey},
    supervise::{child::start_of, server::Supervisors},
};

fn act(action: ActionName, scope: Scope, target: ProcessId) -> Act {
    Act {
        key: ActionKey("k".to_owned()),
        incident: IncidentId(1),
        class: Class::Hang,
        mode: Mode::Enforce,
        rung: Rung {
            action,
            scope,
            grace: Some(Duration::from_secs(20)),
            timeout: Some(Duration::from_secs(20)),
            signal: None,
            command: Vec::new(),
            terms: Terms::default(),
        },
        workload: WorkloadKey("program/x".to_owned()),
        target: Process { pid: target.pid, start: target.start, ..Process::default() },
        ignores_signal: false,
        look: vec![Look::SameProcess(target), Look::NotProtected(target)],
        turns: Vec::new(),
        incident_json: "{}".to_owned(),
    }
}

fn perform(act: &Act, protect: Protect) -> ActionOutcome {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build().unwrap();
    let (told, _never_told) = tokio::sync::mpsc::channel(1);
    let host = Arc::new(Linux::new(Supervisors::unbound(told), protect));
    runtime.block_on(action::perform(act, &*host))
}

fn says(outcome: ActionOutcome) -> String {
    let ActionOutcome::Done { says } = outcome else { panic!("{outcome:?}") };
    says
}

/// The running program is the test here, so the binary is named.
fn victim(name: &str) -> Victim {
    let fault = Fault::by_name(name).unwrap();
    Victim::of_binary(&healer_tests::binary::healer(), fault, Path::new("/nonexistent")).unwrap()
}

fn id(pid: u32) -> ProcessId {
    ProcessId { pid, start: start_of(pid).unwrap() }
}

fn lives(victim: &mut Victim) -> bool {
    victim.ended().unwrap().is_none()
}

fn until(mut check: impl FnMut() -> bool) {
    for _look in 0..2000 {
        if check() {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("it did not come true");
}

fn ignores_term(pid: u32) -> bool {
    use healer_userspace::supervise::child::{Disposition, disposition};
    disposition(pid, libc::SIGTERM) == Some(Disposition::Ignored)
}

#[test]
fn a_hog_that_ignores_sigterm_is_killed_without_waiting_for_the_grace() {
    let (mut hog, mut neighbour) = (victim("deaf-hog"), victim("busy"));
    until(|| ignores_term(hog.pid()));
    let outcome = perform(&act(ActionName::Stop, Scope::Process, id(hog.pid())), Protect::default());
    assert!(says(outcome).contains("ignores SIGTERM: SIGKILL at once"));
    assert!(!lives(&mut hog) && lives(&mut neighbour));
}

#[test]
fn a_polite_one_is_stopped_politely() {
    let mut busy = victim("busy");
    let outcome = perform(&act(ActionName::Stop, Scope::Process, id(busy.pid())), Protect::default());
    assert!(says(outcome).contains("ended by SIGTERM"));
    assert!(!lives(&mut busy));
}

#[test]
fn a_recycled_pid_is_not_hit() {
    let mut busy = victim("busy");
    let other = ProcessId { start: BootTime(id(busy.pid()).start.0 - 1_000_000_000), ..id(busy.pid()) };
    for action in [ActionName::Stop, ActionName::Kill] {
        let mut act = act(action, Scope::Process, other);
        let outcome = perform(&act, Protect::default());
        assert!(matches!(outcome, ActionOutcome::Refused { .. }), "{outcome:?}");
        act.look.clear();
        let outcome = perform(&act, Protect::default());
        assert!(matches!(outcome, ActionOutcome::Refused { .. }), "{outcome:?}");
    }
    assert!(lives(&mut busy));
}

#[test]
fn shadow_touches_nothing() {
    let mut hog = victim("deaf-hog");
    for scope in [Scope::Process, Scope::Group, Scope::Cgroup] {
        let mut act = act(ActionName::Kill, scope, id(hog.pid()));
        act.mode = Mode::Shadow;
        let outcome = perform(&act, Protect::default());
        assert!(matches!(outcome, ActionOutcome::WouldDo { .. }), "{outcome:?}");
    }
    assert!(lives(&mut hog));
}

#[test]
fn a_cgroup_is_killed_whole_even_if_a_leader_has_exited() {
    let (mut leaderless, mut neighbour) = (victim("leader-exits"), victim("busy"));
    let pid = leaderless.pid();
    until(|| std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap().contains(") Z "));
    assert!(lives(&mut leaderless), "its other thread goes on");
    let outcome = perform(&act(ActionName::Kill, Scope::Cgroup, id(pid)), Protect::default());
    assert!(says(outcome).contains("cgroup"));
    assert!(!lives(&mut leaderless) && lives(&mut neighbour));
}

#[test]
fn a_group_is_killed_with_its_children_and_no_further() {
    use std::os::unix::process::CommandExt as _;
    let mut neighbour = victim("busy");
    let mut shell = Command::new("sh");
    let mut shell = shell.args(["-c", "sleep 300 & sleep 300 & wait"]).process_group(0).spawn().unwrap();
    let group = shell.id();
    until(|| in_group(group) == 3);
    let outcome = perform(&act(ActionName::Kill, Scope::Group, id(group)), Protect::default());
    assert!(says(outcome).contains(&format!("process group {group}")));
    shell.wait().unwrap();
    until(|| in_group(group) == 0);
    assert!(lives(&mut neighbour));
}

fn in_group(group: u32) -> usize {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let stats = entries.filter_map(|entry| std::fs::read_to_string(entry.path().join("stat")).ok());
    let of_group = |stat: &String| {
        let rest = stat.rsplit(')').next().unwrap_or_default();
        let mut fields = rest.split_ascii_whitespace();
        fields.next() != Some("Z") && fields.nth(1) == Some(&group.to_string())
    };
    stats.filter(of_group).count()
}

#[test]
fn who_is_protected_is_refused_by_inode_and_we_are_always() {
    let mut busy = victim("busy");
    let exes = vec![healer_tests::binary::healer().to_string_lossy().into_owned()];
    let protect = Protect { exes, ..Protect::default() };
    let outcome = perform(&act(ActionName::Kill, Scope::Process, id(busy.pid())), protect);
    assert!(
        matches!(&outcome, ActionOutcome::Refused { reason } if reason.contains("protected")),
        "{outcome:?}"
    );
    assert!(lives(&mut busy));
    for pid in [1, 2, std::process::id()] {
        for scope in [Scope::Process, Scope::Group] {
            // A dry run, so that a broken look costs no more than this test.
            let mut act = act(ActionName::Kill, scope, id(pid));
            act.mode = Mode::Shadow;
            let outcome = perform(&act, Protect::default());
            assert!(matches!(outcome, ActionOutcome::Refused { .. }), "{outcome:?}");
        }
    }
}

#[test]
fn a_command_is_started_detached() {
    let busy = victim("busy");
    let target = id(busy.pid());
    drop(busy);
    let mark = healer_tests::scratch::Scratch::new();
    let file = mark.path().join("ran");
    let mut act = act(ActionName::Restart, Scope::Process, target);
    act.look = vec![Look::StillDown(target)];
    let script = "ps -o sid= -p $$ > \"$0\"; echo $$ >> \"$0\"";
    act.rung.command = ["sh", "-c", script, file.to_str().unwrap()].map(str::to_owned).to_vec();
    let outcome = perform(&act, Protect::default());
    assert!(says(outcome).contains("started"));
    until(|| std::fs::read_to_string(&file).is_ok_and(|text| text.lines().count() == 2));
    let text = std::fs::read_to_string(&file).unwrap();
    let mut lines = text.lines().map(str::trim);
    assert_eq!(lines.next(), lines.next(), "it leads its own session");
}
