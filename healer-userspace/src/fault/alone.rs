//! A network namespace of one's own.

use std::{io, net::Ipv4Addr, os::fd::AsRawFd as _};

/// What who cannot have one is told.
pub(super) const REMEDY: &str = "it needs CAP_SYS_ADMIN and CAP_NET_ADMIN";

/// With a loopback that is up. For a process of one thread.
pub(super) fn namespace() -> io::Result<()> {
    // SAFETY: takes a number.
    if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
        return Err(io::Error::last_os_error());
    }
    loopback(libc::IFF_UP)
}

/// One more address of its only interface: of other networks than 127.0.0.0/8 more can be said.
pub(super) fn address(number: u8, ip: Ipv4Addr) -> io::Result<()> {
    let mut request = named(&format!("lo:{number}"));
    // `struct sockaddr_in` (ip(7)) after the name: family, port, address.
    request[16..18].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
    request[20..24].copy_from_slice(&ip.octets());
    set(libc::SIOCSIFADDR, &request)
}

/// Nobody is reached any more.
pub(super) fn cut() -> io::Result<()> {
    loopback(0)
}

fn loopback(flags: i32) -> io::Result<()> {
    let mut request = named("lo");
    request[16..18].copy_from_slice(&(flags as u16).to_ne_bytes());
    set(libc::SIOCSIFFLAGS, &request)
}

/// `struct ifreq` (netdevice(7)): a name, then what is set.
fn named(name: &str) -> [u8; 40] {
    let mut request = [0_u8; 40];
    request[..name.len()].copy_from_slice(name.as_bytes());
    request
}

fn set(what: libc::c_ulong, request: &[u8; 40]) -> io::Result<()> {
    let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    // SAFETY: the kernel reads a `struct ifreq`, which is 40 bytes long.
    let outcome = unsafe { libc::ioctl(socket.as_raw_fd(), what as _, request.as_ptr()) };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
