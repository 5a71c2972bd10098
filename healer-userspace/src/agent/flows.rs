//! The looks at connections that do not move: in a thread of their own, because a dump waits for the kernel.

use std::{io, path::Path, thread};

use tokio::sync::mpsc;

use super::Agent;
use crate::{
    clock,
    engine::time::BootTime,
    identity::{
        cgroup::{CgroupId, Hierarchy},
        process::Process,
    },
    sense::poll::flows::{FlowPoller, Listener, Look, Stuck, Whose},
    signal::{
        Fact, Owner, Signal,
        network::{Flow, FlowSnapshot, Listens, Served, Stalled},
    },
};

const WAITING_MAX: usize = 4;

pub(super) type FlowLooks = mpsc::Receiver<(BootTime, Look)>;

/// Looks until nobody listens any more.
pub(super) fn start() -> io::Result<FlowLooks> {
    let (sender, looks) = mpsc::channel(WAITING_MAX);
    let mut poller = FlowPoller::new(Path::new("/proc"), Path::new("/sys/fs/cgroup"));
    let look_on = move || {
        while !sender.is_closed() {
            let (look, pause) = poller.look();
            // What is new is told once: it waits for its place.
            if !look.is_empty() && sender.blocking_send((clock::boot(), look)).is_err() {
                return;
            }
            thread::sleep(pause);
        }
    };
    thread::Builder::new().name("healer-flows".to_owned()).spawn(look_on)?;
    Ok(looks)
}

impl Agent {
    pub(super) fn flows(&mut self, at: BootTime, look: Look) {
        for listener in &look.listeners {
            let process = Some(self.owner_of(listener.whose, at));
            self.observe(&Signal { at, process, fact: Fact::Listens(listens(listener)) });
        }
        let served = look.answers.iter().map(|one| Served {
            netns: one.netns,
            peer: one.peer,
            address: one.address,
            server: self.owner_of(one.whose, at),
        });
        let served = served.collect();
        let stalled = look.stuck.into_iter().map(|stuck| self.stalled(stuck, at)).collect();
        let snapshot = FlowSnapshot { stalled, served, links: look.links };
        if snapshot != FlowSnapshot::default() {
            // What still works is known before it is judged.
            self.note_trouble_of(at, &snapshot);
            self.observe(&Signal { at, process: None, fact: Fact::Flows(snapshot) });
        }
    }

    fn note_trouble_of(&mut self, at: BootTime, snapshot: &FlowSnapshot) {
        if !snapshot.stalled.is_empty() {
            self.trouble(at);
            self.look_at_peers(at, false);
        }
    }

    fn stalled(&mut self, stuck: Stuck, at: BootTime) -> Stalled {
        Stalled {
            client: self.owner_of(stuck.whose, at),
            flow: Flow {
                peer: stuck.peer,
                local: stuck.local,
                netns: stuck.netns,
                cgroup: stuck.whose.cgroup,
                cookie: stuck.cookie,
            },
            why: stuck.why,
            since: stuck.since,
            retransmits: stuck.retransmits,
            acked: stuck.acked,
            server: stuck
                .server
                .filter(|whose| *whose != Whose::default())
                .map(|whose| self.owner_of(whose, at)),
            halted: stuck.halted,
        }
    }

    fn owner_of(&mut self, whose: Whose, at: BootTime) -> Process {
        if let Some(process) = whose.pid.and_then(|pid| self.identity.of_pid(pid)) {
            return process;
        }
        let id = whose.cgroup;
        let cgroup = (id != 0).then_some(CgroupId { hierarchy: Hierarchy::V2, id });
        self.identity.owner(Owner { process: None, cgroup }, at)
    }
}

fn listens(listener: &Listener) -> Listens {
    Listens {
        address: listener.address,
        netns: listener.netns,
        cgroup: listener.whose.cgroup,
        cookie: listener.cookie,
        on: listener.on,
    }
}
