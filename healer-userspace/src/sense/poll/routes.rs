//! Connections that this machine has no route for: they make no edge that a tracepoint could see, but the kernel
//! counts them per network namespace (`OutNoRoutes`, RFC 4293; net/ipv4/tcp_ipv4.c `tcp_v4_connect`).

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use crate::{engine::time::BootTime, sense::poll::cpu::small, signal::network::NoRoute};

/// Namespaces read in one look, in turn: some 50 µs each.
const READ_MAX: usize = 16;

/// Remembers the look before.
pub struct RouteWatch {
    proc: PathBuf,
    namespaces: BTreeMap<u32, Namespace>,
    /// The last that was read.
    last: u32,
}

struct Namespace {
    /// Somebody who lives there.
    pid: u32,
    /// When it was read last: IPv4 and IPv6.
    before: Option<(BootTime, [u64; 2])>,
}

impl RouteWatch {
    /// `proc` is `/proc`.
    #[must_use]
    pub fn new(proc: &Path) -> Self {
        Self { proc: proc.to_owned(), namespaces: BTreeMap::new(), last: 0 }
    }

    /// From now on the namespace is looked at, by way of this process.
    pub fn learn(&mut self, netns: u32, pid: u32) {
        self.namespaces.entry(netns).or_insert(Namespace { pid, before: None }).pid = pid;
    }

    /// The same of one namespace, if it is known: a link or a route of it has just gone.
    pub fn look_at(&mut self, now: BootTime, netns: u32) -> Option<NoRoute> {
        let namespace = self.namespaces.get_mut(&netns)?;
        let counts = counted(&self.proc, namespace.pid)?;
        no_route(netns, namespace.before.replace((now, counts)), counts)
    }

    /// Namespaces in which something found no route since the last look at them.
    pub fn look(&mut self, now: BootTime) -> Vec<NoRoute> {
        let after = self.namespaces.range(self.last.saturating_add(1)..).map(|(netns, _)| *netns);
        let turn: Vec<u32> = after
            .chain(self.namespaces.range(..=self.last).map(|(netns, _)| *netns))
            .take(READ_MAX)
            .collect();
        let mut found = Vec::new();
        for netns in turn {
            self.last = netns;
            let Some(namespace) = self.namespaces.get_mut(&netns) else { continue };
            let Some(counts) = counted(&self.proc, namespace.pid) else {
                // Whoever lived there is gone; the next client tells of another.
                self.namespaces.remove(&netns);
                continue;
            };
            found.extend(no_route(netns, namespace.before.replace((now, counts)), counts));
        }
        found
    }
}

fn no_route(netns: u32, before: Option<(BootTime, [u64; 2])>, now: [u64; 2]) -> Option<NoRoute> {
    let (since, before) = before?;
    let [v4, v6] = [0, 1].map(|family| now[family].saturating_sub(before[family]));
    (v4 != 0 || v6 != 0).then_some(NoRoute { netns, v4, v6, since: Some(since) })
}

fn counted(proc: &Path, pid: u32) -> Option<[u64; 2]> {
    let read = |name: &str| small(&proc.join(format!("{pid}/net/{name}")));
    let v4 = no_routes_v4(&read("snmp").ok()?)?;
    // Absent in a kernel without IPv6.
    let v6 = read("snmp6").ok().and_then(|text| no_routes_v6(&text)).unwrap_or(0);
    Some([v4, v6])
}

/// Two lines: names, then numbers.
fn no_routes_v4(text: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Ip: "));
    let column = lines.next()?.split(' ').position(|name| name == "OutNoRoutes")?;
    lines.next()?.split(' ').nth(column)?.parse().ok()
}

fn no_routes_v6(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("Ip6OutNoRoutes"))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_column_is_found_by_its_name() {
        let text =
            "Ip: Forwarding OutDiscards OutNoRoutes ReasmTimeout\nIp: 1 0 42 0\nIcmp: InMsgs\nIcmp: 0\n";
        assert_eq!(no_routes_v4(text), Some(42));
        assert_eq!(no_routes_v4("Tcp: a\nTcp: 1\n"), None);
        assert_eq!(no_routes_v6("Ip6OutDiscards   1\nIp6OutNoRoutes                  \t7\n"), Some(7));
    }

    #[test]
    fn the_first_look_says_nothing_and_the_dead_are_forgotten() {
        let mut watch = RouteWatch::new(Path::new("/proc"));
        watch.learn(1, std::process::id());
        watch.learn(2, u32::MAX);
        assert_eq!(watch.look(BootTime(5)), []);
        assert_eq!(watch.namespaces.len(), 1);
    }

    #[test]
    fn what_is_counted_of_one_namespace_is_told_once() {
        let mut watch = RouteWatch::new(Path::new("/proc"));
        watch.learn(1, std::process::id());
        assert!(watch.look_at(BootTime(5), 1).is_none() && watch.look_at(BootTime(5), 2).is_none());
        let namespace = watch.namespaces.get_mut(&1).unwrap();
        namespace.before = namespace.before.map(|(at, [v4, v6])| (at, [v4.saturating_sub(1), v6]));
        let before = namespace.before.map(|(_, counts)| counts);
        let is_counted = before != counted(Path::new("/proc"), std::process::id());
        assert_eq!(watch.look_at(BootTime(6), 1).is_some(), is_counted, "there was one at least, if any");
        let before = Some((BootTime(5), [3, 5]));
        let told = NoRoute { netns: 1, v4: 4, v6: 0, since: Some(BootTime(5)) };
        assert_eq!((no_route(1, before, [3, 5]), no_route(1, None, [7, 5])), (None, None));
        assert_eq!(no_route(1, before, [7, 5]), Some(told));
    }
}
