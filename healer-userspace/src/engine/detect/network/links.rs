//! What the kernel said of links and routes: why a namespace reaches nobody.

use core::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::{
    engine::time::BootTime,
    signal::network::{Addresses, Change, LinkChange},
};

const KEPT: usize = 32;
const ADDRESSES_KEPT: usize = 512;
/// What happened so long before a failure is not its cause.
const RECENT: Duration = Duration::from_secs(120);
/// A link that was removed is not known to be missed: with each container that ends, one is.
const RECENT_IF_GONE: Duration = Duration::from_secs(15);
/// News of links are read a moment after what they have caused.
const TOLD_WITHIN: Duration = Duration::from_secs(1);
/// From a change to the first that notices it.
const JUST_BEFORE: Duration = Duration::from_secs(10);
/// Of IPv4, and of IPv6.
const DEFAULTS: [&str; 2] = ["default", "::/0"];

/// Of all namespaces: what is not usable now, and since when.
#[derive(Debug, Default)]
pub(super) struct Links {
    bad: BTreeMap<u32, VecDeque<(BootTime, Change)>>,
    /// Addresses that each has, or had.
    own: BTreeMap<u32, BTreeSet<IpAddr>>,
}

/// Why, as far as the kernel told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cause {
    /// `link` or `route`
    pub(super) name: &'static str,
    pub(super) says: String,
}

/// Addresses that a route leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Prefix {
    net: IpAddr,
    bits: u32,
}

/// What of the way out has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Whose it was nobody has told: another peer that was reached without it disproves it.
    Link,
    /// It leads to these peers.
    Route,
}

impl Links {
    pub(super) fn note(&mut self, at: BootTime, told: &LinkChange) {
        let bad = self.bad.entry(told.netns).or_default();
        let is_over = |then: BootTime, before: &Change| {
            is_of_same(before, &told.change) || is_gone(before) && RECENT_IF_GONE < at.since(then)
        };
        // A link is told with whatever changes of it. If news were lost, and its return with them, a second fall has the
        // time of the first: nothing tells them apart.
        let is_known = |before: &Change| is_link(before) && *before == told.change;
        let since = bad.iter().find(|(_, before)| is_known(before)).map(|(then, _)| *then);
        bad.retain(|(then, before)| !is_over(*then, before));
        let is_bad = match &told.change {
            Change::Link { up, carrier, .. } => !(*up && *carrier),
            Change::Route { usable, .. } => !usable,
        };
        if is_bad {
            bad.push_back((since.unwrap_or(at), told.change.clone()));
            if KEPT < bad.len() {
                bad.pop_front();
            }
        } else if bad.is_empty() {
            self.bad.remove(&told.netns);
        }
    }

    /// An address is told gone before the network that goes with it.
    pub(super) fn note_addresses(&mut self, told: &Addresses) {
        let own = self.own.entry(told.netns).or_default();
        if ADDRESSES_KEPT < own.len() {
            own.clear();
        }
        own.extend(&told.ips);
    }

    /// Nobody lives there any more.
    pub(super) fn forget(&mut self, netns: u32) {
        self.bad.remove(&netns);
        self.own.remove(&netns);
    }

    /// A link before a route: a link that goes down takes its routes with it. What was not needed explains nothing.
    pub(super) fn cause(
        &self,
        netns: u32,
        since: BootTime,
        peers: &[SocketAddr],
        is_disproved: impl Fn(Way, BootTime) -> bool,
    ) -> Option<Cause> {
        let is_recent = |at: BootTime, change: &Change| {
            since.since(at) < if is_gone(change) { RECENT_IF_GONE } else { RECENT }
        };
        let recent = || {
            let all = self.bad.get(&netns).into_iter().flatten();
            all.filter(|(at, change)| is_recent(*at, change))
        };
        let link = recent().find_map(|(at, change)| match change {
            Change::Link { name, up, gone, .. } if !is_disproved(Way::Link, *at) => {
                let what = match (gone, up) {
                    (true, _) => "is gone",
                    (false, true) => "has no carrier",
                    (false, false) => "is down",
                };
                Some(Cause { name: "link", says: format!("link {name} {what}") })
            }
            Change::Link { .. } | Change::Route { .. } => None,
        });
        link.or_else(|| {
            let of_all = |to: &str| peers.iter().all(|peer| covers(to, peer.ip()));
            recent().find_map(|(at, change)| match change {
                Change::Route { to, .. } if of_all(to) && !is_disproved(Way::Route, *at) => {
                    Some(Cause { name: "route", says: format!("the route to {to} is gone or says no") })
                }
                Change::Route { .. } | Change::Link { .. } => None,
            })
        })
    }

