use super::*;
use crate::signal::network::{Addresses, FlowSnapshot};

const CLIENT: u32 = 7;
const SERVER: u32 = 9;
const ADDRESS: &str = "10.0.0.5:80";
const SERVICE: &str = "10.96.0.1:80";

fn process(workload: &str) -> Process {
    Process { pid: 40, workload: WorkloadKey(workload.to_owned()), ..Process::default() }
}

fn listens(topology: &mut Topology, netns: u32, address: &str, workload: &str) {
    let cookie = topology.listeners.len() as u64 + 1;
    let listens = Listens { address: address.parse().unwrap(), netns, cgroup: 5, cookie, on: true };
    let fact = Fact::Listens(listens);
    topology.follow(&Signal { at: BootTime(cookie), process: Some(process(workload)), fact });
}

fn flows(topology: &mut Topology, flows: FlowSnapshot) {
    topology.follow(&Signal { at: BootTime(1), process: None, fact: Fact::Flows(flows) });
}

fn is_served_by(topology: &mut Topology, workload: &str) {
    let (peer, address) = (SERVICE.parse().unwrap(), ADDRESS.parse().unwrap());
    let served = vec![Served { netns: CLIENT, peer, address, server: process(workload) }];
    flows(topology, FlowSnapshot { served, ..FlowSnapshot::default() });
}

fn server<'a>(topology: &'a Topology, peer: &str) -> Option<&'a str> {
    topology.server(CLIENT, &peer.parse().unwrap()).map(|server| server.workload.0.as_str())
}

#[test]
fn an_address_that_another_workload_listens_on_by_now_is_not_the_old_peer() {
    let mut topology = Topology::default();
    is_served_by(&mut topology, "old");
    assert_eq!(server(&topology, SERVICE), Some("old"));
    listens(&mut topology, SERVER, "10.0.0.6:80", "another");
    listens(&mut topology, SERVER, ADDRESS, "old");
    assert_eq!(server(&topology, SERVICE), Some("old"), "it has been started again");
    listens(&mut topology, SERVER + 1, ADDRESS, "new");
    assert_eq!(server(&topology, SERVICE), None);
    is_served_by(&mut topology, "new");
    assert_eq!(server(&topology, SERVICE), Some("new"));
}

fn has(topology: &mut Topology, netns: u32, ips: &[&str]) {
    let ips = ips.iter().map(|ip| ip.parse().unwrap()).collect();
    flows(topology, FlowSnapshot { addresses: vec![Addresses { netns, ips }], ..FlowSnapshot::default() });
}

#[test]
fn who_listens_on_all_addresses_is_reached_by_those_of_its_namespace_only() {
    let mut topology = Topology::default();
    listens(&mut topology, SERVER, "0.0.0.0:80", "db");
    listens(&mut topology, SERVER + 1, "0.0.0.0:80", "web");
    assert_eq!(server(&topology, ADDRESS), None, "nobody knows whose address it is");
    has(&mut topology, SERVER, &["10.0.0.5", "fd77::5"]);
    has(&mut topology, SERVER + 1, &["10.0.0.6"]);
    assert_eq!(server(&topology, ADDRESS), Some("db"));
    assert_eq!(server(&topology, "10.0.0.6:80"), Some("web"));
    for another in ["10.0.0.7:80", "10.0.0.5:81", "[fd77::5]:80", "127.0.0.1:80"] {
        assert_eq!(server(&topology, another), None, "{another}");
    }
    listens(&mut topology, SERVER, "[::]:81", "six");
    assert_eq!(server(&topology, "[fd77::5]:81"), Some("six"));
    assert_eq!(server(&topology, "10.0.0.5:81"), Some("six"), "by default it takes both");
    // Of two namespaces that have one address nobody knows which is meant.
    has(&mut topology, SERVER + 1, &["10.0.0.5"]);
    assert_eq!(server(&topology, ADDRESS), None);
}

