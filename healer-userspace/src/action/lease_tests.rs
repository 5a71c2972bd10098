//! Leases on a machine of words.

use super::{
    host::fake::{Fake, FakeProcess},
    lease::undo,
    tests::{TARGET, act, perform, plain, text},
    *,
};
use crate::engine::{
    lease::{Turn, Undone},
    policy::{Scope, Terms},
};

fn with(knobs: &[(&str, &str)]) -> Fake {
    let host = Fake::with([(TARGET, plain()), (TARGET + 1, plain())]);
    let words = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    host.knobs.lock().unwrap().extend(knobs.iter().map(words));
    host
}

fn lease(action: ActionName, terms: Terms) -> Act {
    let mut act = act(action);
    act.rung.terms = terms;
    act
}

/// What is turned, in words; then the act is done as surveyed.
fn borrowed(act: &Act, host: &Fake) -> (Act, Vec<String>) {
    let turns = survey(act, host).unwrap();
    assert_eq!(host.done(), [""; 0], "a survey touches nothing");
    let words = turns.iter().map(Turn::to_string).collect();
    let act = Act { turns, ..act.clone() };
    let outcome = perform(&act, host);
    assert_eq!(outcome.name(), "done", "{outcome:?}");
    (act, words)
}

fn refusal(act: &Act, host: &Fake) -> String {
    let outcome = survey(act, host).unwrap_err();
    text(&outcome).to_owned()
}

fn given_back(act: &Act, host: &Fake) -> Undone {
    undo(&Undo { key: act.key.clone(), turns: act.turns.clone() }, host)
}

#[test]
fn a_cgroup_is_frozen_by_its_freezer_and_a_process_by_a_signal() {
    let host = with(&[("cgroup.freeze of /3", "0")]);
    let mut freeze = lease(ActionName::Freeze, Terms::default());
    freeze.rung.scope = Scope::Cgroup;
    let (act, words) = borrowed(&freeze, &host);
    assert_eq!(words, ["cgroup.freeze of /3: 0 → 1"]);
    assert!(given_back(&act, &host).complete);
    assert_eq!(host.done(), ["cgroup.freeze of /3 = 1", "cgroup.freeze of /3 = 0"]);

    let host = with(&[("pid 7", "running")]);
    let (act, words) = borrowed(&lease(ActionName::Freeze, Terms::default()), &host);
    assert_eq!(words, ["pid 7: running → stopped"]);
    assert_eq!(given_back(&act, &host).says, "pid 7 is running again");

    let host = with(&[("pid 7", "stopped")]);
    assert!(refusal(&lease(ActionName::Freeze, Terms::default()), &host).contains("somebody else"));
    assert_eq!(perform(&lease(ActionName::Thaw, Terms::default()), &host).name(), "done");
    assert_eq!(host.done(), ["pid 7 = running"]);
}

#[test]
fn cpu_is_throttled_on_both_versions() {
    let terms = Terms { cpu: Some(20), ..Terms::default() };
    let host = with(&[("cpu.max of /3", "max 100000")]);
    let (act, words) = borrowed(&lease(ActionName::Throttle, terms.clone()), &host);
    assert_eq!(words, ["cpu.max of /3: max 100000 → 20000 100000"]);
    assert_eq!(given_back(&act, &host).says, "cpu.max of /3 is max 100000 again");

    let knobs = [("cpu.cfs_quota_us of /3", "-1"), ("cpu.cfs_period_us of /3", "50000")];
    let host = Fake { is_v1: true, ..with(&knobs) };
    let (_, words) = borrowed(&lease(ActionName::Throttle, terms.clone()), &host);
    assert_eq!(words, ["cpu.cfs_quota_us of /3: -1 → 10000"]);

    let host = with(&[("cpu.max of /3", "10000 100000")]);
    assert!(refusal(&lease(ActionName::Throttle, terms), &host).contains("no more than that already"));
}

