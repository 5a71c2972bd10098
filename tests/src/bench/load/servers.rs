//! Real servers, by their own CPU time per request: wall time says more about the neighbours.

use std::{
    ffi::OsStr,
    fs,
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context as _, ensure};

use crate::{bench::meter, scratch::Scratch};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    NginxKept,
    NginxEach,
    RedisSet,
    RedisGet,
}

const REDIS_REQUESTS: u32 = 60_000;
/// Until a server must answer.
const PATIENCE: u32 = 200;

/// Both servers on CPU 0 on ports of their own; killed on drop.
pub struct Servers {
    nginx: Server,
    redis: Server,
    _dir: Scratch,
}

struct Server {
    process: Child,
    port: u16,
}

impl Servers {
    /// Starts nginx and redis-server.
    ///
    /// # Errors
    /// One is missing or does not listen.
    pub fn start() -> anyhow::Result<Self> {
        let dir = Scratch::new();
        let nginx = nginx(dir.path())?;
        let redis = redis(dir.path())?;
        Ok(Self { nginx, redis, _dir: dir })
    }

    /// CPU nanoseconds of the server per request.
    ///
    /// # Errors
    /// A client is missing, or fails.
    pub fn measure(&self, request: Request) -> anyhow::Result<f64> {
        match request {
            Request::NginxKept => self.nginx.per_request(|port| wrk(port, &[])),
            Request::NginxEach => self.nginx.per_request(|port| wrk(port, &["-H", "Connection: close"])),
            Request::RedisSet => self.redis.per_request(|port| redis_benchmark(port, "set")),
            Request::RedisGet => self.redis.per_request(|port| redis_benchmark(port, "get")),
        }
    }
}

impl Server {
    fn start(command: &mut Command, port: u16) -> anyhow::Result<Self> {
        let name = command.get_program().to_owned();
        let process = quiet(command).spawn().with_context(|| format!("start {}", name.display()))?;
        let mut server = Self { process, port };
        for _look in 0..PATIENCE {
            if TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok() {
                return Ok(server);
            }
            let ended = server.process.try_wait()?;
            ensure!(ended.is_none(), "{} ended: {ended:?}", name.display());
            thread::sleep(Duration::from_millis(25));
        }
        anyhow::bail!("{} does not listen on {port}", name.display())
    }

    fn per_request(&self, load: impl FnOnce(u16) -> anyhow::Result<f64>) -> anyhow::Result<f64> {
        let before = meter::usage(self.process.id())?.cpu;
        let requests = load(self.port)?;
        let after = meter::usage(self.process.id())?.cpu;
        ensure!(0.0 < requests, "no request was answered");
        Ok((after - before).as_nanos() as f64 / requests)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

fn nginx(dir: &Path) -> anyhow::Result<Server> {
    let port = free_port()?;
    let at = dir.display();
    fs::write(dir.join("index.html"), "x".repeat(600))?;
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|kind| format!("{kind}_temp_path {at}/{kind};\n"))
        .collect();
    let config = dir.join("nginx.conf");
    fs::write(
        &config,
        format!(
            "daemon off; master_process off; worker_processes 1; pid {at}/nginx.pid; error_log {at}/error.log;\n\
             events {{ worker_connections 1024; }}\n\
             http {{ access_log off; {temporary}\n\
             server {{ listen 127.0.0.1:{port}; root {at}; keepalive_requests 100000000; }} }}\n"
        ),
    )?;
    let mut command = pinned("nginx", 0);
    command.arg("-p").arg(dir).arg("-c").arg(config);
    Server::start(&mut command, port)
}

fn redis(dir: &Path) -> anyhow::Result<Server> {
    let port = free_port()?;
    let mut command = pinned("redis-server", 0);
    command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--port", &port.to_string()]);
    command.arg("--dir").arg(dir);
    Server::start(&mut command, port)
}

/// Requests answered in a second.
fn wrk(port: u16, more: &[&str]) -> anyhow::Result<f64> {
    let mut command = pinned("wrk", 1);
    command.args(["-t1", "-c16", "-d1s"]).args(more).arg(format!("http://127.0.0.1:{port}/"));
    let says = answer(&mut command)?;
    let line = says.lines().find(|line| line.contains(" requests in "));
    let number = line.and_then(|line| line.split_ascii_whitespace().next());
    number.context("wrk does not say how many")?.parse().context("wrk's number")
}

fn redis_benchmark(port: u16, what: &str) -> anyhow::Result<f64> {
    let mut command = pinned("redis-benchmark", 1);
    command.args(["-q", "-c", "16", "-t", what, "-n", &REDIS_REQUESTS.to_string(), "-p", &port.to_string()]);
    answer(&mut command)?;
    Ok(f64::from(REDIS_REQUESTS))
}

fn answer(command: &mut Command) -> anyhow::Result<String> {
    let name = command.get_program().to_owned();
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("run {}", name.display()))?;
    ensure!(output.status.success(), "{}: {}", name.display(), String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn pinned(program: impl AsRef<OsStr>, cpu: usize) -> Command {
    let mut command = Command::new(program);
    // SAFETY: between fork and exec it makes one system call on memory of its own stack.
    unsafe {
        command.pre_exec(move || {
            let mut set = rustix::thread::CpuSet::new();
            set.set(cpu);
            // On a machine with one CPU everything shares it.
            rustix::thread::sched_setaffinity(None, &set).ok();
            Ok(())
        })
    };
    command
}

fn quiet(command: &mut Command) -> &mut Command {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null())
}

/// A port of loopback that was free a moment ago.
///
/// # Errors
/// None is.
pub fn free_port() -> anyhow::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("find a free port")?;
    Ok(listener.local_addr()?.port())
}
