//! Servers of this node: whose refusals no restart explains.

use core::net::SocketAddr;
use std::collections::BTreeMap;

use super::Context;
use crate::{
    engine::{
        certificate::{Cause, Certificate},
        time::BootTime,
    },
    identity::process::{Process, ProcessId},
    signal::{Fact, Party, Signal, network::Listens},
};

const KEPT_MAX: usize = 4096;

#[derive(Debug, Default)]
pub(super) struct Servers {
    /// By cookie, since when each listener is known to be there.
    listeners: BTreeMap<u64, BootTime>,
    /// Who ended, and nobody had wanted that.
    cut_down: BTreeMap<ProcessId, BootTime>,
}

impl Servers {
    pub(super) fn note(&mut self, context: &Context<'_>, signal: &Signal) {
        if let Fact::Listens(listens) = &signal.fact {
            self.listens(signal.at, listens);
        } else if let (Fact::Exited(exit), Some(process)) = (&signal.fact, &signal.process)
            && exit.is_abnormal()
            && context.certificate.is_some_and(|certificate| !was_wanted(context, process, certificate))
        {
            self.is_cut_down(signal.at, process.id());
        }
    }

    /// Listeners are told again by looks: the first time counts.
    fn listens(&mut self, at: BootTime, listens: &Listens) {
        if !listens.on {
            self.listeners.remove(&listens.cookie);
        } else if self.listeners.len() < KEPT_MAX {
            self.listeners.entry(listens.cookie).or_insert(at);
        }
    }

    fn is_cut_down(&mut self, at: BootTime, id: ProcessId) {
        if KEPT_MAX <= self.cut_down.len() {
            let oldest = self.cut_down.iter().min_by_key(|(_, at)| **at).map(|(id, _)| *id);
            self.cut_down.retain(|id, _| Some(*id) != oldest);
        }
        self.cut_down.insert(id, at);
    }

    /// Whoever restarts closes its listener, and is asked to end. The one that was there before the first refusal is
    /// there still, so somebody on the way says no; or there is none, and its owner was cut down.
    pub(super) fn refuses_for_good(
        &self,
        context: &Context<'_>,
        netns: u32,
        address: &SocketAddr,
        since: BootTime,
    ) -> bool {
        let topology = context.world.topology();
        let Some(server) = topology.server(netns, address).filter(|_| context.memory.lost_since(since) == 0)
        else {
            return false;
        };
        let mut listeners = topology.listeners_at(netns, address).peekable();
        if listeners.peek().is_none() {
            return self.cut_down.contains_key(&server.id());
        }
        let is_older = |cookie: u64| self.listeners.get(&cookie).is_some_and(|at| *at < since);
        listeners.any(|(cookie, process)| process.workload == server.workload && is_older(cookie))
    }
}

/// Asked for by anybody, done by healer itself or by whoever manages it, or not told well enough to say.
fn was_wanted(context: &Context<'_>, process: &Process, certificate: &Certificate) -> bool {
    const STOPS: [i32; 4] = [libc::SIGTERM, libc::SIGINT, libc::SIGQUIT, libc::SIGHUP];
    let parent = process.parent.as_ref().map(|parent| parent.pid);
    let is_manager = |by: &Party| by.id.pid == 1 || Some(by.id.pid) == parent;
    // The first process of a container ignores a signal that it does not handle, and is killed in the end.
    let was_asked = STOPS.iter().any(|signal| context.memory.signal(process.id(), *signal).is_some());
    let is_meant = match &certificate.cause {
        Cause::Exited | Cause::Crashed { .. } | Cause::OomKill(_) => false,
        Cause::Killed { by } => is_manager(by),
        Cause::GroupSignal { .. }
        | Cause::CgroupKill { .. }
        | Cause::ParentEnded { .. }
        | Cause::NamespaceEnded { .. }
        | Cause::Kernel
        | Cause::Unseen => true,
    };
    is_meant || was_asked || certificate.own.is_some() || certificate.asked.is_some()
}
