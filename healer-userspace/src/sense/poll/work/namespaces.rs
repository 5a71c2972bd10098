//! Sockets of the tracked, one network namespace after the other.

use core::time::Duration;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use super::{
    Watched,
    ledger::{Ledger, Owners, Waiting},
};
use crate::{
    clock,
    engine::time::BootTime,
    sense::{
        poll::{
            sockets::{LISTEN, SockDiag, Socket},
            unix_sockets::UnixSocket,
        },
        waits::Proc,
    },
};

/// Of one family, at most.
const FAMILY_MAX: usize = 64;
/// Who owns which descriptor is looked up again: while it starts, later, and at most so often when a socket in
/// trouble belongs to nobody known.
const LOOK_UP_YOUNG: Duration = Duration::from_secs(3);
const LOOK_UP: Duration = Duration::from_secs(30);
const YOUNG: Duration = Duration::from_secs(60);
/// A dump that takes long is made less often: it may use half a percent of a CPU.
const SPARE: u32 = 200;
/// However long it takes: older news are none.
const PAUSE_MAX: Duration = Duration::from_secs(5);

pub(super) struct Namespaces {
    proc: PathBuf,
    families: BTreeMap<u32, Family>,
    by_inode: BTreeMap<u64, Namespace>,
    /// The kernel has said so once.
    lacks_unix_diag: bool,
}

/// A tracked process and its descendants.
struct Family {
    namespace: u64,
    members: Vec<u32>,
    /// Inodes of their sockets, and whose they are.
    sockets: BTreeMap<u32, u32>,
    /// Who has inherited one, by inode.
    sharers: BTreeMap<u32, Vec<u32>>,
    looked_up: BootTime,
}

#[derive(Default)]
struct Namespace {
    /// Opened anew after every failure, because the rest of an answer may still be on its way.
    diag: Option<SockDiag>,
    ledger: Ledger,
    /// Some of them have a listener among the unix sockets with a name, as of that look at their descriptors.
    listens_by_name: bool,
    listens_as_of: Option<BootTime>,
    next: BootTime,
    waiting: BTreeMap<u32, Waiting>,
    has_strangers: bool,
    /// Why nothing is known of it now. What was known before is kept: a blind second is no answer to a request.
    trouble: Option<String>,
}

/// What the sockets say of the tracked.
#[derive(Default)]
pub(super) struct Sockets {
    /// What waits, by pid.
    pub(super) waiting: BTreeMap<u32, Waiting>,
    /// By tracked pid: why nothing is known of its sockets.
    pub(super) trouble: BTreeMap<u32, String>,
}

impl Namespaces {
    pub(super) fn new(proc: &Path) -> Self {
        Self {
            proc: proc.to_owned(),
            families: BTreeMap::new(),
            by_inode: BTreeMap::new(),
            lacks_unix_diag: false,
        }
    }

    /// The tracked process `pid` and its descendants.
    pub(super) fn family(&self, pid: u32) -> Vec<u32> {
        self.families.get(&pid).map(|family| family.members.clone()).unwrap_or_default()
    }

    pub(super) fn look(&mut self, now: BootTime, watched: &[Watched]) -> Sockets {
        let pids: BTreeSet<u32> = watched.iter().map(|one| one.process.pid).collect();
        self.families.retain(|pid, _| pids.contains(pid));
        for one in watched {
            self.look_up(now, one);
        }
        let used: BTreeSet<u64> = self
            .families
            .values()
            .filter(|family| !family.sockets.is_empty())
            .map(|family| family.namespace)
            .collect();
        self.by_inode.retain(|inode, _| used.contains(inode));
        for inode in used {
            self.dump(now, inode);
        }
        self.sockets()
    }

    fn sockets(&self) -> Sockets {
        let mut sockets = Sockets::default();
        for (inode, namespace) in &self.by_inode {
            match &namespace.trouble {
                None => {
                    let waiting = namespace.waiting.iter();
                    sockets.waiting.extend(waiting.map(|(pid, waiting)| (*pid, waiting.clone())));
                }
                Some(trouble) => {
                    let blind = self.families.iter().filter(|(_, family)| family.namespace == *inode);
                    sockets.trouble.extend(blind.map(|(pid, _)| (*pid, trouble.clone())));
                }
            }
        }
        sockets
    }

    fn look_up(&mut self, now: BootTime, one: &Watched) {
        let pid = one.process.pid;
        let is_young = now.since(one.process.start) < YOUNG;
        let due = self.families.get(&pid).is_none_or(|family| {
            let namespace = self.by_inode.get(&family.namespace);
            let is_news = namespace.is_some_and(|namespace| namespace.is_news_of(family));
            let every = if is_young || is_news { LOOK_UP_YOUNG } else { LOOK_UP };
            every <= now.since(family.looked_up)
        });
        if !due {
            return;
        }
        let Ok(namespace) = fs::metadata(self.proc.join(format!("{pid}/ns/net"))) else {
            self.families.remove(&pid);
            return;
        };
        let proc = Proc::new(&self.proc);
        let members = members(&proc, pid);
        let mut sockets = BTreeMap::new();
        let mut sharers: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for member in &members {
            for inode in proc.sockets(*member) {
                // What was inherited is the ancestor's.
                if *sockets.entry(inode).or_insert(*member) != *member {
                    sharers.entry(inode).or_default().push(*member);
                }
            }
        }
        let family = Family { namespace: namespace.ino(), members, sockets, sharers, looked_up: now };
        self.families.insert(pid, family);
    }

