//! Bad input and missing things: each is said in words, and what still works goes on working. Needs root.

use std::{os::unix::fs::PermissionsExt as _, os::unix::fs::chown, process::Command, time::Duration};

use healer_tests::{
    home::{Home, count, pause, signal_to},
    policies::{policy, restarting},
    small_disk::SmallDisk,
    supervised::{Supervised, lives, name},
    victim::{Victim, compile},
};
use rustix::process::Signal;

const FOREVER: [&str; 2] = ["sleep", "1000"];

fn words(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout)
}

#[test]
fn a_broken_policy_is_refused_with_line_and_column() {
    let home = Home::new(
        "apiVersion: healer.dev/v1alpha1\nkind: HealPolicy\nmetadata: {name: x}\nspec:\n  mood: shadow\n",
    );
    let output = home.run_command().output().unwrap();
    let said = words(&output);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("policy.yaml:5:3") && said.contains("mood"), "{said}");
    assert!(!home.state().exists(), "nothing was begun");
}

#[test]
fn a_second_healer_on_the_same_state_directory_is_refused() {
    let name = name();
    let home = Home::new(&restarting(&name));
    let mut agent = home.agent();
    let output = home.run_command().output().unwrap();
    let said = words(&output);
    assert!(!output.status.success(), "{said}");
    assert!(said.contains(&format!("pid {}", agent.pid())), "{said}");
    assert!(!said.contains("panicked"), "{said}");
    // The first goes on.
    let service = Supervised::start(&home, &name, &FOREVER);
    pause(Duration::from_millis(200));
    signal_to(service.child(), Signal::KILL);
    agent.record(&service.workload(), "closed", "\"outcome\":\"healed\"");
}

#[test]
fn a_taken_port_is_said_in_words() {
    let home = Home::new(&restarting("x"));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut command = Command::new(healer_tests::binary::healer());
    command.args(["run", "--state-dir"]).arg(home.state());
    command.args(["--listen", &taken.local_addr().unwrap().to_string()]);
    let output = command.output().unwrap();
    assert!(!output.status.success());
    assert!(words(&output).contains("choose another address with --listen"), "{}", words(&output));
}

/// Control characters and escapes of terminals, as bytes.
fn is_clean(text: &str) -> bool {
    text.chars().all(|c| c == '\n' || !c.is_control())
}

/// A line of the exposition format: a quote in a label ends nothing but the label.
fn is_sample(line: &str) -> bool {
    let mut rest = line.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || "_:".contains(c));
    if let Some(labels) = rest.strip_prefix('{') {
        let (mut is_quoted, mut is_escaped) = (false, false);
        let end = labels.find(|c| {
            let was_escaped = core::mem::take(&mut is_escaped);
            is_escaped = c == '\\' && is_quoted && !was_escaped;
            is_quoted ^= c == '"' && !was_escaped;
            c == '}' && !is_quoted
        });
        let Some(end) = end else { return false };
        rest = &labels[end + 1..];
    }
    rest.trim().parse::<f64>().is_ok()
}