/// Behind its back it would be wrong about it.
#[test]
fn what_an_owner_keeps_account_of_is_turned_through_it() {
    let knobs = [
        ("CPU time per second (ns) of unit web.service", "infinity"),
        ("state of unit web.service", "running"),
        ("cpu.max of /3", "max 100000"),
        ("cgroup.freeze of /3", "0"),
    ];
    let mut slow = lease(ActionName::Throttle, Terms { cpu: Some(20), ..Terms::default() });
    slow.target.place.unit = Some("web.service".into());
    let host = with(&knobs);
    let (act, words) = borrowed(&slow, &host);
    assert_eq!(words, ["CPU time per second (ns) of unit web.service: infinity → 200000000"]);
    assert!(given_back(&act, &host).says.ends_with("is infinity again"));
    let mut freeze = lease(ActionName::Freeze, Terms::default());
    freeze.target = slow.target.clone();
    freeze.rung.scope = Scope::Cgroup;
    let (_, words) = borrowed(&freeze, &with(&knobs));
    assert_eq!(words, ["state of unit web.service: running → halted"]);
    freeze.rung.scope = Scope::Process;
    let (_, words) = borrowed(&freeze, &with(&[("pid 7", "running")]));
    assert_eq!(words, ["pid 7: running → stopped"], "one process is nobody's account");
    let (_, words) = borrowed(&slow, &with(&knobs[2..]));
    assert_eq!(words, ["cpu.max of /3: max 100000 → 20000 100000"], "the owner does not answer");
}

#[test]
fn memory_is_held_down_where_the_kernel_can() {
    let terms = Terms { memory_high: Some(95), ..Terms::default() };
    let host = with(&[("memory.high of /3", "max")]);
    let (_, words) = borrowed(&lease(ActionName::Throttle, terms.clone()), &host);
    assert_eq!(words, ["memory.high of /3: max → 99614720"]);
    let host = Fake { is_v1: true, ..with(&[]) };
    assert_eq!(refusal(&lease(ActionName::Throttle, terms), &host), "cgroup v1 has no memory.high");
}

#[test]
fn a_limit_is_never_raised_beyond_the_bound() {
    let raise = |max: u64| {
        let terms = Terms { pids_max: Some(max), by: Some(50), ..Terms::default() };
        lease(ActionName::RaiseLimit, terms)
    };
    let words = |max| borrowed(&raise(max), &with(&[("pids.max of /3", "100")])).1;
    assert_eq!(words(500), ["pids.max of /3: 100 → 150"]);
    assert_eq!(words(120), ["pids.max of /3: 100 → 120"]);
    let host = with(&[("pids.max of /3", "100")]);
    assert!(refusal(&raise(100), &host).contains("allows no more than 100"));
    let host = with(&[("pids.max of /3", "max")]);
    assert!(refusal(&raise(100), &host).contains("no limit to raise"));

    let terms = Terms { open_files: Some(4096), by: Some(100), ..Terms::default() };
    let host = with(&[("the limit of open files of pid 7", "1024:2000")]);
    let (_, words) = borrowed(&lease(ActionName::RaiseLimit, terms), &host);
    assert_eq!(words, ["the limit of open files of pid 7: 1024:2000 → 2024:2024"]);
}

#[test]
fn a_limit_that_an_owner_has_given_is_raised_through_it() {
    let knobs = [
        ("memory limit of unit web.service", "67108864"),
        ("limit of tasks of unit web.service", "100"),
        ("memory.max of /3", "67108864"),
        ("pids.max of /3", "100"),
    ];
    let terms = Terms { memory_max: Some(1 << 30), pids_max: Some(140), by: Some(50), ..Terms::default() };
    let mut more = lease(ActionName::RaiseLimit, terms);
    more.target.place.unit = Some("web.service".into());
    let host = with(&knobs);
    let (act, words) = borrowed(&more, &host);
    let owners = [
        "memory limit of unit web.service: 67108864 → 100659200",
        "limit of tasks of unit web.service: 100 → 140",
    ];
    assert_eq!(words, owners);
    assert!(given_back(&act, &host).complete);
    let stands = |name: &str| host.knobs.lock().unwrap().get(name).cloned();
    for (name, value) in knobs {
        assert_eq!(stands(name).as_deref(), Some(value), "{name}");
    }

    let files = ["memory.max of /3: 67108864 → 100659200", "pids.max of /3: 100 → 140"];
    let (_, words) = borrowed(&more, &with(&knobs[2..]));
    assert_eq!(words, files, "the owner does not answer");
    let knows_of_none = [("memory limit of unit web.service", "infinity")];
    let (_, words) = borrowed(&more, &with(&[&knows_of_none[..], &knobs[2..]].concat()));
    assert_eq!(words, files, "somebody else has given it");
}

