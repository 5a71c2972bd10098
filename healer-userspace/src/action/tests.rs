use super::{
    host::{
        HookEnd,
        fake::{Fake, FakeProcess},
    },
    *,
};
use crate::{
    engine::{
        class::Class,
        command::{ActionKey, IncidentId, Look},
        policy::{Rung, Scope, Terms},
        time::BootTime,
    },
    identity::process::{Container, Place, Pod, Process, WorkloadKey},
    signal::{Exit, SeenBy},
};

pub(super) const TARGET: u32 = 7;

pub(super) fn act(action: ActionName) -> Act {
    Act {
        key: ActionKey("k".to_owned()),
        incident: IncidentId(1),
        class: Class::Hang,
        mode: Mode::Enforce,
        rung: Rung {
            action,
            scope: Scope::Process,
            grace: Some(Duration::from_millis(20)),
            timeout: Some(Duration::from_millis(50)),
            signal: None,
            command: Vec::new(),
            terms: Terms::default(),
        },
        workload: WorkloadKey("program/web".to_owned()),
        target: Process { pid: TARGET, start: BootTime(100), comm: "web".to_owned(), ..Process::default() },
        ignores_signal: false,
        look: Vec::new(),
        turns: Vec::new(),
        incident_json: "{}".to_owned(),
    }
}

pub(super) fn plain() -> FakeProcess {
    FakeProcess { start: 100, group: 3, ..FakeProcess::default() }
}

pub(super) fn perform(act: &Act, host: &Fake) -> ActionOutcome {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build().unwrap();
    runtime.block_on(super::perform(act, host))
}

pub(super) fn text(outcome: &ActionOutcome) -> &str {
    match outcome {
        ActionOutcome::Done { says } | ActionOutcome::WouldDo { says } => says,
        ActionOutcome::Refused { reason } | ActionOutcome::Unknown { reason } => reason,
        ActionOutcome::Failed { error, .. } => error,
    }
}

#[test]
fn every_action_has_its_line() {
    for name in ActionName::ALL {
        assert!(action(*name).is_some(), "{}", name.name());
    }
    assert_eq!(ACTIONS.len(), ActionName::ALL.len());
}

#[test]
fn memory_is_taken_from_the_killed_where_it_runs_out() {
    let kill = Act { class: Class::MemoryLeak, ..act(ActionName::Kill) };
    let host = Fake::with([(TARGET, plain())]);
    assert_eq!(text(&perform(&kill, &host)), "pid 7 (web) ended by SIGKILL, its memory taken at once");
    assert_eq!(host.done(), ["signal 9 to 7", "release the memory of 7"]);
    let deaf = FakeProcess { ignores: vec![libc::SIGTERM], ..plain() };
    let host = Fake::with([(TARGET, deaf)]);
    let stop = Act { class: Class::MemoryLeak, ..act(ActionName::Stop) };
    assert!(text(&perform(&stop, &host)).ends_with("SIGKILL at once, its memory taken at once"));
    let host = Fake::with([(TARGET, plain())]);
    assert_eq!(text(&perform(&act(ActionName::Kill), &host)), "pid 7 (web) ended by SIGKILL");
}

/// Room was made meanwhile: nobody is ended for what is over.
#[test]
fn a_leak_is_looked_at_again_before_the_blow() {
    let leak = |now: &str| {
        let look = vec![Look::MemoryShort(now.into())];
        let act = Act { class: Class::MemoryLeak, look, ..act(ActionName::Kill) };
        let host = Fake::with([(TARGET, plain())]);
        (perform(&act, &host), host.done())
    };
    let (outcome, done) = leak("it has room");
    assert_eq!((outcome.name(), text(&outcome), done.len()), ("refused", "it has room", 0));
}

