//! Why the loop wakes: every source there is, in one closed enum.

use std::{io, time::Duration};

use tokio::{
    signal::unix::{Signal as UnixSignal, SignalKind, signal},
    sync::mpsc,
    time::{Instant, sleep_until},
};

use crate::{
    clock,
    config::FromCluster,
    control::Order,
    engine::{command::Returned, time::BootTime},
    runtimes::Learnt,
    sense::{Sense, poll::flows::Look},
    signal::{
        Signal, levels::LevelSnapshot, memory::MemorySnapshot, waits::WaitSnapshot, work::WorkSnapshot,
    },
    store::worker::StoreEvent,
    supervise::server::Told,
};

use super::{flows::FlowLooks, levels::LevelLooks, memory::MemoryLooks, waits::Snapshots, work::Looks};

#[expect(clippy::large_enum_variant, reason = "one at a time, on the stack of the loop")]
pub(super) enum Wake {
    /// The rings may hold records, or a second has passed.
    Records,
    Store(StoreEvent),
    Returned(Returned),
    Told(Told),
    /// systemd or a container runtime said something.
    Learnt(Learnt),
    Answer(Signal),
    /// A scan of the tasks is over.
    Waits(BootTime, WaitSnapshot),
    /// A look at the tracked processes is over.
    Work(BootTime, WorkSnapshot),
    /// A look at memory is over.
    Memory(BootTime, MemorySnapshot),
    /// A look at what may run out is over.
    Levels(BootTime, LevelSnapshot),
    /// A look at the connections is over.
    Flows(BootTime, Look),
    /// The cluster's policies, all of them.
    Policies(Vec<FromCluster>),
    Order(Order),
    Deadline,
    Reload,
    Pause(String),
    Resume,
    /// The rings can no longer be watched.
    Broken(io::Error),
    Shutdown(String),
}

/// The ends at which others put what the loop must know.
pub(super) struct Inbox {
    pub(super) store: mpsc::UnboundedReceiver<StoreEvent>,
    pub(super) results: mpsc::Receiver<Returned>,
    pub(super) told: mpsc::Receiver<Told>,
    pub(super) learnt: mpsc::Receiver<Learnt>,
    pub(super) answers: mpsc::UnboundedReceiver<Signal>,
    pub(super) waits: Snapshots,
    pub(super) work: Looks,
    pub(super) memory: MemoryLooks,
    pub(super) levels: LevelLooks,
    pub(super) flows: FlowLooks,
    pub(super) policies: mpsc::Receiver<Vec<FromCluster>>,
    pub(super) orders: mpsc::Receiver<Order>,
}

pub(super) struct Wakes {
    inbox: Inbox,
    unix: Unix,
    end: Option<Instant>,
    /// They come first after anything else: each source that is asked before costs them microseconds, out of cold
    /// memory. After themselves everybody else does, so that a storm of them keeps nobody waiting.
    records_first: bool,
}

struct Unix {
    term: UnixSignal,
    int: UnixSignal,
    hup: UnixSignal,
    usr1: UnixSignal,
    usr2: UnixSignal,
}

impl Wakes {
    pub(super) fn new(inbox: Inbox, duration: Option<Duration>) -> io::Result<Self> {
        Ok(Self {
            inbox,
            unix: Unix {
                term: signal(SignalKind::terminate())?,
                int: signal(SignalKind::interrupt())?,
                hup: signal(SignalKind::hangup())?,
                usr1: signal(SignalKind::user_defined1())?,
                usr2: signal(SignalKind::user_defined2())?,
            },
            end: duration.map(clock::after),
            records_first: true,
        })
    }

    pub(super) async fn next(&mut self, sense: &mut Sense, deadline: Option<BootTime>) -> Wake {
        let wake = self.first(sense, deadline).await;
        self.records_first = !matches!(wake, Wake::Records);
        wake
    }

    /// Records come before what they may be the reason of.
    async fn first(&mut self, sense: &mut Sense, deadline: Option<BootTime>) -> Wake {
        let deadline = deadline.map(|at| clock::after(at.since(clock::boot())));
        let Self { inbox, unix, end, records_first } = self;
        let Inbox { store, results, told, learnt, answers, waits, work, memory, levels, flows, .. } = inbox;
        let (policies, orders) = (&mut inbox.policies, &mut inbox.orders);
        let Unix { term, int, hup, usr1, usr2 } = unix;
        let records = async { sense.readable().await.map_or_else(Wake::Broken, |()| Wake::Records) };
        // A person who says stop is heard in any storm.
        let persons = async {
            tokio::select! {
                biased;
                _ = term.recv() => Wake::Shutdown("SIGTERM".to_owned()),
                _ = int.recv() => Wake::Shutdown("SIGINT".to_owned()),
                () = until(*end) => Wake::Shutdown("--duration is over".to_owned()),
                Some(order) = orders.recv() => Wake::Order(order),
                _ = usr1.recv() => Wake::Pause("SIGUSR1".to_owned()),
                _ = usr2.recv() => Wake::Resume,
            }
        };
        let others = async {
            tokio::select! {
                biased;
                Some(event) = store.recv() => Wake::Store(event),
                // An owner tells who lives before it tells that it has done nothing.
                Some(learnt) = learnt.recv() => Wake::Learnt(learnt),
                Some(returned) = results.recv() => Wake::Returned(returned),
                Some(told) = told.recv() => Wake::Told(told),
                Some(answer) = answers.recv() => Wake::Answer(answer),
                Some((at, snapshot)) = waits.recv() => Wake::Waits(at, snapshot),
                Some((at, snapshot)) = work.recv() => Wake::Work(at, snapshot),
                Some((at, snapshot)) = memory.recv() => Wake::Memory(at, snapshot),
                Some((at, snapshot)) = levels.recv() => Wake::Levels(at, snapshot),
                Some((at, look)) = flows.recv() => Wake::Flows(at, look),
                Some(policies) = policies.recv() => Wake::Policies(policies),
                _ = hup.recv() => Wake::Reload,
                () = until(deadline) => Wake::Deadline,
            }
        };
        if *records_first {
            tokio::select! { biased; wake = records => wake, wake = persons => wake, wake = others => wake }
        } else {
            tokio::select! { biased; wake = persons => wake, wake = records => wake, wake = others => wake }
        }
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}
