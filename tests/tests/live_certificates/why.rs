//! `healer why` of an end that is nobody's incident.

use std::{os::unix::process::CommandExt as _, process::Command};

use healer_tests::{
    hangs::family,
    home::{Agent, Home, until},
    policies::{policy, restarting},
    supervised::{Supervised, name},
    victim::{Victim, compile},
};
use serde_json::Value;

const TELL: &str = "  rules: [{name: tell, when: [{class: crash}], escalate: [{do: notify}]}]";

/// The one end that is known of it.
fn end_of(agent: &mut Agent<'_>, target: &str) -> Value {
    agent.wait(&format!("the end of {target}"), |agent| {
        let told = agent.home().healer(&["why", target, "--json"]);
        let known: Value = serde_json::from_slice(&told.stdout).ok()?;
        let end = known["ends"].get(0)?.clone();
        assert_eq!(known["incidents"], Value::Array(Vec::new()), "{known}");
        Some(end)
    })
}

#[test]
fn who_killed_a_process_that_no_policy_names() {
    let name = name();
    let home = Home::new(&restarting(&format!("'{name}*'")));
    let mut agent = home.agent();
    let mut twin = Victim::start("sleep", &["1000"]);

    let mut victim = Victim::start("sleep", &["1000"]);
    let pid = victim.tgid().to_string();
    let mut killer = Victim::start("/bin/bash", &["-c", &format!("kill -9 {pid}; sleep 1")]);
    victim.wait();
    let end = end_of(&mut agent, &pid);
    let says = end["sentence"].as_str().unwrap_or_default();
    let by = format!("killed by SIGKILL from bash[{}]", killer.tgid());
    assert!(says.starts_with(&format!("sleep[{pid}]")) && says.contains(&by), "{says}");
    assert_eq!(end["evidence"][0]["signal"], "signal_sent", "{end}");
    let told = home.healer(&["why", &pid]);
    let told = String::from_utf8_lossy(&told.stdout);
    assert!(told.contains(&by) && told.contains("No incident of it is known."), "{told}");
    killer.wait();

    let told = home.healer(&["why", &twin.tgid().to_string()]);
    assert!(!told.status.success(), "who lives has no end: {}", String::from_utf8_lossy(&told.stdout));
    assert!(!agent.log().contains(&format!("sleep[{pid}]")), "it is no line of the log:\n{}", agent.log());
    healer_tests::home::signal_to(twin.tgid(), rustix::process::Signal::KILL);
    twin.wait();
}

#[test]
fn a_wrapper_hands_on_who_killed_its_child() {
    let name = name();
    let home = Home::new(&restarting(&format!("'{name}*'")));
    let mut agent = home.agent();
    let notes = home.path().join("child").display().to_string();
    let script = "sleep 1000 & echo $! > \"$0.new\"; mv \"$0.new\" \"$0\"; wait $!; exit $?";
    let service = Supervised::start(&home, &name, &["bash", "-c", script, &notes]);
    // Forked is not yet sleep: until its exec it is a second bash.
    let is_sleep = |pid: &u32| {
        std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == "sleep")
    };
    let child: u32 = agent.wait("the child", |_agent| {
        std::fs::read_to_string(&notes).ok()?.trim().parse().ok().filter(is_sleep)
    });
    let mut killer = Victim::start("/bin/bash", &["-c", &format!("kill -9 {child}; sleep 1")]);
    let down = agent.record(&service.workload(), "diagnosis", "\"class\":\"down\"");
    let says = down["sentence"].as_str().unwrap_or_default();
    let by = format!(
        "exited with status 137: its child sleep[{child}] was killed by SIGKILL from bash[{}]",
        killer.tgid()
    );
    assert!(says.contains(&by), "{says}");
    killer.wait();
}

/// The verifier of older kernels walks too far through the program that would tell of the lesser signals to programs
/// that nobody named (`PRUNES_WELL` in healer-userspace/src/sense/layout.rs).
fn tells_of_every_sender() -> bool {
    let types = std::fs::read("/sys/kernel/btf/vmlinux").expect("the kernel tells its types");
    types.windows(18).any(|name| name == b"\0fastcall_pattern\0")
}

/// Leads a process group of its own.
fn leader() -> Victim {
    Victim::spawn(Command::new("sleep").arg("1000").process_group(0))
}

/// By `SigCgt` of proc_pid_status(5).
fn handles(pid: u32, signal: i32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask >> (signal - 1) & 1 != 0
}

