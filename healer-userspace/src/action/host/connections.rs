//! Dead connections of a process: looked at, and ended, in its own network namespace.

use std::{io, net::SocketAddr, os::unix::fs::MetadataExt as _, path::PathBuf};

use serde::Deserialize;

use crate::sense::poll::sockets::{RETRANSMITS, SockDiag, Socket};

/// `detail.proof` of a dependency failure of kind `stale`, as far as the hands need it.
#[derive(Deserialize)]
struct Proof {
    netns: u64,
    connections: Vec<Connection>,
}

#[derive(Deserialize)]
struct Connection {
    cookie: u64,
    local: SocketAddr,
    acked: u64,
}

/// Those that are as dead as they were: sent again and again, and nothing more acknowledged.
pub(super) struct Dead {
    diag: SockDiag,
    sockets: Vec<Socket>,
}

impl Dead {
    /// # Errors
    /// The proof is none of ours, the process has moved, or its sockets cannot be seen (CAP_SYS_ADMIN).
    pub(super) fn find(pid: u32, proof: &serde_json::Value) -> io::Result<Self> {
        let proof: Proof = serde_json::from_value(proof.clone()).map_err(io::Error::other)?;
        let namespace = PathBuf::from(format!("/proc/{pid}/ns/net"));
        // The record has the lower half of the inode number.
        if std::fs::metadata(&namespace)?.ino() as u32 != proof.netns as u32 {
            return Err(io::Error::other("the process is in another network namespace by now"));
        }
        let mut diag = SockDiag::open_in(&namespace)?;
        let mut sockets = Vec::new();
        diag.each(|socket| {
            if proof.connections.iter().any(|one| one.is_still(&socket)) {
                sockets.push(socket);
            }
        })?;
        Ok(Self { diag, sockets })
    }

    pub(super) fn count(&self) -> usize {
        self.sockets.len()
    }

    /// # Errors
    /// The kernel has no CONFIG_INET_DIAG_DESTROY, or CAP_NET_ADMIN is missing.
    pub(super) fn reset(mut self) -> io::Result<usize> {
        let mut ended = 0;
        for socket in &self.sockets {
            match self.diag.destroy(socket) {
                Ok(()) => ended += 1,
                // Its owner was faster.
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(ended)
    }
}

impl Connection {
    fn is_still(&self, socket: &Socket) -> bool {
        let acked = socket.info.map(|info| info.bytes_acked);
        self.cookie == socket.cookie
            && self.local == socket.local()
            && socket.timer == RETRANSMITS
            && acked == Some(self.acked)
    }
}
