//! Needs root and gcc: queues behind a thread that may run again. Each names its root and what keeps it, and none is a
//! deadlock; `healer locks` says the same to a person.

use std::{fs, process::Command, time::Duration};

use healer_tests::{
    binary::healer,
    hangs::{Watch, build, family},
    scratch::Scratch,
    victim::Victim,
};
use healer_userspace::{
    clock,
    engine::{
        class::Class,
        detect::deadlock::{Convoy, Root, convoys},
    },
};

/// What keeps the root, and the victim's mode that makes it.
const QUEUES: &[(&str, Root)] = &[
    ("convoy", Root::Sleeps),
    ("behind_runner", Root::Runs),
    ("behind_network", Root::WaitsForNetwork),
    ("behind_vfork", Root::Uninterruptible),
    ("stopped_holder", Root::Stopped),
    // Behind a lock of the kernel's: its holder sleeps in a page fault.
    ("inode_lock", Root::Sleeps),
];

struct Queue {
    mode: &'static str,
    why: Root,
    victim: Victim,
}

impl Queue {
    /// Every one has a directory of its own for its files.
    fn all(dir: &Scratch) -> Vec<Self> {
        let program = build(dir, "locks.c");
        let start = |(mode, why): &(&'static str, Root)| {
            let own = dir.path().join(mode);
            fs::create_dir(&own).expect("the scratch directory can be written");
            let victim = Victim::start(&program, &[mode, own.to_str().expect("a plain path")]);
            Self { mode, why: *why, victim }
        };
        QUEUES.iter().map(start).collect()
    }

    /// The queue behind one of its threads.
    fn seen(&self, watch: &Watch) -> Option<Convoy> {
        let family = family(self.victim.tgid());
        let snapshot = watch.last_snapshot()?;
        let is_ours =
            |tid: u32| snapshot.tasks.iter().any(|one| one.tid == tid && family.contains(&one.tgid));
        convoys(snapshot).into_iter().find(|one| is_ours(one.root) && one.why == self.why)
    }
}

#[expect(clippy::print_stdout, reason = "what was said, for whoever reads the test's output")]
fn say(line: &str) {
    println!("{line}");
}

#[test]
fn a_queue_names_its_root_and_what_keeps_it() {
    let dir = Scratch::new();
    let queues = Queue::all(&dir);
    let mut watch = Watch::open_to_all();
    let deadline = clock::boot() + Duration::from_secs(60);
    while !queues.iter().all(|queue| queue.seen(&watch).is_some()) {
        assert!(clock::boot() < deadline, "{:?}", missing(&queues, &watch));
        watch.scan();
    }
    // Who holds a lock of the kernel's, only the kernel's own scan tells: the command asks /proc.
    for queue in queues.iter().filter(|queue| queue.mode != "inode_lock") {
        let output = Command::new(healer()).args(["locks", &queue.victim.tgid().to_string()]).output();
        let output = output.expect("healer can be started");
        let text = String::from_utf8_lossy(&output.stdout);
        say(&format!("{}: {text}", queue.mode));
        assert!(output.status.success(), "a queue is no deadlock: {text}");
        assert!(text.contains("queue  ") && text.contains(queue.why.says()), "{}: {text}", queue.mode);
    }
    (0..12).for_each(|_| watch.scan());
    for queue in &queues {
        let is_called_dead = |pid: &u32| watch.said.keys().any(|key| *key == (*pid, Class::Deadlock));
        let called: Vec<_> = family(queue.victim.tgid()).into_iter().filter(is_called_dead).collect();
        assert!(called.is_empty(), "{}: {called:?}", queue.mode);
    }
}

fn missing(queues: &[Queue], watch: &Watch) -> Vec<String> {
    let of = |queue: &Queue| {
        let family = family(queue.victim.tgid());
        let tasks = watch.last_snapshot().into_iter().flat_map(|one| &one.tasks);
        let tasks: Vec<_> = tasks.filter(|task| family.contains(&task.tgid)).collect();
        format!("{}: {tasks:?}", queue.mode)
    };
    queues.iter().filter(|queue| queue.seen(watch).is_none()).map(of).collect()
}

/// The graph of one process, of everybody, and of somebody who waits for nobody.
#[test]
fn the_command_tells_deadlocks_from_queues() {
    let dir = Scratch::new();
    let program = build(&dir, "locks.c");
    let start = |mode: &str| Victim::start(&program, &[mode, dir.path().to_str().expect("a plain path")]);
    let (dead, queue, idle) = (start("abba_live"), start("convoy"), Victim::start("/bin/sleep", &["100000"]));
    let locks = |pid: Option<u32>| {
        let output = Command::new(healer()).arg("locks").args(pid.map(|pid| pid.to_string())).output();
        let output = output.expect("healer can be started");
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let until = |pid: u32, wanted: &str| {
        let deadline = clock::boot() + Duration::from_secs(30);
        loop {
            let (code, text) = locks(Some(pid));
            if text.contains(wanted) {
                return (code, text);
            }
            assert!(clock::boot() < deadline, "{wanted} is not in {text}");
        }
    };
    let (code, text) = until(dead.tgid(), "deadlock (proved)");
    assert_eq!(code, Some(1), "a deadlock was seen");
    let [first, second] = threads_that_lock(dead.tgid());
    for part in
        ["2 threads wait for each other", &format!("[{first}]"), &format!("[{second}]"), "for mutex 0x"]
    {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    assert!(!text.contains(&format!("[{}]", queue.tgid())), "only what it is part of: {text}");
    let (code, text) = until(queue.tgid(), "queue  ");
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(locks(Some(idle.tgid())), (Some(0), "nobody waits for somebody in particular\n".to_owned()));
    let (code, text) = locks(None);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("deadlock (proved)") && text.contains("queue  "), "{text}");
    let json = Command::new(healer()).args(["locks", "--json"]).output().expect("healer can be started");
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).expect("it is JSON");
    let tasks = json["tasks"].as_array().expect("a snapshot has tasks");
    assert!(tasks.iter().any(|task| task["tid"] == first && !task["waits"][0]["owners"].is_null()));
}

/// The two threads of a victim in `abba_live` that sleep in futex(2), beside its main thread and the one that ticks.
fn threads_that_lock(pid: u32) -> [u32; 2] {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("the victim lives");
    let tids = tasks.flatten().filter_map(|task| task.file_name().to_str()?.parse::<u32>().ok());
    let is_locking = |tid: &u32| {
        let call = fs::read_to_string(format!("/proc/{pid}/task/{tid}/syscall")).unwrap_or_default();
        call.starts_with("202 ")
    };
    let tids: Vec<u32> = tids.filter(is_locking).collect();
    tids.try_into().expect("two threads lock each other out")
}
