//! What fails now and then, or until it succeeds, is no crash loop: not in any language.

use healer_tests::{home::Home, policies::restarting, victim::Victim};
use serde_json::Value;

use crate::{
    caught_up, diagnoses,
    loops::{dies, shell},
};

/// Waits for something, in words of many: `PROGRAM 110 1` is a probe that fails each time.
const WAITS: [(&str, &str); 10] = [
    ("/bin/sh", "while :; do PROGRAM 110 1 && break; sleep 0.05; done"),
    ("/bin/bash", "while true; do if PROGRAM 110 1; then exit; fi; sleep 0.05; done"),
    ("/bin/bash", "for ((i = 0; i < 99; i++)); do PROGRAM 110 1 && break; done; sleep 60"),
    ("/bin/sh", "for i in 1 2 3 4 5 6 7 8 9; do PROGRAM 110 1; done; sleep 60"),
    ("/bin/sh", "check() { PROGRAM 110 1; }; until check; do sleep 0.05; done"),
    ("/bin/bash", "while :; do PROGRAM 110 1; [ $? = 0 ] || echo not yet; sleep 0.05; done"),
    ("/bin/sh", "while :; do grep -q PROGRAM /etc/hostname; sleep 0.05; done"),
    ("/bin/bash", "while ! curl -sf file://PROGRAM.none; do sleep 0.05; done"),
    ("/bin/sh", "until pgrep -f '^PROGRAM never$'; do sleep 0.05; done"),
    ("/bin/sh", "until sh -c 'PROGRAM 60 1'; do sleep 0.05; done"),
];

/// A program of somebody's own, started again soon: no more than suspected.
const OWN: [(&str, &str); 2] = [
    ("/bin/bash", "until PROGRAM 110 1 2>/dev/null; do sleep 0.05; done"),
    ("/bin/sh", "while ! PROGRAM 110 1; do sleep 0.05; done"),
];

/// Tools of the system, and numbered cases, are asked.
const ASKS: &str = "import subprocess, sys, time
for number in range(999):
    subprocess.call(['/usr/bin/grep', '-q', sys.argv[1], '/etc/hostname'])
    subprocess.call([sys.argv[1], '30', '1', str(number)])
    time.sleep(0.05)";

const PYTHON: &str = "import subprocess, sys, time
while subprocess.call([sys.argv[1], '110', '1']) != 0:
    time.sleep(0.05)";

const PERL: &str = "while (system($ARGV[0], '110', '1') != 0) { select(undef, undef, undef, 0.05) }";

/// A monitor: asks every so often, and is told that something is not well.
const MONITOR: &str = "import subprocess, sys, time
while True:
    subprocess.run([sys.argv[1], '110', '2'])
    time.sleep(0.05)";

fn no_loop(home: &Home, agent: &healer_tests::home::Agent<'_>, name: &str, what: &str) {
    assert_eq!(diagnoses(home, name), Vec::<Value>::new(), "{what}:\n{}", agent.log());
}

/// Long enough for ten lives of each.
fn ten_lives() {
    healer_tests::home::pause(core::time::Duration::from_secs(4));
}

#[test]
fn waiting_for_something_in_many_words() {
    let home = Home::new(&restarting("nobody"));
    let mut agent = home.agent();
    let (name, program) = dies(&home);
    let path = program.display().to_string();
    let mut waiting: Vec<Victim> = WAITS.iter().map(|(sh, script)| shell(sh, script, &program)).collect();
    waiting.push(Victim::start("/usr/bin/python3", &["-c", ASKS, &path]));
    ten_lives();
    for (number, one) in waiting.iter_mut().enumerate() {
        assert!(one.try_wait().is_none(), "{number} waits on");
    }
    caught_up(&mut agent);
    no_loop(&home, &agent, &name, "a wait");
}

#[test]
fn what_may_be_a_question_is_no_more_than_suspected() {
    let home = Home::new(&restarting("nobody"));
    let mut agent = home.agent();
    let (name, program) = dies(&home);
    let path = program.display().to_string();
    let mut waiting: Vec<Victim> = OWN.iter().map(|(sh, script)| shell(sh, script, &program)).collect();
    waiting.push(Victim::start("/usr/bin/python3", &["-c", PYTHON, &path]));
    waiting.push(Victim::start("/usr/bin/python3", &["-c", MONITOR, &path]));
    waiting.push(Victim::start("/usr/bin/perl", &["-e", PERL, &path]));
    agent.wait("all of them", |agent| (waiting.len() <= diagnoses(agent.home(), &name).len()).then_some(()));
    for found in diagnoses(&home, &name) {
        assert_eq!(
            (&found["class"], &found["certainty"]),
            (&"crash_loop".into(), &"suspected".into()),
            "{found}"
        );
    }
}

#[test]
fn builds_test_runners_and_jobs_that_fail_now_and_then() {
    let home = Home::new(&restarting("nobody"));
    let mut agent = home.agent();
    let (name, program) = dies(&home);
    let path = program.display().to_string();
    let makefile = "all: a b c d e f\na b c d e f:\n\tPROGRAM 20 2\n".replace("PROGRAM", &path);
    std::fs::write(home.path().join("Makefile"), makefile).expect("the scratch directory can be written");
    let build = format!("while :; do make -k -C {} || true; sleep 0.05; done", home.path().display());
    let runner = "import subprocess, sys\nfor test in range(60):\n    subprocess.run([sys.argv[1], str(20 + test), str(test % 2)])";
    // Fails twice, is well once, again and again; and nobody asks.
    let job = "while :; do n=$((n + 1)); STATUS=$((n % 3)) PROGRAM 40; sleep 0.1; done";
    // Without any order, but never for good.
    let luck = "r=$((RANDOM % 4 == 0 && r < 3 ? r + 1 : 0))";
    let now_and_then = format!("while :; do {luck}; STATUS=$((r > 0)) PROGRAM 41; sleep 0.1; done");
    let _started = [
        Victim::start("/bin/sh", &["-c", &build]),
        Victim::start("/usr/bin/python3", &["-c", runner, &path]),
        shell("/bin/sh", job, &program),
        shell("/bin/bash", &now_and_then, &program),
    ];
    ten_lives();
    caught_up(&mut agent);
    no_loop(&home, &agent, &name, "now and then");
}
