//! The process connector: the kernel tells forks, execs and ends over netlink, to root in the
//! initial namespaces (`include/uapi/linux/cn_proc.h`, drivers/connector/cn_proc.c).

use std::{
    io,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
};

use crate::sense::status::Trouble;

const NETLINK_CONNECTOR: i32 = 11;
const CN_IDX_PROC: u32 = 1;
const CN_VAL_PROC: u32 = 1;
const PROC_CN_MCAST_LISTEN: u32 = 1;
const PROC_CN_MCAST_IGNORE: u32 = 2;
const NLMSG_DONE: u16 = 3;

const PROC_EVENT_NONE: u32 = 0;
const PROC_EVENT_FORK: u32 = 1;
const PROC_EVENT_EXEC: u32 = 2;
const PROC_EVENT_EXIT: u32 = 0x8000_0000;

/// `struct nlmsghdr` and `struct cn_msg`.
const HEADERS: usize = 16 + 20;
/// `what`, `cpu`, `timestamp_ns`.
const EVENT_HEADER: usize = 16;
/// Room for a burst; a datagram takes about 700 bytes of it.
const RECEIVE_BYTES: libc::c_int = 4 << 20;

/// Something that happened to a thread, with numbers of the initial pid namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ProcEvent {
    /// `CLOCK_MONOTONIC`, ns.
    pub(super) at_ns: u64,
    pub(super) what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// The answer to [`PROC_CN_MCAST_LISTEN`]: an errno, 0 if the kernel will tell.
    Answer(u32),
    Fork {
        parent_tgid: u32,
        pid: u32,
        tgid: u32,
    },
    Exec {
        pid: u32,
        tgid: u32,
    },
    /// `status` is the thread's, as `wait(2)` has it.
    Exit {
        pid: u32,
        tgid: u32,
        status: u32,
        parent_tgid: Option<u32>,
    },
}

/// What one datagram says; `None` for other events and for anything that is too short.
pub(super) fn parse(datagram: &[u8]) -> Option<ProcEvent> {
    let word = |at: usize| {
        let bytes = datagram.get(at..)?.first_chunk()?;
        Some(u32::from_ne_bytes(*bytes))
    };
    if (word(16)?, word(20)?) != (CN_IDX_PROC, CN_VAL_PROC) {
        return None;
    }
    let at_ns = u64::from_ne_bytes(*datagram.get(HEADERS + 8..)?.first_chunk()?);
    let data = |index: usize| word(HEADERS + EVENT_HEADER + 4 * index);
    let what = match word(HEADERS)? {
        PROC_EVENT_NONE => What::Answer(data(0)?),
        PROC_EVENT_FORK => What::Fork { parent_tgid: data(1)?, pid: data(2)?, tgid: data(3)? },
        PROC_EVENT_EXEC => What::Exec { pid: data(0)?, tgid: data(1)? },
        PROC_EVENT_EXIT => What::Exit {
            pid: data(0)?,
            tgid: data(1)?,
            status: data(2)? & 0xffff,
            // Since 4.18.
            parent_tgid: data(5).filter(|tgid| *tgid != 0),
        },
        _ => return None,
    };
    Some(ProcEvent { at_ns, what })
}

/// A subscription; it ends when this is dropped.
pub(super) struct Connector(OwnedFd);

impl Connector {
    /// # Errors
    /// In words: no such protocol, no right, or a namespace in which the kernel does not tell.
    pub(super) fn open() -> Result<Self, Trouble> {
        const REMEDY: &str = "run healer as root in the host's user, pid and network namespaces (hostUsers, hostPID, hostNetwork)";
        let trouble =
            |why: String| Trouble::new(format!("the process connector cannot be used: {why}"), REMEDY);
        let socket = bound().map_err(|error| trouble(error.to_string()))?;
        let connector = Self(socket);
        connector.ask(PROC_CN_MCAST_LISTEN).map_err(|error| trouble(error.to_string()))?;
        // The kernel answers within the call; other events may come before the answer.
        let mut room = [0; 4096];
        while let Some(length) = connector.receive(&mut room).map_err(|error| trouble(error.to_string()))? {
            match parse(&room[..length]).map(|event| event.what) {
                Some(What::Answer(0)) => return Ok(connector),
                Some(What::Answer(errno)) => {
                    return Err(trouble(io::Error::from_raw_os_error(errno as i32).to_string()));
                }
                Some(What::Fork { .. } | What::Exec { .. } | What::Exit { .. }) | None => {}
            }
        }
        Err(trouble("the kernel does not answer, as in a namespace of its own".to_owned()))
    }

