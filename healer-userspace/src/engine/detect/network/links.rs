//! What the kernel said of links and routes: why a namespace reaches nobody.

use core::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};
use std::collections::{BTreeMap, VecDeque};

use crate::{
    engine::time::BootTime,
    signal::network::{Change, LinkChange},
};

const KEPT: usize = 32;
/// What happened so long before a failure is not its cause.
const RECENT: Duration = Duration::from_secs(120);

/// Of all namespaces: what is not usable now, and since when.
#[derive(Debug, Default)]
pub(super) struct Links {
    bad: BTreeMap<u32, VecDeque<(BootTime, Change)>>,
}

/// Why, as far as the kernel told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cause {
    /// `link` or `route`
    pub(super) name: &'static str,
    pub(super) says: String,
}

impl Links {
    pub(super) fn note(&mut self, at: BootTime, told: &LinkChange) {
        let bad = self.bad.entry(told.netns).or_default();
        bad.retain(|(_, before)| !is_of_same(before, &told.change));
        let is_bad = match &told.change {
            Change::Link { up, carrier, .. } => !(*up && *carrier),
            Change::Route { usable, .. } => !usable,
        };
        if is_bad {
            bad.push_back((at, told.change.clone()));
            if KEPT < bad.len() {
                bad.pop_front();
            }
        } else if bad.is_empty() {
            self.bad.remove(&told.netns);
        }
    }

    /// A link before a route: a link that goes down takes its routes with it.
    pub(super) fn cause(&self, netns: u32, since: BootTime, peers: &[SocketAddr]) -> Option<Cause> {
        let recent = || {
            let all = self.bad.get(&netns).into_iter().flatten();
            all.filter(|(at, _)| since.since(*at) < RECENT).map(|(_, change)| change)
        };
        let link = recent().find_map(|change| match change {
            Change::Link { name, up, .. } => Some(Cause {
                name: "link",
                says: format!("link {name} {}", if *up { "has no carrier" } else { "is down" }),
            }),
            Change::Route { .. } => None,
        });
        link.or_else(|| {
            let of_all = |to: &str| peers.iter().all(|peer| covers(to, peer.ip()));
            recent().find_map(|change| match change {
                Change::Route { to, .. } if of_all(to) => {
                    Some(Cause { name: "route", says: format!("the route to {to} is gone or says no") })
                }
                Change::Route { .. } | Change::Link { .. } => None,
            })
        })
    }

    /// Is a route to this address gone that is not the default one?
    pub(super) fn cuts_off(&self, netns: u32, ip: IpAddr) -> bool {
        let is_it = |change: &Change| match change {
            Change::Route { to, .. } => to != "default" && covers(to, ip),
            Change::Link { .. } => false,
        };
        self.bad.get(&netns).is_some_and(|bad| bad.iter().any(|(_, change)| is_it(change)))
    }
}

fn is_of_same(one: &Change, other: &Change) -> bool {
    match (one, other) {
        (Change::Link { name: one, .. }, Change::Link { name: other, .. }) => one == other,
        (Change::Route { to: one, .. }, Change::Route { to: other, .. }) => one == other,
        (Change::Link { .. }, Change::Route { .. }) | (Change::Route { .. }, Change::Link { .. }) => false,
    }
}

/// Does the prefix `a.b.c.d/n` hold the address?
fn covers(to: &str, ip: IpAddr) -> bool {
    if to == "default" {
        return true;
    }
    let Some((net, bits)) = to.split_once('/') else { return false };
    let (Ok(net), Ok(bits)) = (net.parse::<IpAddr>(), bits.parse::<u32>()) else { return false };
    match (net, ip) {
        (IpAddr::V4(net), IpAddr::V4(ip)) => {
            same_start(u128::from(u32::from(net)) << 96, u128::from(u32::from(ip)) << 96, bits)
        }
        (IpAddr::V6(net), IpAddr::V6(ip)) => same_start(u128::from(net), u128::from(ip), bits),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
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
        assert!(!holds("10.1.2.0/24", "10.1.3.3") && !holds("10.1.2.0/24", "fd77::1"));
        assert!(holds("10.1.2.4/32", "10.1.2.4") && !holds("10.1.2.4/32", "10.1.2.5"));
    }

    #[test]
    fn a_link_that_is_back_is_no_cause() {
        let mut links = Links::default();
        let link =
            |up| LinkChange { netns: 7, change: Change::Link { name: "c0".to_owned(), up, carrier: up } };
        links.note(BootTime(5), &link(false));
        assert_eq!(links.cause(7, BootTime(6), &[]).unwrap().says, "link c0 is down");
        assert_eq!(links.cause(8, BootTime(6), &[]), None);
        links.note(BootTime(7), &link(true));
        assert_eq!(links.cause(7, BootTime(8), &[]), None);
    }
}
