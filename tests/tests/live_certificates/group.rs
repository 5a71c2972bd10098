//! One blow for many, and many blows: told apart by what the sender's call named.

use std::{fs, path::PathBuf};

use healer_tests::{
    home::{Agent, Home, signal_to, until},
    policies::restarting,
    scratch::unique_name,
    supervised::{Supervised, lives, name},
    victim::Victim,
};
use rustix::process::Signal;

/// A cgroup v2 of the test's own; killed empty and removed on drop.
pub(crate) struct V2Cgroup(PathBuf);

impl V2Cgroup {
    pub(crate) fn new() -> Self {
        let roots = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"].map(PathBuf::from);
        let root = roots.into_iter().find(|root| root.join("cgroup.controllers").exists());
        let path = root.expect("this test needs cgroup v2").join(unique_name());
        fs::create_dir(&path).expect("this test needs root, to make a cgroup");
        Self(path)
    }

    pub(crate) fn add(&self, pid: u32) {
        fs::write(self.0.join("cgroup.procs"), pid.to_string()).expect("the process can be moved");
    }

    /// Shell words.
    pub(crate) fn kill_words(&self) -> String {
        format!("echo 1 > {}/cgroup.kill", self.0.display())
    }
}

impl Drop for V2Cgroup {
    fn drop(&mut self) {
        fs::write(self.0.join("cgroup.kill"), "1").ok();
        for _attempt in 0..200 {
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(core::time::Duration::from_millis(10));
        }
    }
}

/// A supervised shell that leads a process group of its own, with two children in it.
fn family(home: &Home, name: &str) -> (Supervised, Vec<u32>) {
    let script = "sleep 1000 & a=$!; sleep 1000 & echo $$ $a $! > \"$0.new\"; mv \"$0.new\" \"$0\"; wait";
    let notes = home.path().join(name).display().to_string();
    let service = Supervised::start(home, name, &["setsid", "sh", "-c", script, &notes]);
    let pids = until("the family", || {
        let text = fs::read_to_string(&notes).ok()?;
        Some(text.split_whitespace().map(|pid| pid.parse().expect("a pid")).collect::<Vec<u32>>())
    });
    (service, pids)
}

fn sentence(agent: &mut Agent<'_>, service: &Supervised) -> String {
    let down = agent.record(&service.workload(), "diagnosis", "\"class\":\"down\"");
    down["sentence"].as_str().unwrap_or_default().to_owned()
}

fn end(pids: &[u32]) {
    for pid in pids.iter().filter(|pid| lives(**pid)) {
        signal_to(*pid, Signal::KILL);
    }
}

#[test]
fn a_blow_at_a_group_and_blows_at_its_members() {
    let name = name();
    let home = Home::new(&restarting(&format!("'{name}*'")));
    let mut agent = home.agent();
    let twin = Supervised::start(&home, &format!("{name}-twin"), &["sleep", "1000"]);
    let says = |agent: &mut Agent<'_>, part: &str, words: &dyn Fn(&[u32]) -> String| {
        let (service, pids) = family(&home, &format!("{name}-{part}"));
        let mut killer = Victim::start("/bin/bash", &["-c", &format!("{}; sleep 1", words(&pids))]);
        let says = sentence(agent, &service);
        assert!(says.contains(&format!("bash[{}]", killer.tgid())), "{says}");
        killer.wait();
        end(&pids);
        (says, pids[0])
    };

    let (group, leader) = says(&mut agent, "group", &|pids| format!("kill -9 -- -{}", pids[0]));
    assert!(group.contains(&format!("sent to process group {leader}")), "{group}");

    let (each, _) = says(&mut agent, "each", &|pids| format!("kill -9 {} {} {}", pids[0], pids[1], pids[2]));
    assert!(each.contains("killed by SIGKILL from bash["), "three calls, three targets: {each}");

    let twice = |pids: &[u32]| format!("kill -CONT {0}; kill -TERM {0}; kill -KILL {0}", pids[0]);
    let (twice, _) = says(&mut agent, "twice", &twice);
    assert!(twice.contains("from bash[") && !twice.contains("group"), "{twice}");

    assert_eq!(home.of(&twin.workload()), Vec::<serde_json::Value>::new(), "{}", agent.log());
}
