//! The store on a disk that fills up, and `healer audit verify` as users run it. Needs root (mounts a tmpfs).

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use healer_userspace::{
    engine::{
        report::{Report, ReportFact},
        time::BootTime,
    },
    store::{
        ClockFacts, Store, Work,
        row::Moment,
        worker::{StoreEvent, StoreHandle},
    },
};
use rustix::{
    mount::{MountFlags, UnmountFlags, mount, unmount},
    time::{ClockId, clock_gettime},
};

const PATIENCE: Duration = Duration::from_secs(60);

/// A small file system of a test's own.
struct Tmpfs(PathBuf);

impl Tmpfs {
    fn new(name: &str, size: &str) -> Self {
        let path = std::env::temp_dir().join(format!("healer-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        let options = std::ffi::CString::new(format!("size={size},mode=0700")).unwrap();
        mount("healer-test", &path, "tmpfs", MountFlags::empty(), options.as_c_str())
            .expect("mount a tmpfs: run the live tests as root (cargo xtask test --live)");
        Self(path)
    }

    fn state(&self) -> PathBuf {
        self.0.join("state")
    }

    /// Leaves no byte free.
    fn fill(&self) {
        let mut file = fs::File::create(self.0.join("ballast")).unwrap();
        for size in [64 << 10, 4 << 10, 1] {
            let chunk = vec![0; size];
            while file.write_all(&chunk).is_ok() {}
        }
    }

    fn make_room(&self) {
        fs::remove_file(self.0.join("ballast")).unwrap();
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        unmount(&self.0, UnmountFlags::DETACH).unwrap();
        fs::remove_dir(&self.0).unwrap();
    }
}

fn now() -> Moment {
    let boot = clock_gettime(ClockId::Boottime);
    let wall = clock_gettime(ClockId::Realtime);
    let nanos = |seconds: i64, nanos: i64| u64::try_from(seconds * 1_000_000_000 + nanos).unwrap();
    Moment {
        boot: BootTime(nanos(boot.tv_sec, boot.tv_nsec)),
        wall: jiff::Timestamp::new(wall.tv_sec, i32::try_from(wall.tv_nsec).unwrap()).unwrap(),
    }
}

fn open(path: &Path) -> Store {
    let now = now();
    let facts = ClockFacts { boot_id: "this".into(), now_boot: now.boot, now_wall: now.wall };
    Store::open(path, facts).unwrap().0
}

fn start(store: Store) -> (StoreHandle, mpsc::Receiver<StoreEvent>) {
    let (sender, events) = mpsc::channel();
    let sender = Mutex::new(sender);
    let answer = Arc::new(move |event| sender.lock().unwrap().send(event).unwrap());
    (StoreHandle::start(store, Box::new(now), answer).unwrap(), events)
}

fn record(says: &str) -> Work {
    let fact = ReportFact::Agent { event: "test".into(), says: says.into() };
    Report { at: now().boot, incident: None, workload: None, fact }.into()
}

fn meant(n: u64) -> Vec<Work> {
    let intent = serde_json::json!({
        "entry": "intent", "policy": "p", "rule": "r", "rung_index": 0, "at": now().boot,
        "act": {
            "key": format!("k{n}"), "incident": n, "class": "down", "mode": "enforce",
            "rung": {"action": "restart"}, "workload": "supervise/web",
            "target": {"pid": 42, "start": 7, "comm": "web", "workload": "supervise/web"},
            "look": [], "incident_json": "x".repeat(4000),
        },
    });
    let entry: healer_userspace::engine::command::JournalEntry = serde_json::from_value(intent).unwrap();
    vec![record(&format!("intent {n}")), entry.into()]
}

fn next(events: &mpsc::Receiver<StoreEvent>) -> StoreEvent {
    events.recv_timeout(PATIENCE).unwrap()
}

fn verify(arguments: &[&str]) -> (Option<i32>, String) {
    let binary = std::env::current_exe().unwrap().with_file_name("../healer");
    let output = Command::new(&binary)
        .args(["audit", "verify"])
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}; cargo xtask build", binary.display()));
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).unwrap())
}

