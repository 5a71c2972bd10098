//! A busy node: servers with their clients, a database, a compiler, and a program that strains the kernel.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use healer_tests::{
    cgroup::V2Cgroup,
    idle::{free_port, nginx_command},
    postgres::{Cluster, QUITS_BY, server_program},
    scratch::Scratch,
    victim::Victim,
};

/// Programs that the policy of the soak follows. What strains the machine is starved by design, which would be told.
pub fn servers() -> Vec<PathBuf> {
    let found = |name: &str| {
        let places = ["/usr/sbin", "/usr/bin"].map(|dir| Path::new(dir).join(name));
        let path = places.into_iter().find(|path| path.exists());
        path.unwrap_or_else(|| panic!("this test needs {name}: cargo xtask test --live installs it"))
    };
    let mut all = vec![found("nginx"), found("redis-server")];
    all.push(server_program());
    // The kernel names a program by its file, not by a link to it.
    all.into_iter().map(|path| fs::canonicalize(path).expect("it is there")).collect()
}

/// All in one cgroup, killed on drop.
pub struct Load {
    // Before the group, which must be empty to be removed.
    programs: Vec<(&'static str, Victim)>,
    group: V2Cgroup,
    dir: Scratch,
}

impl Load {
    pub fn start() -> Self {
        let mut load = Self { programs: Vec::new(), group: V2Cgroup::new(), dir: Scratch::new() };
        load.nginx();
        load.redis();
        load.postgres();
        load.compile();
        load.strain();
        load
    }

    /// As audit records have it.
    pub fn cgroup(&self) -> String {
        let name = self.group.path().file_name().expect("a cgroup has a name");
        format!("/{}", name.to_string_lossy())
    }

    /// Names of those that have ended: none should.
    pub fn ended(&mut self) -> Vec<&'static str> {
        let all = self.programs.iter_mut();
        all.filter_map(|(name, program)| program.try_wait().is_some().then_some(*name)).collect()
    }

    fn nginx(&mut self) {
        let port = free_port();
        let server = nginx_command(&self.dir, port);
        self.run("nginx", &server);
        self.again_and_again("wrk", &format!("wrk -t1 -c16 -d2s http://127.0.0.1:{port}/"));
    }

    fn redis(&mut self) {
        let port = free_port().to_string();
        let mut server = Command::new("redis-server");
        server.args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--maxmemory", "60mb"]);
        server.args(["--maxmemory-policy", "allkeys-lru", "--dir"]).arg(self.dir.path());
        self.run("redis", &server);
        let bench = format!("redis-benchmark -p {port} -t set,get -d 1024 -r 100000 -n 20000 -c 8");
        self.again_and_again("redis-benchmark", &bench);
    }

    fn postgres(&mut self) {
        let cluster = Cluster::new(&self.dir);
        self.run("postgres", &cluster.server(&["listen_addresses="])).tell_first(QUITS_BY);
        let bench = cluster.pgbench();
        self.again_and_again(
            "pgbench",
            &format!("{bench} -i -s 1 postgres; {bench} -c 4 -R 100 -T 20 postgres"),
        );
    }

    fn compile(&mut self) {
        let source = self.dir.path().join("many.c");
        let one =
            |n: u32| format!("int f{n}(int a) {{ for (int i = 0; i < a; i++) a ^= i * {n}; return a; }}\n");
        fs::write(&source, (0..500).map(one).collect::<String>())
            .expect("the scratch directory can be written");
        let object = source.with_extension("o");
        self.again_and_again("gcc", &format!("gcc -O2 -c {} -o {}", source.display(), object.display()));
    }

    /// Yields to the others: what it does counts, not how much of it.
    fn strain(&mut self) {
        let kinds =
            "--fork 1 --futex 1 --flock 1 --pipe 1 --sock 1 --hdd 1 --hdd-bytes 16m --vm 1 --vm-bytes 48m";
        let mut command = Command::new("nice");
        command.args(["-n", "15", "stress-ng", "--quiet", "--oom-avoid", "--temp-path"]).arg(self.dir.path());
        self.run("stress-ng", command.args(kinds.split(' ')));
    }

    fn again_and_again(&mut self, name: &'static str, command: &str) {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("while :; do {command}; sleep 0.5; done")]);
        self.run(name, &shell);
    }

    fn run(&mut self, name: &'static str, command: &Command) -> &mut Victim {
        let procs = self.group.path().join("cgroup.procs");
        let mut inside = Command::new("sh");
        inside.args(["-c", &format!("echo $$ > {}; exec \"$@\"", procs.display()), "sh"]);
        inside.arg(command.get_program()).args(command.get_args());
        inside.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.programs.push((name, Victim::spawn(&mut inside)));
        &mut self.programs.last_mut().expect("it was pushed").1
    }
}