    /// Was a link or its route taken away just before it was out of reach, and has nobody else been reached since? A link
    /// without carrier may be a bridge whose last container has ended.
    pub(super) fn have_cut(
        &self,
        netns: u32,
        since: BootTime,
        ip: IpAddr,
        is_disproved: impl Fn(BootTime) -> bool,
    ) -> bool {
        let is_it = |change: &Change| match change {
            Change::Link { up, gone, .. } => !up && !gone,
            Change::Route { to, .. } => covers(to, ip),
        };
        let is_just_before = |at: BootTime| at <= since + TOLD_WITHIN && since.since(at) < JUST_BEFORE;
        let bad = self.bad.get(&netns).into_iter().flatten();
        let mut new = bad.filter(|(at, change)| is_just_before(*at) && is_it(change));
        !ip.is_loopback() && new.any(|(at, _)| !is_disproved(*at))
    }

    /// When a link went down last that is down still, and did so lately.
    pub(super) fn down_since(&self, netns: u32, now: BootTime) -> Option<BootTime> {
        let is_down = |change: &Change| match change {
            Change::Link { up, gone, .. } => !up && !gone,
            Change::Route { .. } => false,
        };
        let bad = self.bad.get(&netns)?.iter();
        let down = bad.filter(|(at, change)| is_down(change) && now.since(*at) < RECENT);
        down.map(|(at, _)| *at).max()
    }

    /// When a link, or a route of a family, went last that has not come back. With the last address of a link its
    /// network is told gone, and the default route is not (net/ipv4/fib_frontend.c `fib_inetaddr_event`). A network in
    /// which no address of its own lay is that of others: pods of a node that leaves.
    pub(super) fn way_out_lost(&self, netns: u32, is_v6: bool) -> Option<BootTime> {
        let is_it = |change: &Change| match change {
            Change::Link { up, gone, .. } => !up && !gone,
            Change::Route { to, .. } => {
                let is_own = |way: Prefix| way.is_to_many(is_v6) && self.may_be_own(netns, way);
                to == DEFAULTS[usize::from(is_v6)] || prefix(to).is_some_and(is_own)
            }
        };
        let bad = self.bad.get(&netns)?.iter();
        bad.filter(|(_, change)| is_it(change)).map(|(at, _)| *at).max()
    }

    /// Near enough to what began then to be the reason, and not come back.
    pub(super) fn is_without_way_out(&self, netns: u32, is_v6: bool, since: BootTime) -> bool {
        self.way_out_lost(netns, is_v6).is_some_and(|at| since.since(at) < RECENT)
    }

    /// Where no address is known, who knows.
    fn may_be_own(&self, netns: u32, way: Prefix) -> bool {
        self.own.get(&netns).is_none_or(|own| own.is_empty() || own.iter().any(|ip| way.holds(*ip)))
    }

    /// Where a route leads that is gone and is not the default one.
    pub(super) fn lost_ways(&self, netns: u32) -> Vec<Prefix> {
        let of_it = |change: &Change| match change {
            Change::Route { to, .. } if !DEFAULTS.contains(&to.as_str()) => prefix(to),
            Change::Route { .. } | Change::Link { .. } => None,
        };
        let bad = self.bad.get(&netns).into_iter().flatten();
        bad.filter_map(|(_, change)| of_it(change)).collect()
    }
}