fn assert_whole(state: &Path) {
    let (code, said) = verify(&["--state-dir", state.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.starts_with("whole: "), "{said}");
}

#[test]
fn a_full_disk_stops_acts_until_there_is_room() {
    let disk = Tmpfs::new("store-full", "4m");
    let (handle, events) = start(open(&disk.state()));
    handle.submit(meant(1));
    assert!(matches!(next(&events), StoreEvent::Committed(_)));

    disk.fill();
    let refused = (2..2000).find_map(|n| {
        handle.submit(meant(n));
        match next(&events) {
            StoreEvent::Committed(_) | StoreEvent::Remembered(_) => None,
            told @ (StoreEvent::Failed { .. } | StoreEvent::Writable { .. }) => Some((n, told)),
        }
    });
    let (n, told) = refused.unwrap();
    assert!(
        matches!(&told, StoreEvent::Writable { writable: false, says } if says.contains("No space left")),
        "{told:?}"
    );
    let told = next(&events);
    assert!(matches!(&told, StoreEvent::Failed { key, .. } if key.0 == format!("k{n}")), "{told:?}");
    assert!(!handle.is_writable());
    handle.submit(vec![record("waits for room")]);

    disk.make_room();
    let told = next(&events);
    assert!(matches!(&told, StoreEvent::Writable { writable: true, .. }), "{told:?}");
    handle.submit(meant(5000));
    assert!(matches!(next(&events), StoreEvent::Committed(_)));
    assert_whole(&disk.state()); // while the agent runs
    handle.close().unwrap();
    assert_whole(&disk.state());
    let text = fs::read_to_string(disk.state().join("audit.jsonl")).unwrap();
    for says in ["waits for room", "intents refused: 1, records lost: 0", "intent 5000"] {
        assert!(text.contains(says), "{says}");
    }
    let recovered = open(&disk.state());
    assert!(recovered.notes().is_empty(), "{:?}", recovered.notes());
}

#[test]
fn healer_starts_on_a_full_disk() {
    let disk = Tmpfs::new("store-start-full", "4m");
    fs::create_dir(disk.state()).unwrap();
    disk.fill();
    let store = open(&disk.state());
    assert!(store.behind().unwrap().contains("No space left"), "{:?}", store.behind());
    let (handle, events) = start(store);
    assert!(matches!(next(&events), StoreEvent::Writable { writable: false, .. }));
    handle.submit(meant(1));
    assert!(matches!(next(&events), StoreEvent::Failed { .. }));
    disk.make_room();
    let remembered = next(&events);
    assert!(matches!(&remembered, StoreEvent::Remembered(it) if it.open.is_empty()), "{remembered:?}");
    assert!(matches!(next(&events), StoreEvent::Writable { writable: true, .. }));
    handle.submit(meant(2));
    assert!(matches!(next(&events), StoreEvent::Committed(_)));
    handle.close().unwrap();
    assert_whole(&disk.state());
}

#[test]
fn audit_verify_names_the_first_bad_line() {
    let disk = Tmpfs::new("store-verify", "16m");
    let state = disk.state();
    let path = state.to_str().unwrap();
    let mut store = open(&state);
    for n in 1..=5 {
        store.write(&mut meant(n), &[], now()).unwrap();
    }
    store.close(now()).unwrap();
    let (_, said) = verify(&["--state-dir", path]);
    assert!(said.starts_with("whole: 5 records (1 to 5) in 1 file"), "{said}");

    let audit = state.join("audit.jsonl");
    let whole = fs::read_to_string(&audit).unwrap();
    fs::write(&audit, whole.replace("intent 3", "intent 4")).unwrap();
    let (code, said) = verify(&["--state-dir", path]);
    assert_eq!(code, Some(1));
    assert!(said.starts_with("broken: audit.jsonl, line 3: its bytes do not give its hash"), "{said}");

    let cut: String = whole.split_inclusive('\n').take(4).collect();
    fs::write(&audit, cut).unwrap();
    let (code, said) = verify(&["--state-dir", path]);
    assert_eq!(code, Some(1));
    assert!(said.contains("ends with record 4, but healer wrote 5: the tail was cut"), "{said}");
    let (code, said) = verify(&[audit.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("no head to compare with"), "{said}");
    fs::remove_file(state.join("audit.head")).unwrap();
    let (code, said) = verify(&["--state-dir", path]);
    assert_eq!(code, Some(1), "the journal has the head too: {said}");

    let (code, said) = verify(&["--state-dir", "/nonexistent"]);
    assert_eq!(code, Some(2), "{said}");
}
