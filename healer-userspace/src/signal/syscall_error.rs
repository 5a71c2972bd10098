//! System calls that fail because something ran out, or broke.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use healer_common::event::syscall_error::SyscallError as Record;
use serde::{Deserialize, Serialize};

use super::{Fact, Meaning, Raw, Seen, levels::Level, raw, syscalls};
use crate::engine::time::BootTime;

/// Calls whose first argument is the file that they are about.
const BY_DESCRIPTOR: [&str; 18] = [
    "write",
    "pwrite64",
    "writev",
    "pwritev",
    "pwritev2",
    "read",
    "pread64",
    "readv",
    "preadv",
    "fsync",
    "fdatasync",
    "fallocate",
    "ftruncate",
    "sync_file_range",
    "syncfs",
    "getdents64",
    "close",
    "sendfile",
];

/// Failures of one process with one errno.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyscallError {
    /// Of the last: `openat`, or `syscall 437`.
    pub call: String,
    pub errno: i32,
    /// So far; a sensor that only samples has not seen all.
    pub count: u64,
    /// The first of them.
    pub first: BootTime,
    /// First argument of the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arg0: Option<u64>,
    /// Where the last wanted to connect to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<SocketAddr>,
    /// What the call was about, and how much of it was used just after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<Level>,
    /// The file behind the descriptor in `arg0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<File>,
}

impl SyscallError {
    /// A connection for which this machine knew no way, or was told so.
    #[must_use]
    pub fn has_no_way(&self) -> bool {
        matches!(self.errno, libc::ENETUNREACH | libc::EHOSTUNREACH) && self.address.is_some()
    }

    /// Its first argument is the file that it was about.
    #[must_use]
    pub fn is_by_descriptor(&self) -> bool {
        BY_DESCRIPTOR.contains(&self.call.as_str())
    }

    /// A connection for which no local port was left.
    #[must_use]
    pub fn has_no_port(&self) -> bool {
        self.errno == libc::EADDRNOTAVAIL && self.address.is_some()
    }
}

/// An open file, and what it lies on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    pub path: String,
    /// Mount point and file system, such as `/data` and `ext4`; empty if unknown.
    #[serde(default)]
    pub mount: String,
    #[serde(default)]
    pub filesystem: String,
    /// `8:1`, the same in every mount namespace; empty if not known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub device: String,
    /// What is mounted, such as `/dev/sda1`; empty if not known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub source: String,
    /// A regular file, a directory or a block device: what lies on a disk.
    #[serde(default)]
    pub stored: bool,
}

pub(super) fn interpret(at: BootTime, event: &Record) -> Meaning {
    let fact = Fact::SyscallError(Box::new(SyscallError {
        call: syscalls::name(event.syscall),
        errno: event.errno.cast_signed(),
        count: event.count,
        first: BootTime(event.first_ns),
        arg0: (event.flags & Record::HAS_ARG0 != 0).then_some(event.arg0),
        address: address(&event.address),
        level: None,
        file: None,
    }));
    let seen = raw::party(&event.task).map(|task| Seen {
        task,
        cgroup: raw::cgroup(&event.cgroup),
        ..Seen::default()
    });
    Meaning::Happened(Raw { at, seen, fact, at_limit: None, owner: None })
}

/// A `sockaddr_in` or `sockaddr_in6` (ip(7), ipv6(7)); others are none of ours.
fn address(bytes: &[u8; 32]) -> Option<SocketAddr> {
    let family = i32::from(u16::from_ne_bytes([bytes[0], bytes[1]]));
    let port = u16::from_be_bytes([bytes[2], bytes[3]]);
    let ip = match family {
        libc::AF_INET => IpAddr::V4(Ipv4Addr::new(bytes[4], bytes[5], bytes[6], bytes[7])),
        libc::AF_INET6 => {
            let address: [u8; 16] = bytes[8..24].try_into().ok()?;
            IpAddr::V6(Ipv6Addr::from(address)).to_canonical()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

/// `EMFILE`, with what it means to a person.
pub fn errno_words(errno: i32) -> &'static str {
    match errno {
        libc::EIO => "EIO, input/output error",
        libc::EAGAIN => "EAGAIN, no process can be made",
        libc::ENOMEM => "ENOMEM, no memory",
        libc::ENFILE => "ENFILE, no file descriptors on the machine",
        libc::EMFILE => "EMFILE, no file descriptors",
        libc::ENOSPC => "ENOSPC, no space",
        libc::EROFS => "EROFS, read-only file system",
        libc::EADDRNOTAVAIL => "EADDRNOTAVAIL, no local port",
        libc::ENETUNREACH => "ENETUNREACH, no route",
        libc::ENOBUFS => "ENOBUFS, no buffers",
        libc::EHOSTUNREACH => "EHOSTUNREACH, no way to the host",
        libc::EDQUOT => "EDQUOT, the quota is used up",
        _ => "an error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_in_both_families() {
        let mut four = [0_u8; 32];
        four[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
        four[2..8].copy_from_slice(&[0x1f, 0x90, 127, 0, 0, 1]);
        assert_eq!(address(&four), Some("127.0.0.1:8080".parse().unwrap()));
        let mut six = [0_u8; 32];
        six[..2].copy_from_slice(&(libc::AF_INET6 as u16).to_ne_bytes());
        six[2..4].copy_from_slice(&[0, 80]);
        six[23] = 1;
        assert_eq!(address(&six), Some("[::1]:80".parse().unwrap()));
        assert_eq!(address(&[0; 32]), None);
    }
}
