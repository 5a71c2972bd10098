//! Whether anything has moved in a network namespace: tens of microseconds, where a dump of its sockets is a pass over
//! the kernel's whole table.

use std::{fs, path::Path};

/// What the kernel counts of TCP there: equal as long as no segment comes or goes and no socket opens or closes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Traffic {
    /// Of `sockstat` and `sockstat6`; what follows in the line is the whole machine's.
    in_use: Vec<String>,
    segments: String,
}

impl Traffic {
    /// In the namespace of this process.
    pub(super) fn of(proc: &Path, pid: u32) -> Self {
        let read =
            |name: &str| fs::read_to_string(proc.join(format!("{pid}/net/{name}"))).unwrap_or_default();
        let mut traffic = Self::default();
        traffic.in_use.extend(["sockstat", "sockstat6"].iter().flat_map(|name| in_use(&read(name))));
        if traffic.has_sockets() {
            traffic.segments = segments(&read("snmp"));
        }
        traffic
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

#[cfg(test)]
mod tests {
    use super::*;

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
        let traffic = Traffic::of(Path::new("/proc"), own);
        assert!(traffic.has_sockets() && !traffic.segments.is_empty());
        assert!(!Traffic::of(Path::new("/proc"), u32::MAX).has_sockets());
    }
}
