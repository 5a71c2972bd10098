//! Crash loops, whoever restarts: a shell, a prefork master, another language, `healer supervise`.

use std::path::PathBuf;

use healer_tests::{
    home::{Agent, Home},
    policies::{policy, restarting},
    scratch::unique_name,
    supervised::{Supervised, name},
    victim::{Victim, compile},
};
use serde_json::Value;

use crate::{caught_up, diagnoses, diagnosis};

/// Lives `argv[1]` ms, then faults, or exits with `argv[2]`, or with what STATUS says.
pub(crate) const DIES: &str = r#"
    #include <signal.h>
    #include <stdlib.h>
    #include <unistd.h>
    int main(int argc, char **argv) {
        usleep(1000 * atoi(argv[1]));
        if (getenv("STATUS")) return atoi(getenv("STATUS"));
        if (argc > 2) return atoi(argv[2]);
        *(volatile int *)0x10 = 1;
    }"#;

/// Four workers; whoever dies is replaced. The workers fault after 150 ms.
const PREFORK: &str = r#"
    #include <signal.h>
    #include <sys/prctl.h>
    #include <sys/wait.h>
    #include <unistd.h>
    static void worker(int number) {
        if (fork()) return;
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        usleep(150000 + 7000 * number);
        *(volatile int *)0x10 = 1;
    }
    int main(void) {
        for (int i = 0; i < 4; i++) worker(i);
        for (int i = 0;; i++) { wait(0); usleep(20000); worker(i % 4); }
    }"#;

pub(crate) fn dies(home: &Home) -> (String, PathBuf) {
    let name = unique_name();
    let program = compile(home.scratch(), &name, DIES);
    (name, program)
}

/// A shell with this script, in which `PROGRAM` is a program of the test's own.
pub(crate) fn shell(shell: &str, script: &str, program: &std::path::Path) -> Victim {
    Victim::start(shell, &["-c", &script.replace("PROGRAM", &program.display().to_string())])
}

fn looping(agent: &mut Agent<'_>, name: &str) -> Value {
    let found = diagnosis(agent, "crash_loop", name);
    assert_eq!(found["certainty"], "probable", "{found}");
    found
}

#[test]
fn a_shell_that_serves_a_faulting_program() {
    let home = Home::new(&restarting("nobody"));
    let mut agent = home.agent();
    let ((name, program), (once, single)) = (dies(&home), dies(&home));
    let _loop = shell("/bin/sh", "while true; do PROGRAM 120; sleep 0.1; done", &program);
    // Twin: the same fault by eight started side by side; nobody starts them again.
    let _many =
        shell("/bin/bash", "for i in 1 2 3 4 5 6 7 8; do PROGRAM 300 & done; wait; sleep 60", &single);
    let found = looping(&mut agent, &name);
    assert!(found["sentence"].as_str().unwrap_or_default().contains("crashed with SIGSEGV"), "{found}");
    caught_up(&mut agent);
    let loops: Vec<_> =
        diagnoses(&home, &once).into_iter().filter(|it| it["class"] == "crash_loop").collect();
    assert_eq!(loops, Vec::<Value>::new(), "{}", agent.log());
}

#[test]
fn a_shell_that_never_asks_how_its_program_ended() {
    let home = Home::new(&restarting("nobody"));
    let mut agent = home.agent();
    let (name, program) = dies(&home);
    let file = home.path().join("serve.sh");
    let script = format!(
        "#!/bin/bash\nset -u\n# restarts for ever\nwhile :\ndo\n  {} 60 3 2>/dev/null\n  sleep 0.1\ndone\n",
        program.display()
    );
    std::fs::write(&file, script).expect("the scratch directory can be written");
    let _loop = Victim::start("/bin/bash", &[&file.display().to_string()]);
    let found = looping(&mut agent, &name);
    assert!(found["sentence"].as_str().unwrap_or_default().contains("exited with status 3"), "{found}");
}

#[test]
fn a_supervisor_in_another_language() {
    let home = Home::new(&restarting("nobody"));
    let mut agent = home.agent();
    let (name, program) = dies(&home);
    let script = "import subprocess, sys, time\nwhile True:\n    subprocess.run([sys.argv[1], '50'])\n    time.sleep(0.1)";
    let _loop = Victim::start("/usr/bin/python3", &["-c", script, &program.display().to_string()]);
    looping(&mut agent, &name);
}

#[test]
fn a_prefork_master_whose_workers_keep_faulting() {
    let home = Home::new(&restarting("nobody"));
    let mut agent = home.agent();
    let name = unique_name();
    let master = Victim::start(compile(home.scratch(), &name, PREFORK), &[]);
    let found = looping(&mut agent, &name);
    assert_eq!(found["target"]["parent"]["pid"], master.tgid(), "{found}");
}

#[test]
fn a_supervised_program() {
    let name = name();
    let rest = "
  rules:
    - name: loops
      when: [{class: crash_loop}]
      escalate: [{do: notify}]
    - name: down
      when: [{class: down}]
      escalate: [{do: restart, timeout: 20s}]
  safety:
    budget: {max: 20, per: 1h}
    backoff: {initial: 50ms, factor: 1, max: 50ms, resetAfter: 1m}
    breaker: {tripAfter: 20, within: 30m, probeAfter: 1m}
  verify: {within: 10s, stableFor: 500ms}
";
    let home = Home::new(&policy("enforce", &format!("supervise: '{name}*'"), rest));
    let mut agent = home.agent();
    let service = Supervised::start(&home, &name, &["sh", "-c", "sleep 0.2; exit 7"]);
    let twin = Supervised::start(&home, &format!("{name}-twin"), &["sleep", "1000"]);
    let found = agent.record(&service.workload(), "diagnosis", "\"class\":\"crash_loop\"");
    assert_eq!(found["certainty"], "proved");
    assert!(found["sentence"].as_str().unwrap_or_default().contains("exited with status 7"), "{found}");
    agent.record(&service.workload(), "notify", "crash_loop");
    assert_eq!(home.of(&twin.workload()), Vec::<Value>::new(), "{}", agent.log());
}
