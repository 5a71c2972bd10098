//! Whether anything has moved in a network namespace: tens of microseconds, where a dump of its sockets is a pass over
//! the kernel's whole table.

use std::path::Path;

use crate::sense::poll::cpu::small;

/// UDP of a namespace, both families.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Datagrams {
    pub(super) sent: u64,
    pub(super) received: u64,
}

/// What the kernel counts of TCP there: equal as long as no segment comes or goes and no socket opens or closes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Traffic {
    /// Of `sockstat` and `sockstat6`; what follows in the line is the whole machine's.
    in_use: Vec<String>,
    segments: String,
}

impl Traffic {
    /// In the namespace of this process; of UDP only where there is any.
    pub(super) fn of(proc: &Path, pid: u32) -> (Self, Option<Datagrams>) {
        let read = |name: &str| small(&proc.join(format!("{pid}/net/{name}"))).unwrap_or_default();
        let mut traffic = Self::default();
        let [four, six] = ["sockstat", "sockstat6"].map(read);
        traffic.in_use.extend([&four, &six].into_iter().flat_map(|text| in_use(text)));
        let has_udp = |text: &str, name: &str| {
            text.lines().any(|line| line.strip_prefix(name).is_some_and(|rest| !rest.starts_with(" inuse 0")))
        };
        let (udp, udp6) = (has_udp(&four, "UDP:"), has_udp(&six, "UDP6:"));
        let snmp = if udp || udp6 || traffic.has_sockets() { read("snmp") } else { String::new() };
        if traffic.has_sockets() {
            traffic.segments = segments(&snmp);
        }
        let datagrams = || datagrams(&snmp, &if udp6 { read("snmp6") } else { String::new() });
        (traffic, (udp || udp6).then(datagrams))
    }

    pub(super) fn has_sockets(&self) -> bool {
        self.in_use.iter().any(|line| !line.ends_with("inuse 0"))
    }
}

/// `TCP: inuse 5 orphan 0 tw 0 alloc 9 mem 1`, `TCP6: inuse 2`
fn in_use(text: &str) -> Vec<String> {
    let lines = text.lines().filter(|line| line.starts_with("TCP"));
    lines.map(|line| line.split(" orphan").next().unwrap_or(line).to_owned()).collect()
}

/// Two lines: names, then numbers (RFC 4022).
fn segments(snmp: &str) -> String {
    snmp.lines().rfind(|line| line.starts_with("Tcp: ")).unwrap_or_default().to_owned()
}

/// Columns in the one file, rows in the other (RFC 4113).
fn datagrams(snmp: &str, snmp6: &str) -> Datagrams {
    let mut udp = snmp.lines().filter_map(|line| line.strip_prefix("Udp: ")).map(|line| line.split(' '));
    let (names, numbers) = (udp.next().into_iter().flatten(), udp.next().into_iter().flatten());
    let four: Vec<_> = names.zip(numbers).collect();
    let six = snmp6.lines().filter_map(|line| line.strip_prefix("Udp6")?.split_once(char::is_whitespace));
    let six: Vec<_> = six.collect();
    let sum = |name: &str| -> u64 {
        let of_it = four.iter().chain(&six).filter(|(known, _)| *known == name);
        of_it.filter_map(|(_, number)| number.trim().parse::<u64>().ok()).sum()
    };
    Datagrams { sent: sum("OutDatagrams"), received: sum("InDatagrams") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams_of_both_families_are_added() {
        let snmp = "Tcp: OutSegs\nTcp: 9\nUdp: InDatagrams NoPorts OutDatagrams\nUdp: 3 1 5\nUdpLite: InDatagrams\nUdpLite: 8\n";
        let snmp6 = "Udp6InDatagrams                 \t2\nUdp6OutDatagrams   \t4\nUdpLite6InDatagrams 7\n";
        assert_eq!(datagrams(snmp, snmp6), Datagrams { sent: 9, received: 5 });
        assert_eq!(datagrams("", ""), Datagrams::default());
    }

    #[test]
    fn other_namespaces_do_not_count() {
        let text = "sockets: used 9\nTCP: inuse 1 orphan 0 tw 0 alloc 7 mem 9\nUDP: inuse 0 mem 0\n";
        assert_eq!(in_use(text), ["TCP: inuse 1"]);
        assert_eq!(in_use("TCP6: inuse 0\nUDP6: inuse 3\n"), ["TCP6: inuse 0"]);
    }

    #[test]
    fn segments_and_sockets_are_traffic() {
        assert_eq!(segments("Ip: a\nIp: 1\nTcp: InSegs\nTcp: 7\nUdp: x\nUdp: 1\n"), "Tcp: 7");
        let own = std::process::id();
        let _listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let (traffic, _) = Traffic::of(Path::new("/proc"), own);
        assert!(traffic.has_sockets() && !traffic.segments.is_empty());
        assert!(!Traffic::of(Path::new("/proc"), u32::MAX).0.has_sockets());
    }
}