#[test]
fn shadow_touches_nothing_and_says_what_it_would_do() {
    let says = |action| {
        let host = Fake::with([(TARGET, plain())]);
        let mut act = act(action);
        act.mode = Mode::Shadow;
        act.rung.command = vec!["fix".to_owned()];
        let outcome = perform(&act, &host);
        assert_eq!(outcome.name(), "would_do", "{outcome:?}");
        assert_eq!(host.done(), [""; 0]);
        text(&outcome).to_owned()
    };
    assert_eq!(says(ActionName::Stop), "would send SIGTERM to pid 7");
    assert_eq!(says(ActionName::Kill), "would send SIGKILL to pid 7");
    assert_eq!(says(ActionName::RunHook), "would run [\"fix\"]");
    let restart = "would send SIGTERM to pid 7, then start [\"fix\"]";
    assert_eq!(says(ActionName::Restart), restart);
    assert_eq!(says(ActionName::Notify), "hang of program/web reported");
}

#[test]
fn stop_waits_for_the_grace_only_if_somebody_listens() {
    let host = Fake::with([(TARGET, plain())]);
    assert_eq!(perform(&act(ActionName::Stop), &host).name(), "done");
    assert_eq!(host.done(), ["signal 15 to 7"]);

    let deaf = FakeProcess { ignores: vec![libc::SIGTERM], ..plain() };
    let host = Fake::with([(TARGET, deaf.clone())]);
    assert_eq!(perform(&act(ActionName::Stop), &host).name(), "done");
    assert_eq!(host.done(), ["signal 9 to 7"]);

    let mut told = act(ActionName::Stop);
    told.ignores_signal = true;
    let host = Fake::with([(TARGET, plain())]);
    assert_eq!(perform(&told, &host).name(), "done");
    assert_eq!(host.done(), ["signal 9 to 7"]);

    let listens_now = FakeProcess { handles: vec![libc::SIGTERM], ..plain() };
    let host = Fake::with([(TARGET, listens_now)]);
    assert_eq!(perform(&told, &host).name(), "done");
    assert_eq!(host.done(), ["signal 15 to 7"]);
}

/// Of a group, one does not listen: the others are asked first all the same.
#[test]
fn a_deaf_target_does_not_take_the_grace_from_its_group() {
    let mut told = act(ActionName::Stop);
    told.ignores_signal = true;
    told.rung.scope = Scope::Group;
    let host = Fake::with([(TARGET, plain()), (TARGET + 1, plain())]);
    assert_eq!(perform(&told, &host).name(), "done");
    assert_eq!(host.done()[..2], ["signal 15 to 7", "signal 15 to 8"]);
}

#[test]
fn what_cannot_be_killed_is_said_once_and_not_tried_again() {
    let stuck = FakeProcess { survives_everything: true, ..plain() };
    let host = Fake::with([(TARGET, stuck)]);
    let outcome = perform(&act(ActionName::Stop), &host);
    assert_eq!(outcome.name(), "failed");
    assert!(text(&outcome).contains("unkillable"), "{outcome:?}");
    assert!(text(&outcome).contains("in state D"), "{outcome:?}");
    assert_eq!(host.done(), ["signal 15 to 7", "signal 9 to 7"]);
}

#[test]
fn a_recycled_pid_is_refused() {
    let other = FakeProcess { start: 200, ..plain() };
    let id = act(ActionName::Stop).target.id();
    for look in [vec![], vec![Look::SameProcess(id)], vec![Look::NotProtected(id)]] {
        for action in [ActionName::Stop, ActionName::Kill] {
            let host = Fake::with([(TARGET, other.clone())]);
            let mut act = act(action);
            act.look = look.clone();
            let outcome = perform(&act, &host);
            assert_eq!(outcome.name(), "refused", "{outcome:?}");
            assert_eq!(host.done(), [""; 0]);
        }
    }
}

#[test]
fn a_protected_target_is_refused_even_without_a_look() {
    let protected = FakeProcess { untouchable: true, ..plain() };
    let host = Fake::with([(TARGET, protected)]);
    assert_eq!(perform(&act(ActionName::Kill), &host).name(), "refused");
    assert_eq!(host.done(), [""; 0]);
}

