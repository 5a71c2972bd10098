//! From paths to a set of policies.

use std::{fs, os::unix::fs::symlink, path::PathBuf};

use super::{
    super::{Agent, Sources, load},
    Directory, WHOLE, check, everything, with_spec,
};
use crate::engine::{
    class::Class,
    policy::{ActionName, Mode},
};

#[test]
fn policies_are_compared_across_files() {
    let directory = Directory::new("across");
    let of = |name: &str, matches: &str| {
        with_spec(&format!("match: {matches}")).replace("name: p", &format!("name: {name}"))
    };
    directory.file("a.yaml", &of("one", "{unit: [a, b.service], avoid: [{comm: x}]}"));
    directory.file("b.yaml", &of("two", "{avoid: {comm: x}, unit: [b, a]}"));
    directory.file("c.yaml", &of("one", "{unit: c}"));
    let problems = load::check(std::slice::from_ref(&directory.0), &everything).unwrap_err().to_string();
    assert!(problems.contains("b.yaml:5:10: policies \"one\" and \"two\" have the same match"), "{problems}");
    assert!(problems.contains("c.yaml:5:10: a policy named \"one\" exists already"), "{problems}");
    assert!(problems.contains("a.yaml:5)"), "{problems}");
}

#[test]
fn a_mounted_config_map_is_read_once() {
    let directory = Directory::new("configmap");
    let data = directory.0.join("..2026_01_01");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("p.yaml"), with_spec("{}")).unwrap();
    symlink("..2026_01_01", directory.0.join("..data")).unwrap();
    symlink("..data/p.yaml", directory.0.join("p.yaml")).unwrap();
    let paths = [directory.0.clone(), directory.0.join("p.yaml")];
    let loaded = load::check(&paths, &everything).unwrap();
    assert_eq!(loaded.policies.policies.len(), 1);
    assert_eq!(loaded.files, [directory.0.join("p.yaml")]);
}

#[test]
fn what_cannot_be_read_says_so() {
    let directory = Directory::new("unreadable");
    let of = |path: PathBuf| load::check(&[path], &everything).unwrap_err().to_string();
    assert!(of(directory.0.join("none.yaml")).contains("cannot be read: No such file"));
    assert!(of(directory.0.clone()).contains("no *.yaml in this directory"));
    assert!(of(directory.file("empty.yaml", "# nothing\n")).contains("holds no document"));
    assert!(of(directory.file("kind.yaml", "a: 1\n")).contains("needs `kind: HealPolicy`"));
    assert!(of(directory.file("big.yaml", &"#".repeat(2 << 20))).contains("larger than 1 MiB"));
    fs::write(directory.0.join("bytes.yaml"), b"a: \xff\n").unwrap();
    assert!(of(directory.0.join("bytes.yaml")).contains("not UTF-8"));
}

#[test]
fn the_administrator_limits_policies_and_nobody_else() {
    let directory = Directory::new("agent");
    let agent = directory.file("agent.yaml", include_str!("../../../policies/examples/agent.yaml"));
    let policy = directory.file("p.yaml", &with_spec("{}"));
    let sources = Sources {
        policies: vec![policy.clone()],
        config: Some(agent.clone()),
        mode_cap: Some(Mode::Observe),
    };
    let loaded = load::load(&sources, &everything).unwrap();
    assert_eq!(loaded.policies.mode_cap, Some(Mode::Observe));
    assert_eq!(loaded.agent.mode, Some(Mode::Enforce));
    assert_eq!(
        loaded.agent,
        Agent { mode: Some(Mode::Enforce), listen: "127.0.0.1:9469".parse().ok(), ..Default::default() }
    );
    let swapped = Sources { policies: vec![agent], config: Some(policy), mode_cap: None };
    let problems = load::load(&swapped, &everything).unwrap_err().to_string();
    assert!(problems.contains("an AgentConfig belongs to --config"), "{problems}");
    assert!(problems.contains("a HealPolicy belongs to --policy"), "{problems}");
}

#[test]
fn the_shipped_limits_are_the_defaults_and_the_base_does_not_enforce() {
    for (text, mode) in [
        (include_str!("../../../deploy/systemd/agent.yaml"), None),
        (include_str!("../../../deploy/kubernetes/act/agent.yaml"), None),
        (include_str!("../../../deploy/kubernetes/base/agent.yaml"), Some(Mode::Shadow)),
    ] {
        assert_eq!(check("agent.yaml", text).unwrap().agent, Agent { mode, ..Agent::default() });
    }
}

#[test]
fn the_embedded_default_touches_nothing_and_knows_every_class() {
    let loaded = load::load(&Sources::default(), &|_| false).unwrap();
    assert!(loaded.warnings.is_empty() && loaded.files.is_empty());
    assert_eq!(loaded.policies.policies.len(), 4);
    for policy in &loaded.policies.policies {
        assert_eq!(policy.mode, Mode::Shadow);
        let rungs = policy.rules.iter().flat_map(|rule| &rule.escalate);
        assert!(
            rungs
                .map(|rung| rung.action)
                .all(|action| matches!(action, ActionName::Restart | ActionName::Notify))
        );
        let mut classes: Vec<Class> =
            policy.rules.iter().flat_map(|rule| &rule.when).map(|when| when.class).collect();
        classes.sort();
        assert_eq!(classes, Class::ALL, "{}", policy.name);
    }
}

#[test]
fn the_version_is_that_of_the_text() {
    let version = |text: &str| check("version", text).unwrap().policies.version;
    assert_eq!(version(WHOLE), version(WHOLE));
    assert_ne!(version(WHOLE), version(&with_spec("{}")));
    assert_eq!(version(WHOLE).len(), 12);
}
