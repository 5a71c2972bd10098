//! What fails in network namespaces that a test makes, and what must be said of it.

use crate::network::{Net, PORT, SERVERS, run};

pub struct Scenario {
    pub row: &'static Row,
    pub net: Net,
    /// The third server is a process of its own.
    pub server: u32,
    /// The client that must suffer, and the one beside it that must not.
    pub patient: String,
    pub twin: Option<String>,
}

pub struct Row {
    pub name: &'static str,
    pub class: &'static str,
    pub kind: &'static str,
    /// What the proof must name.
    pub cause: &'static str,
    /// The host that must be blamed.
    pub blamed: Option<u8>,
    pub port: u16,
    pub server: &'static str,
    /// `{}` in it is the address of host 4 for the patient, of host 3 for the twin.
    pub client: &'static str,
    /// Of whom the patient and its twin are clients; a twin of nobody is none.
    pub patient: &'static [u8],
    pub twin: &'static [u8],
    /// Seconds to a verdict in the experiment that the rules come from, where it had one.
    pub experiment: Option<f64>,
    pub breaks: fn(&Scenario),
}

const ISOLATION: Row = Row {
    name: "",
    class: "network_isolation",
    kind: "netns",
    cause: "",
    blamed: None,
    port: PORT,
    server: "",
    client: "--keep",
    patient: &SERVERS,
    twin: &[],
    experiment: None,
    breaks: |_| {},
};
const DEPENDENCY: Row =
    Row { class: "dependency_failure", blamed: Some(4), cause: "peer", twin: &[2, 3], ..ISOLATION };
/// Beside the addresses of the servers: a service behind destination NAT.
const VIRTUAL: u8 = 9;

pub const ROWS: &[Row] = &[
    Row {
        name: "localdrop",
        experiment: Some(3.2),
        cause: "local",
        breaks: |one| {
            let iptables = one.net.iptables();
            one.net.on_client(&format!("{iptables} -A OUTPUT -o c0 -j DROP"));
            one.net.on_client(&format!("{iptables} -A INPUT -i c0 -j DROP"));
        },
        ..ISOLATION
    },
    Row {
        name: "held",
        cause: "local",
        client: "--pool",
        breaks: |one| one.net.on_client(&format!("{} -A OUTPUT -o c0 -j DROP", one.net.iptables())),
        ..ISOLATION
    },
    Row {
        name: "farside",
        experiment: Some(1.74),
        cause: "path",
        breaks: |one| one.net.on_server(&format!("{} -A INPUT -i s0 -j DROP", one.net.iptables())),
        ..ISOLATION
    },
    Row {
        name: "blackhole",
        experiment: Some(1.74),
        kind: "no_answer",
        breaks: |one| one.drop_at_server(4),
        ..DEPENDENCY
    },
    Row {
        name: "fates",
        kind: "workload",
        cause: "path",
        patient: &[2, 3],
        twin: &[4],
        breaks: |one| {
            one.drop_at_server(2);
            one.drop_at_server(3);
        },
        ..ISOLATION
    },
    Row {
        name: "reset",
        experiment: Some(0.55),
        kind: "refuses",
        breaks: |one| {
            let (iptables, address) = (one.net.iptables(), one.net.address(4));
            one.net.on_server(&format!(
                "{iptables} -A INPUT -p tcp -d {address} -j REJECT --reject-with tcp-reset"
            ));
        },
        ..DEPENDENCY
    },
    Row {
        name: "killed",
        experiment: Some(0.66),
        kind: "refuses",
        breaks: |one| run(&format!("kill -KILL {}", one.server)),
        ..DEPENDENCY
    },
    Row {
        name: "icmp",
        experiment: Some(0.7),
        kind: "unreachable",
        breaks: |one| {
            let what = if one.net.is_v6() { "icmp6-addr-unreachable" } else { "icmp-host-unreachable" };
            let (iptables, address) = (one.net.iptables(), one.net.address(4));
            one.net.on_server(&format!("{iptables} -A INPUT -d {address} -j REJECT --reject-with {what}"));
        },
        ..DEPENDENCY
    },
    Row {
        name: "link",
        experiment: Some(0.67),
        cause: "link",
        breaks: |one| one.net.on_client("ip link set c0 down"),
        ..ISOLATION
    },
    Row {
        name: "cable",
        experiment: Some(1.59),
        cause: "link",
        breaks: |one| one.net.on_server("ip link set s0 down"),
        ..ISOLATION
    },
    Row {
        name: "route",
        experiment: Some(0.66),
        cause: "route",
        breaks: |one| one.net.on_client(&format!("ip route del {} dev c0", one.net.prefix())),
        ..ISOLATION
    },
    Row {
        name: "sayno",
        experiment: Some(0.66),
        kind: "unreachable",
        cause: "route",
        breaks: |one| one.net.on_client(&format!("ip route add unreachable {}", one.net.address(4))),
        ..DEPENDENCY
    },
    Row { name: "frozen", kind: "frozen", breaks: Scenario::freeze, ..DEPENDENCY },
    Row {
        name: "stream",
        kind: "frozen",
        client: "--keep --bytes 400000",
        breaks: Scenario::freeze,
        ..DEPENDENCY
    },
    Row {
        name: "full",
        kind: "no_answer",
        server: "--full",
        // Its queue is full once some have waited in vain.
        client: "--keep --timeout 2",
        breaks: |one| run(&format!("kill -USR1 {}", one.server)),
        ..DEPENDENCY
    },
    Row {
        name: "nat",
        kind: "frozen",
        blamed: Some(VIRTUAL),
        patient: &[2, 3, VIRTUAL],
        breaks: Scenario::freeze,
        ..DEPENDENCY
    },
    Row {
        name: "names",
        experiment: Some(2.7),
        kind: "dns",
        port: 53,
        server: "--names",
        client: "--keep --names {}",
        patient: &[2, 3],
        breaks: |one| one.drop_at_server(4),
        ..DEPENDENCY
    },
];

impl Scenario {
    /// # Panics
    /// Without root, iproute2 and iptables.
    #[must_use]
    pub fn begin(row: &'static Row, is_v6: bool) -> Self {
        let mut net = Net::new(row.name, is_v6);
        net.serve(if row.port == PORT { "" } else { row.server }, &SERVERS[..2]);
        let server = net.serve(row.server, &SERVERS[2..]);
        if row.patient.contains(&VIRTUAL) {
            let (iptables, real) = (net.iptables(), net.peer(4));
            let there = format!("-d {} -p tcp -j DNAT --to-destination {real}", net.address(VIRTUAL));
            net.on_client(&format!("{iptables} -t nat -A OUTPUT {there}"));
        }
        let patient = net.client(&row.client.replace("{}", &net.address(4)), row.patient);
        let of_twin = row.client.replace("{}", &net.address(3));
        let twin = (!row.twin.is_empty()).then(|| net.client(&of_twin, row.twin));
        Self { row, net, server, patient, twin }
    }

    fn drop_at_server(&self, host: u8) {
        self.net.on_server(&format!(
            "{} -A INPUT -d {} -j DROP",
            self.net.iptables(),
            self.net.address(host)
        ));
    }

    fn freeze(&self) {
        run(&format!("kill -STOP {}", self.server));
    }
}