#[test]
fn kill_reaches_its_scope_and_nobody_else() {
    let neighbour = FakeProcess { group: 4, ..plain() };
    let all = [(TARGET, plain()), (8, plain()), (9, neighbour)];
    let mut by_group = act(ActionName::Kill);
    by_group.rung.scope = Scope::Group;
    let host = Fake::with(all.clone());
    assert_eq!(perform(&by_group, &host).name(), "done");
    assert_eq!(host.done(), ["signal 9 to 7", "signal 9 to 8"]);

    let mut by_cgroup = act(ActionName::Kill);
    by_cgroup.rung.scope = Scope::Cgroup;
    let mut host = Fake::with(all);
    host.has_cgroup_kill = true;
    assert_eq!(perform(&by_cgroup, &host).name(), "done");
    assert_eq!(host.done(), ["kill cgroup 3 at once", "signal 9 to 7", "signal 9 to 8"]);
    assert_eq!(host.processes.lock().unwrap().keys().copied().collect::<Vec<_>>(), [9]);
}

#[test]
fn one_protected_member_saves_the_whole_scope() {
    let protected = FakeProcess { untouchable: true, ..plain() };
    let host = Fake::with([(TARGET, plain()), (8, protected)]);
    let mut act = act(ActionName::Kill);
    act.rung.scope = Scope::Cgroup;
    assert_eq!(perform(&act, &host).name(), "refused");
    assert_eq!(host.done(), [""; 0]);
}

#[test]
fn scopes_that_do_not_exist_are_refused_in_words() {
    for (scope, words) in [(Scope::Container, "runs in no container"), (Scope::Pod, "runs in no pod")] {
        let mut act = act(ActionName::Kill);
        act.rung.scope = scope;
        let outcome = perform(&act, &Fake::with([(TARGET, plain())]));
        assert_eq!(outcome.name(), "failed");
        assert!(text(&outcome).contains(words), "{outcome:?}");
    }
}

#[test]
fn a_container_is_stopped_by_its_runtime() {
    let mut act = act(ActionName::Stop);
    act.rung.scope = Scope::Container;
    let outcome = perform(&act, &Fake::with([(TARGET, plain())]));
    assert!(text(&outcome).contains("runs in no container"), "{outcome:?}");
    let container =
        Container { runtime: "docker".to_owned(), id: "c0ffee".to_owned(), ..Container::default() };
    act.target.place = Place { container: Some(container), ..Place::default() };
    let host = Fake::with([(TARGET, plain())]);
    assert_eq!(perform(&act, &host).name(), "done");
    assert_eq!(host.done().len(), 1, "no signal of ours: {:?}", host.done());
    let protected = Fake::with([(TARGET, FakeProcess { untouchable: true, ..plain() })]);
    assert_eq!(perform(&act, &protected).name(), "refused");
    assert_eq!(protected.done(), [""; 0]);
}

#[test]
fn a_hook_is_judged_by_its_end_and_its_words_are_escaped() {
    let run = |exit, output: &str| {
        let output = output.to_owned();
        let cut = false;
        let host = Fake { hook: Some(HookEnd { exit, output, cut }), ..Fake::default() };
        let mut act = act(ActionName::RunHook);
        act.rung.command = vec!["fix".to_owned()];
        perform(&act, &host)
    };
    let exit = |code| Some(Exit { code, seen_by: SeenBy::Supervisor, ..Exit::default() });
    let fine = run(exit(0), "rolled back\u{1b}[31m\n");
    assert_eq!(fine.name(), "done");
    assert_eq!(text(&fine), "exit status 0: rolled back\\x1b[31m");
    assert_eq!(run(exit(2), "").name(), "failed");
    assert!(text(&run(None, "")).contains("killed after"));
    let missing = perform(&act(ActionName::RunHook), &Fake::default());
    assert_eq!(missing.name(), "failed");
}

