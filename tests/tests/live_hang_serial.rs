//! Needs root and python3: servers of one thread, over TCP and unix sockets, that hang, are slow, or wait for a backend.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{TcpListener, TcpStream},
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use healer_tests::{
    idle::free_port,
    scratch::Scratch,
    victim::Victim,
    work::{Server, WorkWatch, send},
};
use healer_userspace::engine::{
    class::{Certainty, Class},
    diagnosis::Diagnosis,
};

fn serial(words: &[&str]) -> Victim {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/victims/serial.py");
    Victim::spawn(Command::new("python3").arg(script).args(words))
}

fn tcp(mode: &str, backend: &str) -> Server {
    let port = free_port();
    Server::of(serial(&[mode, &port.to_string(), backend]), port)
}

#[expect(clippy::print_stdout, reason = "what was said, for whoever reads the test's output")]
fn said<'a>(watch: &'a WorkWatch, name: &str, pid: u32) -> Option<&'a Diagnosis> {
    let said = watch.said(pid, Class::Hang);
    println!(
        "{name}: {}",
        said.map_or("-".to_owned(), |one| format!("{} {}", one.certainty.name(), one.sentence))
    );
    said
}

/// Clients that ask again as soon as they are answered, each on a new connection, until it is dropped.
struct Clients(Arc<AtomicBool>);

impl Clients {
    fn of(port: u16, count: usize) -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        for _ in 0..count {
            let ends = Arc::clone(&ends);
            thread::spawn(move || {
                while !ends.load(Ordering::Relaxed) {
                    let Ok(stream) = TcpStream::connect(("127.0.0.1", port)) else { return };
                    send(&stream, "slow\n");
                    BufReader::new(&stream).read_line(&mut String::new()).ok();
                }
            });
        }
        Self(ends)
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn one_thread_that_serves_no_more_is_seen_and_a_slow_one_is_well() {
    let mut watch = WorkWatch::default();
    let (stuck, slow) = (tcp("one", ""), tcp("one", ""));
    // Of backends that take what is asked and say nothing.
    let dir = Scratch::new();
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let backend = silent.local_addr().expect("it listens").port().to_string();
    let path = dir.path().join("backend.socket");
    let _silent = UnixListener::bind(&path).expect("the scratch directory can be written");
    let deep = tcp("loop", "");
    let waiting = [
        ("asks", "ask\n", tcp("loop", &backend)),
        ("asks_here", "ask\n", tcp("loop", path.to_str().expect("a plain path"))),
        ("runs", "run\n", tcp("loop", "")),
    ];
    let all = [("stuck", &stuck), ("slow", &slow), ("deep", &deep)];
    all.iter().for_each(|(name, server)| watch.track(name, server.pid()));
    waiting.iter().for_each(|(name, _, server)| watch.track(name, server.pid()));
    drop((stuck.answered(), slow.answered()));
    let mut loops = vec![(&deep, "stuck\n")];
    loops.extend(waiting.iter().map(|(_, line, server)| (server, *line)));
    let streams: Vec<_> = loops.iter().map(|(server, _)| [server.answered(), server.answered()]).collect();
    watch.look_for(3);

    let _busy = Clients::of(slow.port, 3);
    loops.iter().zip(&streams).for_each(|((_, line), streams)| send(&streams[0], line));
    thread::sleep(Duration::from_millis(500));
    let mut held: Vec<TcpStream> = Vec::new();
    for ((server, _), streams) in loops.iter().zip(&streams) {
        send(&streams[1], "ping\n");
        held.push(server.connect());
    }
    let first = stuck.connect();
    send(&first, "stuck\n");
    for _ in 0..2 {
        held.push(stuck.connect());
        send(&held[held.len() - 1], "ping\n");
    }
    watch.look_for(20);
    // A busy machine may keep the CPU from them for a while.
    for _ in 0..60 {
        let mut hung = waiting.iter().map(|(.., server)| server).chain([&stuck]);
        let is_sure =
            watch.said(deep.pid(), Class::Hang).is_some_and(|one| one.certainty == Certainty::Probable);
        if is_sure && hung.all(|server| watch.said(server.pid(), Class::Hang).is_some()) {
            break;
        }
        watch.look_for(1);
    }

    // Whether the request in hand is a long one, nobody can see.
    let found = said(&watch, "stuck", stuck.pid()).expect("takes no more connections");
    assert_eq!((found.certainty, found.detail.kind.as_deref()), (Certainty::Suspected, Some("unresponsive")));
    assert_eq!(said(&watch, "deep", deep.pid()).map(|one| one.certainty), Some(Certainty::Probable));
    for (name, _, server) in &waiting {
        said(&watch, name, server.pid());
        // For the first minute.
        let found = watch.first(server.pid(), Class::Hang).expect("its clients wait");
        assert_eq!(found.certainty, Certainty::Suspected, "somebody else may be to blame");
        assert!(found.sentence.ends_with("it waits itself for somebody else"), "{}", found.sentence);
    }
    assert!(said(&watch, "slow", slow.pid()).is_none());
}

/// As soon as it listens.
fn connect(path: &Path) -> UnixStream {
    for _ in 0..200 {
        if let Ok(stream) = UnixStream::connect(path) {
            return stream;
        }
        thread::sleep(Duration::from_millis(50));
    }
    panic!("nobody listens on {}", path.display());
}

fn ask(mut stream: &UnixStream, line: &str) {
    stream.write_all(line.as_bytes()).expect("the connection lives");
}

fn answered(path: &Path) -> UnixStream {
    let stream = connect(path);
    ask(&stream, "ping\n");
    BufReader::new(&stream).read_line(&mut String::new()).expect("it answers");
    stream
}

#[test]
fn who_serves_over_a_unix_socket_hangs_as_others_do() {
    let dir = Scratch::new();
    let mut watch = WorkWatch::default();
    let paths: Vec<PathBuf> =
        ["hung", "well", "idle"].iter().map(|name| dir.path().join(format!("{name}.socket"))).collect();
    let servers: Vec<Victim> =
        paths.iter().map(|path| serial(&["loop", path.to_str().expect("a plain path")])).collect();
    let clients: Vec<Vec<UnixStream>> =
        paths.iter().map(|path| (0..3).map(|_| answered(path)).collect()).collect();
    servers.iter().zip(&paths).for_each(|(server, path)| {
        watch.track(&path.file_stem().unwrap_or_default().to_string_lossy(), server.tgid());
    });
    watch.look_for(3);

    ask(&clients[0][0], "stuck\n");
    thread::sleep(Duration::from_millis(500));
    ask(&clients[0][1], "ping\n");
    let _queued = connect(&paths[0]);
    let hung = |watch: &WorkWatch| {
        watch.said(servers[0].tgid(), Class::Hang).is_some_and(|one| one.certainty == Certainty::Probable)
    };
    for look in 0..80 {
        ask(&clients[1][0], "ping\n");
        ask(&clients[1][1], "slow\n");
        watch.look_for(1);
        if 20 <= look && hung(&watch) {
            break;
        }
    }

    let found = said(&watch, "hung", servers[0].tgid()).expect("serves nobody any more");
    assert_eq!(found.certainty, Certainty::Probable);
    assert!(found.sentence.contains("not accepted on a unix socket"), "{}", found.sentence);
    assert!(said(&watch, "well", servers[1].tgid()).is_none());
    assert!(said(&watch, "idle", servers[2].tgid()).is_none());
}
