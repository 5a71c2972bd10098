use super::*;
use crate::identity::fixture::Tree;

fn says(text: &str) -> Says {
    script::says(text, &["./server".to_owned(), "-x".to_owned()], Some("/opt/app/server"))
}

fn restarts(text: &str) -> bool {
    says(text) == Says::Restarts
}

#[test]
fn a_loop_that_never_asks_restarts() {
    for text in [
        "while true; do ./server; done",
        "while :; do\n  ./server -x\n  sleep 1\ndone",
        "while true; do ./server >/dev/null 2>&1; sleep .2; done",
        "while sleep 1; do /opt/app/server; done",
        "until false\ndo\n  PORT=80 exec_me=1 ./server\ndone",
        "for (( ; ; )); do ./server; done",
        "#!/bin/bash\n# serve\nset -u\nwhile [ 1 ]; do ( ./server ); done",
        "while [ true ]; do ./server; done",
        "while [[ 1 ]]; do ./server; sleep 1; done",
        "while (( 1 )); do ./server; sleep 1; done",
        "until ((0)); do ./server; done",
        "while true; do ./server & wait; done",
        "while true; do ./server | tee log; done",
        "while true; do echo \"starting $(date)\"; nice ./server; echo 'ended; again'; done",
        "while true; do \"$SERVER\" -x; sleep 1; done",
        "start() { while true; do ./server; done; }\nstart",
        "if [ -f env ]; then . ./env; fi; while true; do ./server; done",
        "while true; do ./server; echo \"exited with $?\"; sleep 1; done",
        "while :; do ./server; rc=$?; echo \"ended: ${rc}\" >&2; logger -t x $rc; sleep 1; done",
        "while :; do ./server & wait $!; printf '%s %d\\n' \"$(date)\" $?; done",
        "while true; do ./server || true; sleep 1; done",
        "while true; do ./server; echo \"ended: $?\" >> /var/log/server.log; done",
        "while true; do ./server; echo \"ended: $?\" 2>&1 | tee -a log | logger -t x; done",
        "while true; do ./server; echo \"ended: $?\" >/dev/stderr; done",
        "while true; do ./server; echo \"--> server ended: $?\"; logger \"srv => $?\"; done",
        "while true; do ./server; echo \"ended: $?\" > /dev/null; echo $? | tee /dev/stderr; done",
        "while true; do ./server --port $((8000 + RANDOM % 99)) --id $(date +%s); done",
    ] {
        assert!(restarts(text), "{text}");
    }
}

#[test]
fn until_it_ends_well() {
    for text in [
        "until ./server; do echo Respawning; sleep 1; done",
        "until PORT=80 ./server -x 2>/dev/null\ndo\n  echo \"Server crashed with exit code $?.  Respawning..\" >&2\n  sleep 1\ndone",
        "while ! ./server; do sleep 1; done",
    ] {
        assert_eq!(says(text), Says::UntilItEndsWell, "{text}");
    }
    for text in [
        "while [ \"$wanted\" ]; do ./server; done",
        "while (( 0 )); do ./server; done",
        "while (( tries < 9 )); do ./server; done",
        "until ! ./server; do sleep 1; done",
        "while ./server; do sleep 1; done",
        "until ./server && ready; do sleep 1; done",
        "until [ -e x ]; do ./server; done",
        "until ./server; do sleep 1; done; ./server",
    ] {
        assert_eq!(says(text), Says::Nothing, "{text}");
    }
}

#[test]
fn whoever_asks_for_the_status_waits_for_an_answer() {
    for text in [
        "until ./server; do sleep 1; done",
        "while ! ./server; do sleep 1; done",
        "while ./server; do sleep 1; done",
        "while true; do ./server && break; sleep 1; done",
        "while true; do ./server || echo not yet; sleep 1; done",
        "while true; do if ./server; then echo ok; fi; sleep 1; done",
        "while true; do ./server; [ $? = 0 ] && break; sleep 1; done",
        "while true; do ./server; if test -f done; then break; fi; done",
        "while true; do ! ./server; done",
        "while true; do ./server || fallback; done",
        "while true; do ./server || true && break; done",
        "while true; do ./server; rc=$?; case $rc in 0) echo well;; esac; done",
        "while true; do ./server; rc=$?; [ $rc -eq 0 ] && mail; done",
        "while true; do ./server; if [ $? -ne 0 ]; then alert; fi; sleep 9; done",
        "while true; do ./server; log $?; done",
        "while true; do ./server; echo \"up $?\" > up.prom; done",
        "while true; do ./server; printf 'up %s' $? >|up.prom; done",
        "while true; do ./server; echo \"up $?\" | curl --data-binary @- http://push/; done",
        "while true; do ./server; echo \"up $?\" | tee up.prom; done",
        "while true; do ./server; echo \"up $?\" | tee -a log | nc push 9091; done",
        "while true; do ./server; echo $? >/dev/tcp/push/9091; done",
        "while true; do ./server; echo $? > /dev/shm/up; done",
        "while true; do ./server; rc=$?; echo $rc | tee log >up.prom; done",
        "for i in 1 2 3 4 5; do ./server; done",
        "for ((i=0; i<5; i++)); do ./server; done",
        "while read line; do ./server $line; done",
        "while true; do ./server; exit; done",
        "./server; while true; do sleep 1; done",
        "while true; do ./other; done",
        "n=0; until [ $n = 9 ]; do ./server; n=$((n+1)); done",
        "",
    ] {
        assert!(!restarts(text), "{text}");
    }
}

