//! Links that go down and routes that go away, as the kernel tells whoever subscribes (rtnetlink(7)).

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    path::Path,
};

use super::addresses::OwnAddresses;
use crate::{
    sense::poll::sockets::{in_namespace, u16_at, u32_at},
    signal::network::{Change, LinkChange},
};

pub(super) const HEADER_SIZE: usize = 16;
/// include/uapi/linux/rtnetlink.h
const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const LINK_HEADER: usize = 16;
const ROUTE_HEADER: usize = 12;
const IFLA_IFNAME: u16 = 3;
const RTA_DST: u16 = 1;
const RTN_UNICAST: u8 = 1;
/// Blackhole, unreachable, prohibit: routes that say no.
const RTN_NO: core::ops::RangeInclusive<u8> = 6..=8;
const RTM_F_CLONED: u32 = 0x200;
const TABLE_LOCAL: u8 = 255;
/// A machine that is being rewired tells more than anybody reads.
const CHANGES_MAX: usize = 32;

/// A subscription in one network namespace.
pub(super) struct Links {
    socket: OwnedFd,
    buffer: Vec<u8>,
    pub(super) addresses: OwnAddresses,
}

impl Links {
    pub(super) fn open_in(namespace: &Path) -> io::Result<Self> {
        in_namespace(namespace, Self::open)?
    }

    fn open() -> io::Result<Self> {
        const GROUPS: u32 = (libc::RTMGRP_LINK
            | libc::RTMGRP_IPV4_ROUTE
            | libc::RTMGRP_IPV6_ROUTE
            | libc::RTMGRP_IPV4_IFADDR
            | libc::RTMGRP_IPV6_IFADDR) as u32;
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: no pointers.
        let fd = unsafe { libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_ROUTE) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: just made, nobody else has it.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: all zero is an address.
        let mut address: libc::sockaddr_nl = unsafe { core::mem::zeroed() };
        address.nl_family = libc::AF_NETLINK as libc::sa_family_t;
        address.nl_groups = GROUPS;
        let size = size_of::<libc::sockaddr_nl>() as libc::socklen_t;
        // SAFETY: the address is as long as is said.
        if unsafe { libc::bind(fd, (&raw const address).cast(), size) } < 0 {
            return Err(io::Error::last_os_error());
        }
        let links = Self { socket, buffer: vec![0; 16 * 1024], addresses: OwnAddresses::default() };
        links.ask_for_addresses();
        Ok(links)
    }

    /// If it cannot be asked, the addresses that come and go are told all the same.
    fn ask_for_addresses(&self) {
        let request = OwnAddresses::request();
        // SAFETY: the request is as long as is said.
        unsafe { libc::send(self.socket.as_raw_fd(), request.as_ptr().cast(), request.len(), 0) };
    }

    /// Since the last call. What did not fit into the socket's buffer is lost, and nothing rests on it alone.
    pub(super) fn news(&mut self, netns: u32) -> Vec<LinkChange> {
        let mut changes = Vec::new();
        loop {
            let fd = self.socket.as_raw_fd();
            // SAFETY: the buffer is as long as is said.
            let got = unsafe { libc::recv(fd, self.buffer.as_mut_ptr().cast(), self.buffer.len(), 0) };
            match usize::try_from(got) {
                Ok(got) if 0 < got => {
                    read(&self.buffer[..got], netns, &mut changes);
                    self.addresses.read(&self.buffer[..got]);
                }
                Ok(_) => return changes,
                Err(_) if io::Error::last_os_error().raw_os_error() == Some(libc::ENOBUFS) => {
                    self.addresses.forget();
                    self.ask_for_addresses();
                }
                Err(_) => return changes,
            }
        }
    }
}

