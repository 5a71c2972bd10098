//! The real machine.

use core::time::Duration;
use std::{io, os::fd::AsFd as _};

use rustix::{
    io::Errno,
    process::{Pid, PidfdFlags, Signal},
};
use tokio::io::{Interest, unix::AsyncFd};

use super::{
    Afar, Control, Domain, Held, Hook, HookEnd, Host, Knobs, Later, NotHeld,
    connections::Dead,
    control,
    evidence::Evidence,
    hook,
    knobs::Machine,
    launch,
    protected::Protected,
    scope::{self, stat_of},
    shared,
};
use crate::{
    engine::{
        command::{Act, ActionOutcome},
        lease::{Account, Knob},
        policy::Protect,
    },
    identity::process::{Process, ProcessId},
    kubernetes::{Cluster, Eviction},
    runtimes::{Done, Order, Owner, Owners},
    supervise::{
        Name,
        child::{Disposition, disposition},
        protocol::Restart,
        server::{RestartAnswer, Supervisors},
    },
    text::printable,
};

/// The kubelet's word is an addition only, and the act's own limit is near.
const WORD_COMES_WITHIN: Duration = Duration::from_secs(1);

pub struct Linux {
    supervisors: Supervisors,
    owners: Option<Owners>,
    cluster: Cluster,
    evidence: Option<Evidence>,
    protected: Protected,
}

impl Linux {
    pub fn new(supervisors: Supervisors, protect: Protect) -> Self {
        let protected = Protected::new(protect);
        Self { supervisors, owners: None, evidence: None, cluster: Cluster::default(), protected }
    }

    /// With a place for evidence.
    #[must_use]
    pub fn with_evidence(mut self, evidence: Evidence) -> Self {
        self.evidence = Some(evidence);
        self
    }

    /// With the way to systemd and the container runtimes.
    #[must_use]
    pub fn with_owners(mut self, owners: Owners) -> Self {
        self.owners = Some(owners);
        self
    }

    /// With the way to Kubernetes' API server.
    #[must_use]
    pub fn with_cluster(mut self, cluster: Cluster) -> Self {
        self.cluster = cluster;
        self
    }

    fn owners(&self) -> Result<&Owners, ActionOutcome> {
        let error = "neither systemd nor a container runtime is connected".to_owned();
        self.owners.as_ref().ok_or(ActionOutcome::Failed { error, errno: None })
    }

    /// Why it has not been started again only the API server tells.
    async fn in_the_kubelets_words(&self, order: &Order, error: String) -> String {
        let (Owner::Container { id, .. }, Some(pod), true) = (&order.owner, &order.pod, order.is_dead) else {
            return error;
        };
        let asked = tokio::time::timeout(WORD_COMES_WITHIN, self.cluster.waits_for(pod, id)).await;
        match asked {
            Ok(Ok(Some(word))) => format!("{error}; the kubelet's word for the container is {word}"),
            Ok(Ok(None) | Err(_)) | Err(_) => error,
        }
    }

    /// After a reload of the administrator's list.
    pub fn protect(&self, list: Protect) {
        self.protected.replace(list);
    }
}

impl Knobs for Linux {
    fn read(&self, knob: &Knob) -> io::Result<Option<String>> {
        Machine.read(knob)
    }

    fn set(&self, knob: &Knob, value: &str) -> io::Result<()> {
        Machine.set(knob, value)
    }

    fn is_settled(&self, knob: &Knob) -> bool {
        Machine.is_settled(knob)
    }
}

impl Afar for Linux {
    fn read_afar<'a>(&'a self, knob: &'a Knob) -> Later<'a, io::Result<Option<String>>> {
        self.cluster.read_afar(knob)
    }

    fn set_afar<'a>(&'a self, knob: &'a Knob, value: &'a str) -> Later<'a, io::Result<()>> {
        self.cluster.set_afar(knob, value)
    }
}

impl Host for Linux {
    fn hold(&self, id: ProcessId) -> Result<Held, NotHeld> {
        let raw = Pid::from_raw(id.pid.cast_signed()).ok_or(NotHeld::Gone(id.pid))?;
        let pidfd = match rustix::process::pidfd_open(raw, PidfdFlags::empty()) {
            Ok(pidfd) => pidfd,
            Err(Errno::SRCH) => return Err(NotHeld::Gone(id.pid)),
            Err(error) => {
                let (pid, error) = (id.pid, error.into());
                return Err(NotHeld::Failed { pid, error });
            }
        };
        // Read after the pidfd was opened: if this is the right one, the pidfd is too.
        let stat = stat_of(id.pid).ok_or(NotHeld::Gone(id.pid))?;
        let found = ProcessId { pid: id.pid, start: stat.start };
        if found != id {
            return Err(NotHeld::Another(id.pid));
        }
        if has_ended(&pidfd) {
            return Err(NotHeld::Gone(id.pid));
        }
        Ok(Held { id, pidfd: Some(pidfd) })
    }

