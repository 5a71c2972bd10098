//! A real Prometheus scrapes a real agent, its rules fire, a real Alertmanager takes the webhook's
//! alerts by its name.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
};

use healer_tests::{
    binary::healer,
    deploy::{path, yaml},
    home::{Agent, Home, until},
    policies::policy,
    supervised::{Supervised, name},
};
use healer_userspace::fault::{Fault, victim::Victim as FaultVictim};
use serde_json::Value;

#[test]
fn the_rules_are_clean_and_do_as_they_say() {
    for words in [["check", "rules", "rules.yaml"], ["test", "rules", "rules_test.yaml"]] {
        let done = Command::new("promtool").args(words).current_dir(path("prometheus")).output();
        let done = done.expect("promtool is in the package prometheus");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }
}

fn list(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_default()
}

/// Each alert fires in one at least, and each recording rule is asked for its value.
#[test]
fn every_rule_has_its_case() {
    let (rules, cases) = (yaml("prometheus/rules.yaml"), yaml("prometheus/rules_test.yaml"));
    let cases = list(&cases["tests"]);
    let fires = |name: &str| {
        let mut alerts = cases.iter().flat_map(|case| list(&case["alert_rule_test"]));
        alerts.any(|alert| alert["alertname"] == name && !list(&alert["exp_alerts"]).is_empty())
    };
    let is_asked = |name: &str| {
        let mut asked = cases.iter().flat_map(|case| list(&case["promql_expr_test"]));
        asked.any(|asked| asked["expr"] == name && !list(&asked["exp_samples"]).is_empty())
    };
    let rules: Vec<Value> = list(&rules["groups"]).iter().flat_map(|group| list(&group["rules"])).collect();
    assert!(!rules.is_empty());
    for rule in rules {
        let has_case =
            rule["alert"].as_str().is_some_and(fires) || rule["record"].as_str().is_some_and(is_asked);
        assert!(has_case, "{rule}");
    }
}

#[test]
fn a_crash_reaches_prometheus_and_alertmanager() {
    let name = name();
    let rules = "  rules:\n    - {name: told, when: [{class: crash}], escalate: [{do: notify}]}\n";
    let home = Home::new(&policy("shadow", &format!("supervise: {name}"), rules));
    let alertmanager = alertmanager(home.path());
    let config = format!(
        "apiVersion: healer.dev/v1alpha1\nkind: AgentConfig\n\
         sinks: {{webhook: {{url: \"http://localhost:{}/api/v2/alerts\"}}}}\n",
        alertmanager.port
    );
    let file = home.path().join("agent.yaml");
    fs::write(&file, config).expect("the scratch directory can be written");
    let mut command = home.run_command();
    let mut agent = home.agent_of({
        command.arg("--config").arg(file);
        command
    });
    let listens = listens(&agent.log());
    checked_by_promtool(&page(&agent));
    let prometheus = prometheus(home.path(), listens, alertmanager.port);

    let service = Supervised::start(&home, &name, &["sh", "-c", "sleep 0.5; kill -SEGV $$"]);
    agent.record(&service.workload(), "diagnosis", "\"class\":\"crash\"");
    let workload = service.workload();
    let alert = told(&alertmanager, "HealerNotification", |alert| alert["labels"]["workload"] == *workload);
    assert_eq!(alert["labels"]["class"], "crash");
    assert!(alert["annotations"]["summary"].as_str().is_some_and(|says| says.contains("SIGSEGV")), "{alert}");

    until("the series in Prometheus", || {
        let query = "/api/v1/query?query=healer_diagnoses_total%7Bclass%3D%22crash%22%7D";
        let found = prometheus.get(query);
        found["data"]["result"].as_array().filter(|series| !series.is_empty()).map(drop)
    });
    a_shipped_rule_fires(&home, listens, &alertmanager);
    assert!(home.healer(&["pause"]).status.success());
    told(&alertmanager, "TestPaused", |_| true);
    checked_by_promtool(&page(&agent));
}

