//! Needs root, gcc, redis and postgresql: servers whose clients wait by design, and workers that wait for a job. Others
//! are served beside them, and nobody is called stuck.
//!
//! mostly waits

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    process::Command,
    thread,
    time::Duration,
};

use healer_tests::{
    hangs::{Watch, build, family},
    idle::free_port,
    postgres::{Cluster, QUITS_BY},
    scratch::Scratch,
    victim::Victim,
    work::{Server, WorkWatch, send},
};
use healer_userspace::{
    clock,
    engine::class::{Certainty, Class},
};

const ILL: [Class; 3] = [Class::Deadlock, Class::Hang, Class::Unkillable];

fn redis(dir: &Scratch) -> Server {
    let port = free_port();
    let mut command = Command::new("redis-server");
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--dir"]).arg(dir.path());
    Server::of(Victim::spawn(&mut command), port)
}

/// One line there, one line back.
fn asked(stream: &TcpStream, line: &str) -> String {
    send(stream, line);
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).expect("it answers");
    answer
}

/// Clients that were answered, and now wait for whatever comes into a list, without an end.
fn poppers(server: &Server, count: usize) -> Vec<TcpStream> {
    let pop = |_| {
        let stream = server.connect();
        assert_eq!(asked(&stream, "PING\r\n"), "+PONG\r\n");
        send(&stream, "BLPOP jobs 0\r\n");
        stream
    };
    (0..count).map(pop).collect()
}

fn postgres(dir: &Scratch) -> Server {
    let port = free_port();
    let at = format!("port={port}");
    let mut server = Victim::spawn(&mut Cluster::new(dir).server(&["listen_addresses=127.0.0.1", &at]));
    server.tell_first(QUITS_BY);
    Server::of(server, port)
}

/// A session of PostgreSQL by its own protocol (its manual, "Message Formats").
struct Session(TcpStream);

impl Session {
    fn open(server: &Server) -> Self {
        const VERSION_3: u32 = 3 << 16;
        let words = b"user\0test\0database\0postgres\0\0";
        let len = words.len() as u32 + 8;
        let startup = [&len.to_be_bytes()[..], &VERSION_3.to_be_bytes(), words].concat();
        let deadline = clock::boot() + Duration::from_secs(20);
        loop {
            let session = Self(server.connect());
            (&session.0).write_all(&startup).expect("the connection lives");
            if session.is_ready().is_some() {
                return session;
            }
            assert!(clock::boot() < deadline, "it does not take a session");
            thread::sleep(Duration::from_millis(100));
        }
    }

    fn say(&self, query: &str) {
        let len = query.len() as u32 + 5;
        let message = [&b"Q"[..], &len.to_be_bytes(), query.as_bytes(), b"\0"].concat();
        (&self.0).write_all(&message).expect("the connection lives");
    }

    /// Reads up to `ReadyForQuery`; `None` if the server closes before, as while it starts.
    fn is_ready(&self) -> Option<()> {
        loop {
            let mut head = [0; 5];
            (&self.0).read_exact(&mut head).ok()?;
            let [kind, len @ ..] = head;
            let mut body = vec![0; (u32::from_be_bytes(len) as usize).checked_sub(4)?];
            (&self.0).read_exact(&mut body).ok()?;
            if kind == b'Z' {
                return Some(());
            }
        }
    }

    fn ask(&self, query: &str) {
        self.say(query);
        self.is_ready().expect("it answers");
    }
}

#[test]
fn clients_that_wait_by_design_make_no_hang_of_their_server() {
    let dirs = [(); 3].map(|()| Scratch::new());
    let (few, many, database) = (redis(&dirs[0]), redis(&dirs[1]), postgres(&dirs[2]));
    let mut work = WorkWatch::default();
    let all = [("few", &few), ("many", &many), ("database", &database)];
    all.iter().for_each(|(name, server)| work.track(name, server.pid()));
    let served = [&few, &many].map(Server::connect);
    let sessions = [(); 6].map(|()| Session::open(&database));
    let [queries, sleeps, listeners @ ..] = &sessions;
    sessions.iter().for_each(|session| session.ask("SELECT 1"));
    work.look_for(3);
    let _poppers = [poppers(&few, 2), poppers(&many, 4)];
    listeners.iter().for_each(|session| session.ask("LISTEN jobs"));
    sleeps.say("SELECT pg_sleep(100000)");
    let mut waits = Watch::open();
    // Longer than unanswered requests alone are taken for long polls.
    for second in 0..50 {
        work.look_for(1);
        served.iter().for_each(|stream| assert_eq!(asked(stream, "SET key value\r\n"), "+OK\r\n"));
        queries.ask("SELECT 1");
        if second % 5 == 0 {
            waits.scan();
        }
    }
    for (name, server) in all {
        for pid in family(server.pid()) {
            let stuck = ILL.map(|class| waits.said.get(&(pid, class)));
            assert!(stuck.iter().all(Option::is_none), "{name}: {stuck:?}");
        }
        assert!(work.said(server.pid(), Class::Deadlock).is_none(), "{name}");
        let hang = work.said(server.pid(), Class::Hang);
        // Four that are never answered while others are: it may keep them by design, and that is what is said.
        let is_right = hang.is_none_or(|one| name == "many" && one.certainty == Certainty::Suspected);
        assert!(is_right, "{name}: {hang:?}");
    }
}

/// Who holds a semaphore and who has emptied a queue look the same from outside: each is the last that took something
/// (`GETPID` of semctl(2)), and both have asked for an undo. So neither is called stuck.
#[test]
fn workers_at_semaphores_that_anybody_may_post_are_never_flagged() {
    let dir = Scratch::new();
    let program = build(&dir, "sysv.c");
    let victims = ["workers", "crosswise"].map(|mode| Victim::start(&program, &[mode]));
    let mut watch = Watch::open();
    let asleep = |pid: u32| {
        let call = std::fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default();
        call.starts_with(&format!("{} ", libc::SYS_semtimedop))
            || call.starts_with(&format!("{} ", libc::SYS_semop))
    };
    let deadline = clock::boot() + Duration::from_secs(20);
    for victim in &victims {
        while family(victim.tgid()).into_iter().filter(|pid| asleep(*pid)).count() < 2 {
            assert!(clock::boot() < deadline, "two of its children wait for each other's semaphore");
            thread::sleep(Duration::from_millis(100));
        }
    }
    // What is only probable is told after ten seconds.
    let deadline = clock::boot() + Duration::from_secs(15);
    while clock::boot() < deadline {
        watch.scan();
    }
    for pid in victims.iter().flat_map(|victim| family(victim.tgid())) {
        let said = ILL.map(|class| watch.said.get(&(pid, class)));
        assert!(said.iter().all(Option::is_none), "{said:?}");
    }
}
