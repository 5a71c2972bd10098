//! The agent in a container as the base has it: its arguments, rights, mounts and memory, read-only, under the
//! runtime's own seccomp profile.

use std::{
    fs,
    process::{Child, Command, Stdio},
    thread,
};

use healer_tests::{
    containerd::{Containerd, Pod},
    home::{Home, count, is, until},
    policies::policy,
    rights::{set_of, set_with},
    scratch::{Scratch, unique_name},
    victim::Victim,
};
use serde_json::Value;

use super::{
    base::{Base, image, security_context_of},
    rights::{all_sensors_are_up, no_thread_may_load},
};

#[test]
fn the_base_senses_all_in_its_container_under_the_runtimes_own_profile() {
    let containerd = Containerd::start();
    let home = Home::new("");
    let contained = Contained::start(&containerd, &home);
    contained.answers_its_probe();
    all_sensors_are_up(&home);
    contained.finds_its_mounts();
    contained.is_confined();
    let says = |record: &Value| record["event"] == "rights" && record.to_string().contains("are given up");
    assert!(home.audit().iter().any(says), "{:?}", home.audit());
    no_thread_may_load(contained.pid());

    let neighbour = Victim::start("sleep", &["1000"]);
    let crashes = Victim::start("sh", &["-c", "kill -SEGV $$"]);
    let sandbox =
        containerd.pod(&Pod { namespace: "prod", name: "web-0", uid: "8d7e-1", labels: &[], memory: 0 });
    containerd.container(&sandbox, "app", 0, &["sh", "-c", "/bin/busybox sleep 2; exit 3"]);
    is_diagnosed(&home, &[&format!("[{}]", crashes.tgid()), "SIGSEGV"]);
    is_diagnosed(&home, &["prod/web-0/app", "exited with status 3"]);
    let mut accused = home.audit();
    accused.retain(|record| record["record"] == "diagnosis" && record["target"]["pid"] == neighbour.tgid());
    assert!(accused.is_empty(), "{accused:?}");
}

/// What could be restarted: PID 1 lives on, and its child is killed at the limit of the container.
const GREEDY: &[&str] =
    &["sh", "-c", "/bin/busybox sleep 2; /bin/busybox tail /dev/zero; exec /bin/busybox sleep 1000"];

/// Through the runtime's socket it could: `mode` of the AgentConfig that the base brings keeps it from that.
#[test]
fn what_a_policy_wants_enforced_is_only_said_from_the_base() {
    let containerd = Containerd::start();
    let home = Home::new("");
    let rules =
        "  rules:\n    - {name: again, when: [{class: oom_kill}], escalate: [{do: restart, grace: 1s}]}\n";
    let policies = home.path().join("healer-policies");
    fs::create_dir_all(&policies).expect("the scratch directory can be written");
    fs::write(policies.join("enforce.yaml"), policy("enforce", "namespaces: [prod]", rules))
        .expect("the scratch directory can be written");
    let contained = Contained::start(&containerd, &home);
    contained.answers_its_probe();

    let sandbox =
        containerd.pod(&Pod { namespace: "prod", name: "web-0", uid: "8d7e-2", labels: &[], memory: 0 });
    let sick = containerd.container(&sandbox, "app", 16 << 20, GREEDY);
    let living = containerd.pid(&sick);
    until("what would be done is said", || {
        let is_it = |record: &Value| {
            is(record, "result", "would have containerd restart") && record["outcome"] == "would_do"
        };
        home.audit().iter().any(is_it).then_some(())
    });
    let audit = home.audit();
    assert!(count(&audit, "intent", "\"policy\":\"test\"") > 0, "{audit:?}");
    assert_eq!(count(&audit, "intent", "\"mode\":\"enforce\""), 0, "{audit:?}");
    assert_eq!((containerd.state(&sick).0, containerd.pid(&sick)), (1, living), "it is not touched");
}

fn is_diagnosed(home: &Home, words: &[&str]) {
    until(&format!("a crash with {words:?}"), || {
        let is_it = |record: &Value| {
            let says = record.to_string();
            is(record, "diagnosis", "\"class\":\"crash\"") && words.iter().all(|word| says.contains(word))
        };
        home.audit().iter().any(is_it).then_some(())
    });
}

