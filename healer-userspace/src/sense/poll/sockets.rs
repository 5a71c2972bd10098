//! TCP sockets of one network namespace, by `NETLINK_SOCK_DIAG` (sock_diag(7)): queues and counters that only the
//! kernel knows. One request is one pass over the kernel's table; nothing hangs on any packet's path.

mod ends;
mod info;
mod request;

use core::time::Duration;
use std::{
    fs::{self, File},
    io,
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::fs::MetadataExt as _,
    },
    path::Path,
    thread,
};

pub use info::Info;
use request::{destroy_request, tcp_request, udp_request};

/// include/net/tcp_states.h
pub const ESTABLISHED: u8 = 1;
pub const SYN_SENT: u8 = 2;
pub const CLOSE_WAIT: u8 = 8;
pub const LISTEN: u8 = 10;

/// `idiag_timer` (sock_diag(7)): data that was sent has no acknowledgement yet.
pub const RETRANSMITS: u8 = 1;
/// There is data to be sent and it may not go: the kernel asks again and again whether it may.
pub const PROBES: u8 = 4;

pub(super) const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// `struct inet_diag_msg` (include/uapi/linux/inet_diag.h).
const MESSAGE_SIZE: usize = 72;
const HEADER_SIZE: usize = 16;
const INET_DIAG_INFO: u16 = 2;
const INET_DIAG_CGROUP_ID: u16 = 21;
/// The kernel fills replies of at most 32 KiB.
const REPLY_MAX: usize = 64 * 1024;

const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// One TCP socket, as far as hangs and the network need it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Socket {
    /// Never reused while the machine runs.
    pub cookie: u64,
    pub state: u8,
    /// IPv6, or IPv4 as `::ffff:a.b.c.d`.
    pub local: [u8; 16],
    pub remote: [u8; 16],
    pub family: u8,
    /// What the kernel waits for: [`RETRANSMITS`], [`PROBES`], or nothing worth a word.
    pub timer: u8,
    /// In network byte order, IPv4 in the first four bytes.
    pub local_address: [u8; 16],
    pub peer_address: [u8; 16],
    pub local_port: u16,
    pub peer_port: u16,
    /// Bound to this interface; 0: to none.
    pub interface: u32,
    /// 0: not accepted yet, or orphaned.
    pub inode: u32,
    /// Listener: connections to be accepted. Else: bytes to be read (a FIN counts as one).
    pub receive_queue: u32,
    /// Listener: its backlog. Else: bytes that the peer has not acknowledged.
    pub send_queue: u32,
    /// cgroup v2 id of its maker, or of its listener's; 0 where the kernel does not tell (before 5.8).
    pub cgroup: u64,
    pub info: Option<Info>,
}

/// Stays in the namespace it was opened in, whatever its threads do.
pub struct SockDiag {
    socket: OwnedFd,
    reply: Vec<u8>,
}

