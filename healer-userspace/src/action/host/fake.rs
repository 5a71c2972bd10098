//! A machine of words, for tests: processes that die as told, and a list of everything that was done to them.

use std::{
    collections::BTreeMap,
    io,
    sync::{Mutex, MutexGuard},
};

use super::{Afar, Control, Domain, Held, Hook, HookEnd, Host, Knobs, Later, NotHeld};
use crate::{
    engine::{
        command::{Act, ActionOutcome},
        lease::{Account, Knob},
        time::BootTime,
    },
    identity::process::{Process, ProcessId},
    kubernetes::Eviction,
    runtimes::{Done, Order},
    supervise::{Name, protocol::Restart, server::RestartAnswer},
};

#[derive(Clone, Debug, Default)]
pub(crate) struct FakeProcess {
    pub(crate) start: u64,
    pub(crate) ignores: Vec<i32>,
    pub(crate) handles: Vec<i32>,
    pub(crate) survives_everything: bool,
    pub(crate) untouchable: bool,
    pub(crate) group: u32,
}

#[derive(Default)]
pub(crate) struct Fake {
    pub(crate) processes: Mutex<BTreeMap<u32, FakeProcess>>,
    pub(crate) done: Mutex<Vec<String>>,
    pub(crate) supervised: BTreeMap<String, ProcessId>,
    pub(crate) answer: Option<RestartAnswer>,
    pub(crate) hook: Option<HookEnd>,
    /// What an owner answers; done if absent.
    pub(crate) owned: Option<Done>,
    pub(crate) has_cgroup_kill: bool,
    /// How every knob stands, by its words; those that are not there are gone.
    pub(crate) knobs: Mutex<BTreeMap<String, String>>,
    pub(crate) is_v1: bool,
    /// Who else lives in every group, in words.
    pub(crate) stranger: Option<String>,
    pub(crate) dead_connections: usize,
}

impl Fake {
    pub(crate) fn with(processes: impl IntoIterator<Item = (u32, FakeProcess)>) -> Self {
        Self { processes: Mutex::new(processes.into_iter().collect()), ..Self::default() }
    }

    pub(crate) fn done(&self) -> Vec<String> {
        self.done.lock().unwrap().clone()
    }

    pub(crate) fn set_knob(&self, name: &str, value: &str) {
        self.knobs.lock().unwrap().insert(name.to_owned(), value.to_owned());
    }

    fn note(&self, what: String) {
        self.done.lock().unwrap().push(what);
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<u32, FakeProcess>> {
        self.processes.lock().unwrap()
    }

    fn get(&self, held: &Held) -> Option<FakeProcess> {
        self.all().get(&held.id.pid).cloned()
    }
}

impl Knobs for Fake {
    fn read(&self, knob: &Knob) -> io::Result<Option<String>> {
        Ok(self.knobs.lock().unwrap().get(&knob.to_string()).cloned())
    }

    fn set(&self, knob: &Knob, value: &str) -> io::Result<()> {
        self.note(format!("{knob} = {value}"));
        self.knobs.lock().unwrap().insert(knob.to_string(), value.to_owned());
        Ok(())
    }

    fn is_settled(&self, _knob: &Knob) -> bool {
        true
    }
}

impl Afar for Fake {
    fn read_afar<'a>(&'a self, knob: &'a Knob) -> Later<'a, io::Result<Option<String>>> {
        Box::pin(async { self.read(knob) })
    }

    fn set_afar<'a>(&'a self, knob: &'a Knob, value: &'a str) -> Later<'a, io::Result<()>> {
        Box::pin(async { self.set(knob, value) })
    }
}

impl Host for Fake {
    fn hold(&self, id: ProcessId) -> Result<Held, NotHeld> {
        match self.all().get(&id.pid) {
            None => Err(NotHeld::Gone(id.pid)),
            Some(process) if BootTime(process.start) != id.start => Err(NotHeld::Another(id.pid)),
            Some(_) => Ok(Held { id, pidfd: None }),
        }
    }

    fn untouchable(&self, held: &Held) -> Option<String> {
        let process = self.get(held)?;
        process.untouchable.then(|| format!("pid {} is protected", held.id.pid))
    }

    /// Here a proof is a string: it holds unless it says why not.
    fn listens_in_vain(&self, _id: ProcessId, _dead: &[u32]) -> bool {
        true
    }

    fn prove_again(&self, proof: &serde_json::Value) -> Result<(), String> {
        proof.as_str().map_or(Ok(()), |reason| Err(reason.to_owned()))
    }

    fn dead_connections(&self, _id: ProcessId, _proof: &serde_json::Value) -> io::Result<usize> {
        Ok(self.dead_connections)
    }

    fn reset_connections(&self, id: ProcessId, _proof: &serde_json::Value) -> io::Result<usize> {
        self.note(format!("reset {} connections of {}", self.dead_connections, id.pid));
        Ok(self.dead_connections)
    }

    fn supervised(&self, name: &str) -> Option<ProcessId> {
        self.supervised.get(name).copied()
    }

    fn ignores(&self, held: &Held, signal: i32) -> bool {
        self.get(held).is_some_and(|process| process.ignores.contains(&signal))
    }

    fn handles(&self, held: &Held, signal: i32) -> bool {
        self.get(held).is_some_and(|process| process.handles.contains(&signal))
    }

    fn state(&self, held: &Held) -> Option<String> {
        self.get(held).map(|_| "in state D".to_owned())
    }

    fn group(&self, held: &Held) -> io::Result<Domain> {
        let process = self.get(held).ok_or(io::ErrorKind::NotFound)?;
        Ok(Domain::Group(process.group))
    }