fn is_gone(change: &Change) -> bool {
    match change {
        Change::Link { gone, .. } => *gone,
        Change::Route { .. } => false,
    }
}

fn is_link(change: &Change) -> bool {
    match change {
        Change::Link { .. } => true,
        Change::Route { .. } => false,
    }
}

fn is_of_same(one: &Change, other: &Change) -> bool {
    match (one, other) {
        (Change::Link { name: one, .. }, Change::Link { name: other, .. }) => one == other,
        (Change::Route { to: one, .. }, Change::Route { to: other, .. }) => one == other,
        (Change::Link { .. }, Change::Route { .. }) | (Change::Route { .. }, Change::Link { .. }) => false,
    }
}

/// Does the prefix hold the address?
fn covers(to: &str, ip: IpAddr) -> bool {
    match to {
        "default" => ip.is_ipv4(),
        to => prefix(to).is_some_and(|prefix| prefix.holds(ip)),
    }
}

/// As it is written: `a.b.c.d/n`.
fn prefix(to: &str) -> Option<Prefix> {
    let (net, bits) = to.split_once('/')?;
    Some(Prefix { net: net.parse().ok()?, bits: bits.parse().ok()? })
}

impl Prefix {
    /// Of this family, and more than one host or what is on the same link: those come and go with each container.
    fn is_to_many(self, is_v6: bool) -> bool {
        match self.net {
            IpAddr::V4(_) => !is_v6 && self.bits < 32,
            IpAddr::V6(net) => is_v6 && self.bits < 128 && !net.is_unicast_link_local(),
        }
    }

