//! The addresses of one network namespace, as the kernel tells whoever subscribes (rtnetlink(7)).

use std::{collections::BTreeSet, net::IpAddr};

use super::links::{HEADER_SIZE, attribute, ip};
use crate::sense::poll::sockets::{u16_at, u32_at};

/// include/uapi/linux/rtnetlink.h
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_GETADDR: u16 = 22;
/// `struct ifaddrmsg` (include/uapi/linux/if_addr.h).
const ADDRESS_HEADER: usize = 8;
const IFA_ADDRESS: u16 = 1;
/// Of a link with two ends, `IFA_ADDRESS` is the other one's.
const IFA_LOCAL: u16 = 2;
const IFA_LABEL: u16 = 3;
/// In its IPVS mode kube-proxy gives the address of every service to this link, of whoever serves it.
const SERVICES: &[u8] = b"kube-ipvs0";
const KEPT: usize = 256;

#[derive(Default)]
pub(super) struct OwnAddresses {
    ips: BTreeSet<IpAddr>,
    /// Links of which no address is the namespace's own, by index.
    of_services: BTreeSet<u32>,
    is_news: bool,
}

impl OwnAddresses {
    /// For all that there are now; changes are told without being asked for.
    pub(super) fn request() -> [u8; HEADER_SIZE + ADDRESS_HEADER] {
        const NLM_F_REQUEST_DUMP: u16 = 0x301;
        let mut request = [0_u8; HEADER_SIZE + ADDRESS_HEADER];
        request[..4].copy_from_slice(&((HEADER_SIZE + ADDRESS_HEADER) as u32).to_ne_bytes());
        request[4..6].copy_from_slice(&RTM_GETADDR.to_ne_bytes());
        request[6..8].copy_from_slice(&NLM_F_REQUEST_DUMP.to_ne_bytes());
        request
    }

    pub(super) fn read(&mut self, mut bytes: &[u8]) {
        while let Some(length) = u32_at(bytes, 0).map(|length| length as usize) {
            let (Some(kind), Some(body)) = (u16_at(bytes, 4), bytes.get(HEADER_SIZE..length)) else {
                return;
            };
            if matches!(kind, RTM_NEWADDR | RTM_DELADDR)
                && let Some(ip) = address(body).filter(|ip| is_reached_by_others(*ip))
                && !self.is_of_services(body)
            {
                self.is_news |= match kind {
                    RTM_NEWADDR => self.ips.len() < KEPT && self.ips.insert(ip),
                    _ => self.ips.remove(&ip),
                };
            }
            bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
    }

    /// Only an address of IPv4 has the link's name beside it; those of IPv6 come later (`inet_fill_ifaddr`,
    /// net/ipv4/devinet.c).
    fn is_of_services(&mut self, body: &[u8]) -> bool {
        let Some(index) = u32_at(body, 4) else { return false };
        let label = body.get(ADDRESS_HEADER..).and_then(|attributes| attribute(attributes, IFA_LABEL));
        if label.is_some_and(|label| label.strip_suffix(&[0]).unwrap_or(label) == SERVICES) {
            self.of_services.insert(index);
        }
        self.of_services.contains(&index)
    }

    /// Some changes were lost: they are asked for anew.
    pub(super) fn forget(&mut self) {
        self.ips.clear();
        self.is_news = true;
    }

    /// All, if they are others than before.
    pub(super) fn news(&mut self) -> Option<Vec<IpAddr>> {
        core::mem::take(&mut self.is_news).then(|| self.ips.iter().copied().collect())
    }
}

fn address(body: &[u8]) -> Option<IpAddr> {
    let attributes = body.get(ADDRESS_HEADER..)?;
    let bytes = attribute(attributes, IFA_LOCAL).or_else(|| attribute(attributes, IFA_ADDRESS))?;
    ip(*body.first()?, bytes)
}

/// A link-local address is another one's on each link.
fn is_reached_by_others(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => !ip.is_loopback(),
        IpAddr::V6(ip) => !ip.is_loopback() && !ip.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, ip: [u8; 4]) -> Vec<u8> {
        let mut bytes = vec![0; 16];
        bytes[..4].copy_from_slice(&32_u32.to_ne_bytes());
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes.extend([2, 24, 0, 0, 3, 0, 0, 0]);
        bytes.extend([8, 0, 2, 0]);
        bytes.extend(ip);
        bytes
    }

    #[test]
    fn addresses_come_and_go_and_are_told_when_they_have_changed() {
        let mut own = OwnAddresses::default();
        assert_eq!(own.news(), None);
        own.read(&[message(RTM_NEWADDR, [127, 0, 0, 1]), message(RTM_NEWADDR, [10, 0, 0, 5])].concat());
        assert_eq!(own.news(), Some(vec!["10.0.0.5".parse().unwrap()]));
        own.read(&message(RTM_NEWADDR, [10, 0, 0, 5]));
        assert_eq!(own.news(), None, "nothing new");
        own.read(&message(RTM_DELADDR, [10, 0, 0, 5]));
        assert_eq!(own.news(), Some(Vec::new()));
        own.read(&message(RTM_NEWADDR, [10, 0, 0, 6])[..30]);
        assert_eq!(own.news(), None, "cut short");
    }

    #[test]
    fn addresses_of_services_are_not_the_namespaces_own() {
        let of_link = |index: u8, label: &[u8; 12], ip: [u8; 4]| {
            let mut bytes = message(RTM_NEWADDR, ip);
            bytes[0] = 48;
            bytes[20] = index;
            bytes.extend([15, 0, 3, 0]);
            bytes.extend(label);
            bytes
        };
        let mut own = OwnAddresses::default();
        own.read(&of_link(4, b"kube-ipvs0\0\0", [10, 96, 0, 1]));
        own.read(&of_link(2, b"eth0\0\0\0\0\0\0\0\0", [10, 0, 0, 5]));
        assert_eq!(own.news(), Some(vec!["10.0.0.5".parse().unwrap()]));
    }
}
