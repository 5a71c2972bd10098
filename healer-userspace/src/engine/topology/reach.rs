//! By which addresses a listener is reached. One that listens on all that its namespace has, by each of them.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::collections::{BTreeMap, BTreeSet};

use crate::signal::network::{Addresses, Listens};

const NAMESPACES_MAX: usize = 1024;
const LOOPBACKS: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

#[derive(Debug, Default)]
pub(super) struct Reach {
    /// By namespace, but for loopback; with how many were told before.
    addresses: BTreeMap<u32, (u64, BTreeSet<IpAddr>)>,
    told: u64,
}

impl Reach {
    pub(super) fn note(&mut self, told: &Addresses) {
        self.addresses.remove(&told.netns);
        if told.ips.is_empty() {
            return;
        }
        let oldest = self.addresses.iter().min_by_key(|(_, (number, _))| *number).map(|(netns, _)| *netns);
        if let Some(oldest) = oldest.filter(|_| NAMESPACES_MAX <= self.addresses.len()) {
            // Whoever still lives there is told anew when its addresses change.
            self.addresses.remove(&oldest);
        }
        self.told += 1;
        self.addresses.insert(told.netns, (self.told, told.ips.iter().copied().collect()));
    }

    /// Nobody lives there any more.
    pub(super) fn forget(&mut self, netns: u32) {
        self.addresses.remove(&netns);
    }

    /// Would it get what is sent there? Of loopback every namespace has its own: that is for the caller to tell apart.
    pub(super) fn takes(&self, listens: &Listens, to: &SocketAddr) -> bool {
        let (own, ip) = (listens.address.ip(), to.ip());
        let is_any = own.is_unspecified() && takes_family(own, ip);
        let is_here = || ip.is_loopback() || self.of(listens.netns).any(|one| one == ip);
        listens.address.port() == to.port() && (own == ip || is_any && is_here())
    }

    pub(super) fn addresses_of(&self, listens: &Listens) -> Vec<SocketAddr> {
        let own = listens.address.ip();
        let ips: Vec<IpAddr> = match own.is_unspecified() {
            true => {
                let all = LOOPBACKS.into_iter().chain(self.of(listens.netns));
                all.filter(|ip| takes_family(own, *ip)).collect()
            }
            false => vec![own],
        };
        ips.into_iter().map(|ip| SocketAddr::new(ip, listens.address.port())).collect()
    }

    /// Is it anybody's on this node?
    pub(super) fn has(&self, ip: IpAddr) -> bool {
        self.addresses.values().any(|(_, ips)| ips.contains(&ip))
    }

    fn of(&self, netns: u32) -> impl Iterator<Item = IpAddr> {
        self.addresses.get(&netns).into_iter().flat_map(|(_, ips)| ips).copied()
    }
}

/// `::` takes IPv4 as well, unless its owner has said otherwise (ipv6(7), IPV6_V6ONLY).
fn takes_family(any: IpAddr, ip: IpAddr) -> bool {
    any.is_ipv6() || ip.is_ipv4()
}
