//! Exit code 137 from four causes, and their relatives: the code is the same, the certificate is not.

use healer_tests::{
    cgroup::MemoryCgroup,
    home::{Home, count, pause, signal_to},
    policies::restarting,
    supervised::{Supervised, lives, name},
    victim::{Victim, compile},
};
use rustix::process::Signal;
use serde_json::Value;

use crate::group::V2Cgroup;

const FOREVER: [&str; 2] = ["sleep", "1000"];

/// What the agent wrote of the service's first death: its certificate, and the sentence.
fn certificate(agent: &mut healer_tests::home::Agent<'_>, service: &Supervised) -> (Value, String) {
    let down = agent.record(&service.workload(), "diagnosis", "\"class\":\"down\"");
    agent.record(&service.workload(), "closed", "\"outcome\":\"healed\"");
    let certificate = &down["detail"]["certificate"];
    (certificate.clone(), down["sentence"].as_str().unwrap_or_default().to_owned())
}

#[test]
fn one_exit_code_four_causes() {
    let name = name();
    let home = Home::new(&restarting(&format!("'{name}*'")));
    let mut agent = home.agent();
    let start = |part: &str, argv: &[&str]| Supervised::start(&home, &format!("{name}-{part}"), argv);
    let twin = start("twin", &FOREVER);

    let killed = start("killed", &FOREVER);
    let mut killer = Victim::start("/bin/sh", &["-c", &format!("kill -9 {}; sleep 1", killed.child())]);
    let (cause, says) = certificate(&mut agent, &killed);
    assert_eq!(cause["cause"], "killed", "{cause}");
    assert_eq!(cause["by"]["pid"], killer.tgid(), "{cause}");
    assert!(says.contains(&format!("killed by SIGKILL from sh[{}] (uid 0)", killer.tgid())), "{says}");
    killer.wait();

    let group = V2Cgroup::new();
    let in_group = start("cgroup", &FOREVER);
    group.add(in_group.child());
    let mut killer = Victim::start("/bin/sh", &["-c", &format!("{}; sleep 1", group.kill_words())]);
    let (cause, says) = certificate(&mut agent, &in_group);
    assert_eq!(
        (&cause["cause"], &cause["by"]["pid"]),
        (&"cgroup_kill".into(), &killer.tgid().into()),
        "{cause}"
    );
    assert!(says.contains(&format!("killed by cgroup.kill, written by sh[{}]", killer.tgid())), "{says}");
    killer.wait();

    let by_itself = start(
        "itself",
        &[
            "sh",
            "-c",
            "[ -e \"$0\" ] || { : > \"$0\"; sleep 0.3; exit 137; }; exec sleep 1000",
            &home.path().join("exited").display().to_string(),
        ],
    );
    let (cause, says) = certificate(&mut agent, &by_itself);
    assert_eq!((&cause["cause"], &cause["exit"]["code"]), (&"exited".into(), &137.into()), "{cause}");
    assert!(says.contains("exited with status 137 after"), "{says}");

    let (cause, says) = oom(&home, &mut agent, &format!("{name}-oom"));
    assert_eq!((&cause["cause"], &cause["limit_bytes"]), (&"oom_kill".into(), &(48 << 20).into()), "{cause}");
    assert!(
        says.contains("OOM-killed because its memory cgroup (") && says.contains(" of 48.0 MiB used)"),
        "{says}"
    );

    assert_eq!(home.of(&twin.workload()), Vec::<Value>::new(), "{}", agent.log());
    assert!(lives(twin.child()));
}

/// Its first life grows beyond its limit, its second one is modest.
fn oom(home: &Home, agent: &mut healer_tests::home::Agent<'_>, name: &str) -> (Value, String) {
    let source = r#"
        #include <fcntl.h>
        #include <stdlib.h>
        #include <string.h>
        #include <unistd.h>
        int main(int argc, char **argv) {
            int first = open(argv[1], O_CREAT | O_EXCL, 0600) >= 0;
            for (int i = 0; first && i < 200; i++) memset(malloc(1 << 20), 1, 1 << 20);
            for (;;) pause();
        }"#;
    let group = MemoryCgroup::new();
    group.set_limit(48 << 20);
    let program = compile(home.scratch(), "grows", source);
    let run = format!("{} \"$0\"", group.run(&program));
    let mark = home.path().join("grown").display().to_string();
    let service = Supervised::start(home, name, &["sh", "-c", &run, &mark]);
    certificate(agent, &service)
}

/// What ends a child through its supervisor was asked for, whatever the signal; sent straight to it, it was not.
#[test]
fn a_signal_that_the_supervisor_passes_on_is_no_failure() {
    let name = name();
    let home = Home::new(&restarting(&format!("'{name}*'")));
    let mut agent = home.agent();
    for (number, signal) in [Signal::USR1, Signal::USR2, Signal::QUIT].into_iter().enumerate() {
        let mut service = Supervised::start(&home, &format!("{name}-{number}"), &FOREVER);
        assert!(lives(service.child()));
        pause(core::time::Duration::from_millis(200));
        signal_to(service.pid(), signal);
        service.end();
    }
    let direct = Supervised::start(&home, &format!("{name}-direct"), &FOREVER);
    assert!(lives(direct.child()));
    pause(core::time::Duration::from_millis(200));
    let mut killer = Victim::start("/bin/sh", &["-c", &format!("kill -USR1 {}; sleep 1", direct.child())]);
    let (cause, says) = certificate(&mut agent, &direct);
    assert_eq!(cause["by"]["pid"], killer.tgid(), "{cause}");
    assert!(says.contains(&format!("killed by SIGUSR1 from sh[{}]", killer.tgid())), "{says}");
    killer.wait();
    for number in 0..3 {
        let said = home.of(&format!("supervise/{name}-{number}"));
        assert_eq!(said, Vec::<Value>::new(), "{}", agent.log());
    }
}

/// Dead before its supervisor could introduce it: one death all the same.
#[test]
fn a_fault_at_once_is_one_incident() {
    let name = name();
    let home = Home::new(&restarting(&format!("'{name}*'")));
    let mut agent = home.agent();
    let source = r#"
        #include <fcntl.h>
        #include <stdlib.h>
        #include <unistd.h>
        int main(int argc, char **argv) {
            if (open(argv[1], O_CREAT | O_EXCL, 0600) >= 0) abort();
            for (;;) pause();
        }"#;
    let program = compile(home.scratch(), "at_once", source).display().to_string();
    let mut services = Vec::new();
    for number in 0..6 {
        let mark = home.path().join(format!("ran-{number}")).display().to_string();
        let service = Supervised::start(&home, &format!("{name}-{number}"), &[&program, &mark]);
        agent.record(&service.workload(), "closed", "\"outcome\":\"healed\"");
        let records = home.of(&service.workload());
        assert_eq!(count(&records, "closed", ""), 1, "{}", agent.log());
        assert_eq!(count(&records, "diagnosis", "\"class\":\"crash\""), 1, "{}", agent.log());
        assert_eq!(count(&records, "diagnosis", "\"class\":\"crash_loop\""), 0, "{}", agent.log());
        assert!(lives(service.child()));
        services.push(service);
    }
    let all = crate::diagnoses(&home, &program);
    let mut incidents: Vec<_> = all.iter().map(|found| found["incident"].to_string()).collect();
    incidents.sort();
    incidents.dedup();
    assert_eq!(incidents.len(), 6, "one incident for one death:\n{}", agent.log());
}