    fn cgroup(&self, held: &Held) -> io::Result<Domain> {
        let process = self.get(held).ok_or(io::ErrorKind::NotFound)?;
        Ok(Domain::Cgroup { path: process.group.to_string(), dir: "/".into() })
    }

    fn members(&self, domain: &Domain) -> io::Result<Vec<Held>> {
        let group = match domain {
            Domain::Group(group) => *group,
            Domain::Cgroup { path, .. } => path.parse().unwrap(),
        };
        let all = self.all();
        let members = all.iter().filter(|(_, process)| process.group == group);
        let held = members.map(|(pid, process)| Held {
            id: ProcessId { pid: *pid, start: BootTime(process.start) },
            pidfd: None,
        });
        Ok(held.collect())
    }

    fn control(&self, held: &Held, control: Control) -> Result<Knob, String> {
        let group = self.get(held).map_or(0, |process| process.group);
        let (v1, v2) = match control {
            Control::Freezer => ("freezer.state", "cgroup.freeze"),
            Control::MemoryHigh => ("", "memory.high"),
            Control::MemoryMax => ("memory.limit_in_bytes", "memory.max"),
            Control::CpuQuota => ("cpu.cfs_quota_us", "cpu.max"),
            Control::CpuWeight => ("cpu.shares", "cpu.weight"),
            Control::Pids => ("pids.max", "pids.max"),
        };
        let file = if self.is_v1 { v1 } else { v2 };
        if file.is_empty() {
            return Err("cgroup v1 has no memory.high".to_owned());
        }
        Ok(Knob::Cgroup { dir: format!("/{group}"), dev: 1, inode: 1, file: file.to_owned() })
    }

    fn owned(&self, target: &Process, of: Account) -> Option<Knob> {
        let unit = target.place.unit.clone()?;
        let knob = Knob::Unit { bus: "bus".to_owned(), unit, of };
        self.knobs.lock().unwrap().contains_key(&knob.to_string()).then_some(knob)
    }

    fn spare(&self, _knob: &Knob) -> Option<String> {
        self.all().values().any(|one| one.untouchable).then(|| "somebody in it is protected".to_owned())
    }

    fn shared(&self, _knob: &Knob, _target: &Process) -> Option<String> {
        self.stranger.clone()
    }

    fn memory_limit(&self, _held: &Held) -> u64 {
        100 << 20
    }

    fn signal(&self, held: &Held, signal: i32) -> io::Result<()> {
        let pid = held.id.pid;
        self.note(format!("signal {signal} to {pid}"));
        let mut all = self.all();
        let Some(process) = all.get(&pid) else {
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        };
        if !process.survives_everything && !process.ignores.contains(&signal) {
            all.remove(&pid);
        }
        Ok(())
    }

    fn release_memory<'a>(&'a self, held: &'a Held) -> Later<'a, io::Result<()>> {
        self.note(format!("release the memory of {}", held.id.pid));
        Box::pin(async { Ok(()) })
    }

    fn memory_short_again(&self, proof: &serde_json::Value) -> Result<(), String> {
        self.prove_again(proof)
    }

    fn ended<'a>(&'a self, held: &'a Held) -> Later<'a, ()> {
        Box::pin(async {
            if self.hold(held.id).is_ok() {
                core::future::pending::<()>().await;
            }
        })
    }

    fn kill_at_once(&self, domain: &Domain) -> io::Result<bool> {
        if self.has_cgroup_kill {
            self.note(format!("kill {domain} at once"));
            for member in self.members(domain)? {
                self.all().remove(&member.id.pid);
            }
        }
        Ok(self.has_cgroup_kill)
    }

    fn restart_supervised<'a>(&'a self, name: &'a Name, order: Restart) -> Later<'a, RestartAnswer> {
        self.note(format!("restart {name} of pid {} with key {}", order.target.pid, order.key));
        Box::pin(async { self.answer.clone().unwrap_or(RestartAnswer::NotRegistered) })
    }

    fn restart_owned<'a>(&'a self, order: &'a Order) -> Later<'a, Done> {
        self.note(format!("restart {:?}, dead: {}", order.owner, order.is_dead));
        Box::pin(async { self.owned.clone().unwrap_or_else(|| Ok("restarted".to_owned())) })
    }

    fn stop_owned<'a>(&'a self, order: &'a Order) -> Later<'a, Done> {
        self.note(format!("stop {:?}", order.owner));
        Box::pin(async { self.owned.clone().unwrap_or_else(|| Ok("stopped".to_owned())) })
    }

    fn evict<'a>(&'a self, eviction: &'a Eviction) -> Later<'a, Done> {
        self.note(format!("evict {}", eviction.name()));
        Box::pin(async { self.owned.clone().unwrap_or_else(|| Ok("evicted".to_owned())) })
    }

    fn node(&self) -> Result<String, String> {
        Ok("n1".to_owned())
    }

    fn launch(&self, argv: &[String], _cgroup: &str) -> io::Result<u32> {
        self.note(format!("launch {argv:?}"));
        Ok(99)
    }

    fn run_hook(&self, hook: Hook) -> Later<'_, io::Result<HookEnd>> {
        self.note(format!("run {:?}", hook.argv));
        Box::pin(async { self.hook.clone().ok_or_else(|| io::ErrorKind::NotFound.into()) })
    }

    fn capture<'a>(&'a self, act: &'a Act) -> Later<'a, io::Result<String>> {
        self.note(format!("capture {}", act.target.pid));
        Box::pin(async { Ok("kept".to_owned()) })
    }

    fn outcome(&self, says: String) -> ActionOutcome {
        ActionOutcome::Done { says }
    }
}
