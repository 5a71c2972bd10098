//! What a hostile or careless neighbour may do to the agent: links in its directory, names that are not theirs, a
//! webhook that never answers or is not found, a crowd of processes. Healing goes on. Needs root.

use std::{
    fs::{self, File},
    os::unix::{
        fs::{DirBuilderExt as _, FileExt as _, symlink},
        net::UnixListener,
    },
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use healer_tests::{
    home::{Agent, Home, pause, signal_to},
    policies::{RESTART, policy, restarting, units},
    supervised::{Supervised, lives, name},
    victim::{Victim, compile},
};
use rustix::process::Signal;
use serde_json::Value;

fn words(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout)
}

fn is_healed(agent: &mut Agent<'_>, service: &Supervised) {
    let child = service.child();
    pause(Duration::from_millis(300));
    signal_to(child, Signal::KILL);
    agent.record(&service.workload(), "closed", "\"outcome\":\"healed\"");
    assert!(lives(service.successor(child)), "{}", agent.log());
}

#[test]
fn links_in_the_state_directory_are_not_followed() {
    for name in ["audit.jsonl", "audit.head.new", "journal.redb", "lock", "agent.sock"] {
        let home = Home::new(&restarting("x"));
        fs::DirBuilder::new().mode(0o700).create(home.state()).unwrap();
        let precious = home.path().join("precious");
        fs::write(&precious, "precious").unwrap();
        symlink(&precious, home.state().join(name)).unwrap();
        let mut command = home.run_command();
        let output = command.args(["--duration", "1s"]).output().unwrap();
        assert_eq!(fs::read_to_string(&precious).unwrap(), "precious", "{name}: {}", words(&output));
        assert!(!words(&output).contains("panicked"), "{name}: {}", words(&output));
    }
    let home = Home::new(&restarting("x"));
    let real = home.path().join("real");
    fs::DirBuilder::new().mode(0o700).create(&real).unwrap();
    symlink(&real, home.state()).unwrap();
    let output = home.run_command().output().unwrap();
    assert!(!output.status.success() && words(&output).contains("symbolic link"), "{}", words(&output));
    assert_eq!(fs::read_dir(&real).unwrap().count(), 0, "nothing was written there");
}

/// Calls itself what its first argument says, in comm and arguments.
const NAMED: &str = r#"
    #include <stdlib.h>
    #include <string.h>
    #include <sys/prctl.h>
    #include <unistd.h>
    int main(int argc, char **argv) {
        prctl(PR_SET_NAME, argv[1]);
        memcpy(argv[0], argv[1], strlen(argv[1]));
        for (;;) pause();
    }"#;

#[test]
fn a_name_protects_nobody_and_a_protected_program_needs_none() {
    let (imitates, hides) = (name(), name());
    let both = policy("enforce", &format!("supervise: [{imitates}, {hides}]"), RESTART);
    let home = Home::new(&both);
    let [liar, guarded] = ["liar", "guarded"].map(|name| compile(home.scratch(), name, NAMED));
    let config = format!("protect: {{exes: [/usr/sbin/sshd, {}]}}", guarded.display());
    let mut agent = home.agent_with_config(&config);
    let liar = [liar.to_str().unwrap(), "sshd"];
    is_healed(&mut agent, &Supervised::start(&home, &imitates, &liar));
    let service = Supervised::start(&home, &hides, &[guarded.to_str().unwrap(), "nobody"]);
    let child = service.child();
    pause(Duration::from_millis(300));
    signal_to(child, Signal::KILL);
    let refused = agent.record(&service.workload(), "gate", "is protected");
    assert_eq!((&refused["gate"], &refused["verdict"]), (&"protected".into(), &"refuse".into()));
    assert_eq!(service.child_now(), None);
}

#[test]
fn a_webhook_that_never_answers_holds_nobody_up() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    heals_beside_a_webhook_at(&silent.local_addr().unwrap().to_string());
}

/// RFC 2606: nobody has that name; where no name server is reached nobody says so either.
#[test]
fn a_webhook_whose_name_nobody_knows_holds_nobody_up() {
    heals_beside_a_webhook_at("nowhere.invalid:9093");
}

fn heals_beside_a_webhook_at(authority: &str) {
    let name = name();
    let loud = RESTART.replace("escalate: [{do: restart", "escalate: [{do: notify}, {do: restart");
    let home = Home::new(&policy("enforce", &format!("supervise: {name}"), &loud));
    let url = format!("http://{authority}/api/v2/alerts");
    let mut agent = home.agent_with_config(&format!("sinks: {{webhook: {{url: \"{url}\", timeout: 1s}}}}"));
    is_healed(&mut agent, &Supervised::start(&home, &name, &["sleep", "1000"]));
    let failed = "healer_webhook_posts_total{outcome=\"failed\"} ";
    agent.wait("the failed post", |agent| {
        let metrics = agent.get("/metrics");
        let count = metrics.lines().find_map(|line| line.strip_prefix(failed)?.parse::<f64>().ok());
        count.is_some_and(|count| 1.0 <= count).then_some(())
    });
}

