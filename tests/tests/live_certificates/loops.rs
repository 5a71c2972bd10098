//! Crash loops, whoever restarts: a shell, a prefork master, another language, `healer supervise`.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

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
    loops(agent, name, "probable")
}

fn loops(agent: &mut Agent<'_>, name: &str, certainty: &str) -> Value {
    let found = diagnosis(agent, "crash_loop", name);
    assert_eq!(found["certainty"], certainty, "{found}");
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

/// Listens on a port of the kernel's choice, and ends with 1 after a while. With `argv[1]` it is a master: it serves on,
/// and its workers end so.
const SERVES: &str = r#"
    #include <netinet/in.h>
    #include <sys/socket.h>
    #include <sys/wait.h>
    #include <string.h>
    #include <unistd.h>
    int main(int argc, char **argv) {
        struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        bind(fd, (struct sockaddr *)&at, sizeof at);
        listen(fd, 9);
        usleep(300000);
        if (argc < 2 || strcmp(argv[1], "master")) return 1;
        for (;;) {
            if (!fork()) { usleep(100000); _exit(1); }
            wait(0);
            usleep(50000);
        }
    }"#;

/// Statuses of programs that nobody named, by what says that they are services.
#[test]
fn whoever_starts_again_what_exits() {
    let home = Home::new(&restarting("nobody"));
    let mut agent = home.agent();
    let told = "while true; do PROGRAM 60 3; rc=$?; echo \"ended with $rc\"; sleep 0.1; done";
    let ports = "while :; do PROGRAM 60 3 --port $RANDOM; sleep 0.1; done";
    let respawn = "until PROGRAM 60 3; do echo Respawning >&2; sleep 0.1; done";
    let python = "import subprocess, sys, time\nwhile True:\n    subprocess.call([sys.argv[1], '60', '3'])\n    time.sleep(0.1)";
    let changing = "import random, subprocess, sys, time\nwhile True:\n    subprocess.call([sys.argv[1], str(random.randint(1, 65535))])\n    time.sleep(0.1)";
    let perl = "while (1) { system($ARGV[0], '60', '3'); select(undef, undef, undef, 0.1) }";
    let mut started = Vec::new();
    let mut expected = Vec::new();
    let mut start = |certainty, source, begin: &dyn Fn(&std::path::Path, &str) -> Victim| {
        let name = unique_name();
        let program = compile(home.scratch(), &name, source);
        started.push(begin(&program, &program.display().to_string()));
        expected.push((name, certainty));
    };
    start("probable", DIES, &|program, _| shell("/bin/sh", told, program));
    start("probable", DIES, &|program, _| shell("/bin/bash", ports, program));
    start("suspected", DIES, &|program, _| shell("/bin/bash", respawn, program));
    start("suspected", DIES, &|_, path| Victim::start("/usr/bin/python3", &["-c", python, path]));
    start("suspected", DIES, &|_, path| Victim::start("/usr/bin/perl", &["-e", perl, path]));
    start("probable", SERVES, &|_, path| Victim::start("/usr/bin/python3", &["-c", changing, path]));
    start("suspected", SERVES, &|program, _| Victim::start(program, &["master"]));
    for (name, certainty) in &expected {
        let found = loops(&mut agent, name, certainty);
        let doubts = found["sentence"].as_str().unwrap_or_default().contains("it may be no service");
        assert_eq!(doubts, *certainty == "suspected", "{found}");
    }
}

/// The directory of a service, as supervisors read it, that ends with 3 each time, or two times of three.
fn service(home: &Home, is_loop: bool) -> (String, PathBuf) {
    let (name, program) = dies(home);
    let dir = home.path().join(format!("{name}.d"));
    let status = if is_loop { "3" } else { "$((lives % 3 ? 3 : 0))" };
    let script = format!(
        "#!/bin/sh\nlives=$(cat lives || echo 0)\nlives=$((lives + 1))\necho $lives >lives\nexport STATUS={status}\nexec {} 60\n",
        program.display()
    );
    let run = dir.join("run");
    fs::create_dir(&dir).expect("the scratch directory can be written");
    fs::write(&run, script).expect("so can this");
    fs::set_permissions(&run, fs::Permissions::from_mode(0o755)).expect("it is ours");
    (name, dir)
}

fn lives(dir: &Path) -> usize {
    fs::read_to_string(dir.join("lives")).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

#[test]
fn supervisors_of_services_are_known_by_their_program() {
    const ENOUGH: usize = 15;
    let home = Home::new(&restarting("nobody"));
    let mut agent = home.agent();
    let begin = |supervisor: &str, is_loop| {
        let (name, dir) = service(&home, is_loop);
        let started = Victim::start(supervisor, &[dir.to_str().expect("a plain path")]);
        (name, dir, started)
    };
    let supervisors = ["runsv", "s6-supervise", "supervise"];
    let (twin, twins_dir, _twin) = begin(supervisors[0], false);
    for (name, _dir, _supervisor) in &supervisors.map(|supervisor| begin(supervisor, true)) {
        let found = looping(&mut agent, name);
        assert!(found["sentence"].as_str().unwrap_or_default().contains("exited with status 3"), "{found}");
    }
    agent.wait("the twin's lives", |_| (ENOUGH <= lives(&twins_dir)).then_some(()));
    caught_up(&mut agent);
    let all = diagnoses(&home, &twin);
    assert!(all.iter().all(|found| found["class"] != "crash_loop"), "{all:?}");
}

/// A tool of the system, and a run script that does not become its program.
#[test]
fn whatever_a_supervisor_starts_is_a_service() {
    let home = Home::new(&restarting("nobody"));
    let mut agent = home.agent();
    let (_, program) = dies(&home);
    let missing = unique_name();
    let begin = |leaf: &str, line: &str| {
        let dir = home.path().join(leaf);
        fs::create_dir(&dir).expect("the scratch directory can be written");
        let run = dir.join("run");
        fs::write(&run, format!("#!/bin/sh\n{line}\n")).expect("so can this");
        fs::set_permissions(&run, fs::Permissions::from_mode(0o755)).expect("it is ours");
        Victim::start("runsv", &[dir.to_str().expect("a plain path")])
    };
    let tool = begin("tool", &format!("exec grep -q x /{missing}"));
    let script = begin("script", &format!("{} 60 3", program.display()));
    for supervisor in [tool.tgid(), script.tgid()] {
        let is_its =
            |found: &&Value| found["class"] == "crash_loop" && found["target"]["parent"]["pid"] == supervisor;
        let found = agent.wait("the loop", |agent| {
            let all = agent.home().audit();
            all.iter().filter(|record| record["record"] == "diagnosis").find(is_its).cloned()
        });
        assert_eq!(found["certainty"], "suspected", "{found}");
        let words = found["target"]["args"].to_string();
        assert!(words.contains(&missing) || words.contains("run"), "{found}");
    }
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
