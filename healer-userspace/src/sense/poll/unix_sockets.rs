//! Who is at the other end of a unix socket, by `NETLINK_SOCK_DIAG` (include/uapi/linux/unix_diag.h).

use std::io;

use super::sockets::{SOCK_DIAG_BY_FAMILY, SockDiag, u16_at, u32_at};

const NLM_F_REQUEST: u16 = 1;
const HEADER_SIZE: usize = 16;
/// `struct unix_diag_req` behind its header.
const REQUEST_SIZE: usize = HEADER_SIZE + 24;
/// `struct unix_diag_msg`.
const MESSAGE_SIZE: usize = 16;
const UDIAG_SHOW_PEER: u32 = 4;
const UNIX_DIAG_PEER: u16 = 2;

impl SockDiag {
    /// Inode of the socket that the unix socket `inode` is connected to; `None` if it is connected to none, if its
    /// peer has not been accepted yet, or if there is no such unix socket in this namespace.
    ///
    /// # Errors
    /// The kernel says nothing; the next question wants a new `SockDiag`.
    pub fn unix_peer(&mut self, inode: u32) -> io::Result<Option<u32>> {
        self.ask(&request(inode))?;
        Ok(peer(self.answer()?))
    }
}

fn request(inode: u32) -> [u8; REQUEST_SIZE] {
    const ANY_COOKIE: [u8; 8] = [0xff; 8];
    let mut request = [0; REQUEST_SIZE];
    request[..4].copy_from_slice(&(REQUEST_SIZE as u32).to_ne_bytes());
    request[4..6].copy_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    request[6..8].copy_from_slice(&NLM_F_REQUEST.to_ne_bytes());
    request[16] = libc::AF_UNIX as u8;
    request[24..28].copy_from_slice(&inode.to_ne_bytes());
    request[28..32].copy_from_slice(&UDIAG_SHOW_PEER.to_ne_bytes());
    request[32..].copy_from_slice(&ANY_COOKIE);
    request
}

/// From a message of the type `SOCK_DIAG_BY_FAMILY`; any other says that there is no such socket.
fn peer(message: &[u8]) -> Option<u32> {
    if u16_at(message, 4)? != SOCK_DIAG_BY_FAMILY {
        return None;
    }
    let mut rest = message.get(HEADER_SIZE + MESSAGE_SIZE..u32_at(message, 0)? as usize)?;
    while let (Some(length), Some(kind)) = (u16_at(rest, 0).map(usize::from), u16_at(rest, 2)) {
        if kind == UNIX_DIAG_PEER {
            return u32_at(rest, 4).filter(|inode| *inode != 0);
        }
        rest = rest.get(length.max(4).next_multiple_of(4)..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use std::os::{fd::AsFd as _, unix::net::UnixStream};

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
    fn garbage_has_no_peer() {
        for length in 0..120 {
            let mut bytes: Vec<u8> = (0..length).map(|byte| (byte * 5) as u8).collect();
            bytes.iter_mut().skip(4).step_by(400).for_each(|byte| *byte = SOCK_DIAG_BY_FAMILY as u8);
            assert_eq!(peer(&bytes), None);
        }
    }
}
