//! The looks at sockets and CPU, and the engine behind them, open in a test; and servers that go wrong.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::TcpStream,
    path::Path,
    process::Command,
    sync::mpsc,
    thread,
    time::Duration,
};

use healer_userspace::{
    clock,
    engine::{
        Engine, class::Class, command::Recovered, diagnosis::Diagnosis, policy::PolicySet, report::ReportFact,
    },
    identity::process::{Process, WorkloadKey},
    sense::poll::work::{Watched, WorkPoller},
    signal::{Fact, Signal},
};

use crate::{idle::free_port, victim::Victim};

/// Looks on, tells the engine, and keeps what it says.
pub struct WorkWatch {
    poller: WorkPoller,
    engine: Engine,
    pub watched: Vec<Watched>,
    /// By pid.
    pub found: BTreeMap<u32, Vec<Diagnosis>>,
    pub history: Vec<Signal>,
}

impl Default for WorkWatch {
    fn default() -> Self {
        let engine = Engine::new(clock::boot(), PolicySet::default(), Recovered::default());
        let poller = WorkPoller::new(Path::new("/proc"), Path::new("/sys/fs/cgroup"));
        Self { poller, engine, watched: Vec::new(), found: BTreeMap::new(), history: Vec::new() }
    }
}

impl WorkWatch {
    pub fn track(&mut self, name: &str, pid: u32) {
        let process = Process {
            pid,
            start: clock::boot(),
            comm: name.to_owned(),
            workload: WorkloadKey::supervise(name),
            main: true,
            ..Process::default()
        };
        self.watched.push(Watched { process, asked: false });
    }

    /// A look a second.
    pub fn look_for(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.look();
            thread::sleep(Duration::from_secs(1));
        }
    }

    fn look(&mut self) {
        let snapshot = self.poller.look(&self.watched);
        let now = clock::boot();
        let signal = Signal { at: now, process: None, fact: Fact::Work(snapshot) };
        self.engine.observe(now, &signal);
        self.history.push(signal);
        while self.engine.poll_command().is_some() {}
        while self.engine.poll_journal().is_some() {}
        while let Some(report) = self.engine.poll_report() {
            if let ReportFact::Diagnosis(diagnosis) = report.fact {
                self.found.entry(diagnosis.target.pid).or_default().push(diagnosis);
            }
        }
    }

    /// The last that was said of this class.
    #[must_use]
    pub fn said(&self, pid: u32, class: Class) -> Option<&Diagnosis> {
        self.found.get(&pid)?.iter().rev().find(|one| one.class == class)
    }

    /// The first.
    #[must_use]
    pub fn first(&self, pid: u32, class: Class) -> Option<&Diagnosis> {
        self.found.get(&pid)?.iter().find(|one| one.class == class)
    }

    /// What was seen of this process, as a trace.
    #[must_use]
    pub fn trace(&self, pid: u32) -> String {
        let mut lines = String::new();
        for signal in &self.history {
            if let Fact::Work(snapshot) = &signal.fact {
                let mut snapshot = snapshot.clone();
                snapshot.processes.retain(|work| work.process.pid == pid);
                let signal = Signal { fact: Fact::Work(snapshot), ..signal.clone() };
                lines += &serde_json::to_string(&signal).expect("a signal is JSON");
                lines.push('\n');
            }
        }
        lines
    }
}

/// `victims/server.py` in one of its modes, on a port of its own.
pub struct Server {
    pub victim: Victim,
    pub port: u16,
}

impl Server {
    /// # Panics
    /// If there is no python3, or it does not listen within ten seconds.
    #[must_use]
    pub fn start(mode: &str) -> Self {
        Self::script("server.py", &[mode])
    }

    /// `victims/prefork.py`.
    #[must_use]
    pub fn prefork() -> Self {
        Self::script("prefork.py", &[])
    }

    fn script(name: &str, words: &[&str]) -> Self {
        let port = free_port();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/victims").join(name);
        let mut command = Command::new("python3");
        command.arg(script).args(words).arg(port.to_string());
        Self::of(Victim::spawn(&mut command), port)
    }

    /// The same of another make, as soon as it listens on the IPv4 loopback.
    ///
    /// # Panics
    /// If it does not within ten seconds.
    #[must_use]
    pub fn of(victim: Victim, port: u16) -> Self {
        let server = Self { victim, port };
        let deadline = clock::boot() + Duration::from_secs(10);
        while !server.listens() {
            assert!(clock::boot() < deadline, "nobody listens on {port}");
            thread::sleep(Duration::from_millis(50));
        }
        server
    }

    /// Read from /proc, so that no connection is made.
    fn listens(&self) -> bool {
        let tables =
            ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| fs::read_to_string(path).unwrap_or_default());
        // The JVM takes an IPv6 socket for an IPv4 address.
        let (v4, v6) = ("0100007F", "0000000000000000FFFF00000100007F");
        let listens = |table: &str, own: &str| {
            let local = format!(" {own}:{:04X} ", self.port);
            table.lines().any(|line| line.contains(&local) && line.contains(":0000 0A "))
        };
        listens(&tables[0], v4) || listens(&tables[1], v6)
    }

    #[must_use]
    pub fn pid(&self) -> u32 {
        self.victim.tgid()
    }

    /// # Panics
    /// If the kernel refuses the connection.
    #[must_use]
    pub fn connect(&self) -> TcpStream {
        TcpStream::connect(("127.0.0.1", self.port)).expect("it listens")
    }

    /// A connection on which one line was answered.
    ///
    /// # Panics
    /// If it is not answered.
    #[must_use]
    pub fn answered(&self) -> TcpStream {
        let stream = self.connect();
        send(&stream, "ping\n");
        let mut line = String::new();
        BufReader::new(&stream).read_line(&mut line).expect("it answers");
        stream
    }
}

/// New clients, one after the other, that say a line and wait for ever.
pub struct Stream {
    ends: Option<mpsc::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Stream {
    #[must_use]
    pub fn start(server: &Server, line: &'static str, every: Duration) -> Self {
        let (ends, until) = mpsc::channel();
        let port = server.port;
        let thread = thread::spawn(move || {
            let mut clients = Vec::new();
            while until.recv_timeout(every) == Err(mpsc::RecvTimeoutError::Timeout) {
                let client = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
                send(&client, line);
                clients.push(client);
            }
        });
        Self { ends: Some(ends), thread: Some(thread) }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        drop(self.ends.take());
        // Its panic is told by its own thread.
        self.thread.take().map(thread::JoinHandle::join);
    }
}

/// # Panics
/// If the connection is gone.
pub fn send(mut stream: &TcpStream, line: &str) {
    stream.write_all(line.as_bytes()).expect("the connection lives");
}
