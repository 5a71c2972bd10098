//! The user-space rungs: the process connector and the kernel's log as sources, and `/proc` for
//! what the records of classic tracepoints lack. What comes out are records of the same kinds.

mod complete;
mod connector;
mod ends;
mod hear;
mod hung_report;
mod kills;
mod kmsg;
mod oom_report;
mod people;
mod socket_poll;
mod sockets;

use std::{
    collections::BTreeSet,
    io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    path::PathBuf,
    time::Duration,
};

use healer_common::event::{
    Event, EventKind, Header, RECORD_MAX, part::CgroupRef, process_exit::ProcessExit, wire::Wire as _,
};
use tokio::io::{Interest, unix::AsyncFd};

use self::{
    connector::Connector,
    ends::{Ends, Hint},
    kmsg::KernelLog,
    oom_report::OomParser,
    people::People,
    socket_poll::SocketPoll,
    sockets::Owners,
};
use super::{settings::Settings, status::Trouble, waits::Proc};
use crate::{clock, engine::time::BootTime, identity::roots::Roots};

/// While an end waits for its status.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// What user space does for a sensor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Duty {
    #[default]
    Nothing,
    /// Adds to its records.
    Complete,
    /// Is its source.
    Source,
}

/// The sources that are open, and what is known of who lives.
pub(crate) struct User {
    may_listen: bool,
    may_ask: bool,
    kmsg: PathBuf,
    own_tgid: u32,
    people: People,
    ends: Ends,
    connector: Option<Connector>,
    log: Option<KernelLog>,
    oom: OomParser,
    /// What is read from the log.
    reads_oom: bool,
    reads_hung: bool,
    exit: Duty,
    exec: Duty,
    others: Duty,
    network: Duty,
    owners: Owners,
    sockets: Option<SocketPoll>,
    tracked: BTreeSet<u32>,
    watched: BTreeSet<u64>,
    /// Tracked ones whose end was told: the kernel's map has them still.
    ended: Vec<u32>,
    quiet: u64,
    lost: u64,
    bells: Option<Bells>,
}

#[derive(Default)]
struct Bells {
    connector: Option<AsyncFd<OwnedFd>>,
    log: Option<AsyncFd<OwnedFd>>,
}

impl User {
    pub(crate) fn new(settings: &Settings) -> Self {
        let roots = Roots::default();
        Self {
            may_listen: settings.connector,
            may_ask: settings.sockets,
            kmsg: settings.kmsg.clone(),
            own_tgid: settings.own_tgid,
            owners: Owners::new(Proc::new(&roots.proc)),
            people: People::new(roots),
            ends: Ends::default(),
            connector: None,
            log: None,
            oom: OomParser::default(),
            reads_oom: false,
            reads_hung: false,
            exit: Duty::Nothing,
            exec: Duty::Nothing,
            others: Duty::Nothing,
            network: Duty::Nothing,
            sockets: None,
            tracked: BTreeSet::new(),
            watched: BTreeSet::new(),
            ended: Vec::new(),
            quiet: 0,
            lost: 0,
            bells: None,
        }
    }