#[test]
fn hostile_names_reach_no_reader_raw() {
    let home = Home::new("");
    // Comm, arguments and the path itself: ANSI, newline, carriage return, a metric's quote, a broken byte.
    let source = r#"
        #include <stdlib.h>
        #include <sys/prctl.h>
        #include <unistd.h>
        int main(int argc, char **argv) {
            if (argc < 3) {
                execl("/proc/self/exe", "\033[2J\033]0;owned\007", "a\nb\r\x9b\xff\"}", "\xe2\x80\xae", (char *)0);
            }
            prctl(PR_SET_NAME, "\033[31m\nx\"} 1\r");
            usleep(200000);
            abort();
        }"#;
    let program = compile(home.scratch(), "hostile", source);
    home.write_policy(&policy(
        "shadow",
        "comm: '*'",
        "
  rules:
    - name: tell
      when: [{class: crash}, {class: crash_loop}]
      escalate: [{do: notify}]
",
    ));
    for log in ["pretty", "json"] {
        let mut command = home.run_command();
        command.args(["--log", log]);
        let mut agent = home.agent_of(command);
        for _life in 0..3 {
            Victim::start(&program, &[]).wait();
        }
        agent.wait("the crash", |agent| agent.log().contains("SIGABRT").then_some(()));
        agent.wait("its record", |_| {
            home.audit().iter().any(|record| record.to_string().contains("[31m")).then_some(())
        });
        assert!(is_clean(&agent.log()), "{:?}", agent.log());
        assert!(agent.log().contains("\\x1b[31m") || agent.log().contains("\\\\x1b[31m"), "{}", agent.log());
        let metrics = agent.get("/metrics");
        let metrics = metrics.replace("\r\n", "\n");
        assert!(is_clean(&metrics), "{metrics:?}");
        let (_head, body) = metrics.split_once("\n\n").expect("HTTP");
        let broken = body.lines().find(|line| !line.starts_with('#') && !is_sample(line));
        assert_eq!(broken, None);
        for path in ["/api/v1/incidents", "/api/v1/sensors"] {
            let answer = agent.get(path).replace("\r\n", "\n");
            assert!(is_clean(&answer), "{answer:?}");
        }
        for ask in [vec!["incidents"], vec!["status"], vec!["why", "i1"], vec!["incidents", "i1"]] {
            let said = words(&home.healer(&ask));
            assert!(is_clean(&said), "{ask:?}: {said:?}");
        }
    }
    let audit = std::fs::read_to_string(home.state().join("audit.jsonl")).unwrap();
    assert!(is_clean(&audit), "the audit may be shown on a terminal");
}

#[test]
fn on_a_full_disk_acts_stop_sensing_goes_on_and_room_brings_them_back() {
    let name = name();
    let disk = SmallDisk::new("8m");
    let home = Home::with_state(&restarting(&name), disk.path().join("state"));
    let mut agent = home.agent();
    let service = Supervised::start(&home, &name, &FOREVER);
    let child = service.child();
    pause(Duration::from_millis(300));
    disk.fill();
    signal_to(child, Signal::KILL);
    // Sensing goes on, and both are said: on the log, for the audit has no room.
    agent.wait("the diagnosis", |agent| agent.log().contains("is down: sleep[").then_some(()));
    agent.wait("the refusal", |agent| agent.log().contains("journal_not_writable").then_some(()));
    agent.wait("the gate", |agent| agent.log().contains("journal_writable holds").then_some(()));
    pause(Duration::from_millis(800));
    assert_eq!(service.child_now(), None, "no act without its intent on disk: {}", agent.log());
    let status = words(&home.healer(&["status"]));
    assert!(status.contains("No space left"), "{status}");
    disk.make_room();
    agent.wait("the act", |agent| agent.log().contains("restarted by its supervisor").then_some(()));
    agent.record(&service.workload(), "closed", "\"outcome\":\"healed\"");
    assert!(lives(service.successor(child)));
    assert_eq!(count(&home.of(&service.workload()), "result", "\"outcome\":\"done\""), 1);
}

/// A home that a user without rights may use.
fn home_of_nobody(policy: &str) -> Home {
    let home = Home::new(policy);
    std::fs::set_permissions(home.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::create_dir(home.state()).unwrap();
    std::fs::set_permissions(home.state(), std::fs::Permissions::from_mode(0o700)).unwrap();
    chown(home.state(), Some(65534), Some(65534)).unwrap();
    home
}

fn as_nobody(home: &Home) -> (Command, tempbin::Copied) {
    let binary = tempbin::copy(home);
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&binary.0);
    (command, binary)
}

/// The binary may lie where nobody else may look.
mod tempbin {
    use std::{os::unix::fs::PermissionsExt as _, path::PathBuf};

    pub struct Copied(pub PathBuf);