impl SockDiag {
    /// In the namespace of the calling thread.
    ///
    /// # Errors
    /// The kernel has no `inet_diag`, or refuses.
    pub fn open() -> io::Result<Self> {
        const NETLINK_SOCK_DIAG: i32 = 4;
        let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC;
        // SAFETY: no pointers.
        let fd = unsafe { libc::socket(libc::AF_NETLINK, kind, NETLINK_SOCK_DIAG) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: just made, nobody else has it.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        answer_within(&socket, ANSWER_WITHIN)?;
        Ok(Self { socket, reply: vec![0; REPLY_MAX] })
    }

    /// In the namespace behind `namespace`, such as `/proc/PID/ns/net`; by a thread of its own, which ends there.
    ///
    /// # Errors
    /// The namespace is gone, or may not be entered (CAP_SYS_ADMIN).
    pub fn open_in(namespace: &Path) -> io::Result<Self> {
        in_namespace(namespace, Self::open)?
    }

    /// All TCP sockets that listen, are established, or wait for their owner to close; IPv4 and IPv6.
    ///
    /// # Errors
    /// The kernel refuses the dump, or says nothing for two seconds. What is left of the answer may still come:
    /// the next dump wants a new `SockDiag`.
    pub fn dump(&mut self) -> io::Result<Vec<Socket>> {
        self.dump_of(&[ESTABLISHED, CLOSE_WAIT, LISTEN])
    }

    /// All TCP sockets in these states.
    pub(crate) fn dump_of(&mut self, states: &[u8]) -> io::Result<Vec<Socket>> {
        let states = states.iter().fold(0, |mask, state| mask | 1 << state);
        let mut sockets = Vec::new();
        self.each_of(states, |socket| sockets.push(socket))?;
        Ok(sockets)
    }

    /// As [`SockDiag::dump`], one at a time; listeners first, of each family.
    ///
    /// # Errors
    /// As of [`SockDiag::dump`].
    pub fn each(&mut self, see: impl FnMut(Socket)) -> io::Result<()> {
        self.each_of(1 << ESTABLISHED | 1 << CLOSE_WAIT | 1 << LISTEN, see)
    }

    fn each_of(&mut self, states: u32, mut see: impl FnMut(Socket)) -> io::Result<()> {
        for family in [libc::AF_INET, libc::AF_INET6] {
            self.ask(&tcp_request(family as u8, states))?;
            while !read_messages(self.answer()?, &mut |body| socket(body).into_iter().for_each(&mut see))? {}
        }
        Ok(())
    }

    /// All UDP sockets that are connected to this port.
    ///
    /// # Errors
    /// As of [`SockDiag::dump`]; the kernel has no `udp_diag` (ENOENT).
    pub(super) fn each_udp(&mut self, peer_port: u16, mut see: impl FnMut(Socket)) -> io::Result<()> {
        for family in [libc::AF_INET, libc::AF_INET6] {
            self.ask(&udp_request(family as u8, 1 << ESTABLISHED, peer_port))?;
            while !read_messages(self.answer()?, &mut |body| socket(body).into_iter().for_each(&mut see))? {}
        }
        Ok(())
    }

    /// Ends the connection as its owner would by a reset (`SOCK_DESTROY`): the owner reads ECONNABORTED.
    ///
    /// # Errors
    /// It is gone, the kernel has no CONFIG_INET_DIAG_DESTROY (EOPNOTSUPP), or CAP_NET_ADMIN is missing.
    pub fn destroy(&mut self, socket: &Socket) -> io::Result<()> {
        self.ask(&destroy_request(socket))?;
        read_messages(self.answer()?, &mut |_| {}).map(drop)
    }

    /// The next messages of the kernel's.
    pub(super) fn answer(&mut self) -> io::Result<&[u8]> {
        loop {
            let fd = self.socket.as_raw_fd();
            // SAFETY: the buffer is as long as is said.
            let got = unsafe { libc::recv(fd, self.reply.as_mut_ptr().cast(), self.reply.len(), 0) };
            match usize::try_from(got) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(got) => return Ok(&self.reply[..got]),
                Err(_) => go_on_after_a_signal()?,
            }
        }
    }

    pub(super) fn ask(&self, request: &[u8]) -> io::Result<()> {
        let fd = self.socket.as_raw_fd();
        // SAFETY: the buffer is as long as is said.
        while unsafe { libc::send(fd, request.as_ptr().cast(), request.len(), 0) } < 0 {
            go_on_after_a_signal()?;
        }
        Ok(())
    }
}

/// The last system call failed: only because of a signal?
fn go_on_after_a_signal() -> io::Result<()> {
    match io::Error::last_os_error() {
        error if error.kind() == io::ErrorKind::Interrupted => Ok(()),
        error => Err(error),
    }
}

/// A kernel that does not answer must not hold the thread that asks.
fn answer_within(socket: &OwnedFd, limit: Duration) -> io::Result<()> {
    rustix::net::sockopt::set_socket_timeout(socket, rustix::net::sockopt::Timeout::Recv, Some(limit))
        .map_err(io::Error::from)
}

/// What `make` gives in the network namespace behind `namespace`; by a thread of its own, which ends there.
pub(super) fn in_namespace<T: Send + 'static>(
    namespace: &Path,
    make: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let namespace = File::open(namespace)?;
    let there = thread::Builder::new().name("healer-netns".to_owned()).spawn(move || {
        enter(&namespace)?;
        Ok(make())
    })?;
    there.join().unwrap_or_else(|_| Err(io::Error::other("the thread panicked")))
}

/// The calling thread moves into the network namespace, for good. Where it is already, it needs no right for that.
///
/// # Errors
/// It may not be entered (CAP_SYS_ADMIN).
pub fn enter(namespace: &File) -> io::Result<()> {
    if namespace.metadata()?.ino() == fs::metadata("/proc/thread-self/ns/net")?.ino() {
        return Ok(());
    }
    // SAFETY: no pointers; only the calling thread is moved.
    let entered = unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) };
    if entered == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// True after the last message.