    /// From now on records of `kind` are partial. The connector tells what an end lacks; if it cannot be used, `/proc`
    /// may: then a part of the statuses will be missing, which is what is given.
    pub(crate) fn complete(&mut self, kind: EventKind) -> Option<&'static str> {
        match kind {
            EventKind::ProcessExit => {
                self.exit = Duty::Complete;
                if self.open_connector().is_err() {
                    return Some("proc_event.exit_code");
                }
            }
            EventKind::ProcessExec => self.exec = Duty::Complete,
            EventKind::SignalSent | EventKind::OomKill | EventKind::TaskHung => {
                self.others = self.others.max(Duty::Complete);
            }
            EventKind::SocketState | EventKind::TcpRetransmit => self.network = Duty::Complete,
            // The record says enough, or they have no such rung.
            EventKind::SyscallError | EventKind::ReclaimStall => {}
        }
        None
    }

    /// From now on the kernel's table of sockets is the source of `kind`.
    ///
    /// # Errors
    /// In words.
    pub(crate) fn ask_sockets(&mut self, kind: EventKind) -> Result<(), Trouble> {
        const REMEDY: &str = "run a kernel with CONFIG_INET_DIAG=y, or load the module tcp_diag";
        if !self.may_ask {
            return Err(Trouble::new("the table of sockets is switched off", "switch it on"));
        }
        let poll = match self.sockets.take() {
            Some(poll) => poll,
            None => SocketPoll::new(self.owners.proc()).map_err(|error| {
                Trouble::new(format!("the kernel's table of sockets cannot be read: {error}"), REMEDY)
            })?,
        };
        self.sockets.insert(poll).tell_of(kind);
        Ok(())
    }

    /// From now on the connector is the source of `kind`.
    ///
    /// # Errors
    /// In words.
    pub(crate) fn listen(&mut self, kind: EventKind) -> Result<(), Trouble> {
        self.open_connector()?;
        match kind {
            EventKind::ProcessExit => self.exit = Duty::Source,
            EventKind::ProcessExec => self.exec = Duty::Source,
            EventKind::SignalSent
            | EventKind::OomKill
            | EventKind::SocketState
            | EventKind::TcpRetransmit
            | EventKind::SyscallError
            | EventKind::ReclaimStall
            | EventKind::TaskHung => {}
        }
        Ok(())
    }

    /// From now on `kind` is read from the kernel's log: OOM kills, hung tasks.
    ///
    /// # Errors
    /// In words.
    pub(crate) fn read_log(&mut self, kind: EventKind) -> Result<(), Trouble> {
        if self.log.is_none() {
            self.log = Some(KernelLog::open(&self.kmsg)?);
        }
        self.reads_oom |= kind == EventKind::OomKill;
        self.reads_hung |= kind == EventKind::TaskHung;
        self.others = Duty::Source;
        Ok(())
    }

    /// Meets whoever runs, if there is anything to do.
    pub(crate) fn begin(mut self) -> Option<Self> {
        let duties = [self.exit, self.exec, self.others, self.network];
        if duties.iter().all(|duty| *duty == Duty::Nothing) && self.sockets.is_none() {
            return None;
        }
        self.people.scan();
        if let Some(poll) = &mut self.sockets {
            // Who was there before is no news.
            drop(poll.look(clock::boot(), &mut self.people));
        }
        Some(self)
    }

    /// Whether it tells of ends and execs.
    pub(crate) fn is_listening(&self) -> bool {
        self.exit != Duty::Nothing || self.exec != Duty::Nothing
    }

    pub(crate) fn track(&mut self, tgid: u32) {
        self.tracked.insert(tgid);
    }

    pub(crate) fn untrack(&mut self, tgid: u32) {
        self.tracked.remove(&tgid);
    }

    pub(crate) fn watch_exe(&mut self, ino: u64) {
        self.watched.insert(ino);
    }

    pub(crate) fn unwatch_exe(&mut self, ino: u64) {
        self.watched.remove(&ino);
    }

    /// Ends with status 0 of processes that are not tracked.
    pub(crate) fn quiet_exits(&self) -> u64 {
        self.quiet
    }

    /// Times that the connector's socket was full; each may be many events.
    pub(crate) fn lost(&self) -> u64 {
        self.lost
    }

    /// Tracked processes that have ended since the last call.
    pub(crate) fn take_ended(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.ended)
    }

    /// Waits until a source may have something. Dropping the future loses nothing.
    ///
    /// # Errors
    /// If the event loop cannot watch the sources.
    pub(crate) async fn readable(&mut self) -> io::Result<()> {
        if self.bells.is_none() {
            let connector = self.connector.as_ref().map(|source| watch(source.as_fd())).transpose()?;
            let log = self.log.as_ref().map(|source| watch(source.as_fd())).transpose()?;
            self.bells = Some(Bells { connector, log });
        }
        let is_waiting = self.ends.is_waiting();
        let Some(bells) = &self.bells else {
            return Ok(());
        };
        tokio::select! {
            rung = ring(bells.connector.as_ref()) => rung,
            rung = ring(bells.log.as_ref()) => rung,
            () = tokio::time::sleep(LOOK_AGAIN), if is_waiting => Ok(()),
        }
    }

    pub(crate) fn awaits_end_of(&self, tgid: u32) -> bool {
        self.ends.is_pending(tgid)
    }

    /// Hands on every record that the sources give by now.
    pub(crate) fn drain(&mut self, now: BootTime, out: &mut impl FnMut(&[u8])) {
        self.read_kernel_log(now, out);
        let sockets = self.sockets.as_mut().map(|poll| poll.look(now, &mut self.people));
        for event in sockets.into_iter().flatten() {
            emit(header(now, event.kind(), 0, 0, CgroupRef::ZERO), &event, out);
        }
        for (at, mut exit) in self.ends.settle(now, &mut self.people) {
            if self.is_told(&mut exit) {
                let header = header(at, EventKind::ProcessExit, exit.task.tgid, exit.pid, exit.cgroup);
                emit(header, &Event::ProcessExit(exit), out);
            }
        }
    }

    /// The same choice as the kernel programs make; marks the tracked.
    fn is_told(&mut self, exit: &mut ProcessExit) -> bool {
        if self.tracked.remove(&exit.task.tgid) {
            exit.flags |= ProcessExit::TRACKED;
            self.ended.push(exit.task.tgid);
            return true;
        }
        if exit.wait_status == 0 {
            self.quiet += 1;
            return false;
        }
        true
    }

    fn open_connector(&mut self) -> Result<(), Trouble> {
        if !self.may_listen {
            return Err(Trouble::new("the process connector is switched off", "switch it on"));
        }
        if self.connector.is_none() {
            self.connector = Some(Connector::open()?);
            self.ends.has_connector = true;
        }
        Ok(())
    }
}

fn watch(source: BorrowedFd<'_>) -> io::Result<AsyncFd<OwnedFd>> {
    let fd = source.try_clone_to_owned()?;
    // SAFETY: the descriptor is owned by what is registered, so it stays open and the same.
    let bell = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) };
    bell.map_err(io::Error::from)
}

async fn ring(bell: Option<&AsyncFd<OwnedFd>>) -> io::Result<()> {
    match bell {
        Some(bell) => {
            bell.readable().await?.clear_ready();
            Ok(())
        }
        None => std::future::pending().await,
    }
}

fn header(at: BootTime, kind: EventKind, tgid: u32, pid: u32, cgroup: CgroupRef) -> Header {
    let (cgroup_id, cgroup_hierarchy) = (cgroup.id, cgroup.hierarchy);
    Header { at_ns: at.0, kind: kind as u32, tgid, cgroup_id, cgroup_hierarchy, pid }
}

fn emit(header: Header, event: &Event, out: &mut impl FnMut(&[u8])) {
    let mut room = [0; RECORD_MAX];
    if let Some(record) = event.encode(header, &mut room) {
        out(record);
    }
}
