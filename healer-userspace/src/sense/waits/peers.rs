//! The other end of a unix socket that somebody reads from or writes to without end.

use std::{collections::BTreeMap, os::fd::OwnedFd, path::PathBuf};

use rustix::{
    net::{
        AddressFamily,
        sockopt::{Timeout, socket_domain, socket_timeout},
    },
    process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open},
};

use super::procfs::Proc;
use crate::sense::poll::sockets::SockDiag;

/// For one scan: what is kept open keeps the namespace alive.
#[derive(Default)]
pub(crate) struct Peers {
    /// By inode of the network namespace; `None` if it cannot be asked.
    namespaces: BTreeMap<u64, Option<SockDiag>>,
}

impl Peers {
    /// Inode of the peer; `None` for other sockets than unix ones, and where a time-out ends the wait.
    pub(crate) fn of(&mut self, proc: &Proc, tgid: u32, fd: u32, inode: u64, is_write: bool) -> Option<u32> {
        let socket = copy_of(tgid, fd)?;
        let timeout = if is_write { Timeout::Send } else { Timeout::Recv };
        let is_unix = socket_domain(&socket) == Ok(AddressFamily::UNIX);
        if !is_unix || socket_timeout(&socket, timeout) != Ok(None) {
            return None;
        }
        let namespace = proc.net_namespace(tgid)?;
        let diag = self.namespaces.entry(namespace.0).or_insert_with(|| open(proc, &namespace));
        let peer = diag.as_mut()?.unix_peer(u32::try_from(inode).ok()?);
        if peer.is_err() {
            *diag = None;
        }
        peer.ok().flatten()
    }
}

/// Its very socket, to be asked what only its owner can ask. Held for a moment.
pub(crate) fn copy_of(tgid: u32, fd: u32) -> Option<OwnedFd> {
    let pidfd = pidfd_open(Pid::from_raw(i32::try_from(tgid).ok()?)?, PidfdFlags::empty()).ok()?;
    pidfd_getfd(&pidfd, i32::try_from(fd).ok()?, PidfdGetfdFlags::empty()).ok()
}

fn open(proc: &Proc, (inode, path): &(u64, PathBuf)) -> Option<SockDiag> {
    let is_ours = proc.own_net_namespace() == Some(*inode);
    if is_ours { SockDiag::open() } else { SockDiag::open_in(path) }.ok()
}
