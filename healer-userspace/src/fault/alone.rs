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
    loopback()
}

fn loopback() -> io::Result<()> {
    let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    // `struct ifreq` (netdevice(7)): a name, then flags.
    let mut request = [0_u8; 40];
    request[..2].copy_from_slice(b"lo");
    request[16..18].copy_from_slice(&(libc::IFF_UP as u16).to_ne_bytes());
    // SAFETY: the kernel reads a `struct ifreq`, which is 40 bytes long.
    let outcome = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, request.as_ptr()) };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
