//! What dies and is healed: services that somebody kills, services that crash, and one that hangs and hears.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use healer_tests::{
    home::{Agent, Home},
    supervised::{Programs, Supervised},
    victim::{Victim, compile},
};

/// Notes its pid in `$0`, and stays.
const STAYS: &str = "echo $$ >> \"$0\"; exec sleep 1000";
/// Notes its pid in `$0`, and fails.
const FAILS: &str = "echo $$ >> \"$0\"; sleep 0.15; exit 1";

/// Two threads wait for each other for ever; a third notes each SIGTERM in the file `argv[1]`.
const HEARS: &str = r#"
    #include <fcntl.h>
    #include <pthread.h>
    #include <signal.h>
    #include <stdio.h>
    #include <unistd.h>
    static pthread_mutex_t a = PTHREAD_MUTEX_INITIALIZER, b = PTHREAD_MUTEX_INITIALIZER;
    static int notes;
    static void heard(int signal) { dprintf(notes, "%d\n", getpid()); }
    static void *cross(void *arg) {
        pthread_mutex_lock(&b); usleep(100000); pthread_mutex_lock(&a); return arg;
    }
    int main(int argc, char **argv) {
        notes = open(argv[1], O_CREAT | O_APPEND | O_WRONLY, 0600);
        signal(SIGTERM, heard);
        pthread_t t;
        pthread_create(&t, 0, cross, 0);
        pthread_mutex_lock(&a); usleep(100000); pthread_mutex_lock(&b);
    }"#;

pub(crate) struct Victims {
    pub(crate) name: String,
    pub(crate) hook: PathBuf,
    pub(crate) hears: Programs,
    dir: PathBuf,
}

impl Victims {
    pub(crate) fn of(home: &Home, name: &str) -> Self {
        let dir = home.path().to_path_buf();
        let hook = dir.join("hook.sh");
        let text = format!("#!/bin/sh\necho \"$HEALER_ACTION_KEY\" >> {}\n", dir.join("hooks").display());
        fs::write(&hook, text).expect("the scratch directory can be written");
        fs::set_permissions(&hook, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("it is ours");
        let hears = compile(home.scratch(), "hears", HEARS).canonicalize().expect("it was just built");
        Self { name: name.to_owned(), hook, hears: Programs(hears), dir }
    }

    /// Restart what is down, run the hook before that if it crashed, stop and then kill what is stuck.
    pub(crate) fn policy(&self) -> String {
        format!(
            "
apiVersion: healer.dev/v1alpha1
kind: HealPolicy
metadata: {{name: services}}
spec:
  mode: enforce
  match: {{supervise: '{name}*'}}
  rules:
    - name: crashed
      when: [{{class: crash}}]
      escalate: [{{do: run_hook, command: ['{hook}'], timeout: 10s}}, {{do: restart, timeout: 20s}}]
    - name: down
      when: [{{class: down}}]
      escalate: [{{do: restart, timeout: 20s}}]
{SAFETY}
---
apiVersion: healer.dev/v1alpha1
kind: HealPolicy
metadata: {{name: stuck}}
spec:
  mode: enforce
  match: {{exe: {hears}}}
  rules:
    - name: stuck
      when: [{{class: deadlock}}]
      escalate: [{{do: stop, grace: 300ms, timeout: 10s}}, {{do: kill, timeout: 10s}}]
{SAFETY}
",
            name = self.name,
            hook = self.hook.display(),
            hears = self.hears.0.display(),
        )
    }

    /// An agent whose node may act as often as it likes; `fail_point` is a state of the journal, or empty.
    pub(crate) fn agent<'home>(&self, home: &'home Home, fail_point: &str) -> Agent<'home> {
        let config = self.dir.join("agent.yaml");
        let text = "apiVersion: healer.dev/v1alpha1\nkind: AgentConfig\nbudget: {node: {max: 10000, per: 1h}}\nstorm: {targets: 10000}\n\
            breaker: {node: {tripAfter: 10000, within: 1m, probeAfter: 1s}}\n";
        fs::write(&config, text).expect("the scratch directory can be written");
        let mut command = home.run_command();
        command.arg("--config").arg(config);
        if !fail_point.is_empty() {
            command.env("HEALER_FAIL_POINT", fail_point);
        }
        home.agent_of(command)
    }

    /// Stays until somebody kills it.
    pub(crate) fn stays(&self, home: &Home, number: usize) -> Supervised {
        self.start(home, &format!("stays-{number}"), STAYS)
    }

    /// Fails again and again.
    pub(crate) fn fails(&self, home: &Home, number: usize) -> Supervised {
        self.start(home, &format!("fails-{number}"), FAILS)
    }

    fn start(&self, home: &Home, leaf: &str, script: &str) -> Supervised {
        let lives = self.dir.join(leaf).display().to_string();
        Supervised::start(home, &format!("{}-{leaf}", self.name), &["sh", "-c", script, &lives])
    }

    /// Hangs, and hears SIGTERM.
    pub(crate) fn stuck(&self) -> Victim {
        Victim::start(&self.hears.0, &[&self.heard_file().display().to_string()])
    }

    fn heard_file(&self) -> PathBuf {
        self.dir.join("heard")
    }

    /// How many SIGTERMs each process has heard.
    pub(crate) fn heard(&self) -> BTreeMap<String, usize> {
        count(&self.heard_file())
    }

    /// How often each key of an intent has run the hook.
    pub(crate) fn hooks(&self) -> BTreeMap<String, usize> {
        count(&self.dir.join("hooks"))
    }

    /// Pids of the lives of a service so far.
    pub(crate) fn lives(&self, service: &Supervised) -> Vec<u32> {
        let leaf = service.name.trim_start_matches(&self.name).trim_start_matches('-');
        let text = fs::read_to_string(self.dir.join(leaf)).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }
}

const SAFETY: &str = "  safety:
    budget: {max: 10000, per: 1h}
    backoff: {initial: 10ms, factor: 1, max: 10ms, resetAfter: 1m}
    breaker: {tripAfter: 10000, within: 1m, probeAfter: 1s}
  verify: {within: 5s, stableFor: 50ms}";

fn count(path: &Path) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for line in fs::read_to_string(path).unwrap_or_default().lines() {
        *counts.entry(line.to_owned()).or_default() += 1;
    }
    counts
}