    pub(super) fn holds(self, ip: IpAddr) -> bool {
        match (self.net, ip) {
            (IpAddr::V4(net), IpAddr::V4(ip)) => {
                same_start(u128::from(u32::from(net)) << 96, u128::from(u32::from(ip)) << 96, self.bits)
            }
            (IpAddr::V6(net), IpAddr::V6(ip)) => same_start(u128::from(net), u128::from(ip), self.bits),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

fn same_start(one: u128, other: u128, bits: u32) -> bool {
    (one ^ other).leading_zeros() >= bits.min(128)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_holds_its_addresses_only() {
        let holds = |to: &str, ip: &str| covers(to, ip.parse().unwrap());
        assert!(
            holds("10.1.2.0/24", "10.1.2.3") && holds("fd00::/8", "fd77::1") && holds("default", "1.1.1.1")
        );
        assert!(!holds("default", "fd77::1") && holds("::/0", "fd77::1") && !holds("::/0", "1.1.1.1"));
        assert!(!holds("10.1.2.0/24", "10.1.3.3") && !holds("10.1.2.0/24", "fd77::1"));
        assert!(holds("10.1.2.4/32", "10.1.2.4") && !holds("10.1.2.4/32", "10.1.2.5"));
    }

    fn link(name: &str, up: bool, gone: bool) -> LinkChange {
        LinkChange { netns: 7, change: Change::Link { name: name.to_owned(), up, carrier: up, gone } }
    }

    #[test]
    fn a_link_that_was_removed_explains_what_fails_just_then_if_nobody_is_reached() {
        let second = |second: u64| BootTime(second * 1_000_000_000);
        let mut links = Links::default();
        links.note(second(5), &link("veth1", false, true));
        let says = |links: &Links, at, is_reached: bool| {
            let cause = links.cause(7, second(at), &[], |_, _| is_reached);
            cause.map(|cause| cause.says)
        };
        assert_eq!(says(&links, 6, false).as_deref(), Some("link veth1 is gone"));
        assert_eq!(says(&links, 6, true), None, "others are reached");
        assert_eq!(says(&links, 60, false), None, "nobody has missed it");
        links.note(second(61), &link("eth0", false, false));
        assert_eq!(says(&links, 100, false).as_deref(), Some("link eth0 is down"));
        assert_eq!(says(&links, 100, true), None, "a bridge whose last container has ended");
        assert_eq!(links.bad[&7].len(), 1, "it makes room");
    }

    #[test]
    fn a_default_route_is_that_of_its_family() {
        let mut links = Links::default();
        let change = Change::Route { to: "default".to_owned(), usable: false };
        links.note(BootTime(5), &LinkChange { netns: 7, change });
        let is_cause =
            |peer: &str| links.cause(7, BootTime(6), &[peer.parse().unwrap()], |_, _| false).is_some();
        assert!(is_cause("1.1.1.1:80") && !is_cause("[fd77::1]:80"));
        assert_eq!(links.lost_ways(7), [], "it is nobody's own");
        let change = Change::Route { to: "10.1.0.0/16".to_owned(), usable: false };
        links.note(BootTime(6), &LinkChange { netns: 7, change });
        let lost = links.lost_ways(7);
        assert!(lost.len() == 1 && lost[0].holds("10.1.2.3".parse().unwrap()));
    }

    #[test]
    fn a_way_out_is_lost_by_family_and_not_with_each_container() {
        let lost = |to: &str, is_v6| {
            let mut links = Links::default();
            let change = Change::Route { to: to.to_owned(), usable: false };
            links.note(BootTime(5), &LinkChange { netns: 7, change });
            links.way_out_lost(7, is_v6)
        };
        for (to, is_v6) in [("default", false), ("10.0.0.0/24", false), ("::/0", true), ("fd77::/64", true)] {
            assert_eq!((lost(to, is_v6), lost(to, !is_v6)), (Some(BootTime(5)), None), "{to}");
        }
        for to in ["10.0.0.3/32", "fd77::3/128", "fe80::/64"] {
            assert_eq!((lost(to, false), lost(to, true)), (None, None), "{to}");
        }
    }

    #[test]
    fn a_network_in_which_no_address_of_its_own_lay_is_no_way_out() {
        let is_lost = |ips: &[&[&str]], to: &str| {
            let mut links = Links::default();
            for ips in ips {
                let ips = ips.iter().map(|ip| ip.parse().unwrap()).collect();
                links.note_addresses(&Addresses { netns: 7, ips });
            }
            let change = Change::Route { to: to.to_owned(), usable: false };
            links.note(BootTime(5), &LinkChange { netns: 7, change });
            links.way_out_lost(7, false).is_some()
        };
        let (host, pods) = ("192.168.1.0/24", "10.244.3.0/24");
        assert!(is_lost(&[&["192.168.1.5"]], host) && !is_lost(&[&["192.168.1.5"]], pods));
        assert!(is_lost(&[&["192.168.1.5"], &[]], host), "the address goes first");
        assert!(is_lost(&[], pods) && is_lost(&[&[]], pods), "no address is known");
        assert!(is_lost(&[&["192.168.1.5"]], "default"));
    }

    #[test]
    fn a_link_is_down_since_it_was_first_told_so() {
        let mut links = Links::default();
        links.note(BootTime(5), &link("c0", false, false));
        links.note(BootTime(9), &link("c0", false, false));
        let is_since =
            |links: &Links, at| [false, true].map(|v6| links.way_out_lost(7, v6)) == [Some(BootTime(at)); 2];
        assert!(is_since(&links, 5) && links.down_since(7, BootTime(10)) == Some(BootTime(5)));
        links.note(BootTime(10), &link("c0", true, false));
        links.note(BootTime(11), &link("c0", false, false));
        assert!(is_since(&links, 11), "it was up in between");
    }

    #[test]
    fn a_link_that_is_back_is_no_cause() {
        let mut links = Links::default();
        let link = |up| link("c0", up, false);
        links.note(BootTime(5), &link(false));
        assert_eq!(links.cause(7, BootTime(6), &[], |_, _| false).unwrap().says, "link c0 is down");
        assert_eq!(links.cause(8, BootTime(6), &[], |_, _| false), None);
        links.note(BootTime(7), &link(true));
        assert_eq!(links.cause(7, BootTime(8), &[], |_, _| false), None);
        links.note(BootTime(9), &link(false));
        links.forget(7);
        assert_eq!(links.cause(7, BootTime(10), &[], |_, _| false), None, "another has the inode");
    }
}
