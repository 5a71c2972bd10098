//! Unix sockets that are reached by a name, and who is at the other end of one, by `NETLINK_SOCK_DIAG` (include/uapi/linux/unix_diag.h).

use std::io;

use super::sockets::{ESTABLISHED, LISTEN, SOCK_DIAG_BY_FAMILY, SockDiag, read_messages, u16_at, u32_at};

const NLM_F_REQUEST: u16 = 1;
const NLM_F_REQUEST_DUMP: u16 = 0x301;
const HEADER_SIZE: usize = 16;
/// `struct unix_diag_req` behind its header.
const REQUEST_SIZE: usize = HEADER_SIZE + 24;
/// `struct unix_diag_msg`.
const MESSAGE_SIZE: usize = 16;
const UDIAG_SHOW_NAME: u32 = 1;
const UDIAG_SHOW_PEER: u32 = 4;
const UDIAG_SHOW_RQLEN: u32 = 0x10;
const UNIX_DIAG_NAME: u16 = 0;
const UNIX_DIAG_PEER: u16 = 2;
const UNIX_DIAG_RQLEN: u16 = 4;

/// A listener with a name, or a stream that was accepted from one: it has the same name. How much was read of it nobody
/// counts, only how much lies there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnixSocket {
    pub cookie: u64,
    pub state: u8,
    /// 0: not accepted yet.
    pub inode: u32,
    pub name: Vec<u8>,
    /// Listener: connections to be accepted. Else: bytes to be read.
    pub receive_queue: u32,
    /// Listener: its backlog. Else: memory of what its peer has not read.
    pub send_queue: u32,
}

impl SockDiag {
    /// Inode of the socket that the unix socket `inode` is connected to; `None` if it is connected to none, if its
    /// peer has not been accepted yet, or if there is no such unix socket in this namespace.
    ///
    /// # Errors
    /// The kernel says nothing; the next question wants a new `SockDiag`.
    pub fn unix_peer(&mut self, inode: u32) -> io::Result<Option<u32>> {
        self.ask(&request(NLM_F_REQUEST, 0, inode, UDIAG_SHOW_PEER))?;
        Ok(peer(self.answer()?))
    }

    /// Of all that have a name: listeners and, if wanted, streams that are connected.
    ///
    /// # Errors
    /// The kernel has no `unix_diag` (ENOENT), or as of [`SockDiag::dump`].
    pub fn dump_unix(&mut self, with_streams: bool) -> io::Result<Vec<UnixSocket>> {
        let states = 1 << LISTEN | u32::from(with_streams) << ESTABLISHED;
        self.ask(&request(NLM_F_REQUEST_DUMP, states, 0, UDIAG_SHOW_NAME | UDIAG_SHOW_RQLEN))?;
        let mut sockets = Vec::new();
        while !read_messages(self.answer()?, &mut |body| sockets.extend(named(body)))? {}
        Ok(sockets)
    }
}

fn request(flags: u16, states: u32, inode: u32, show: u32) -> [u8; REQUEST_SIZE] {
    const ANY_COOKIE: [u8; 8] = [0xff; 8];
    let mut request = [0; REQUEST_SIZE];
    request[..4].copy_from_slice(&(REQUEST_SIZE as u32).to_ne_bytes());
    request[4..6].copy_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    request[6..8].copy_from_slice(&flags.to_ne_bytes());
    request[16] = libc::AF_UNIX as u8;
    request[20..24].copy_from_slice(&states.to_ne_bytes());
    request[24..28].copy_from_slice(&inode.to_ne_bytes());
    request[28..32].copy_from_slice(&show.to_ne_bytes());
    request[32..].copy_from_slice(&ANY_COOKIE);
    request
}