#[test]
fn a_tool_that_cannot_listen_serves_nobody() {
    let tree = Tree::new();
    let shell = ProcessId { pid: 40, start: crate::engine::time::BootTime(40_000_000) };
    tree.file("proc/40/stat", &stat(40, 4));
    tree.file("proc/40/cmdline", "sh\0-c\0while :; do check -x; daemon; /opt/own; done\0");
    let program = |path: &str, bytes: &str| tree.file(&format!("proc/40/root/{path}"), bytes);
    program("usr/bin/check", "\u{7f}ELF\0listening\0connect\0");
    program("usr/bin/daemon", "\u{7f}ELF\0connect\0listen\0");
    program("opt/own", "\u{7f}ELF\0");
    let says = |exe: &str, arg: &str| {
        let process = Process { exe: Some(exe.to_owned()), args: vec![arg.to_owned()], ..Process::default() };
        of_script(&tree.roots().proc, shell, &process)
    };
    assert_eq!(says("/usr/bin/check", "check"), Says::Nothing);
    assert_eq!(says("/usr/bin/daemon", "daemon"), Says::Restarts);
    assert_eq!(says("/opt/own", "/opt/own"), Says::Restarts);
}

#[test]
fn broken_scripts_say_nothing_and_break_nothing() {
    for text in
        ["while", "done done fi esac", "do ./server", "while true; do './server", "\"", "((", "\\", "! ! !"]
    {
        restarts(text);
    }
    assert!(!restarts("done; do ./server; done"));
}

#[test]
fn the_script_is_found_behind_c_and_in_a_file() {
    let tree = Tree::new();
    let shell = |line: &str| {
        tree.file("proc/40/cmdline", line);
        tree.file("proc/40/stat", &stat(40, 4));
        script_of(&tree.roots().proc, ProcessId { pid: 40, start: crate::engine::time::BootTime(40_000_000) })
    };
    assert_eq!(shell("sh\0-c\0while :; do x; done\0name\0").unwrap(), "while :; do x; done");
    assert_eq!(shell("bash\0-eu\0-xc\0x\0").unwrap(), "x");
    assert_eq!(shell("busybox\0sh\0-c\0x\0").unwrap(), "x");
    tree.file("proc/40/cwd/run.sh", "./server");
    assert_eq!(shell("/bin/sh\0-e\0run.sh\0").unwrap(), "./server");
    tree.file("proc/40/root/opt/run.sh", "other");
    assert_eq!(shell("/bin/sh\0/opt/run.sh\0").unwrap(), "other");
    for nothing in ["-bash\0", "bash\0-i\0", "sh\0/gone.sh\0", ""] {
        assert!(shell(nothing).is_err(), "{nothing:?}");
    }
    tree.file("proc/40/stat", &stat(40, 5));
    let other = ProcessId { pid: 40, start: crate::engine::time::BootTime(40_000_000) };
    assert!(script_of(&tree.roots().proc, other).is_err(), "the pid has another owner");
}

fn stat(pid: u32, start: u64) -> String {
    format!("{pid} (sh) S 1 {pid} {pid} 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 {start} 0 0 0")
}

#[test]
fn supervisors_of_services_are_known_by_their_program() {
    let supervises = |exe: Option<&str>, comm: &str| {
        let parent = Parent { exe: exe.map(str::to_owned), comm: comm.into(), pid: 4, ..Parent::default() };
        let mut process =
            Process { parent: Some(parent), args: vec!["/opt/app/server".into()], ..Process::default() };
        ShellLoops::new().note(Path::new("/proc"), &mut process);
        let parent = process.parent.expect("it has one");
        assert!(!parent.restarts_it);
        (parent.supervises, parent.may_restart_it)
    };
    assert_eq!(supervises(Some("/usr/bin/runsv"), "runsv"), (true, true));
    assert_eq!(supervises(Some("/bin/busybox"), "runsv"), (true, true));
    assert_eq!(supervises(Some("/usr/bin/python3.11"), "supervisord"), (true, true));
    assert_eq!(supervises(Some("/usr/bin/python3.11"), "supervise"), (false, true));
    assert_eq!(supervises(Some("/opt/app/checker"), "runsv"), (false, true));
    assert_eq!(supervises(None, "runsv"), (false, true));
}
