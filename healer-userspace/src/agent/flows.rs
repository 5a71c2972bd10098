//! The looks at connections that do not move.

use core::time::Duration;
use std::path::Path;

use tokio::sync::mpsc;

use super::{Agent, looks};
use crate::{
    clock,
    engine::time::BootTime,
    identity::{
        cgroup::{CgroupId, Hierarchy},
        process::Process,
    },
    sense::poll::{
        beat,
        flows::{FlowPoller, Listener, Look, Stuck, Trouble, Whose},
    },
    signal::{
        Fact, Owner, Signal,
        network::{Flow, FlowSnapshot, Listens, Served, Stalled},
    },
};

const WAITING_MAX: usize = 4;
/// A slow engine.
const TOLD_AGAIN: Duration = Duration::from_secs(1);

pub(super) type FlowLooks = mpsc::Receiver<(BootTime, Look)>;

pub(super) fn start() -> (Trouble, FlowLook, FlowLooks) {
    let (sender, looks) = mpsc::channel(WAITING_MAX);
    let trouble = Trouble::default();
    let poller = FlowPoller::new(Path::new("/proc"), Path::new("/sys/fs/cgroup"), trouble.clone());
    (trouble, FlowLook { poller, sender, untold: None, due: clock::boot() }, looks)
}

pub(super) struct FlowLook {
    poller: FlowPoller,
    sender: mpsc::Sender<(BootTime, Look)>,
    /// What is new is told once: it waits for its place.
    untold: Option<(BootTime, Look)>,
    due: BootTime,
}

impl looks::Look for FlowLook {
    fn due(&self) -> BootTime {
        self.due
    }

    fn look(&mut self, now: BootTime) -> bool {
        self.due = beat(now, TOLD_AGAIN);
        if self.untold.is_none() {
            let (look, pause) = self.poller.look(now);
            // Whole seconds: others have the same beat.
            self.due = if pause < TOLD_AGAIN { now + pause } else { beat(now, pause) };
            self.untold = (!look.is_empty()).then(|| (clock::boot(), look));
        }
        if let Some(look) = self.untold.take()
            && let Err(mpsc::error::TrySendError::Full(look)) = self.sender.try_send(look)
        {
            self.untold = Some(look);
        }
        !self.sender.is_closed()
    }
}

impl Agent {
    pub(super) fn flows(&mut self, at: BootTime, look: Look) {
        let topology = self.engine.world().topology();
        let is_better_known =
            |one: &&Listener| one.on && one.whose.pid.is_none() && topology.has_listener(one.cookie);
        let news: Vec<_> = look.listeners.iter().filter(|one| !is_better_known(one)).collect();
        for listener in news {
            let process = Some(self.owner_of(listener.whose, at));
            self.observe(&Signal { at, process, fact: Fact::Listens(listens(listener)) });
        }
        let known = look.answers.iter().filter(|one| one.whose.is_somebody());
        let served = known.map(|one| Served {
            netns: one.netns,
            peer: one.peer,
            address: one.address,
            server: self.owner_of(one.whose, at),
        });
        let served = served.collect();
        let stalled = look.stuck.into_iter().map(|stuck| self.stalled(stuck, at)).collect();
        let snapshot = FlowSnapshot {
            stalled,
            served,
            links: look.links,
            trips: look.trips,
            moved: look.moved,
            addresses: look.addresses,
            gone: look.gone,
        };
        if snapshot != FlowSnapshot::default() {
            // What still works is known before it is judged.
            self.note_trouble_of(at, &snapshot);
            self.note_rewired(at, &snapshot.links);
            self.observe(&Signal { at, process: None, fact: Fact::Flows(snapshot) });
        }
        self.look_at_rewired(at);
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
