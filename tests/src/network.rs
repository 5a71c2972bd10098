//! Two network namespaces with a cable between them, clients in one, servers in the other, and what can go wrong.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::Duration,
};

use crate::scratch::Scratch;

pub const PORT: u16 = 8000;
/// Servers have the addresses 2, 3 and 4 of the cable's network.
pub const SERVERS: [u8; 3] = [2, 3, 4];

static NEXT: AtomicU32 = AtomicU32::new(0);

/// Removed on drop, with all that runs in it.
pub struct Net {
    name: String,
    number: u32,
    is_v6: bool,
    scripts: Scratch,
    cgroups: Vec<PathBuf>,
    processes: Vec<Child>,
}

impl Net {
    /// # Panics
    /// Without root and iproute2.
    #[must_use]
    pub fn new(what: &str, is_v6: bool) -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let family = if is_v6 { 6 } else { 4 };
        let name = format!("hn{}x{number}-{what}-{family}", std::process::id());
        let net =
            Self { name, number, is_v6, scripts: Scratch::new(), cgroups: Vec::new(), processes: Vec::new() };
        for (file, text) in [
            ("server.py", include_str!("victims/net_server.py")),
            ("client.py", include_str!("victims/net_client.py")),
        ] {
            fs::write(net.scripts.path().join(file), text).expect("the scratch directory can be written");
        }
        net.build();
        net
    }

    fn build(&self) {
        let (client, server) = (self.client_ns(), self.server_ns());
        run(&format!("ip netns add {client} && ip netns add {server}"));
        run(&format!("ip link add c0 netns {client} type veth peer name s0 netns {server}"));
        self.on_client("ip link set lo up");
        self.on_server("ip link set lo up");
        let nodad = if self.is_v6 { " nodad" } else { "" };
        let bits = if self.is_v6 { 64 } else { 24 };
        self.on_client(&format!("ip addr add {}/{bits} dev c0{nodad}", self.address(1)));
        for host in SERVERS {
            self.on_server(&format!("ip addr add {}/{bits} dev s0{nodad}", self.address(host)));
        }
        self.on_client("ip link set c0 up");
        self.on_server("ip link set s0 up");
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    #[must_use]
    pub fn is_v6(&self) -> bool {
        self.is_v6
    }

    #[must_use]
    pub fn client_ns(&self) -> String {
        format!("{}c", self.name)
    }

    #[must_use]
    pub fn server_ns(&self) -> String {
        format!("{}s", self.name)
    }

    /// No two nets of one machine share an address: ends of connections are found by it.
    #[must_use]
    pub fn address(&self, host: u8) -> String {
        let (mine, number) = (64 + std::process::id() % 128, self.number % 250);
        if self.is_v6 {
            format!("fd77:{mine:x}:{number:x}::{host}")
        } else {
            format!("10.{mine}.{number}.{host}")
        }
    }

    /// As diagnoses write it.
    #[must_use]
    pub fn peer(&self, host: u8) -> String {
        if self.is_v6 {
            format!("[{}]:{PORT}", self.address(host))
        } else {
            format!("{}:{PORT}", self.address(host))
        }
    }

    /// # Panics
    /// If the command fails.
    pub fn on_client(&self, command: &str) {
        run(&format!("ip netns exec {} {command}", self.client_ns()));
    }

    /// # Panics
    /// If the command fails.
    pub fn on_server(&self, command: &str) {
        run(&format!("ip netns exec {} {command}", self.server_ns()));
    }

    /// The network of the cable.
    #[must_use]
    pub fn prefix(&self) -> String {
        if self.is_v6 { format!("{}/64", self.address(0)) } else { format!("{}/24", self.address(0)) }
    }

    #[must_use]
    pub fn iptables(&self) -> &'static str {
        if self.is_v6 { "ip6tables -w" } else { "iptables -w" }
    }

    /// An echo server on these hosts' addresses; ready on return. Gives its pid.
    ///
    /// # Panics
    /// If it does not get ready.
    pub fn serve(&mut self, options: &str, hosts: &[u8]) -> u32 {
        let addresses: Vec<String> = hosts.iter().map(|host| self.address(*host)).collect();
        let words =
            format!("{}/server.py {options} {PORT} {}", self.scripts.path().display(), addresses.join(" "));
        let mut child = self.start("server", &self.server_ns(), &words);
        let mut line = String::new();
        let out = child.stdout.take().expect("it is piped");
        BufReader::new(out).read_line(&mut line).expect("the server speaks");
        assert_eq!(line, "listens\n", "{}: the server does not start", self.name);
        let pid = child.id();
        self.processes.push(child);
        pid
    }

    /// A client of these hosts, in a cgroup of its own, whose name is given back: it is part of its workload's.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn client(&mut self, options: &str, hosts: &[u8]) -> String {
        let peers: Vec<String> = hosts.iter().map(|host| format!("{},{PORT}", self.address(*host))).collect();
        self.client_of(options, &peers.join(" "))
    }

    /// # Panics
    /// If it cannot be started.
    pub fn client_of(&mut self, options: &str, peers: &str) -> String {
        let words = format!("{}/client.py {options} {peers}", self.scripts.path().display());
        let name = format!("{}-client{}", self.name, self.cgroups.len());
        let child = self.start(&name, &self.client_ns(), &words);
        self.processes.push(child);
        name
    }

    /// The same beside the servers, of whom it may choose the wrong address first.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn client_beside_servers(&mut self, options: &str, peers: &str) -> String {
        let words = format!("{}/client.py {options} {peers}", self.scripts.path().display());
        let name = format!("{}-client{}", self.name, self.cgroups.len());
        let child = self.start(&name, &self.server_ns(), &words);
        self.processes.push(child);
        name
    }

    fn start(&mut self, cgroup: &str, netns: &str, words: &str) -> Child {
        let cgroup = if cgroup == "server" { format!("{}-server", self.name) } else { cgroup.to_owned() };
        let dir = cgroup_root().join(cgroup);
        if fs::create_dir(&dir).is_ok() {
            self.cgroups.push(dir.clone());
        }
        let procs = dir.join("cgroup.procs");
        let line =
            format!("echo $$ > {} && exec ip netns exec {netns} python3 -S -E {words}", procs.display());
        let mut command = Command::new("sh");
        command.args(["-c", &line]).stdin(Stdio::null()).stdout(Stdio::piped());
        command.spawn().expect("sh starts")
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for child in &mut self.processes {
            child.kill().ok();
            child.wait().ok();
        }
        for netns in [self.client_ns(), self.server_ns()] {
            Command::new("ip").args(["netns", "del", &netns]).status().ok();
        }
        for cgroup in &self.cgroups {
            for _attempt in 0..100 {
                if fs::remove_dir(cgroup).is_ok() {
                    break;
                }
                thread::sleep(Duration::from_millis(10));
            }
        }
    }
}

/// Where cgroups of v2 are made.
fn cgroup_root() -> PathBuf {
    let hybrid = Path::new("/sys/fs/cgroup/unified");
    if hybrid.is_dir() { hybrid.to_owned() } else { PathBuf::from("/sys/fs/cgroup") }
}

/// # Panics
/// With its words, if the command fails.
pub fn run(command: &str) {
    let output = Command::new("sh").args(["-c", command]).output().expect("sh starts");
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "this test needs root, iproute2 and iptables: {command}: {words}");
}