pub(super) fn read_messages(mut bytes: &[u8], see: &mut impl FnMut(&[u8])) -> io::Result<bool> {
    while let Some(length) = u32_at(bytes, 0).map(|length| length as usize) {
        let kind = u16_at(bytes, 4);
        let Some(body) = bytes.get(HEADER_SIZE..length) else {
            break;
        };
        match kind {
            // Both begin with an errno: a dump may fail half way.
            Some(NLMSG_DONE | NLMSG_ERROR) => {
                return match u32_at(body, 0).map_or(0, |errno| errno as i32) {
                    0 => Ok(true),
                    errno => Err(io::Error::from_raw_os_error(errno.saturating_neg())),
                };
            }
            Some(SOCK_DIAG_BY_FAMILY) => see(body),
            Some(_) | None => {}
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    if bytes.is_empty() { Ok(false) } else { Err(io::ErrorKind::InvalidData.into()) }
}

fn socket(message: &[u8]) -> Option<Socket> {
    let mut socket = Socket {
        family: *message.first()?,
        state: *message.get(1)?,
        local: address(*message.first()?, message.get(8..24)?)?,
        remote: address(*message.first()?, message.get(24..40)?)?,
        timer: *message.get(2)?,
        local_address: message.get(8..24)?.try_into().ok()?,
        peer_address: message.get(24..40)?.try_into().ok()?,
        interface: u32_at(message, 40)?,
        local_port: u16::from_be_bytes([*message.get(4)?, *message.get(5)?]),
        peer_port: u16::from_be_bytes([*message.get(6)?, *message.get(7)?]),
        cookie: u64::from(u32_at(message, 44)?) | u64::from(u32_at(message, 48)?) << 32,
        receive_queue: u32_at(message, 56)?,
        send_queue: u32_at(message, 60)?,
        inode: u32_at(message, 68)?,
        ..Socket::default()
    };
    let mut rest = message.get(MESSAGE_SIZE..)?;
    while let (Some(length), Some(kind)) = (u16_at(rest, 0).map(usize::from), u16_at(rest, 2)) {
        let Some(value) = rest.get(4..length) else {
            break;
        };
        match kind {
            INET_DIAG_INFO => socket.info = Info::read(value),
            INET_DIAG_CGROUP_ID => socket.cgroup = u64_at(value, 0).unwrap_or(0),
            _ => {}
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Some(socket)
}

fn address(family: u8, bytes: &[u8]) -> Option<[u8; 16]> {
    if i32::from(family) == libc::AF_INET6 {
        return bytes.try_into().ok();
    }
    let four: [u8; 4] = *bytes.first_chunk()?;
    Some(core::net::Ipv4Addr::from(four).to_ipv6_mapped().octets())
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(test)]
impl SockDiag {
    /// Its questions have no answer.
    pub(crate) fn broken() -> Self {
        Self { socket: File::open("/dev/null").unwrap().into(), reply: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write as _,
        net::{TcpListener, TcpStream},
    };

    use super::*;

    #[test]
    fn a_connection_with_unread_bytes_is_seen() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        client.write_all(b"hello").unwrap();
        let (_server, _) = listener.accept().unwrap();
        let _waiting = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let sockets = SockDiag::open().unwrap().dump().unwrap();
        let of_port: Vec<_> = sockets.iter().filter(|socket| socket.local_port == port).collect();
        let listening = of_port.iter().find(|socket| socket.state == LISTEN).unwrap();
        assert_eq!(listening.receive_queue, 1);
        let unread = of_port.iter().find(|socket| socket.receive_queue == 5).unwrap();
        assert_eq!(unread.info.unwrap().bytes_received, 5);
        assert_eq!(unread.info.unwrap().data_segments_out, 0);
        assert_ne!(unread.inode, 0);
    }

    #[test]
    fn a_dump_that_fails_half_way_is_an_error_and_no_end() {
        let message = |kind: u16, errno: i32| {
            let mut bytes = [0_u8; 20];
            bytes[..4].copy_from_slice(&20_u32.to_ne_bytes());
            bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
            bytes[16..].copy_from_slice(&errno.to_ne_bytes());
            bytes
        };
        let read = |bytes: &[u8]| read_messages(bytes, &mut |_| {}).map_err(|error| error.raw_os_error());
        assert_eq!(read(&message(NLMSG_DONE, 0)), Ok(true));
        assert_eq!(read(&message(NLMSG_DONE, -libc::ENOMEM)), Err(Some(libc::ENOMEM)));
        assert_eq!(read(&message(NLMSG_ERROR, -libc::EBUSY)), Err(Some(libc::EBUSY)));
        assert!(read(&message(NLMSG_DONE, 0)[..18]).is_err(), "cut short");
    }

    #[test]
    fn garbage_is_no_socket() {
        let mut sockets = Vec::new();
        for length in 0..200 {
            let bytes: Vec<u8> = (0..length).map(|byte| (byte * 7) as u8).collect();
            read_messages(&bytes, &mut |body| sockets.extend(socket(body))).ok();
        }
        assert!(socket(&[0; 40]).is_none());
    }
}