    pub fn copy(home: &super::Home) -> Copied {
        let path = home.path().join("healer");
        if !path.exists() {
            std::fs::copy(healer_tests::binary::healer(), &path).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        Copied(path)
    }
}

#[test]
fn without_root_it_says_what_is_missing_and_heals_what_supervisors_tell() {
    let name = name();
    let home = home_of_nobody(&restarting(&name));
    let (mut run, _binary) = as_nobody(&home);
    home.add_run(&mut run);
    let mut agent = home.agent_of(run);
    let log = agent.log();
    assert!(log.contains("lacks CAP_BPF and CAP_PERFMON"), "{log}");
    assert!(log.contains("run healer as root"), "{log}");
    let (mut supervise, _binary) = as_nobody(&home);
    supervise.arg("--state-dir").arg(home.state()).args(["supervise", "--name", &name, "--"]).args(FOREVER);
    let service = Supervised::spawn(&name, &mut supervise);
    let first = service.child();
    pause(Duration::from_millis(300));
    signal_to(first, Signal::KILL);
    let diagnosis = agent.record(&service.workload(), "diagnosis", "\"class\":\"down\"");
    assert!(diagnosis["sentence"].as_str().unwrap().contains("SIGKILL"), "{diagnosis}");
    agent.record(&service.workload(), "closed", "\"outcome\":\"healed\"");
    assert!(lives(service.successor(first)));
    let (mut sensors, _binary) = as_nobody(&home);
    sensors.arg("--state-dir").arg(home.state()).arg("sensors");
    let said = words(&sensors.output().unwrap());
    assert!(said.contains("process_exit") && said.contains("CAP_BPF"), "{said}");
}

#[test]
fn root_without_capabilities_is_told_what_is_missing() {
    let name = name();
    let home = Home::new(&restarting(&name));
    // The process connector, which asks for no capability, is not there in other network namespaces.
    let mut run = Command::new("unshare");
    run.args(["--net", "setpriv", "--bounding-set=-all", "--inh-caps=-all"]);
    run.arg(healer_tests::binary::healer());
    home.add_run(&mut run);
    let mut agent = home.agent_of(run);
    assert!(agent.log().contains("lacks CAP_BPF and CAP_PERFMON"), "{}", agent.log());
    assert!(agent.log().contains("supervised commands are still healed"), "{}", agent.log());
    let service = Supervised::start(&home, &name, &FOREVER);
    pause(Duration::from_millis(300));
    signal_to(service.child(), Signal::KILL);
    agent.record(&service.workload(), "closed", "\"outcome\":\"healed\"");
}

#[test]
fn without_btf_it_says_so_and_takes_the_next_rung() {
    let name = name();
    let home = Home::new(&restarting(&name));
    // In a mount namespace of its own /sys/kernel/btf is an empty directory.
    let mut run = Command::new("unshare");
    run.args(["--mount", "sh", "-c", "mount -t tmpfs none /sys/kernel/btf && exec \"$0\" \"$@\""]);
    run.arg(healer_tests::binary::healer());
    home.add_run(&mut run);
    let mut agent = home.agent_of(run);
    assert!(agent.log().contains("BTF"), "{}", agent.log());
    let rung = "only by tracepoint: process_exit, ";
    assert!(agent.log().contains(rung), "{}", agent.log());
    let service = Supervised::start(&home, &name, &FOREVER);
    pause(Duration::from_millis(300));
    signal_to(service.child(), Signal::KILL);
    agent.record(&service.workload(), "diagnosis", "killed by SIGKILL from ");
    agent.record(&service.workload(), "closed", "\"outcome\":\"healed\"");
}

#[test]
fn duration_ends_with_success_and_the_default_policy_sees_a_crash_at_once() {
    let home = Home::new("");
    let program = compile(home.scratch(), "stumble", "int main(void) { *(volatile int *)0x10 = 1; }");
    let mut command = Command::new(healer_tests::binary::healer());
    command.arg("run").arg("--state-dir").arg(home.state());
    command.args(["--listen", "127.0.0.1:0", "--duration", "4s"]);
    let mut agent = home.agent_of(command);
    assert!(agent.log().contains("mode shadow"), "{}", agent.log());
    let began = healer_userspace::clock::boot();
    Victim::start(&program, &[]).wait();
    agent.wait("the crash", |agent| agent.log().contains("stumble[").then_some(()));
    let took = healer_userspace::clock::boot().since(began);
    assert!(took < Duration::from_secs(2), "{took:?}: a second, and room for a busy machine");
    assert!(agent.log().contains("crashed with SIGSEGV at address 0x10"), "{}", agent.log());
    assert_eq!(agent.end().code(), Some(0), "{}", agent.log());
    assert!(agent.log().contains("--duration is over"), "{}", agent.log());
}