fn says(agent: &mut Agent<'_>, pid: u32) -> String {
    end_of(agent, &pid.to_string())["sentence"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn whatever_people_kill_with_is_named() {
    let home = Home::new(&restarting(&name()));
    let mut agent = home.agent();
    let mut twin = leader();
    let tells_all = tells_of_every_sender();
    for (program, args, how) in [
        ("bash", "-c|kill -- -PGID; sleep 1", "SIGTERM that KILLER (uid 0) sent to process group PGID"),
        ("kill", "-KILL|--|-PGID", "SIGKILL that KILLER (uid 0) sent to process group PGID"),
        ("pkill", "-g|PGID", "SIGTERM from KILLER"),
        ("perl", "-e|kill 'USR1', -PGID; sleep 1", "SIGUSR1 that KILLER (uid 0) sent to process group PGID"),
    ] {
        let mut victim = leader();
        let pgid = victim.tgid().to_string();
        let args = args.replace("PGID", &pgid);
        let mut killer = Victim::start(program, &args.split('|').collect::<Vec<_>>());
        let by = format!("{program}[{}]", killer.tgid());
        let how = how.replace("KILLER", &by).replace("PGID", &pgid);
        let says = says(&mut agent, victim.tgid());
        let unseen =
            how.starts_with("SIGUSR1") && !tells_all && says.contains(" ended by SIGUSR1, whose sender");
        assert!(unseen || says.contains(&format!(" killed by {how}")), "{how}: {says}");
        victim.wait();
        killer.wait();
    }
    for (how, says_of_it) in [
        ("kill 'KILL', $$", "ended itself with SIGKILL"),
        ("$SIG{PIPE} = 'DEFAULT'; pipe(R, W); close R; syswrite(W, 'x')", "ended by SIGPIPE from the kernel"),
        ("alarm 1; sleep 9", "ended by SIGALRM from the kernel (its own timer)"),
    ] {
        let mut victim = Victim::start("perl", &["-e", how]);
        let says = says(&mut agent, victim.tgid());
        assert!(
            says.contains(if tells_all { says_of_it } else { "whose sender was not seen" }),
            "{how}: {says}"
        );
        victim.wait();
    }
    // Python catches SIGINT and dies of it by its own hand: the first one counts.
    let mut victim = Victim::start("python3", &["-c", "import time; time.sleep(1000)"]);
    until("its handler", || handles(victim.tgid(), libc::SIGINT).then_some(()));
    let mut killer = Victim::start("/bin/bash", &["-c", &format!("kill -INT {}; sleep 1", victim.tgid())]);
    let by = format!("SIGINT from bash[{}]", killer.tgid());
    let told = says(&mut agent, victim.tgid());
    assert!(told.contains(&by), "{told}");
    victim.wait();
    killer.wait();
    let mut limit = Victim::start("timeout", &["5", "sleep", "1000"]);
    let child = until("the child", || family(limit.tgid()).get(1).copied());
    let says = says(&mut agent, child);
    let (pid, by) = (limit.tgid(), format!("killed by SIGTERM from timeout[{}] (uid 0)", limit.tgid()));
    assert!(says.contains(&by) && says.contains(&format!("started by timeout[{pid}]")), "{says}");
    limit.wait();
    assert!(twin.try_wait().is_none());
    let told = home.healer(&["why", &twin.tgid().to_string()]);
    assert!(!told.status.success(), "{}", String::from_utf8_lossy(&told.stdout));
}

/// Ends while its child, which has asked for SIGHUP then, waits; `argv[1]`: only the thread ends that has started it.
const LEAVES: &str = r#"
    #include <pthread.h>
    #include <signal.h>
    #include <stdio.h>
    #include <stdlib.h>
    #include <sys/prctl.h>
    #include <sys/wait.h>
    #include <unistd.h>
    static void *starts(void *arg) {
        int ready[2];
        char byte;
        pipe(ready);
        pid_t child = fork();
        if (!child) {
            prctl(PR_SET_PDEATHSIG, SIGHUP);
            write(ready[1], "", 1);
            alarm(20);
            for (;;) pause();
        }
        printf("%d\n", child);
        fflush(stdout);
        read(ready[0], &byte, 1);
        return arg;
    }
    int main(int argc, char **argv) {
        pthread_t t;
        if (argc < 2) { starts(0); return 0; }
        pthread_create(&t, 0, starts, 0);
        pthread_join(t, 0);
        wait(0);
        return 0;
    }"#;

/// The agent meets the child at its end, when it has its next parent already.
#[test]
fn whoever_ends_with_its_parent_says_so() {
    let home = Home::new(&restarting(&name()));
    let mut agent = home.agent();
    let program = compile(home.scratch(), "leaves", LEAVES);
    for (args, how) in [(&[][..], ""), (&["thread"][..], "the thread that had started it, of ")] {
        let mut command = Command::new(&program);
        let parent = command.args(args).stdout(std::process::Stdio::piped()).spawn().expect("it starts");
        let pid = parent.id();
        let told = parent.wait_with_output().expect("it is our child").stdout;
        let child: u32 = String::from_utf8_lossy(&told).trim().parse().expect("its child's pid");
        let says = says(&mut agent, child);
        let by =
            format!("SIGHUP, which it had asked for at its parent's end: {how}leaves[{pid}] (uid 0) ended");
        let by = if tells_of_every_sender() { by } else { "SIGHUP, whose sender was not seen".to_owned() };
        assert!(says.contains(&by), "{says}");
    }
}

const FORBIDS: &str = include_str!("../../src/victims/forbids.c");

#[test]
fn whom_seccomp_ends_is_told_for_which_call() {
    let home = Home::new(&restarting("nobody"));
    let mut agent = home.agent();
    let (name, other) = (name(), name());
    let program = compile(home.scratch(), &name, FORBIDS);
    // Twin: to it the call only fails.
    Victim::start(compile(home.scratch(), &other, FORBIDS), &["fails"]).wait();
    Victim::start(program, &[]).wait();
    let found = crate::diagnosis(&mut agent, "crash", &name);
    let says = found["sentence"].as_str().unwrap_or_default();
    assert!(says.contains("ended by SIGSYS: seccomp forbids the call uname ("), "{says}");
    assert_eq!(found["detail"]["certificate"]["by_seccomp"], true, "{found}");
    crate::caught_up(&mut agent);
    assert_eq!(crate::diagnoses(&home, &other), Vec::<Value>::new(), "{}", agent.log());
}

/// As in a container whose first process is killed.
#[test]
fn whoever_is_left_in_a_pid_namespace_dies_with_its_first_process() {
    let home = Home::new(&restarting(&name()));
    let mut agent = home.agent();
    let mut outer = Victim::start("unshare", &["--fork", "--pid", "sh", "-c", "sleep 1000 & wait"]);
    let inside = until("the namespace", || {
        let family = family(outer.tgid());
        family.get(2).map(|left| (family[1], *left))
    });
    let mut killer = Victim::start("/bin/bash", &["-c", &format!("kill -9 {}; sleep 1", inside.0)]);
    let first = says(&mut agent, inside.0);
    assert!(first.contains(&format!("killed by SIGKILL from bash[{}]", killer.tgid())), "{first}");
    let left = says(&mut agent, inside.1);
    let mut how = "ended by SIGKILL from the kernel".to_owned();
    if tells_of_every_sender() {
        how += &format!(", as the first process of its pid namespace, sh[{}] (uid 0), had ended", inside.0);
    }
    assert!(left.contains(&how), "{left}");
    outer.wait();
    killer.wait();
}

/// Owned by its name alone, it is no main process of anything.
#[test]
fn who_runs_under_a_policy_is_said_to_and_who_hands_a_signal_on_was_killed_by_its_sender() {
    let home = Home::new(&policy("shadow", "comm: python3", TELL));
    let mut agent = home.agent();
    let victim = "import os, signal\n\
        def handler(number, _frame):\n    signal.signal(number, signal.SIG_DFL)\n    os.kill(os.getpid(), number)\n\
        signal.signal(signal.SIGTERM, handler)\nwhile True: signal.pause()\n";
    let mut victim = Victim::start("python3", &["-c", victim]);
    let pid = victim.tgid().to_string();
    let living = format!("python3[{pid}] is running under policy test.");
    agent.wait("the living", |_agent| {
        let told = home.healer(&["why", &pid]);
        String::from_utf8_lossy(&told.stdout).contains(&living).then_some(())
    });
    let catches = format!("/proc/{pid}/status");
    agent.wait("the handler", |_agent| {
        let status = std::fs::read_to_string(&catches).ok()?;
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"))?.trim();
        let caught = u64::from_str_radix(caught, 16).ok()?;
        (caught & 1 << (libc::SIGTERM - 1) != 0).then_some(())
    });
    let mut killer = Victim::start("/bin/bash", &["-c", &format!("kill {pid}; sleep 1")]);
    victim.wait();
    let end = end_of(&mut agent, &pid);
    let says = end["sentence"].as_str().unwrap_or_default();
    assert!(says.contains(&format!("killed by SIGTERM from bash[{}]", killer.tgid())), "{says}");
    killer.wait();
}

/// Lesser signals of a service that has no handler for them.
#[test]
fn whoever_strikes_a_service_with_a_rare_signal_is_named() {
    let name = name();
    let home = Home::new(&restarting(&format!("'{name}*'")));
    let mut agent = home.agent();
    for (at, signal) in ["VTALRM", "PROF", "IO", "PWR", "STKFLT", "RTMIN+2"].into_iter().enumerate() {
        let service = Supervised::start(&home, &format!("{name}-{at}"), &["sleep", "1000"]);
        let kill = format!("kill -{signal} {}; sleep 1", service.child());
        let mut killer = Victim::start("/bin/bash", &["-c", &kill]);
        let down = agent.record(&service.workload(), "diagnosis", "\"class\":\"down\"");
        let by = format!("killed by SIG{signal} from bash[{}]", killer.tgid());
        assert!(down["sentence"].as_str().unwrap_or_default().contains(&by), "{by}: {down}");
        killer.wait();
    }
}
