//! Needs root, Go, a JDK, Node, Ruby, rustc and python3: servers in many languages whose handlers lock each other out,
//! each beside a healthy one of its own make.

use std::{net::TcpStream, path::Path, process::Command};

use healer_tests::{
    hangs::build,
    idle::free_port,
    scratch::Scratch,
    victim::Victim,
    work::{Server, WorkWatch, send},
};
use healer_userspace::engine::class::{Certainty, Class};

/// Seconds that a busy machine may need longer: whoever gets no CPU is starved and not hung.
const PATIENCE: u64 = 90;

/// One make of server: what runs it, and its source.
struct Make {
    name: &'static str,
    command: fn(&Scratch) -> Command,
}

const MAKES: &[Make] = &[
    Make { name: "go_channel", command: |dir| Command::new(dir.path().join("channels_go")) },
    Make {
        name: "java_util_concurrent",
        command: |dir| {
            let mut command = Command::new("java");
            command.arg("-cp").arg(dir.path()).arg("Locks");
            command
        },
    },
    Make { name: "rust_rwlock", command: |dir| Command::new(dir.path().join("server_rs")) },
    Make { name: "node_atomics", command: |_| with_source("node", "server.js") },
    Make { name: "ruby_mutex", command: |_| with_source("ruby", "server.rb") },
    Make { name: "python_asyncio", command: |_| with_source("python3", "loop.py") },
];

fn with_source(program: &str, source: &str) -> Command {
    let mut command = Command::new(program);
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/victims").join(source));
    command
}

/// A server of this make, and clients that were answered once.
struct Served {
    name: &'static str,
    server: Server,
    clients: Vec<TcpStream>,
}

impl Served {
    fn start(make: &Make, dir: &Scratch) -> Self {
        let port = free_port();
        let victim = Victim::spawn((make.command)(dir).args(["serve", &port.to_string()]));
        Self { name: make.name, server: Server::of(victim, port), clients: Vec::new() }
    }

    fn greet(&mut self) {
        self.clients = (0..4).map(|_| self.server.answered()).collect();
    }

    fn pid(&self) -> u32 {
        self.server.pid()
    }
}

#[expect(clippy::print_stdout, reason = "what was said, for whoever reads the test's output")]
fn say(watch: &WorkWatch, one: &Served) {
    let said = watch.said(one.pid(), Class::Hang);
    println!("{}: {}", one.name, said.map_or("-", |said| &said.sentence));
}

#[test]
fn handlers_that_lock_each_other_out_are_a_hang_in_every_language() {
    let dir = Scratch::new();
    for source in ["channels.go", "Locks.java", "server.rs"] {
        let _program = build(&dir, source);
    }
    let start = |make: &Make| Served::start(make, &dir);
    let mut sick: Vec<_> = MAKES.iter().map(start).collect();
    let mut healthy: Vec<_> = MAKES.iter().map(start).collect();
    let mut watch = WorkWatch::default();
    for one in sick.iter_mut().chain(&mut healthy) {
        watch.track(one.name, one.pid());
        one.greet();
    }
    watch.look_for(3);
    sick.iter().flat_map(|one| &one.clients).for_each(|client| send(client, "lock\n"));
    // An event loop that is blocked accepts nobody: the second piece of evidence. Of the others it is their silence,
    // which a single answer would break: what answers somebody may be slow to others by nature.
    let _late = sick.iter().find(|one| one.name == "node_atomics").map(|one| one.server.connect());
    let is_hung = |watch: &WorkWatch, one: &Served| {
        watch.said(one.pid(), Class::Hang).is_some_and(|said| said.certainty == Certainty::Probable)
    };
    for _second in 0..PATIENCE {
        watch.look_for(1);
        if sick.iter().all(|one| is_hung(&watch, one)) {
            break;
        }
    }
    sick.iter().chain(&healthy).for_each(|one| say(&watch, one));
    for one in &sick {
        assert!(is_hung(&watch, one), "{}: {:?}", one.name, watch.said(one.pid(), Class::Hang));
    }
    for one in &healthy {
        assert!(watch.said(one.pid(), Class::Hang).is_none(), "{}", one.name);
    }
}
