use proptest::prelude::*;

use super::*;
use crate::identity::process::{Container, Place, Pod};

fn strings(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

fn policy(name: &str, matches: Match) -> Policy {
    Policy {
        name: name.to_owned(),
        mode: Mode::Enforce,
        matches,
        avoid: Vec::new(),
        expect: Default::default(),
        rules: Vec::new(),
        safety: Default::default(),
        verify: Default::default(),
    }
}

fn set(policies: Vec<Policy>) -> PolicySet {
    PolicySet { policies, ..PolicySet::default() }
}

fn by_each_key() -> Vec<Policy> {
    let none = Match::default;
    vec![
        policy("empty", none()),
        policy("comm", Match { comms: strings(&["web"]), ..none() }),
        policy("cgroup", Match { cgroups: strings(&["/system.slice/**"]), ..none() }),
        policy("exe", Match { exes: strings(&["/usr/bin/web"]), ..none() }),
        policy("unit", Match { units: strings(&["web.service"]), ..none() }),
        policy("container", Match { containers: strings(&["web"]), ..none() }),
        policy("pod", Match { pod_labels: vec![("app".into(), "web".into())], ..none() }),
        policy("supervise", Match { supervise: strings(&["web"]), ..none() }),
    ]
}

fn process() -> Process {
    let labels = BTreeMap::from([("app".to_owned(), "web".to_owned())]);
    Process {
        comm: "web".into(),
        exe: Some("/usr/bin/web".into()),
        cgroup: "/system.slice/web.service".into(),
        place: Place {
            supervise: Some("web".into()),
            unit: Some("web.service".into()),
            container: Some(Container { name: "web".into(), ..Container::default() }),
            pod: Some(Pod { namespace: "shop".into(), labels, ..Pod::default() }),
        },
        ..Process::default()
    }
}

fn owner_name(set: &PolicySet, process: &Process) -> String {
    match owner(set, process) {
        Owner::One(policy) => policy.name.clone(),
        Owner::None => "nobody".into(),
        Owner::Clash(one, other) => format!("{} and {}", one.name, other.name),
    }
}

#[test]
fn the_most_specific_key_owns() {
    let mut policies = by_each_key();
    let order = ["supervise", "pod", "container", "unit", "exe", "cgroup", "comm", "empty", "nobody"];
    for expected in order {
        assert_eq!(owner_name(&set(policies.clone()), &process()), expected);
        policies.pop();
    }
}

#[test]
fn an_exact_name_outranks_a_glob_and_two_exact_names_clash() {
    let unit = |name, unit| policy(name, Match { units: strings(&[unit]), ..Match::default() });
    let both = set(vec![unit("all", "*.service"), unit("one", "web.service")]);
    assert_eq!(owner_name(&both, &process()), "one");
    let again = policy("again", Match { units: strings(&["db.service", "web.service"]), ..Match::default() });
    let clash = set(vec![unit("one", "web.service"), again]);
    assert_eq!(owner_name(&clash, &process()), "one and again");
}

#[test]
fn a_clash_of_two_is_settled_by_a_third_that_is_more_specific() {
    let comm = |name| policy(name, Match { comms: strings(&["web"]), ..Match::default() });
    let mut policies = vec![comm("a"), comm("b")];
    assert_eq!(owner_name(&set(policies.clone()), &process()), "a and b");
    policies.extend(by_each_key().into_iter().filter(|policy| policy.name == "unit"));
    assert_eq!(owner_name(&set(policies), &process()), "unit");
}

#[test]
fn keys_are_and_values_are_or() {
    let matches =
        Match { units: strings(&["db.service", "web.service"]), comms: strings(&["db"]), ..Match::default() };
    let both = set(vec![policy("p", matches)]);
    assert_eq!(owner_name(&both, &process()), "nobody");
    let db = Process { comm: "db".into(), ..process() };
    assert_eq!(owner_name(&both, &db), "p");
}

#[test]
fn whoever_is_avoided_is_not_owned() {
    let mut policies = by_each_key();
    for policy in &mut policies {
        policy.avoid = vec![Match { namespaces: strings(&["sh*"]), ..Match::default() }];
    }
    assert_eq!(owner_name(&set(policies.clone()), &process()), "nobody");
    let elsewhere = Process { place: Place { pod: None, ..process().place }, ..process() };
    assert_eq!(owner_name(&set(policies), &elsewhere), "supervise");
}

#[test]
fn a_key_about_what_a_process_has_not_does_not_match() {
    let bare = Process { comm: "web".into(), ..Process::default() };
    assert_eq!(owner_name(&set(by_each_key()), &bare), "comm");
    let star = |matches| owner_name(&set(vec![policy("star", matches)]), &bare);
    assert_eq!(star(Match { units: strings(&["*"]), ..Match::default() }), "nobody");
    let unnamed = Process {
        place: Place { container: Some(Container::default()), ..Place::default() },
        ..Process::default()
    };
    let any = set(vec![policy("any", Match { containers: strings(&["*"]), ..Match::default() })]);
    assert_eq!(owner_name(&any, &unnamed), "nobody");
}

#[test]
fn main_processes_and_named_executables_are_tracked() {
    let bare = Process { exe: Some("/usr/bin/web".into()), ..Process::default() };
    let policies = set(by_each_key());
    assert!(tracked(&policies, &bare));
    assert!(!tracked(&policies, &Process { exe: Some("/usr/bin/other".into()), ..bare.clone() }));
    assert!(!tracked(&PolicySet::default(), &bare));
    assert!(tracked(&PolicySet::default(), &Process { main: true, ..bare }));
}

#[test]
fn a_cap_never_widens_and_supervise_wants_to_run() {
    let mut policy = policy("p", Match::default());
    assert_eq!(effective_mode(&policy, Some(Mode::Shadow)), Mode::Shadow);
    assert_eq!(effective_mode(&policy, None), Mode::Enforce);
    policy.mode = Mode::Observe;
    assert_eq!(effective_mode(&policy, Some(Mode::Enforce)), Mode::Observe);
    assert!(expects_running(&policy, &process()));
    assert!(!expects_running(&policy, &Process::default()));
    policy.expect.running = Some(true);
    assert!(expects_running(&policy, &Process::default()));
}

proptest! {
    #[test]
    fn the_order_of_policies_does_not_matter(order in Just(by_each_key()).prop_shuffle(), keep in 0usize..9) {
        let kept: Vec<Policy> = order.into_iter().take(keep).collect();
        let mut sorted = kept.clone();
        sorted.sort_by_key(|policy| by_each_key().iter().position(|known| known.name == policy.name));
        prop_assert_eq!(owner_name(&set(kept), &process()), owner_name(&set(sorted), &process()));
    }
}