/// Docker, a CRI runtime, systemd and the API server: each takes the connection and says nothing.
#[test]
fn owners_that_never_answer_hold_nobody_up() {
    let name = name();
    let units = units("nobody.service").replace("name: test", "name: units");
    let home = Home::new(&format!("{}---\n{units}", restarting(&name)));
    let silent = |kind: &str| UnixListener::bind(home.path().join(kind)).unwrap();
    let _owners = ["docker", "cri", "systemd"].map(silent);
    let api = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let kubeconfig = home.path().join("kubeconfig");
    let cluster = format!("{{name: c, cluster: {{server: 'http://{}'}}}}", api.local_addr().unwrap());
    let rest = "users: [{name: u, user: {token: t}}]\ncontexts: [{name: x, context: {cluster: c, user: u}}]\ncurrent-context: x";
    fs::write(&kubeconfig, format!("apiVersion: v1\nkind: Config\nclusters: [{cluster}]\n{rest}\n")).unwrap();
    let at = home.path().display();
    let config = format!(
        "runtimes: {{docker: {at}/docker, cri: {at}/cri, systemd: {at}/systemd}}\nkubernetes: {{kubeconfig: {}, node: n1}}",
        kubeconfig.display()
    );
    let mut agent = home.agent_with_config(&config);
    is_healed(&mut agent, &Supervised::start(&home, &name, &["sleep", "1000"]));
    for said in
        ["no Docker at", "no container runtime at", "no systemd at", "are not followed: list healpolicies"]
    {
        agent.wait(said, |agent| {
            let log = agent.log();
            log.lines().any(|line| line.contains(said) && line.contains("no answer within")).then_some(())
        });
    }
    agent.signal(Signal::TERM);
    assert!(agent.end().success(), "{}", agent.log());
}

fn chattr(flag: &str, file: &Path) {
    let output = Command::new("chattr").arg(flag).arg(file).output().expect("chattr of e2fsprogs");
    assert!(output.status.success(), "{}", words(&output));
}

#[test]
fn without_an_audit_nothing_is_done_and_all_is_done_when_it_can_be_written_again() {
    let name = name();
    let home = Home::new(&restarting(&name));
    let mut agent = home.agent();
    let service = Supervised::start(&home, &name, &["sleep", "1000"]);
    let child = service.child();
    pause(Duration::from_millis(300));
    let audit = home.state().join("audit.jsonl");
    chattr("+i", &audit);
    signal_to(child, Signal::KILL);
    agent.wait("the gate", |agent| agent.log().contains("journal_not_writable").then_some(()));
    pause(Duration::from_millis(800));
    let (started, status) = (service.child_now(), words(&home.healer(&["status"])));
    chattr("-i", &audit);
    assert_eq!(started, None, "no act without its record: {}", agent.log());
    assert!(status.contains("audit.jsonl: Operation not permitted"), "{status}");
    agent.record(&service.workload(), "closed", "\"outcome\":\"healed\"");
    assert!(lives(service.successor(child)));
    assert!(home.healer(&["audit", "verify"]).status.success());
}

/// All live at once; then all are gone at once, half of them in failure.
const CROWD: &str = r#"
    #include <signal.h>
    #include <stdlib.h>
    #include <sys/prctl.h>
    #include <sys/wait.h>
    #include <unistd.h>
    int main(int argc, char **argv) {
        int gate[2], count = argc > 1 ? atoi(argv[1]) : 10000;
        if (pipe(gate)) return 2;
        for (int i = 0; i < count; i++) {
            pid_t pid = fork();
            if (pid == 0) {
                char byte;
                prctl(PR_SET_PDEATHSIG, SIGKILL);
                close(gate[1]);
                read(gate[0], &byte, 1);
                _exit(i % 2);
            }
            if (pid < 0) return 3;
        }
        close(gate[1]);
        while (wait(0) > 0) {}
        return 0;
    }"#;

/// In code of a library that it has loaded, two threads wait for each other. Their locks lie elsewhere: whoever cuts the
/// file short takes away what was mapped of it.
const IN_LIBRARY: &str = r#"
    #include <pthread.h>
    #include <stdlib.h>
    #include <unistd.h>
    static pthread_mutex_t *locks;
    static void *other(void *arg) {
        pthread_mutex_lock(&locks[1]);
        usleep(200000);
        pthread_mutex_lock(&locks[0]);
        return arg;
    }
    void get_stuck(void) {
        pthread_t thread;
        locks = malloc(2 * sizeof *locks);
        pthread_mutex_init(&locks[0], 0);
        pthread_mutex_init(&locks[1], 0);
        pthread_create(&thread, 0, other, 0);
        pthread_mutex_lock(&locks[0]);
        usleep(200000);
        pthread_mutex_lock(&locks[1]);
    }"#;