    /// One datagram; `None` when there is none.
    ///
    /// # Errors
    /// `ENOBUFS`: some were lost.
    pub(super) fn receive(&self, room: &mut [u8]) -> io::Result<Option<usize>> {
        // SAFETY: the buffer and its length.
        let got = unsafe {
            libc::recv(self.0.as_raw_fd(), room.as_mut_ptr().cast(), room.len(), libc::MSG_DONTWAIT)
        };
        if let Ok(got) = usize::try_from(got) {
            return Ok(Some(got));
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::EAGAIN) => Ok(None),
            Some(libc::EINTR) => Ok(Some(0)),
            _ => Err(error),
        }
    }

    fn ask(&self, operation: u32) -> io::Result<()> {
        let mut message = [0_u8; HEADERS + 4];
        let length = message.len() as u32;
        message[0..4].copy_from_slice(&length.to_ne_bytes());
        message[4..6].copy_from_slice(&NLMSG_DONE.to_ne_bytes());
        message[16..20].copy_from_slice(&CN_IDX_PROC.to_ne_bytes());
        message[20..24].copy_from_slice(&CN_VAL_PROC.to_ne_bytes());
        message[32..34].copy_from_slice(&4_u16.to_ne_bytes());
        message[HEADERS..].copy_from_slice(&operation.to_ne_bytes());
        // SAFETY: the buffer and its length.
        let sent = unsafe { libc::send(self.0.as_raw_fd(), message.as_ptr().cast(), message.len(), 0) };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

impl Drop for Connector {
    fn drop(&mut self) {
        // Older kernels count listeners by these calls alone.
        self.ask(PROC_CN_MCAST_IGNORE).ok();
    }
}

impl AsFd for Connector {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn bound() -> io::Result<OwnedFd> {
    let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: numbers only; a descriptor that is not negative is ours.
    let socket = unsafe {
        let raw = libc::socket(libc::AF_NETLINK, kind, NETLINK_CONNECTOR);
        if raw < 0 {
            return Err(io::Error::last_os_error());
        }
        OwnedFd::from_raw_fd(raw)
    };
    // SAFETY: a struct of numbers, for which zeros are valid: the kernel picks the port.
    let mut address: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
    address.nl_family = libc::AF_NETLINK as libc::sa_family_t;
    address.nl_groups = CN_IDX_PROC;
    let length = size_of_val(&address) as libc::socklen_t;
    // SAFETY: the address and its length.
    if unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let wanted = RECEIVE_BYTES;
    let (option, size) = (&raw const wanted, size_of_val(&wanted) as libc::socklen_t);
    // Beyond `net.core.rmem_max` only with CAP_NET_ADMIN; else that much.
    for name in [libc::SO_RCVBUFFORCE, libc::SO_RCVBUF] {
        // SAFETY: the option and its size.
        if unsafe { libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, name, option.cast(), size) } == 0 {
            break;
        }
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a 6.18 kernel sent it for `sh -c 'exit 3'`.
    const EXIT: &str = "4c00000003000000010000000000000001000000010000000100000000000000280000000000\
                        008001000000157d121593040000984c0000984c000000030000110000006f4c00006f4c0000";
    const EXEC: &str = "4c000000030000000000000000000000010000000100000000000000000000002800000002\
                        00000001000000b8f6091593040000984c0000984c000000000000000000000000000000000000";
    const ANSWER: &str = "4c00000003000000000000000000000001000000010000000000000001000000280000000000\
                          000000000000ae51441493040000000000000000000000000000000000000000000000000000";

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u32> = hex.chars().filter_map(|digit| digit.to_digit(16)).collect();
        digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
    }

    #[test]
    fn events_of_a_real_kernel_are_understood() {
        let exit = parse(&bytes(EXIT)).unwrap();
        let (pid, parent_tgid) = (0x4c98, Some(0x4c6f));
        assert_eq!(exit.what, What::Exit { pid, tgid: pid, status: 3 << 8, parent_tgid });
        assert_eq!(exit.at_ns, 0x0493_1512_7d15);
        assert_eq!(parse(&bytes(EXEC)).unwrap().what, What::Exec { pid, tgid: pid });
        assert_eq!(parse(&bytes(ANSWER)).unwrap().what, What::Answer(0));
    }

    #[test]
    fn every_shorter_datagram_is_refused_or_understood() {
        let whole = bytes(EXIT);
        for length in 0..whole.len() {
            let _outcome = parse(&whole[..length]);
        }
        assert_eq!(parse(&whole[..60]), None);
    }

    #[test]
    fn other_connectors_are_not_listened_to() {
        let mut other = bytes(EXIT);
        other[16] = 7;
        assert_eq!(parse(&other), None);
    }
}