    fn untouchable(&self, held: &Held) -> Option<String> {
        let pid = held.id.pid;
        if self.supervisors.pids().contains(&pid) {
            return Some(format!("pid {pid} is a supervisor of healer"));
        }
        self.protected.reason(pid)
    }

    fn listens_in_vain(&self, id: ProcessId, dead: &[u32]) -> bool {
        crate::agent::listening::listens_in_vain(std::path::Path::new("/proc"), id.pid, dead)
    }

    fn prove_again(&self, proof: &serde_json::Value) -> Result<(), String> {
        crate::sense::waits::prove_again(proof, std::path::Path::new("/proc"))
    }

    fn dead_connections(&self, id: ProcessId, proof: &serde_json::Value) -> io::Result<usize> {
        Dead::find(id.pid, proof).map(|dead| dead.count())
    }

    fn reset_connections(&self, id: ProcessId, proof: &serde_json::Value) -> io::Result<usize> {
        Dead::find(id.pid, proof)?.reset()
    }

    fn supervised(&self, name: &str) -> Option<ProcessId> {
        let name = name.parse::<Name>().ok()?;
        self.supervisors.child(&name)
    }

    fn ignores(&self, held: &Held, signal: i32) -> bool {
        disposition(held.id.pid, signal) == Some(Disposition::Ignored)
    }

    fn handles(&self, held: &Held, signal: i32) -> bool {
        disposition(held.id.pid, signal) == Some(Disposition::Caught)
    }

    fn state(&self, held: &Held) -> Option<String> {
        if held.pidfd.as_ref().is_some_and(has_ended) {
            return None;
        }
        let pid = held.id.pid;
        let state = char::from(stat_of(pid)?.state);
        let place = std::fs::read_to_string(format!("/proc/{pid}/wchan")).unwrap_or_default();
        Some(match place.as_str() {
            "" | "0" => format!("in state {state}"),
            place => format!("in state {state}, waiting in {}", printable(place)),
        })
    }

    fn group(&self, held: &Held) -> io::Result<Domain> {
        scope::group_of(held.id.pid)
    }

    fn cgroup(&self, held: &Held) -> io::Result<Domain> {
        scope::cgroup_of(held.id.pid)
    }

    fn members(&self, domain: &Domain) -> io::Result<Vec<Held>> {
        let spared = self.supervisors.pids();
        let pids = scope::pids(domain)?.into_iter();
        // Held by the start that is seen now; whoever ended meanwhile needs no blow.
        let hold = |pid| {
            let start = stat_of(pid)?.start;
            self.hold(ProcessId { pid, start }).ok()
        };
        let held: Vec<_> = pids.filter(|pid| !spared.contains(pid)).filter_map(hold).collect();
        // A pid that was recycled between listing and holding belongs to somebody else.
        let still: std::collections::BTreeSet<_> = scope::pids(domain)?.into_iter().collect();
        Ok(held.into_iter().filter(|one| still.contains(&one.id.pid)).collect())
    }

    fn control(&self, held: &Held, control: Control) -> Result<Knob, String> {
        control.of(held.id.pid)
    }

    fn owned(&self, target: &Process, of: Account) -> Option<Knob> {
        self.owners.as_ref()?.knob(target, of)
    }

    fn spare(&self, knob: &Knob) -> Option<String> {
        let Knob::Cgroup { dir, .. } = knob else {
            return None;
        };
        let domain = Domain::Cgroup { path: dir.clone(), dir: dir.into() };
        let supervisors = self.supervisors.pids();
        let members = match scope::pids(&domain) {
            Ok(members) => members,
            Err(error) => return Some(format!("cannot tell who is in {domain}: {error}")),
        };
        members.into_iter().find_map(|pid| {
            let is_supervisor = supervisors.contains(&pid);
            let own = is_supervisor.then(|| format!("pid {pid} is a supervisor of healer"));
            own.or_else(|| self.protected.reason(pid)).map(|reason| format!("in {domain}, {reason}"))
        })
    }