#[test]
fn a_limit_other_than_its_owners_is_raised_in_its_file() {
    const OWNERS: &str = "memory limit of unit web.service";
    let terms = Terms { memory_max: Some(2 << 30), by: Some(50), ..Terms::default() };
    let mut more = lease(ActionName::RaiseLimit, terms);
    more.target.place.unit = Some("web.service".into());
    let host = with(&[(OWNERS, "67108864"), ("memory.max of /3", "1073741824")]);
    let (_, words) = borrowed(&more, &host);
    assert_eq!(words, ["memory.max of /3: 1073741824 → 1610608640"]);
    assert_eq!(host.done(), ["memory.max of /3 = 1610608640"], "the owner's would have been less");
    let (_, words) = borrowed(&more, &with(&[(OWNERS, "1073741824"), ("memory.max of /3", "67108864")]));
    assert_eq!(words, ["memory.max of /3: 67108864 → 100659200"]);
    let (_, words) = borrowed(&more, &with(&[(OWNERS, "67108900"), ("memory.max of /3", "67108864")]));
    assert_eq!(
        words,
        ["memory limit of unit web.service: 67108900 → 100663296"],
        "the kernel has whole pages"
    );
    let host = with(&[(OWNERS, "67108864"), ("memory.max of /3", "max")]);
    assert!(refusal(&more, &host).contains("no limit to raise"));
}

/// Whoever reads the act is to know whom the owner's word fails.
#[test]
fn what_is_turned_past_an_owner_is_said() {
    let terms = Terms { pids_max: Some(140), ..Terms::default() };
    let mut more = lease(ActionName::RaiseLimit, terms);
    let told = |act: &Act, host: &Fake| {
        let turns = survey(act, host).unwrap();
        text(&perform(&Act { turns, ..act.clone() }, host)).contains("owner is not told")
    };
    let files = [("pids.max of /3", "100")];
    assert!(!told(&more, &with(&files)), "nobody owns it");
    more.target.place.unit = Some("web.service".into());
    assert!(told(&more, &with(&files)));
    assert!(!told(&more, &with(&[files[0], ("limit of tasks of unit web.service", "100")])));
}

#[test]
fn who_is_protected_from_the_oom_killer_is_by_name_of_the_process() {
    let host = with(&[("oom_score_adj of pid 7", "0")]);
    let (act, words) = borrowed(&lease(ActionName::Protect, Terms::default()), &host);
    assert_eq!(words, ["oom_score_adj of pid 7: 0 → -500"]);
    assert_eq!(given_back(&act, &host).says, "oom_score_adj of pid 7 is 0 again");
    let host = with(&[("oom_score_adj of pid 7", "-900")]);
    assert!(refusal(&lease(ActionName::Protect, Terms::default()), &host).contains("already"));
}

#[test]
fn what_somebody_else_has_set_since_is_kept() {
    let host = with(&[("cpu.max of /3", "max 100000")]);
    let terms = Terms { cpu: Some(20), ..Terms::default() };
    let (act, _) = borrowed(&lease(ActionName::Throttle, terms), &host);
    let set = |value: &str| host.knobs.lock().unwrap().insert("cpu.max of /3".into(), value.into());
    set("30000 100000");
    let undone = given_back(&act, &host);
    assert_eq!(undone.says, "cpu.max of /3 is left at 30000 100000: somebody else has set it");
    assert!(undone.complete);
    set("max 100000");
    assert_eq!(given_back(&act, &host).says, "cpu.max of /3 was max 100000 already");
    host.knobs.lock().unwrap().clear();
    assert_eq!(given_back(&act, &host).says, "1 of what was turned is gone");
    assert_eq!(host.done().len(), 1, "only the act itself wrote");
}

/// Between the survey and the act, the intent was synced.
#[test]
fn what_changes_before_the_act_is_not_overwritten() {
    let host = with(&[("cpu.max of /3", "max 100000")]);
    let throttle = lease(ActionName::Throttle, Terms { cpu: Some(20), ..Terms::default() });
    let turns = survey(&throttle, &host).unwrap();
    host.knobs.lock().unwrap().insert("cpu.max of /3".into(), "50000 100000".into());
    let outcome = perform(&Act { turns, ..throttle }, &host);
    assert!(matches!(&outcome, ActionOutcome::Refused { reason } if reason.contains("somebody else")));
    assert_eq!(host.done(), [""; 0]);
}