/// One without a wait.
fn a_shipped_rule_fires(home: &Home, agent: u16, alertmanager: &Server) {
    let fault = Fault::by_name("crash-loop").expect("it is in the table");
    let _loops = FaultVictim::of_binary(&healer(), fault, home.path()).expect("this test needs root");
    let alert = told(alertmanager, "HealerCrashLoop", |_| true);
    assert_eq!(alert["labels"]["severity"], "warning", "{alert}");
    let summary = format!("A workload crashes again and again on 127.0.0.1:{agent}");
    assert_eq!(alert["annotations"]["summary"], summary, "{alert}");
}

/// The first alert of that name that Alertmanager has.
fn told(alertmanager: &Server, name: &str, is_it: impl Fn(&Value) -> bool) -> Value {
    until(&format!("{name} in Alertmanager"), || {
        let alerts = alertmanager.get("/api/v2/alerts");
        let is_it = |alert: &&Value| alert["labels"]["alertname"] == name && is_it(alert);
        alerts.as_array()?.iter().find(is_it).cloned()
    })
}

/// What a scrape brings.
fn page(agent: &Agent<'_>) -> String {
    agent.get("/metrics").split_once("\r\n\r\n").map_or("", |(_, body)| body).to_owned()
}

fn listens(log: &str) -> u16 {
    let port = log.rsplit_once("http://127.0.0.1:").and_then(|(_, rest)| {
        rest.split(|c: char| !c.is_ascii_digit()).next().and_then(|digits| digits.parse().ok())
    });
    port.expect("`ready` tells the port")
}

fn checked_by_promtool(metrics: &str) {
    let mut check = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is in the package prometheus");
    check.stdin.take().expect("piped").write_all(metrics.as_bytes()).expect("promtool reads");
    let done = check.wait_with_output().expect("promtool ends");
    let said = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "{said}");
}

/// A server of the test's own, killed on drop.
struct Server {
    process: Child,
    port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

impl Server {
    fn start(dir: &Path, program: &str, port: u16, args: &[String], ready: &str) -> Self {
        let log = fs::File::create(dir.join(format!("{program}.log"))).expect("the scratch directory");
        let mut command = Command::new(program);
        command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let process = command.spawn().unwrap_or_else(|error| panic!("{program}: {error}"));
        let server = Self { process, port };
        until(&format!("{program} is ready"), || server.answer(ready).filter(|text| text.contains(" 200 ")));
        server
    }

    /// Head and body.
    fn answer(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        Some(text)
    }

    fn get(&self, path: &str) -> Value {
        let text = self.answer(path).unwrap_or_default();
        let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        serde_json::from_str(body).unwrap_or_default()
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("its number").port()
}

fn alertmanager(dir: &Path) -> Server {
    let config = dir.join("alertmanager.yml");
    fs::write(&config, "route: {receiver: nobody}\nreceivers: [{name: nobody}]\n")
        .expect("the scratch directory");
    let port = free_port();
    let args = [
        format!("--config.file={}", config.display()),
        format!("--storage.path={}", dir.join("alertmanager").display()),
        format!("--web.listen-address=127.0.0.1:{port}"),
        "--cluster.listen-address=".to_owned(),
    ];
    Server::start(dir, "prometheus-alertmanager", port, &args, "/-/ready")
}

/// Scrapes every second, with the rules of `deploy/` and one without a wait.
fn prometheus(dir: &Path, agent: u16, alertmanager: u16) -> Server {
    let rule = "groups: [{name: t, interval: 1s, rules: [{alert: TestPaused, expr: healer_paused == 1}]}]\n";
    fs::write(dir.join("test-rules.yml"), rule).expect("the scratch directory");
    let config = format!(
        "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\n\
         rule_files: [{}, test-rules.yml]\n\
         scrape_configs: [{{job_name: healer, static_configs: [{{targets: [\"127.0.0.1:{agent}\"]}}]}}]\n\
         alerting: {{alertmanagers: [{{static_configs: [{{targets: [\"127.0.0.1:{alertmanager}\"]}}]}}]}}\n",
        path("prometheus/rules.yaml").canonicalize().expect("the rules").display()
    );
    let file = dir.join("prometheus.yml");
    fs::write(&file, config).expect("the scratch directory");
    let port = free_port();
    let args = [
        format!("--config.file={}", file.display()),
        format!("--storage.tsdb.path={}", dir.join("tsdb").display()),
        format!("--web.listen-address=127.0.0.1:{port}"),
    ];
    Server::start(dir, "prometheus", port, &args, "/-/ready")
}
