//! A real cron whose jobs fail each time: they are asked, and nobody serves anything.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

use healer_tests::{
    home::{Home, until},
    policies::restarting,
    victim::Victim,
};
use serde_json::Value;

use crate::{caught_up, diagnoses, loops::dies};

/// To Debian's cron a minute is two and a half seconds: what it asks the C library for the time and for sleep.
const HASTE: &str = r#"
    #include <time.h>
    #include <unistd.h>
    enum { FASTER = 24 };
    static double now(clockid_t clock) {
        struct timespec t;
        clock_gettime(clock, &t);
        return t.tv_sec + t.tv_nsec / 1e9;
    }
    time_t time(time_t *out) {
        static double wall, begun;
        if (!begun) { wall = now(CLOCK_REALTIME); begun = now(CLOCK_MONOTONIC); }
        time_t is = wall + (now(CLOCK_MONOTONIC) - begun) * FASTER;
        if (out) *out = is;
        return is;
    }
    unsigned sleep(unsigned seconds) { usleep(seconds * (1000000 / FASTER)); return 0; }"#;

/// Its spool, its pid file and the machine's own tables are the test's.
const OF_ITS_OWN: &str = "mount -t tmpfs tmp /run && mount -t tmpfs tmp /etc/cron.d && \
    mount --bind /dev/null /etc/crontab && mount --bind \"$0\" /var/spool/cron/crontabs && \
    LD_PRELOAD=\"$1\" exec /usr/sbin/cron -f";

fn cron(home: &Home, table: &str) -> Victim {
    let source = home.path().join("haste.c");
    let library = home.path().join("haste.so");
    fs::write(&source, HASTE).expect("the scratch directory can be written");
    let built = Command::new("gcc").args(["-shared", "-fPIC", "-o"]).args([&library, &source]).status();
    assert!(built.expect("this test needs gcc").success(), "gcc");
    let tables = home.path().join("crontabs");
    fs::create_dir(&tables).expect("the scratch directory can be written");
    let file = tables.join("root");
    fs::write(&file, table).expect("the scratch directory can be written");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("the table is ours");
    let path = |path: &Path| path.display().to_string();
    let unshare = ["--mount", "--pid", "--fork", "--kill-child", "sh", "-c", OF_ITS_OWN];
    Victim::start("unshare", &[&unshare[..], &[&path(&tables), &path(&library)]].concat())
}

#[test]
fn jobs_of_a_real_cron_that_fail_each_time() {
    const RUNS: usize = 5;
    let home = Home::new(&restarting("nobody"));
    let mut agent = home.agent();
    let (name, program) = dies(&home);
    let runs = home.path().join("runs");
    let table = format!(
        "MAILTO=\"\"\n* * * * * {program} 20 1\n* * * * * cd /; echo run >> {runs}; {program} 20 2\n\
         * * * * * test -e /nonexistent-{name} || exit 3\n* * * * * python3 -c 'raise SystemExit(\"{name}\")'\n",
        program = program.display(),
        runs = runs.display()
    );
    let _cron = cron(&home, &table);
    until("five minutes of cron", || {
        let ran = fs::read_to_string(&runs).unwrap_or_default().lines().count();
        (RUNS <= ran).then_some(())
    });
    caught_up(&mut agent);
    assert_eq!(diagnoses(&home, &name), Vec::<Value>::new(), "{}", agent.log());
}
