//! Client and server over a real socket.

use core::sync::atomic::{AtomicU32, Ordering};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use serde_json::json;
use tokio::sync::mpsc;

use super::{
    client::{AskError, ask},
    *,
};
use crate::{
    engine::time::BootTime,
    report::{
        view::{Shared, Workload},
        wall::{Now, ReadClock},
    },
};

/// A directory of its own, removed when dropped.
pub(super) struct Scratch(PathBuf);

impl Scratch {
    pub(super) fn new(name: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let id = std::process::id();
        let path = std::env::temp_dir().join(format!("healer-control-{id}-{count}-{name}"));
        std::fs::create_dir_all(&path).expect("created");
        Self(path)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

fn clock() -> ReadClock {
    let wall = jiff::Timestamp::from_second(1_700_000_000).expect("in range");
    Arc::new(move || Now { boot: BootTime(60_000_000_000), wall })
}

fn shared() -> Shared {
    let shared = Shared::default();
    let record = json!({
        "record": "diagnosis", "incident": "i1", "workload": "supervise/web", "class": "down",
        "certainty": "proved", "sentence": "web is down", "target": {"pid": 10},
    });
    shared.update(|view| {
        view.book.add(record.as_object().expect("an object"));
        let key = "supervise/web".to_owned();
        view.workloads.insert(key.clone(), Workload { key, pid: 11, ..Workload::default() });
    });
    shared
}

/// Runs `client` in a thread of its own against a server whose orders `agent` answers.
fn with_server<T: Send + 'static>(
    agent: fn(Change) -> Result<String, String>,
    client: impl FnOnce(&Path) -> T + Send + 'static,
) -> T {
    let scratch = Scratch::new("server");
    let dir = scratch.path().to_owned();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async move {
        let (orders, mut taken) = mpsc::channel::<Order>(4);
        let server = bind(&dir, shared(), clock(), orders).expect("bound");
        let server = tokio::spawn(server.serve());
        let agent = tokio::spawn(async move {
            while let Some(order) = taken.recv().await {
                order.reply.send(agent(order.what)).ok();
            }
        });
        let told = tokio::task::spawn_blocking(move || client(&dir)).await.expect("no panic");
        server.abort();
        agent.abort();
        told
    })
}

fn no_orders(what: Change) -> Result<String, String> {
    Err(format!("unexpected {what:?}"))
}

#[test]
fn every_question_has_its_answer() {
    with_server(no_orders, |dir| {
        let told = |request| ask(dir, &request).expect("an answer");
        assert_eq!(told(Request::Status)["pid"], 0);
        assert_eq!(told(Request::Incidents { id: None })["incidents"][0]["id"], "i1");
        let one = told(Request::Incidents { id: Some("i1".into()) });
        assert_eq!(one["incidents"][0]["timeline"][0]["record"], "diagnosis");
        let why = told(Request::Why { target: "web".into() });
        assert_eq!(why["incidents"][0]["sentence"], "web is down");
        assert_eq!(why["workload"]["pid"], 11);
        assert_eq!(told(Request::Sensors), json!({"sensors": []}));
        assert_eq!(told(Request::Workloads)["workloads"][0]["key"], "supervise/web");
        assert_eq!(told(Request::Policies)["policies"], json!([]));
        let missing = ask(dir, &Request::Incidents { id: Some("i9".into()) });
        assert_eq!(missing.expect_err("unknown").to_string(), "no incident i9 in memory");
    });
}

#[test]
fn orders_reach_the_agent_with_who_gave_them() {
    fn agent(what: Change) -> Result<String, String> {
        match what {
            Change::Pause { by } => Ok(format!("paused by {by}")),
            Change::Resume => Ok("acting again".into()),
            Change::Reload => Err("policy.yaml:3:7: unknown key".into()),
            Change::CatchUp { about } => {
                Ok(about.map_or_else(String::new, |pid| format!("web[{pid}] is running")))
            }
            Change::Undo { of } => Ok(format!("undoing {of:?}")),
            Change::Record { .. } => Ok("recording".into()),
        }
    }
    with_server(agent, |dir| {
        let pause = Request::Pause { reason: Some("deploy".into()) };
        let says = ask(dir, &pause).expect("an answer")["says"].clone();
        let says = says.as_str().expect("text");
        assert!(says.starts_with("paused by healer pause (uid "), "{says}");
        assert!(says.ends_with("): deploy"), "{says}");
        assert_eq!(ask(dir, &Request::Resume).expect("an answer")["says"], "acting again");
        let living = |target: &str| {
            ask(dir, &Request::Why { target: target.into() }).expect("an answer")["living"].clone()
        };
        assert_eq!((living("17"), living("web")), ("web[17] is running".into(), serde_json::Value::Null));
        let refused = ask(dir, &Request::Reload).expect_err("refused");
        assert_eq!(refused.to_string(), "policy.yaml:3:7: unknown key");
    });
}

#[test]
fn nonsense_is_answered_in_words_and_the_next_line_is_heard() {
    use std::io::{BufRead as _, BufReader, Write as _};
    with_server(no_orders, |dir| {
        let mut stream = socket::connect(dir, SOCKET).expect("connected");
        stream.write_all(b"{\"ask\":\"fly\"}\n{\"ask\":\"sensors\"}\n").expect("sent");
        let mut lines = BufReader::new(stream).lines().map(|line| line.expect("a line"));
        let first = lines.next().expect("an answer");
        assert!(first.starts_with("{\"error\":\"not understood by healer "), "{first}");
        assert_eq!(lines.next().as_deref(), Some("{\"ok\":{\"sensors\":[]}}"));
    });
}

#[test]
fn no_agent_is_said_with_the_remedy() {
    let scratch = Scratch::new("empty");
    let error = ask(scratch.path(), &Request::Status).expect_err("nobody there");
    assert!(matches!(error, AskError::NoAgent { .. }));
    let dir = scratch.path().display();
    assert_eq!(
        error.to_string(),
        format!("no agent at {dir}: is `healer run` running? (--state-dir / HEALER_STATE_DIR)")
    );
}
