//! Looks at the real machine, touches nothing, and keeps a list of what it would have done.

use std::{
    io,
    sync::{Mutex, PoisonError},
};

use super::{Afar, Control, Domain, Held, Hook, HookEnd, Host, Knobs, Later, NotHeld};
use crate::{
    action::reach::name,
    engine::{
        command::{Act, ActionOutcome},
        lease::{Account, Knob, Turn},
    },
    identity::process::{Process, ProcessId},
    kubernetes::Eviction,
    runtimes::{Done, Order, Owner},
    signal::Exit,
    supervise::{Name, protocol::Restart, server::RestartAnswer},
    text::printable,
};

/// One act's dry run.
pub struct DryRun<'host> {
    real: &'host dyn Host,
    would: Mutex<Vec<String>>,
}

impl<'host> DryRun<'host> {
    pub fn over(real: &'host dyn Host) -> Self {
        Self { real, would: Mutex::default() }
    }

    fn would(&self, what: String) {
        let mut would = self.would.lock().unwrap_or_else(PoisonError::into_inner);
        would.push(what);
    }
}

impl Knobs for DryRun<'_> {
    fn read(&self, knob: &Knob) -> io::Result<Option<String>> {
        self.real.read(knob)
    }

    fn set(&self, knob: &Knob, value: &str) -> io::Result<()> {
        self.would(format!("set {knob} to {}", printable(value)));
        Ok(())
    }

    fn is_settled(&self, _knob: &Knob) -> bool {
        true
    }
}

impl Afar for DryRun<'_> {
    fn read_afar<'a>(&'a self, knob: &'a Knob) -> Later<'a, io::Result<Option<String>>> {
        self.real.read_afar(knob)
    }

    fn set_afar<'a>(&'a self, knob: &'a Knob, value: &'a str) -> Later<'a, io::Result<()>> {
        self.would(format!("set {knob} to {}", printable(value)));
        Box::pin(async { Ok(()) })
    }
}

impl Host for DryRun<'_> {
    fn hold(&self, id: ProcessId) -> Result<Held, NotHeld> {
        self.real.hold(id)
    }

    fn untouchable(&self, held: &Held) -> Option<String> {
        self.real.untouchable(held)
    }

    fn listens_in_vain(&self, id: ProcessId, dead: &[u32]) -> bool {
        self.real.listens_in_vain(id, dead)
    }

    fn prove_again(&self, proof: &serde_json::Value) -> Result<(), String> {
        self.real.prove_again(proof)
    }

    fn dead_connections(&self, id: ProcessId, proof: &serde_json::Value) -> io::Result<usize> {
        self.real.dead_connections(id, proof)
    }

    fn reset_connections(&self, id: ProcessId, proof: &serde_json::Value) -> io::Result<usize> {
        let count = self.real.dead_connections(id, proof)?;
        self.would(format!("end {count} dead connections of pid {}", id.pid));
        Ok(count)
    }

    fn supervised(&self, name: &str) -> Option<ProcessId> {
        self.real.supervised(name)
    }

    fn ignores(&self, held: &Held, signal: i32) -> bool {
        self.real.ignores(held, signal)
    }

    fn handles(&self, held: &Held, signal: i32) -> bool {
        self.real.handles(held, signal)
    }

    fn state(&self, held: &Held) -> Option<String> {
        self.real.state(held)
    }

    fn group(&self, held: &Held) -> io::Result<Domain> {
        self.real.group(held)
    }

    fn cgroup(&self, held: &Held) -> io::Result<Domain> {
        self.real.cgroup(held)
    }

    /// After the first step everybody counts as ended.
    fn members(&self, domain: &Domain) -> io::Result<Vec<Held>> {
        let begun = !self.would.lock().unwrap_or_else(PoisonError::into_inner).is_empty();
        if begun {
            return Ok(Vec::new());
        }
        self.real.members(domain)
    }

    fn control(&self, held: &Held, control: Control) -> Result<Knob, String> {
        self.real.control(held, control)
    }

    fn owned(&self, target: &Process, of: Account) -> Option<Knob> {
        self.real.owned(target, of)
    }

    fn spare(&self, knob: &Knob) -> Option<String> {
        self.real.spare(knob)
    }

    fn shared(&self, knob: &Knob, target: &Process) -> Option<String> {
        self.real.shared(knob, target)
    }

    fn memory_limit(&self, held: &Held) -> u64 {
        self.real.memory_limit(held)
    }

    fn has_taken(&self, _turn: &Turn) -> bool {
        true
    }

    fn signal(&self, held: &Held, signal: i32) -> io::Result<()> {
        self.would(format!("send {} to pid {}", name(signal), held.id.pid));
        Ok(())
    }

    fn release_memory<'a>(&'a self, _held: &'a Held) -> Later<'a, io::Result<()>> {
        Box::pin(async { Ok(()) })
    }

    fn memory_short_again(&self, proof: &serde_json::Value) -> Result<(), String> {
        self.real.memory_short_again(proof)
    }

    fn ended<'a>(&'a self, _held: &'a Held) -> Later<'a, ()> {
        Box::pin(async {})
    }

    fn kill_at_once(&self, _domain: &Domain) -> io::Result<bool> {
        Ok(false)
    }

    fn restart_supervised<'a>(&'a self, name: &'a Name, order: Restart) -> Later<'a, RestartAnswer> {
        self.would(format!("have supervise/{name} restarted by its supervisor"));
        let child = order.target;
        let already = false;
        Box::pin(async move { RestartAnswer::Restarted { child, already } })
    }

    fn restart_owned<'a>(&'a self, order: &'a Order) -> Later<'a, Done> {
        self.would(match &order.owner {
            Owner::Unit(unit) => format!("have systemd restart {unit}"),
            Owner::Container { runtime, id } => format!("have {runtime} restart {id}"),
        });
        Box::pin(async { Ok(String::new()) })
    }

    fn stop_owned<'a>(&'a self, order: &'a Order) -> Later<'a, Done> {
        self.would(match &order.owner {
            Owner::Unit(unit) => format!("have systemd stop {unit}"),
            Owner::Container { runtime, id } => format!("have {runtime} stop {id}"),
        });
        Box::pin(async { Ok(String::new()) })
    }

    fn evict<'a>(&'a self, eviction: &'a Eviction) -> Later<'a, Done> {
        self.would(format!("have Kubernetes evict pod {}", eviction.name()));
        Box::pin(async { Ok(String::new()) })
    }

    fn node(&self) -> Result<String, String> {
        self.real.node()
    }

    fn launch(&self, argv: &[String], _cgroup: &str) -> io::Result<u32> {
        self.would(format!("start {argv:?}"));
        Ok(0)
    }

    fn run_hook(&self, hook: Hook) -> Later<'_, io::Result<HookEnd>> {
        self.would(format!("run {:?}", hook.argv));
        let end = HookEnd { exit: Some(Exit::default()), output: String::new(), cut: false };
        Box::pin(async { Ok(end) })
    }

    /// Touches nobody: done all the same.
    fn capture<'a>(&'a self, act: &'a Act) -> Later<'a, io::Result<String>> {
        self.real.capture(act)
    }

    fn outcome(&self, says: String) -> ActionOutcome {
        let would = self.would.lock().unwrap_or_else(PoisonError::into_inner);
        ActionOutcome::WouldDo {
            says: match would.as_slice() {
                [] => says,
                steps => format!("would {}", steps.join(", then ")),
            },
        }
    }
}