#[test]
fn a_namespace_that_is_gone_has_no_address_and_the_oldest_makes_room() {
    let mut topology = Topology::default();
    listens(&mut topology, SERVER, "0.0.0.0:80", "db");
    has(&mut topology, SERVER, &["10.0.0.5"]);
    assert_eq!(server(&topology, ADDRESS), Some("db"));
    flows(&mut topology, FlowSnapshot { gone: vec![SERVER], ..FlowSnapshot::default() });
    assert_eq!(server(&topology, ADDRESS), None);
    has(&mut topology, 5000, &["10.1.0.1"]);
    has(&mut topology, SERVER, &["10.0.0.5"]);
    for netns in 6000..7023 {
        has(&mut topology, netns, &["10.1.0.2"]);
    }
    assert_eq!(server(&topology, ADDRESS), Some("db"), "the lowest is not the oldest");
    has(&mut topology, 7023, &["10.1.0.2"]);
    assert_eq!(server(&topology, ADDRESS), None);
}

/// A published port: the proxy listens on all addresses of the host, and the container has one of its own.
#[test]
fn who_only_passes_connections_on_is_no_server() {
    let published = |exe: &str| {
        let mut topology = Topology::default();
        has(&mut topology, SERVER, &["10.0.0.5"]);
        let address = "0.0.0.0:80".parse().unwrap();
        let listens = Listens { address, netns: SERVER, cgroup: 5, cookie: 1, on: true };
        let proxy = Process { exe: Some(exe.to_owned()), ..process("unit/docker.service") };
        let listening = |on| Fact::Listens(Listens { on, ..listens.clone() });
        topology.follow(&Signal { at: BootTime(1), process: Some(proxy.clone()), fact: listening(true) });
        let living = server(&topology, ADDRESS).is_some();
        topology.follow(&Signal { at: BootTime(2), process: Some(proxy), fact: listening(false) });
        [living, server(&topology, ADDRESS).is_some()]
    };
    assert_eq!(published("/usr/bin/docker-proxy"), [false; 2]);
    assert_eq!(published("/usr/bin/dockerd"), [true; 2]);
}

#[test]
fn what_the_connections_of_others_show_counts_before_who_listens_on_all_addresses() {
    let mut topology = Topology::default();
    listens(&mut topology, SERVER, "0.0.0.0:80", "host");
    has(&mut topology, SERVER, &["10.0.0.5"]);
    assert_eq!(server(&topology, ADDRESS), Some("host"));
    let mut served = |netns, workload: &str| {
        let (peer, address) = (ADDRESS.parse().unwrap(), "10.244.0.7:8080".parse().unwrap());
        let served = vec![Served { netns, peer, address, server: process(workload) }];
        flows(&mut topology, FlowSnapshot { served, ..FlowSnapshot::default() });
        server(&topology, ADDRESS).map(str::to_owned)
    };
    assert_eq!(served(50, "pod").as_deref(), Some("pod"));
    assert_eq!(served(51, "another").as_deref(), Some("host"), "they do not agree");
}

#[test]
fn a_service_that_others_ask_here_is_not_served_here_for_everybody() {
    let asked_by_another = |peer: &str, address: &str| {
        let mut topology = Topology::default();
        has(&mut topology, SERVER, &["192.168.0.4"]);
        let (peer, address) = (peer.parse().unwrap(), address.parse().unwrap());
        let served = vec![Served { netns: 50, peer, address, server: process("pod") }];
        flows(&mut topology, FlowSnapshot { served, ..FlowSnapshot::default() });
        topology
    };
    let mut topology = asked_by_another(SERVICE, ADDRESS);
    assert_eq!(server(&topology, SERVICE), None, "it may be another replica");
    is_served_by(&mut topology, "pod");
    assert_eq!(server(&topology, SERVICE), Some("pod"), "by the client's own connections");
    let published = "192.168.0.4:8080";
    assert_eq!(server(&asked_by_another(published, ADDRESS), published), Some("pod"));
    let node_port = "192.168.0.4:30080";
    assert_eq!(server(&asked_by_another(node_port, ADDRESS), node_port), None, "it may be another replica");
    assert_eq!(server(&asked_by_another(ADDRESS, ADDRESS), ADDRESS), Some("pod"), "without NAT");
}