#[test]
fn nobody_is_slowed_together_with_one_who_must_not_be_touched() {
    let guarded = FakeProcess { untouchable: true, ..plain() };
    let host = Fake::with([(TARGET, plain()), (TARGET + 1, guarded)]);
    let outcome = survey(&lease(ActionName::Throttle, Terms { cpu: Some(20), ..Terms::default() }), &host);
    assert!(matches!(outcome, Err(ActionOutcome::Refused { .. })), "{outcome:?}");
    let mut freeze = lease(ActionName::Freeze, Terms::default());
    freeze.rung.scope = Scope::Cgroup;
    assert!(matches!(survey(&freeze, &host), Err(ActionOutcome::Refused { .. })));
}

#[test]
fn a_dry_run_borrows_nothing_and_says_what_it_would() {
    let host = with(&[("pid 7", "running")]);
    let mut freeze = lease(ActionName::Freeze, Terms::default());
    freeze.mode = Mode::Shadow;
    let turns = survey(&freeze, &host).unwrap();
    let outcome = perform(&Act { turns, ..freeze }, &host);
    assert_eq!(text(&outcome), "would set pid 7 to stopped");
    assert_eq!(host.done(), [""; 0]);
}

#[test]
fn what_the_cluster_has_is_set_and_taken_back_only_if_it_is_ours() {
    let back = |act: &Act, host: &Fake| {
        let undo = Undo { key: act.key.clone(), turns: act.turns.clone() };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(super::lease::undo_afar(&undo, host))
    };
    let host = with(&[("node n1", "open")]);
    let cordon = lease(ActionName::Cordon, Terms::default());
    let (act, words) = borrowed(&cordon, &host);
    assert_eq!(words, ["node n1: open → cordoned by healer (k)"]);
    assert_eq!(back(&act, &host).says, "node n1 is open again");

    host.set_knob("node n1", "cordoned");
    assert!(text(&perform(&act, &host)).contains("is cordoned already"));
    let left = back(&act, &host);
    assert!(left.complete && left.says.contains("somebody else"), "{}", left.says);

    let terms = Terms { condition: Some("WorkloadStuck".into()), ..Terms::default() };
    let host = with(&[("WorkloadStuck of node n1", "False")]);
    let (act, words) = borrowed(&lease(ActionName::Condition, terms), &host);
    assert!(words[0].starts_with("WorkloadStuck of node n1: False → True: "), "{words:?}");
    assert_eq!(back(&act, &host).says, "WorkloadStuck of node n1 is False again");
}

#[test]
fn a_group_in_which_others_live_is_not_turned_down_on_either_version() {
    let knobs = [
        ("cpu.max of /3", "max 100000"),
        ("cpu.weight of /3", "100"),
        ("memory.high of /3", "max"),
        ("cpu.cfs_quota_us of /3", "-1"),
        ("cpu.cfs_period_us of /3", "100000"),
        ("pids.max of /3", "100"),
        ("CPU time per second (ns) of unit web.service", "infinity"),
    ];
    let shared = |is_v1| Fake { is_v1, stranger: Some("pid 9 lives there too".into()), ..with(&knobs) };
    let of = |terms: Terms, is_v1| survey(&lease(ActionName::Throttle, terms), &shared(is_v1));
    let cpu = || Terms { cpu: Some(20), ..Terms::default() };
    let rest = [
        Terms { cpu_weight: Some(50), ..Terms::default() },
        Terms { memory_high: Some(95), ..Terms::default() },
    ];
    for outcome in [of(cpu(), true), of(cpu(), false)].into_iter().chain(rest.map(|terms| of(terms, false))) {
        let Err(ActionOutcome::Failed { error, .. }) = outcome else { panic!("{outcome:?}") };
        assert_eq!(error, "pid 9 lives there too", "the next rung may reach it");
    }
    let mut unit = lease(ActionName::Throttle, cpu());
    unit.target.place.unit = Some("web.service".into());
    assert!(survey(&unit, &shared(false)).is_ok(), "the unit is the patient, and its manager turns it alone");
    let more = Terms { pids_max: Some(500), by: Some(50), ..Terms::default() };
    assert!(
        survey(&lease(ActionName::RaiseLimit, more), &shared(false)).is_ok(),
        "more is taken from nobody"
    );
}