    fn shared(&self, knob: &Knob, target: &Process) -> Option<String> {
        let Knob::Cgroup { dir, .. } = knob else {
            return None;
        };
        shared::by_others(dir, target)
    }

    fn memory_limit(&self, held: &Held) -> u64 {
        control::memory_limit(held.id.pid).unwrap_or_else(control::machine_memory)
    }

    fn signal(&self, held: &Held, signal: i32) -> io::Result<()> {
        let pidfd = held.pidfd.as_ref().ok_or(io::ErrorKind::InvalidInput)?;
        let signal = Signal::from_named_raw(signal).ok_or(io::ErrorKind::InvalidInput)?;
        Ok(rustix::process::pidfd_send_signal(pidfd, signal)?)
    }

    fn release_memory<'a>(&'a self, held: &'a Held) -> Later<'a, io::Result<()>> {
        Box::pin(async {
            let pidfd = held.pidfd.as_ref().ok_or(io::ErrorKind::InvalidInput)?.try_clone()?;
            // It takes milliseconds per hundred megabytes, in the caller.
            let done = tokio::task::spawn_blocking(move || scope::release_memory(&pidfd)).await;
            done.unwrap_or_else(|broken| Err(io::Error::other(broken)))
        })
    }

    fn memory_short_again(&self, proof: &serde_json::Value) -> Result<(), String> {
        crate::sense::poll::memory::short_again(std::path::Path::new("/sys/fs/cgroup"), proof)
    }

    fn ended<'a>(&'a self, held: &'a Held) -> Later<'a, ()> {
        Box::pin(async {
            let Some(pidfd) = &held.pidfd else {
                return;
            };
            // A pidfd becomes readable when the last thread has ended (pidfd_open(2)).
            // SAFETY: `held` is borrowed for as long as the registration lives, so the descriptor stays open.
            match unsafe { AsyncFd::register_with_interest(pidfd.as_fd(), Interest::READABLE) } {
                Ok(watched) => drop(watched.readable().await),
                // No room in epoll: ask now and then.
                Err(_) => {
                    while !has_ended(pidfd) {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                }
            }
        })
    }

    fn kill_at_once(&self, domain: &Domain) -> io::Result<bool> {
        let supervisors = self.supervisors.pids();
        let members = scope::pids(domain)?;
        if members.iter().any(|pid| supervisors.contains(pid)) {
            return Ok(false);
        }
        scope::kill_at_once(domain)
    }

    fn restart_supervised<'a>(&'a self, name: &'a Name, order: Restart) -> Later<'a, RestartAnswer> {
        Box::pin(self.supervisors.order_restart(name, order))
    }

    fn restart_owned<'a>(&'a self, order: &'a Order) -> Later<'a, Done> {
        Box::pin(async {
            match self.owners()?.restart(order).await {
                Err(ActionOutcome::Failed { error, errno }) => {
                    let error = self.in_the_kubelets_words(order, error).await;
                    Err(ActionOutcome::Failed { error, errno })
                }
                done => done,
            }
        })
    }

    fn stop_owned<'a>(&'a self, order: &'a Order) -> Later<'a, Done> {
        Box::pin(async { self.owners()?.stop(order).await })
    }

    fn evict<'a>(&'a self, eviction: &'a Eviction) -> Later<'a, Done> {
        Box::pin(self.cluster.evict(eviction))
    }

    fn node(&self) -> Result<String, String> {
        self.cluster.node()
    }

    fn launch(&self, argv: &[String], cgroup: &str) -> io::Result<u32> {
        launch::detached(argv, cgroup)
    }

    fn run_hook(&self, hook: Hook) -> Later<'_, io::Result<HookEnd>> {
        Box::pin(hook::run(hook))
    }

    fn capture<'a>(&'a self, act: &'a Act) -> Later<'a, io::Result<String>> {
        let (evidence, act) = (self.evidence.clone(), act.clone());
        Box::pin(async move {
            let take =
                move || evidence.ok_or_else(|| io::Error::other("there is no state directory"))?.again(&act);
            tokio::task::spawn_blocking(take).await.map_err(io::Error::other)?
        })
    }

    fn outcome(&self, says: String) -> ActionOutcome {
        ActionOutcome::Done { says }
    }
}

fn has_ended(pidfd: &std::os::fd::OwnedFd) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut fds = [PollFd::new(pidfd, PollFlags::IN)];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut fds, Some(&at_once)).is_ok_and(|ready| ready > 0)
}