/// From a message of the type `SOCK_DIAG_BY_FAMILY`; any other says that there is no such socket.
fn peer(message: &[u8]) -> Option<u32> {
    if u16_at(message, 4)? != SOCK_DIAG_BY_FAMILY {
        return None;
    }
    let rest = message.get(HEADER_SIZE + MESSAGE_SIZE..u32_at(message, 0)? as usize)?;
    let mut peers = attributes(rest).filter(|(kind, _)| *kind == UNIX_DIAG_PEER);
    peers.find_map(|(_, value)| u32_at(value, 0)).filter(|inode| *inode != 0)
}

/// From `struct unix_diag_msg` and what follows.
fn named(message: &[u8]) -> Option<UnixSocket> {
    let mut socket = UnixSocket {
        state: *message.get(2)?,
        inode: u32_at(message, 4)?,
        cookie: u64::from(u32_at(message, 8)?) | u64::from(u32_at(message, 12)?) << 32,
        ..UnixSocket::default()
    };
    for (kind, value) in attributes(message.get(MESSAGE_SIZE..)?) {
        match kind {
            UNIX_DIAG_NAME => socket.name = value.to_vec(),
            UNIX_DIAG_RQLEN => {
                (socket.receive_queue, socket.send_queue) = (u32_at(value, 0)?, u32_at(value, 4)?)
            }
            _ => {}
        }
    }
    let is_stream = i32::from(*message.get(1)?) == libc::SOCK_STREAM;
    (!socket.name.is_empty() && (is_stream || socket.state == LISTEN)).then_some(socket)
}

fn attributes(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let (length, kind) = (usize::from(u16_at(rest, 0)?), u16_at(rest, 2)?);
        let value = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write as _,
        os::{
            fd::AsFd as _,
            unix::net::{UnixListener, UnixStream},
        },
    };

    use super::*;

    #[test]
    fn a_pair_is_each_others_peer() {
        let inode = |stream: &UnixStream| rustix::fs::fstat(stream.as_fd()).unwrap().st_ino as u32;
        let (one, other) = UnixStream::pair().unwrap();
        let mut diag = SockDiag::open().unwrap();
        assert_eq!(diag.unix_peer(inode(&one)).unwrap(), Some(inode(&other)));
        assert_eq!(diag.unix_peer(inode(&other)).unwrap(), Some(inode(&one)));
        let number = inode(&other);
        drop(other);
        assert_eq!(diag.unix_peer(inode(&one)).unwrap(), None);
        assert_eq!(diag.unix_peer(number).unwrap(), None);
    }

    #[test]
    fn what_lies_in_a_named_socket_is_seen() {
        let dir = std::env::temp_dir().join(format!("healer-unix-{}", std::process::id()));
        let listener = UnixListener::bind(&dir).unwrap();
        let mut client = UnixStream::connect(&dir).unwrap();
        client.write_all(b"hello").unwrap();
        let (server, _) = listener.accept().unwrap();
        let _waiting = UnixStream::connect(&dir).unwrap();
        std::fs::remove_file(&dir).ok();
        let name = dir.as_os_str().as_encoded_bytes();
        let all = SockDiag::open().unwrap().dump_unix(true).unwrap();
        let ours: Vec<_> = all.iter().filter(|socket| socket.name.starts_with(name)).collect();
        let listening = ours.iter().find(|socket| socket.state == LISTEN).unwrap();
        assert_eq!(listening.receive_queue, 1);
        let inode = rustix::fs::fstat(server.as_fd()).unwrap().st_ino as u32;
        let accepted = ours.iter().find(|socket| socket.inode == inode).unwrap();
        assert_eq!((accepted.receive_queue, &accepted.name), (5, &listening.name));
    }

    #[test]
    fn garbage_has_no_peer() {
        for length in 0..120 {
            let mut bytes: Vec<u8> = (0..length).map(|byte| (byte * 5) as u8).collect();
            bytes.iter_mut().skip(4).step_by(400).for_each(|byte| *byte = SOCK_DIAG_BY_FAMILY as u8);
            assert_eq!((peer(&bytes), named(&bytes)), (None, None));
        }
    }
}
