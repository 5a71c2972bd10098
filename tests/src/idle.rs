//! Servers and runtimes that others have written, at rest: nobody of them is ever hung.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

use crate::{
    hangs::build,
    postgres::{Cluster, QUITS_BY},
    scratch::Scratch,
    victim::Victim,
};

/// Each with its name; ended on drop.
pub struct Idle {
    programs: Vec<(&'static str, Victim)>,
    /// After the programs: they write there.
    _dir: Scratch,
}

impl Idle {
    /// redis, nginx with two workers, PostgreSQL, Node, a JVM and Go.
    ///
    /// # Panics
    /// If one of them is not installed: `cargo xtask test` sees to that.
    #[must_use]
    pub fn start() -> Self {
        let dir = Scratch::new();
        let programs = vec![
            ("redis", redis(&dir)),
            ("nginx", nginx(&dir)),
            ("postgres", postgres(&dir)),
            ("node", node()),
            ("java", java(&dir, "healthy", free_port())),
            ("go", go(&dir, "healthy", free_port())),
        ];
        Self { programs, _dir: dir }
    }

    /// Names and pids.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, u32)> {
        self.programs.iter().map(|(name, victim)| (*name, victim.tgid()))
    }
}

fn redis(dir: &Scratch) -> Victim {
    let port = free_port().to_string();
    let mut command = Command::new("redis-server");
    command.args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--dir"]).arg(dir.path());
    Victim::spawn(&mut command)
}

fn nginx(dir: &Scratch) -> Victim {
    Victim::spawn(&mut nginx_command(dir, free_port()))
}

/// Two workers.
///
/// # Panics
/// If the directory cannot be written.
#[must_use]
pub fn nginx_command(dir: &Scratch, port: u16) -> Command {
    let config = format!(
        "daemon off; worker_processes 2; pid nginx.pid; error_log error.log; events {{}} \
         http {{ access_log off; server {{ listen 127.0.0.1:{port}; location / {{ return 200 well; }} }} }}"
    );
    let path = dir.path().join("nginx.conf");
    fs::write(&path, config).expect("the scratch directory can be written");
    let mut command = Command::new("nginx");
    command.arg("-p").arg(dir.path()).arg("-e").arg(dir.path().join("error.log")).arg("-c").arg(&path);
    command
}

fn postgres(dir: &Scratch) -> Victim {
    let mut server = Victim::spawn(&mut Cluster::new(dir).server(&["listen_addresses="]));
    server.tell_first(QUITS_BY);
    server
}

fn node() -> Victim {
    let script = "require('http').createServer((_, answer) => answer.end()).listen(0, '127.0.0.1')";
    Victim::start("node", &["-e", script])
}

/// `victims/Server.java`, built in `dir`.
///
/// # Panics
/// Without a JDK.
#[must_use]
pub fn java(dir: &Scratch, mode: &str, port: u16) -> Victim {
    let class = dir.path().join("Server.class");
    let built = if class.exists() { class } else { build(dir, "Server.java") };
    let mut command = Command::new("java");
    command.arg("-cp").arg(built.parent().unwrap_or(dir.path())).args(["Server", mode, &port.to_string()]);
    Victim::spawn(&mut command)
}

/// `victims/server.go`, built in `dir`.
///
/// # Panics
/// Without Go.
#[must_use]
pub fn go(dir: &Scratch, mode: &str, port: u16) -> Victim {
    let program = dir.path().join("server_go");
    let program = if Path::new(&program).exists() { program } else { build(dir, "server.go") };
    Victim::start(program, &[mode, &port.to_string()])
}

/// Below those that the kernel hands out to clients and to whoever binds port 0 (`ip_local_port_range`, 32768 on).
const PORTS: core::ops::Range<u32> = 12_000..32_000;
/// Tests run side by side, in threads and in programs.
const PORTS_EACH: u32 = 64;

/// A port of the loopback that nobody has. Nobody else is given it while this program runs, unless one of the two
/// takes more than [`PORTS_EACH`].
///
/// # Panics
/// If there is none.
#[must_use]
pub fn free_port() -> u16 {
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    let first = std::process::id().wrapping_mul(PORTS_EACH);
    loop {
        let given = GIVEN.fetch_add(1, Ordering::Relaxed);
        assert!(given < PORTS.len() as u32, "loopback has ports");
        let port = PORTS.start + first.wrapping_add(given) % PORTS.len() as u32;
        let port = u16::try_from(port).expect("it is in the range");
        if is_free(port) {
            return port;
        }
    }
}

/// Bound and never listened on: for a moment, a listener would be taken for the server that is waited for.
fn is_free(port: u16) -> bool {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with};
    // A victim that another thread starts in this moment must not hold it for its life.
    let flags = SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None).expect("a socket");
    bind(&socket, &SocketAddr::from((Ipv4Addr::LOCALHOST, port))).is_ok()
}