fn read(mut bytes: &[u8], netns: u32, changes: &mut Vec<LinkChange>) {
    while let Some(length) = u32_at(bytes, 0).map(|length| length as usize) {
        let (Some(kind), Some(body)) = (u16_at(bytes, 4), bytes.get(HEADER_SIZE..length)) else {
            return;
        };
        let change = match kind {
            RTM_NEWLINK | RTM_DELLINK => link(kind, body),
            RTM_NEWROUTE | RTM_DELROUTE => route(kind, body),
            _ => None,
        };
        if let Some(change) = change.filter(|_| changes.len() < CHANGES_MAX) {
            changes.push(LinkChange { netns, change });
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
}

fn link(kind: u16, body: &[u8]) -> Option<Change> {
    let flags = u32_at(body, 8)?;
    let has = |flag: i32| flags & flag as u32 != 0 && kind == RTM_NEWLINK;
    let name = attribute(body.get(LINK_HEADER..)?, IFLA_IFNAME)?;
    let name = String::from_utf8_lossy(name).trim_end_matches('\0').to_owned();
    let (up, carrier) = (has(libc::IFF_UP), has(libc::IFF_RUNNING));
    let gone = kind == RTM_DELLINK;
    (!has(libc::IFF_LOOPBACK)).then_some(Change::Link { name, up, carrier, gone })
}

fn route(kind: u16, body: &[u8]) -> Option<Change> {
    let [family, bits, _, _, table, _, _, what, ..] = *body else { return None };
    let is_copy = u32_at(body, 8)? & RTM_F_CLONED != 0;
    let says_no = RTN_NO.contains(&what);
    if is_copy || table == TABLE_LOCAL || !(what == RTN_UNICAST || says_no) {
        return None;
    }
    let to = match attribute(body.get(ROUTE_HEADER..)?, RTA_DST) {
        None if i32::from(family) == libc::AF_INET6 => "::/0".to_owned(),
        None => "default".to_owned(),
        Some(address) => format!("{}/{bits}", ip(family, address)?),
    };
    let is_new = kind == RTM_NEWROUTE;
    Some(Change::Route { to, usable: is_new != says_no })
}

pub(super) fn ip(family: u8, bytes: &[u8]) -> Option<IpAddr> {
    if i32::from(family) == libc::AF_INET6 {
        return Some(IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?)));
    }
    Some(IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(bytes.get(..4)?).ok()?)))
}

pub(super) fn attribute(mut bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    while let (Some(length), Some(kind)) = (u16_at(bytes, 0).map(usize::from), u16_at(bytes, 2)) {
        let value = bytes.get(4..length)?;
        if kind == wanted {
            return Some(value);
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_removed_route_and_a_route_that_says_no_are_told() {
        let message = |kind: u16, what: u8, to: Option<[u8; 4]>| {
            let mut bytes = vec![0; 16];
            bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
            bytes.extend([2, if to.is_some() { 24 } else { 0 }, 0, 0, 254, 3, 0, what, 0, 0, 0, 0]);
            if let Some(to) = to {
                bytes.extend([8, 0, 1, 0]);
                bytes.extend(to);
            }
            let length = bytes.len() as u32;
            bytes[..4].copy_from_slice(&length.to_ne_bytes());
            bytes
        };
        let told = |bytes: Vec<u8>| {
            let mut changes = Vec::new();
            read(&bytes, 7, &mut changes);
            changes.into_iter().map(|one| one.change).collect::<Vec<_>>()
        };
        let route = |to: &str, usable| vec![Change::Route { to: to.to_owned(), usable }];
        assert_eq!(told(message(RTM_DELROUTE, 1, None)), route("default", false));
        let mut six = message(RTM_DELROUTE, 1, None);
        six[16] = libc::AF_INET6 as u8;
        assert_eq!(told(six), route("::/0", false));
        assert_eq!(told(message(RTM_NEWROUTE, 7, Some([10, 1, 2, 0]))), route("10.1.2.0/24", false));
        assert_eq!(told(message(RTM_DELROUTE, 7, Some([10, 1, 2, 0]))), route("10.1.2.0/24", true));
        assert_eq!(told(message(RTM_NEWROUTE, 2, None)), [], "of the machine itself");
        assert_eq!(told(message(RTM_NEWROUTE, 1, None)[..20].to_vec()), [], "cut short");
    }
}
