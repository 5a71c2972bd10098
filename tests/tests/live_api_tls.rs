//! An API server as clusters have it: TLS under an authority of its own, client certificates, tokens that change.
//!
//! mostly waits

use std::{fs, path::Path, process::Command, time::Duration};

use healer_tests::{
    apiserver::{ApiServer, Authority, Proof, agent_by, write_kubeconfig},
    home::{Agent, Home, count, pause, signal_to},
    policies::policy,
    supervised::{Supervised, name},
};
use rustix::process::Signal;
use serde_json::{Value, json};

const HANDS: &[&str] = &["base", "act"];
const STANDING: &str = "
  rules:
    - {name: down, when: [{class: down}], escalate: [{do: condition, condition: WorkloadDown}, {do: restart}]}
  safety:
    budget: {max: 20, per: 1h}
    backoff: {initial: 100ms, factor: 1, max: 100ms, resetAfter: 1m}
  verify: {within: 20s, stableFor: 500ms}
";
const HEALED: &str = "\"outcome\":\"healed\"";
const FOREVER: [&str; 2] = ["sleep", "1000"];

fn home_of(name: &str) -> Home {
    Home::new(&policy("enforce", &format!("supervise: {name}"), STANDING))
}

/// It ends once more: the node shows it until it is well again.
fn is_shown_and_healed(agent: &mut Agent<'_>, service: &Supervised) {
    let steps = [("result", "WorkloadDown of node n1: False → True"), ("closed", HEALED), ("undone", "")];
    let before = steps.map(|(record, part)| count(&agent.home().audit(), record, part));
    signal_to(service.child(), Signal::KILL);
    for ((record, part), before) in steps.into_iter().zip(before) {
        agent.wait(&format!("one more {record} {part:?}"), |agent| {
            (before < count(&agent.home().audit(), record, part)).then_some(())
        });
    }
}

#[test]
fn a_token_or_a_client_certificate_lets_healer_in() {
    for (proof, host) in [(Proof::Token, "127.0.0.1"), (Proof::Certificate, "localhost")] {
        let name = name();
        let home = home_of(&name);
        let server = ApiServer::start_tls("n1", HANDS, proof);
        let mut kubeconfig = server.kubeconfig();
        let url = format!("https://{host}:{}", server.address().port());
        kubeconfig["clusters"][0]["cluster"]["server"] = url.into();
        let mut agent = agent_by(&home, &kubeconfig, "");
        let service = Supervised::start(&home, &name, &FOREVER);
        is_shown_and_healed(&mut agent, &service);
        let refused = server.asked().into_iter().find(|asked| matches!(asked.code, 401 | 403));
        assert!(refused.is_none(), "{proof:?}: {refused:?}");
    }
}

/// What asks nothing of Kubernetes goes on; what does, once the file is mended, without a new start.
fn is_asked_nothing_until_mended(server: &ApiServer, spoilt: &Value, words: &str) {
    let name = name();
    let home = home_of(&name);
    let mut agent = agent_by(&home, spoilt, "");
    let service = Supervised::start(&home, &name, &FOREVER);
    signal_to(service.child(), Signal::KILL);
    agent.record(&service.workload(), "result", words);
    agent.record(&service.workload(), "closed", HEALED);
    assert!(server.asked().is_empty(), "{:?}", server.asked());
    write_kubeconfig(&home, &server.kubeconfig());
    // What was being asked with the old one is over then.
    pause(Duration::from_millis(500));
    is_shown_and_healed(&mut agent, &service);
}

#[test]
fn a_server_whose_certificate_is_not_trusted_is_asked_nothing_and_what_helps_is_said() {
    let other = Authority::of_a_cluster().data();
    for (key, value, words) in [
        ("certificate-authority-data", other.as_str(), "must be that of this cluster"),
        ("tls-server-name", "elsewhere.test", "give such a name as tls-server-name"),
    ] {
        let server = ApiServer::start_tls("n1", HANDS, Proof::Token);
        let mut kubeconfig = server.kubeconfig();
        kubeconfig["clusters"][0]["cluster"][key] = value.into();
        is_asked_nothing_until_mended(&server, &kubeconfig, words);
    }
}

#[test]
fn who_shows_no_certificate_where_one_is_asked_for_is_not_heard() {
    let server = ApiServer::start_tls("n1", HANDS, Proof::Certificate);
    let mut kubeconfig = server.kubeconfig();
    kubeconfig["users"][0]["user"] = json!({"token": "a-token"});
    // The server's alert and its end of the connection arrive in either order: the words may be of either.
    is_asked_nothing_until_mended(&server, &kubeconfig, "get nodes of Kubernetes: ");
}

/// A mount namespace of the agent's own, where `$0` lies as the kubelet mounts a service account.
const IN_POD: &str = "mount -t tmpfs none /var/run/ && mkdir -p /var/run/secrets/kubernetes.io && \
                      ln -s \"$0\" /var/run/secrets/kubernetes.io/serviceaccount && exec \"$@\"";

fn agent_in_pod<'home>(home: &'home Home, server: &ApiServer, account: &Path) -> Agent<'home> {
    let config = home.path().join("agent.yaml");
    let text = "apiVersion: healer.dev/v1alpha1\nkind: AgentConfig\nkubernetes: {node: n1}\n";
    fs::write(&config, text).unwrap();
    let run = home.run_command();
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", IN_POD]).arg(account);
    command.arg(run.get_program()).args(run.get_args()).arg("--config").arg(config);
    command.env("KUBERNETES_SERVICE_HOST", "127.0.0.1");
    command.env("KUBERNETES_SERVICE_PORT", server.address().port().to_string());
    home.agent_of(command)
}

fn write_token(account: &Path, token: &str) {
    let new = account.join("token.new");
    fs::write(&new, token).unwrap();
    fs::rename(new, account.join("token")).unwrap();
}

#[test]
fn a_service_account_lets_healer_in_and_its_next_token_is_read_once_the_last_is_refused() {
    let name = name();
    let home = home_of(&name);
    let server = ApiServer::start_tls("n1", HANDS, Proof::Token);
    let account = home.path().join("account");
    fs::create_dir(&account).unwrap();
    fs::write(account.join("ca.crt"), server.authority().unwrap().pem()).unwrap();
    fs::write(account.join("namespace"), "healer").unwrap();
    write_token(&account, "the-first");
    server.take_token("the-first");
    let mut agent = agent_in_pod(&home, &server, &account);
    let service = Supervised::start(&home, &name, &FOREVER);
    is_shown_and_healed(&mut agent, &service);
    assert!(server.asked().iter().all(|asked| asked.code != 401), "{:?}", server.asked());

    write_token(&account, "the-second");
    server.take_token("the-second");
    is_shown_and_healed(&mut agent, &service);
    // Nobody reads the file because of its age: that is a minute.
    assert!(server.asked().iter().any(|asked| asked.code == 401), "{:?}", server.asked());
    assert_eq!(count(&home.audit(), "result", "does not let healer"), 0, "{}", agent.log());
}