    fn dump(&mut self, now: BootTime, inode: u64) {
        let families: Vec<(&u32, &Family)> =
            self.families.iter().filter(|(_, family)| family.namespace == inode).collect();
        let namespace = self.by_inode.entry(inode).or_default();
        if now < namespace.next {
            return;
        }
        let before = clock::thread_cpu();
        match namespace.ask(&self.proc, &families, &mut self.lacks_unix_diag) {
            Ok((sockets, by_name)) => {
                namespace.trouble = None;
                let owners = owners(&families, &sockets);
                let mut pass = namespace.ledger.update(now, &sockets, &owners);
                if let Some(by_name) = by_name {
                    namespace.ledger.update_unix(now, &by_name, &owners, &mut pass);
                }
                namespace.waiting = pass.waiting;
                namespace.has_strangers = pass.has_strangers;
            }
            Err(error) => {
                namespace.diag = None;
                namespace.trouble = Some(error.to_string());
            }
        }
        let cost = clock::thread_cpu().saturating_sub(before);
        namespace.next = now + (cost * SPARE).min(PAUSE_MAX);
    }
}

impl Namespace {
    /// Somebody unknown is in trouble, or something has begun to wait for one of them: what it does about it may be on a
    /// descriptor that is new.
    fn is_news_of(&self, family: &Family) -> bool {
        let waiting = family.members.iter().filter_map(|pid| self.waiting.get(pid));
        self.has_strangers || waiting.into_iter().any(Waiting::has_begun)
    }

    fn ask(
        &mut self,
        proc: &Path,
        families: &[(&u32, &Family)],
        lacks_unix_diag: &mut bool,
    ) -> io::Result<(Vec<Socket>, Option<Vec<UnixSocket>>)> {
        let diag = match self.diag.take() {
            Some(diag) => diag,
            None => open(proc, families)?,
        };
        let diag = self.diag.insert(diag);
        let sockets = diag.dump()?;
        if *lacks_unix_diag {
            return Ok((sockets, None));
        }
        let known = families.iter().map(|(_, family)| family.looked_up).max();
        let is_anew = known != self.listens_as_of;
        if !is_anew && !self.listens_by_name {
            return Ok((sockets, None));
        }
        // Only listeners, until one of them is known to be theirs.
        match diag.dump_unix(self.listens_by_name) {
            Ok(by_name) => {
                self.listens_as_of = known;
                self.listens_by_name = by_name.iter().any(|socket| is_listener_of(families, socket));
                Ok((sockets, Some(by_name)))
            }
            Err(error) => {
                // Of TCP enough is known. Without CONFIG_UNIX_DIAG each question would have it look for a module.
                *lacks_unix_diag = error.kind() == io::ErrorKind::NotFound;
                self.listens_as_of = known;
                self.listens_by_name = false;
                self.diag = None;
                Ok((sockets, None))
            }
        }
    }
}

fn is_listener_of(families: &[(&u32, &Family)], socket: &UnixSocket) -> bool {
    socket.state == LISTEN && families.iter().any(|(_, family)| family.sockets.contains_key(&socket.inode))
}

/// By way of any of those who live there.
fn open(proc: &Path, families: &[(&u32, &Family)]) -> io::Result<SockDiag> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for (pid, _) in families {
        match SockDiag::open_in(&proc.join(format!("{pid}/ns/net"))) {
            Ok(diag) => return Ok(diag),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Ports belong to whoever listens, descriptors to whoever has them.
fn owners(families: &[(&u32, &Family)], sockets: &[Socket]) -> Owners {
    let mut owners = Owners::default();
    for (root, family) in families {
        owners.root.extend(family.members.iter().map(|member| (*member, **root)));
        owners.by_inode.extend(&family.sockets);
        owners.sharers.extend(family.sharers.iter().map(|(inode, pids)| (*inode, pids.clone())));
    }
    for socket in sockets.iter().filter(|socket| socket.state == LISTEN) {
        if let Some(owner) = owners.by_inode.get(&socket.inode) {
            owners.by_port.insert(socket.local_port, *owner);
        }
    }
    owners
}

/// Breadth first: the ancestor comes first.
fn members(proc: &Proc, pid: u32) -> Vec<u32> {
    let mut members = vec![pid];
    let mut next = 0;
    while let Some(parent) = members.get(next).copied().filter(|_| members.len() < FAMILY_MAX) {
        for thread in proc.threads(parent) {
            members.extend(proc.children(parent, thread));
        }
        next += 1;
    }
    members.truncate(FAMILY_MAX);
    members
}

#[cfg(test)]
mod tests;
