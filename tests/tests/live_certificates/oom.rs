//! OOM kills: who was chosen is not always who asked for more, and not always the service.

use healer_tests::{
    cgroup::MemoryCgroup,
    home::{Home, pause},
    policies::restarting,
    scratch::unique_name,
    supervised::{Supervised, lives, name},
    victim::{Victim, compile},
};
use serde_json::Value;

use crate::{caught_up, diagnoses, diagnosis};

const LIMIT: u64 = 64 << 20;

/// Takes `argv[1]` MiB at once, after `argv[2]` ms takes `argv[3]` MiB one by one, and stays.
const EATS: &str = r#"
    #include <stdlib.h>
    #include <string.h>
    #include <unistd.h>
    static void eat(size_t mib) { memset(malloc(mib << 20), 1, mib << 20); }
    int main(int argc, char **argv) {
        eat(atoi(argv[1]));
        usleep(1000 * atoi(argv[2]));
        for (int i = 0; i < atoi(argv[3]); i++) { eat(1); usleep(2000); }
        for (;;) pause();
    }"#;

fn limited() -> MemoryCgroup {
    let group = MemoryCgroup::new();
    group.set_limit(LIMIT);
    group
}

#[test]
fn victim_and_trigger_are_two_and_both_are_named() {
    let home = Home::new(&restarting("nobody"));
    let (name, other) = (unique_name(), unique_name());
    let eats = compile(home.scratch(), &name, EATS);
    let twin = compile(home.scratch(), &other, EATS);
    let (crowded, roomy) = (limited(), limited());
    let start = |group: &MemoryCgroup, program: &std::path::Path, how: &str| {
        Victim::start("/bin/sh", &["-c", &format!("{} {how}", group.run(program))])
    };
    let mut agent = home.agent();
    let mut hog = start(&crowded, &eats, "40 0 0");
    let leak = start(&crowded, &eats, "1 700 35");
    let mut healthy = start(&roomy, &twin, "40 0 0");
    let found = diagnosis(&mut agent, "oom_kill", &name);
    assert_eq!(found["target"]["pid"], hog.tgid(), "{found}");
    assert_eq!(found["certainty"], "proved");
    let related = found["related"].to_string();
    assert!(related.contains(&format!("\"pid\":{}", leak.tgid())), "{related}");
    let cause = &found["detail"]["certificate"];
    assert_eq!(
        (&cause["scope"], &cause["limit_bytes"], &cause["trigger"]["pid"]),
        (&"memcg".into(), &LIMIT.into(), &leak.tgid().into()),
        "{cause}"
    );
    let usage = cause["usage_bytes"].as_u64().unwrap_or_default();
    assert!(LIMIT - (4 << 20) < usage && usage <= LIMIT, "{usage}");
    let says = found["sentence"].as_str().unwrap_or_default();
    assert!(
        says.contains(" of 64.0 MiB used) ran out when ") && says.contains(&format!("[{}]", leak.tgid())),
        "{says}"
    );
    assert_eq!(hog.wait() & 0x7f, 9);
    caught_up(&mut agent);
    assert!(healthy.try_wait().is_none());
    assert_eq!(diagnoses(&home, &other), Vec::<Value>::new(), "{}", agent.log());
}

/// The service goes on without its child: told, and the service is not touched.
#[test]
fn a_child_is_killed_and_its_parent_goes_on() {
    let name = name();
    let home = Home::new(&restarting(&name));
    let eats = compile(home.scratch(), "child_eats", EATS);
    let group = limited();
    let script = format!("{}; echo \"$?\" > \"$0\"; while :; do sleep 0.1; done", in_subshell(&group, &eats));
    let notes = home.path().join("status").display().to_string();
    let mut agent = home.agent();
    let service = Supervised::start(&home, &name, &["sh", "-c", &script, &notes]);
    let parent = service.child();
    let found = diagnosis(&mut agent, "oom_kill", "child_eats");
    assert_ne!(found["target"]["pid"], parent);
    assert_eq!(found["detail"]["certificate"]["limit_bytes"], LIMIT);
    healer_tests::home::until("the parent to go on", || std::fs::read_to_string(&notes).ok());
    caught_up(&mut agent);
    pause(core::time::Duration::from_millis(500));
    assert_eq!(service.child(), parent, "the service was not touched");
    let of_service = home.of(&service.workload());
    for record in ["intent", "result"] {
        assert_eq!(healer_tests::home::count(&of_service, record, ""), 0, "{}", agent.log());
    }
    assert_eq!(
        healer_tests::home::count(&of_service, "diagnosis", "\"class\":\"down\""),
        0,
        "{}",
        agent.log()
    );
    assert!(lives(parent));
}

fn in_subshell(group: &MemoryCgroup, program: &std::path::Path) -> String {
    // In dash `$$` is the parent of a subshell: the child itself must join.
    format!("sh -c '{} 1 0 100'", group.run(program))
}
