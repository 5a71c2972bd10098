//! A real Docker: containers are diagnosed by name and label and restarted through the API, by their owner first.

use std::{path::Path, thread, time::Duration};

use healer_tests::{
    agent::{Agent, number_after},
    dockerd::Dockerd,
    scratch::Scratch,
};

const POLICY: &str = "
apiVersion: healer.dev/v1alpha1
kind: HealPolicy
metadata: {name: front}
spec:
  mode: enforce
  match: {containerLabels: {tier: front}}
  expect: {running: true}
  rules:
    - {name: restart, when: [{class: crash}, {class: down}], capture: {logLines: 5}, escalate: [{do: restart, grace: 1s}, {do: notify}]}
  verify: {within: 20s, stableFor: 500ms}
";

const FRONT: &[&str] = &["--label", "tier=front"];
const FOREVER: &[&str] = &["sleep", "100000"];

/// Of a healer that no runtime tells anything: what the kernel says of a container must do.
const BY_CGROUP: &str = "
apiVersion: healer.dev/v1alpha1
kind: HealPolicy
metadata: {name: unheard}
spec:
  mode: shadow
  match: {cgroup: '**/docker/*'}
  expect: {running: true}
  rules:
    - {name: tell, when: [{class: down, for: 1s}, {class: crash_loop}], escalate: [{do: notify}]}
";

#[test]
fn containers_are_healed_by_name_and_label_through_their_runtime() {
    let docker = Dockerd::start();
    docker.run("web", FRONT, &["sh", "-c", "echo hello from web; exec /bin/busybox sleep 100000"]);
    docker.run("twin", FRONT, FOREVER);
    docker.run("told", FRONT, FOREVER);
    docker.run("shot", FRONT, FOREVER);
    docker.run("own", &[FRONT, &["--restart", "always"]].concat(), FOREVER);
    let agent = Agent::start(&format!("runtimes: {{docker: {}}}", docker.socket().display()), POLICY);
    let unheard = Agent::start(
        &format!("runtimes: {{docker: {}}}", docker.socket().with_extension("none").display()),
        BY_CGROUP,
    );
    let names = ["web", "twin", "told", "own", "shot"];
    let before = names.map(|name| docker.pid(name));
    let [web, twin, told, own, shot] = before;

    docker.docker(&["stop", "--time", "1", "told"]);
    docker.docker(&["kill", "shot"]);
    kill(own);
    until(|| ![0, own].contains(&docker.pid("own")));
    kill(web);
    // Started behind our back, and under no policy.
    docker.run("short", &[], &["sh", "-c", "/bin/busybox sleep 2; exit 3"]);

    let by = format!("busybox[{web}] killed by SIGKILL from");
    let down = agent.wait_for(&["web is down", &by, "no successor in 5"]);
    let evidence = agent.evidence(&down);
    assert!(evidence.contains("last lines of") && evidence.contains(" hello from web\n"), "{evidence}");
    let done = agent.wait_for(&["docker restarted container web: running"]);
    let after = number_after(&done, "main pid ");
    agent.wait_for(&["closed  healed", &format!("busybox[{after}] has lived")]);
    assert_eq!(docker.pid("web"), after);
    assert_ne!(web, after);

    assert_eq!(docker.pid("twin"), twin, "the healthy one is not touched");
    assert_ne!(docker.pid("own"), own, "Docker restarts what it was told to");
    let why = agent.why(shot);
    assert!(why.contains(&format!("busybox[{shot}] of shot killed by SIGKILL from runc")), "{why}");
    assert_eq!(docker.pid("told") + docker.pid("shot"), 0, "stopped is stopped: {told}");
    for name in ["twin", "told", "own", "shot"] {
        let acts = agent.lines(&["docker restarted container", name]);
        assert_eq!(acts, [""; 0], "{}", agent.log());
    }
    agent.wait_for(&["of short", "exited with"]);
    unheard.wait_for(&["is down", &format!("busybox[{web}] killed by SIGKILL from")]);
    for stopped in [told, twin, shot] {
        let said = unheard.lines(&[&format!("[{stopped}]")]);
        assert_eq!(said, [""; 0], "its runtime stopped it, or nobody did: {}", unheard.log());
    }
}

#[test]
fn who_failed_while_no_healer_ran_is_found() {
    let docker = Dockerd::start();
    let fails_once = "[ -e /again ] && exec /bin/busybox sleep 100000; /bin/busybox touch /again; exit 3";
    docker.run("fails", FRONT, &["sh", "-c", fails_once]);
    let fails_when_told = "trap 'exit 7' TERM; while :; do /bin/busybox sleep 0.1; done";
    docker.run("told", FRONT, &["sh", "-c", fails_when_told]);
    docker.run("nobodys", &[], &["sh", "-c", "exit 3"]);
    // What a SIGKILL leaves behind is the same, whoever sent it: Docker's events tell whose wish it was.
    let by_kill = ["shot", "axed", "halted"];
    for name in by_kill {
        docker.run(name, FRONT, FOREVER);
    }
    docker.docker(&["stop", "--time", "5", "told"]);
    docker.docker(&["stop", "--time", "1", "halted"]);
    docker.docker(&["kill", "axed"]);
    kill(docker.pid("shot"));
    let names = [&["fails", "nobodys"][..], &by_kill].concat();
    until(|| names.iter().all(|name| docker.pid(name) == 0));
    for name in by_kill {
        let status = docker.docker(&["inspect", "--format", "{{.State.ExitCode}}", name]);
        assert_eq!(status, "137", "{name}");
    }

    let agent = Agent::start(&format!("runtimes: {{docker: {}}}", docker.socket().display()), POLICY);
    for name in ["fails", "shot"] {
        agent.wait_for(&[&format!("docker restarted container {name}: running")]);
    }
    until(|| agent.lines(&["closed  healed"]).len() >= 2);
    assert!(docker.pid("fails") != 0 && docker.pid("shot") != 0, "{}", agent.log());
    for name in ["told", "nobodys", "axed", "halted"] {
        assert_eq!(docker.pid(name), 0, "{}", agent.log());
        for said in [format!("of {name}"), format!("{name} is down"), format!("container {name}:")] {
            assert_eq!(agent.lines(&[&said]), [""; 0], "{}", agent.log());
        }
    }
}

fn until(mut check: impl FnMut() -> bool) {
    for _look in 0..300 {
        if check() {
            return;
        }
        thread::sleep(Duration::from_millis(50));
    }
    panic!("it did not come true");
}

fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(pid.cast_signed()).expect("it runs");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("it is there");
}

#[test]
fn a_socket_that_hangs_is_a_time_out_with_words() {
    let dir = Scratch::new();
    let path = dir.path().join("docker.sock");
    // Takes the connection and never says a word.
    let _deaf = std::os::unix::net::UnixListener::bind(&path).expect("the scratch directory can be written");
    let agent = Agent::start(&format!("runtimes: {{docker: {}}}", path.display()), POLICY);
    agent.wait_for(&["no Docker at", "no answer within 2 s"]);
    thread::sleep(Duration::from_millis(100));
    assert!(Path::new(&format!("/proc/{}", agent.pid())).exists());
}