#[test]
fn every_act_has_exactly_one_result() {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build().unwrap();
    runtime.block_on(async {
        let (results, mut received) = mpsc::channel(4);
        let hands = Hands::new(Arc::new(Fake::default()), results);
        hands.start(act(ActionName::Notify), None);
        let result = received.recv().await.unwrap();
        let Returned::Acted(result) = result else { panic!("{result:?}") };
        assert_eq!(result.key, ActionKey("k".to_owned()));
        assert_eq!(result.outcome.name(), "done");
        drop(hands);
        assert!(received.recv().await.is_none());
    });
}

#[test]
fn dead_connections_are_reset_and_those_that_move_again_are_not() {
    let proof = serde_json::json!({"connections": [{"cookie": 1}]});
    let mut reset = act(ActionName::ResetConnections);
    reset.look = vec![Look::ConnectionsDead(proof)];
    let mut host = Fake::with([(TARGET, plain())]);
    host.dead_connections = 2;
    assert_eq!(text(&perform(&reset, &host)), "2 dead connections of pid 7 (web) ended");
    assert_eq!(host.done(), ["reset 2 connections of 7"]);
    let moving = Fake::with([(TARGET, plain())]);
    let ActionOutcome::Refused { reason } = perform(&reset, &moving) else { panic!("they move") };
    assert_eq!(reason, "none of its connections is dead any more");
    assert_eq!(moving.done(), [""; 0]);
    reset.mode = Mode::Shadow;
    let ActionOutcome::WouldDo { says } = perform(&reset, &host) else { panic!("it is a dry run") };
    assert_eq!(says, "would end 2 dead connections of pid 7");
    assert_eq!(host.done().len(), 1);
    let protected = Fake::with([(TARGET, FakeProcess { untouchable: true, ..plain() })]);
    reset.look.clear();
    assert!(matches!(perform(&reset, &protected), ActionOutcome::Refused { .. }));
}

#[test]
fn a_pod_is_evicted_and_one_with_a_protected_process_is_not() {
    let mut evict = act(ActionName::Evict);
    assert!(text(&perform(&evict, &Fake::with([(TARGET, plain())]))).contains("is in no pod"));
    let pod = Pod { namespace: "prod".into(), name: "web-0".into(), uid: "u".into(), ..Pod::default() };
    evict.target.place.pod = Some(pod);
    let protected = Fake::with([(TARGET, FakeProcess { untouchable: true, ..plain() })]);
    assert!(matches!(perform(&evict, &protected), ActionOutcome::Refused { .. }));
    assert_eq!(protected.done(), [""; 0]);
    // Its main process is gone already: there is nobody to wait for.
    let host = Fake::default();
    assert_eq!(text(&perform(&evict, &host)), "evicted");
    assert_eq!(host.done(), ["evict prod/web-0"]);
    evict.mode = Mode::Shadow;
    assert_eq!(text(&perform(&evict, &host)), "would have Kubernetes evict pod prod/web-0");
    evict.mode = Mode::Enforce;
    let budget = Err(ActionOutcome::Failed { error: "may not go".into(), errno: None });
    let host = Fake { owned: Some(budget), ..Fake::default() };
    assert_eq!(perform(&evict, &host).name(), "failed");
}

#[test]
fn a_static_pod_is_not_evicted_and_nobody_is_asked() {
    let of = |source: &str| {
        let annotations = [("kubernetes.io/config.source".to_owned(), source.to_owned())].into();
        let mut evict = act(ActionName::Evict);
        evict.target.place.pod = Some(Pod { name: "etcd-n1".into(), annotations, ..Pod::default() });
        let host = Fake::default();
        (perform(&evict, &host), host.done().len())
    };
    let (outcome, asked) = of("file");
    assert_eq!((outcome.name(), asked), ("failed", 0));
    assert!(text(&outcome).contains("is a static one"), "{outcome:?}");
    let (outcome, asked) = of("api");
    assert_eq!((text(&outcome), asked), ("evicted", 1));
}
