//! Needs root and python3: two processes that wait for each other. One of them is ended, never both, and of the two the
//! one that a policy lets be healed.

use std::path::PathBuf;

use healer_tests::{
    home::{Home, until},
    policies::policy,
    supervised::{Supervised, lives, name},
    victim::Victim,
};

const VICTIM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/victims/crosswise.py");
const RULES: &str = "
  rules: [{name: stuck, when: [{class: deadlock, certainty: proved}], escalate: [{do: restart, grace: 1s}]}]
  verify: {within: 20s, stableFor: 1s}
";

/// The lock files of both sides, and what starts a side.
struct Pair {
    locks: [PathBuf; 2],
}

impl Pair {
    fn new(home: &Home, name: &str) -> Self {
        Self { locks: ["a", "b"].map(|side| home.path().join(format!("{name}-{side}"))) }
    }

    fn argv(&self, side: usize) -> [String; 4] {
        let lock = |side: usize| self.locks[side].display().to_string();
        ["python3".to_owned(), VICTIM.to_owned(), lock(side), lock(1 - side)]
    }

    fn has_both(&self, side: usize) -> bool {
        self.locks[side].with_extension("both").exists()
    }
}

#[test]
fn of_two_services_that_wait_for_each_other_one_is_restarted() {
    let names = [name(), name()];
    let home = Home::new(&policy("enforce", &format!("supervise: [{}]", names.join(", ")), RULES));
    let pair = Pair::new(&home, "both");
    let mut agent = home.agent();
    let services: Vec<_> = [0, 1].map(|side| Supervised::start(&home, &names[side], &pair.argv(side))).into();
    let before: Vec<u32> = services.iter().map(Supervised::child).collect();
    until("both to have what they want", || (pair.has_both(0) && pair.has_both(1)).then_some(()));
    let is_told = |service: &&Supervised| {
        home.audit().iter().any(|record| {
            healer_tests::home::is(record, "diagnosis", "deadlock")
                && record["workload"] == service.workload()
        })
    };
    let told: Vec<_> = services.iter().filter(is_told).collect();
    assert_eq!(told.len(), 1, "one incident for the two of them");
    agent.record(&told[0].workload(), "closed", "healed");
    let after: Vec<u32> = services.iter().map(Supervised::child).collect();
    let replaced: Vec<_> = services
        .iter()
        .zip(before.iter().zip(&after))
        .filter(|(_, (before, after))| before != after)
        .map(|(one, _)| one.workload())
        .collect();
    assert_eq!(replaced, [told[0].workload()], "the other one goes on as it was");
}

/// The stranger is younger, and would be the cheaper one.
#[test]
fn of_a_service_and_a_stranger_the_service_is_restarted() {
    let name = name();
    let home = Home::new(&policy("enforce", &format!("supervise: [{name}]"), RULES));
    let pair = Pair::new(&home, "one");
    let mut agent = home.agent();
    let service = Supervised::start(&home, &name, &pair.argv(0));
    let before = service.child();
    let argv = pair.argv(1);
    let rest: Vec<&str> = argv[1..].iter().map(String::as_str).collect();
    let stranger = Victim::start("/usr/bin/python3", &rest);
    let found = agent.record(&service.workload(), "diagnosis", "deadlock");
    assert_eq!((&found["target"]["pid"], &found["certainty"]), (&before.into(), &"proved".into()), "{found}");
    agent.record(&service.workload(), "closed", "healed");
    assert_ne!(service.child(), before);
    assert!(lives(stranger.tgid()), "nobody's policy names it");
    until("both to have what they want", || (pair.has_both(0) && pair.has_both(1)).then_some(()));
}