/// Ended and deleted on drop; its log is shown if the test has failed.
struct Contained {
    base: Base,
    runtime: Child,
    bundle: Scratch,
    name: String,
}

impl Contained {
    fn start(containerd: &Containerd, home: &Home) -> Self {
        let (base, bundle, name) = (Base::read(), Scratch::new(), unique_name());
        let root = bundle.path().join("rootfs");
        fs::create_dir_all(&root).expect("the scratch directory can be written");
        fs::create_dir_all(home.state()).expect("the scratch directory can be written");
        image(&root);
        let made = base.specification(containerd, home, &root, &name);
        assert_eq!(security_context_of(&made), base.security_context(), "it is to run as it is shipped");
        fs::write(bundle.path().join("config.json"), made.to_string()).expect("it can be written");
        let log = fs::File::create(bundle.path().join("log")).expect("it can be written");
        let mut run = runc(&bundle);
        run.args(["run", "--bundle"]).arg(bundle.path()).arg(&name);
        let runtime = run.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        Self { base, runtime: runtime.expect("this test needs root and runc"), bundle, name }
    }

    fn pid(&self) -> u32 {
        let state = runc(&self.bundle).args(["state", &self.name]).output().expect("runc can be started");
        let state: Value = serde_json::from_slice(&state.stdout).expect("the container is there");
        state["pid"].as_u64().and_then(|pid| pid.try_into().ok()).expect("a pid")
    }

    /// From where a kubelet's request would come in.
    fn answers_its_probe(&self) {
        let probe = &self.base.container()["readinessProbe"]["httpGet"]["path"];
        let url = format!("http://127.0.0.1:{}{}", self.base.port(), probe.as_str().expect("a path"));
        until("the agent is ready", || {
            let state = runc(&self.bundle).args(["state", &self.name]).output().expect("runc can be started");
            let state: Value = serde_json::from_slice(&state.stdout).ok()?;
            let mut ask = Command::new("nsenter");
            ask.arg(format!("--net=/proc/{}/ns/net", state["pid"]))
                .args(["busybox", "wget", "-q", "-O", "-", &url]);
            let answer = ask.output().expect("this test needs nsenter (util-linux)");
            answer.status.success().then_some(())
        });
    }

    /// What senses by typed programs needs neither of them, and reads less of who it was.
    fn finds_its_mounts(&self) {
        let mut doctor = runc(&self.bundle);
        let said = doctor.args(["exec", &self.name, "/healer", "doctor", "--json"]).output();
        let said: Value = serde_json::from_slice(&said.expect("runc can be started").stdout).expect("JSON");
        for (name, place) in [("tracefs", "/sys/kernel/tracing"), ("cgroups", "/sys/fs/cgroup")] {
            let mut checks = said["checks"].as_array().expect("a list").iter();
            let check = checks.find(|check| check["name"] == name).expect(name);
            assert!(check["says"].to_string().contains(place), "{check}");
        }
    }

    fn is_confined(&self) {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("it lives");
        // Of seccomp(2): 2 is a filter.
        for line in ["Seccomp:\t2", "NoNewPrivs:\t1"] {
            assert!(status.lines().any(|found| found == line), "{status}");
        }
        assert_eq!(set_of(self.pid(), "CapBnd:"), set_with(&self.base.rights), "{status}");
        let mounts = fs::read_to_string(format!("/proc/{}/mountinfo", self.pid())).expect("it lives");
        let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        // proc_pid_mountinfo(5): where it is mounted, and how.
        let mut roots = fields.filter(|fields| fields[4] == "/");
        assert!(roots.any(|root| root[5].split(',').any(|option| option == "ro")), "{mounts}");
    }
}

impl Drop for Contained {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{}", fs::read_to_string(self.bundle.path().join("log")).unwrap_or_default());
        }
        runc(&self.bundle).args(["delete", "--force", &self.name]).output().ok();
        self.runtime.kill().ok();
        self.runtime.wait().ok();
    }
}

/// With a state of its own: the machine's containers are not its.
fn runc(bundle: &Scratch) -> Command {
    let mut command = Command::new("runc");
    command.arg("--root").arg(bundle.path().join("runc"));
    command
}