const LOADS_IT: &str = r#"
    #include <dlfcn.h>
    int main(int argc, char **argv) {
        void *library = dlopen(argv[1], RTLD_NOW);
        if (!library) return 2;
        ((void (*)(void))dlsym(library, "get_stuck"))();
        return 3;
    }"#;

fn library(home: &Home) -> PathBuf {
    let [source, more, library] = ["stuck.c", "more.s", "libstuck.so"].map(|name| home.path().join(name));
    fs::write(&source, IN_LIBRARY).unwrap();
    // Whoever reads its symbols reads for a while.
    fs::write(&more, (0..200_000).map(|number| format!("f{number}: nop\n")).collect::<String>()).unwrap();
    let mut gcc = Command::new("gcc");
    gcc.args(["-O0", "-shared", "-fPIC", "-o"]).args([&library, &source, &more]);
    let output = gcc.output().expect("this test needs gcc");
    assert!(output.status.success(), "{}", words(&output));
    library
}

/// Both of its threads wait, and need no code any more.
fn is_stuck(pid: u32) -> bool {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let places = tasks.map(|task| fs::read_to_string(task.path().join("wchan")).unwrap_or_default());
    places.filter(|place| place.contains("futex")).count() == 2
}

/// Of the incident that is about its deadlock.
fn evidence(agent: &Agent<'_>, pid: u32) -> Option<String> {
    let records = agent.home().audit();
    let is_it = |one: &&Value| {
        one["record"] == "diagnosis" && one["class"] == "deadlock" && one["target"]["pid"] == pid
    };
    let about = records.iter().find(is_it)?;
    let incident = about["incident"].as_str()?;
    fs::read_to_string(agent.home().state().join(format!("capture-{incident}.txt"))).ok()
}

/// Also when the test fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn files_of_a_patient_that_shrink_while_they_are_read_do_not_end_the_agent() {
    const PATIENTS: usize = 3;
    let home = Home::new(&restarting("nobody"));
    let (program, library) = (compile(home.scratch(), "loads", LOADS_IT), library(&home));
    let whole = fs::read(&library).unwrap();
    let mut agent = home.agent();
    let patients: Vec<_> =
        (0..PATIENTS).map(|_| Victim::start(&program, &[library.to_str().unwrap()])).collect();
    agent.wait("all to be stuck", |_| patients.iter().all(|patient| is_stuck(patient.tgid())).then_some(()));
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let file = File::options().write(true).open(&library).unwrap();
            while !is_over.load(Ordering::Relaxed) {
                file.set_len(0).unwrap();
                file.write_all_at(&whole, 0).unwrap();
                thread::sleep(Duration::from_millis(3));
            }
        });
        let _over = Over(&is_over);
        for patient in &patients {
            agent.wait("its evidence", |agent| evidence(agent, patient.tgid()));
        }
    });
    drop(patients);
    let last = Victim::start(&program, &[library.to_str().unwrap()]);
    let text = agent.wait("the evidence of one more", |agent| evidence(agent, last.tgid()));
    assert!(text.contains("get_stuck+") && text.contains("(libstuck.so"), "the file is whole again:\n{text}");
    agent.signal(Signal::TERM);
    assert!(agent.end().success(), "{}", agent.log());
}

/// A part of what the machine and this test's own cgroup take.
fn allowed() -> u64 {
    let number = |path: &str| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let cgroup = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = cgroup.lines().find_map(|line| line.strip_prefix("0::"));
    let pids = own.and_then(|path| number(&format!("/sys/fs/cgroup{path}/pids.max")));
    pids.map_or(u64::MAX, |pids| pids / 2).min(number("/proc/sys/kernel/threads-max").unwrap_or(u64::MAX) / 8)
}

#[test]
fn ten_thousand_processes_at_once_leave_the_agent_well() {
    let name = name();
    let home = Home::new(&restarting(&name));
    let program = compile(home.scratch(), "crowd", CROWD);
    let mut agent = home.agent();
    let service = Supervised::start(&home, &name, &["sleep", "1000"]);
    assert!(lives(service.child()));
    let count = allowed().min(10_000).to_string();
    let mut crowd = Victim::start(&program, &[&count]);
    is_healed(&mut agent, &service);
    assert_eq!(crowd.wait(), 0, "{count} processes are allowed here");
    let metrics = agent.get("/metrics");
    assert!(metrics.contains("healer_ring_lost_total"), "{metrics}");
}
