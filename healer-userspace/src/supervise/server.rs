//! The agent's side: who is registered, and the orders to them.

use std::{
    collections::BTreeMap,
    io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
    sync::{mpsc, oneshot},
};

use super::{
    Name,
    peer::{check_namespace, check_parentage, peer_of},
    protocol::{Lines, Order, Register, Restart, SOCKET, Say, line},
};
use crate::{
    clock,
    control::socket,
    engine::{command::ActionKey, time::BootTime},
    identity::process::ProcessId,
    signal::{Exit, Fact, Registration},
};

/// Orders that a supervisor has not read yet; one action per workload is in flight, so this is plenty.
const ORDERS: usize = 16;
/// Supervisors per node: a bound on tasks and memory.
const MEMBERS: usize = 4096;

/// One fact about a supervised child, before identity. `child.start` has the 10 ms resolution of /proc.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    pub at: BootTime,
    pub name: Name,
    /// None until the first child was started.
    pub child: Option<ProcessId>,
    /// `Registered`, `Deregistered`, `StopAsked`, or `Exited` by the supervisor's own waitpid(2).
    pub fact: Fact,
}

/// How an order to restart ended.
#[derive(Clone, Debug, PartialEq)]
pub enum RestartAnswer {
    /// The successor runs. `already`: this key had been carried out before.
    Restarted {
        child: ProcessId,
        already: bool,
    },
    Refused {
        reason: String,
    },
    Failed {
        error: String,
        errno: Option<i32>,
    },
    /// Nobody of this name is registered.
    NotRegistered,
    /// The connection went away before the answer.
    Lost,
}

/// All registered supervisors. Cheap to clone.
#[derive(Clone)]
pub struct Supervisors {
    book: Arc<Mutex<Book>>,
    told: mpsc::Sender<Told>,
}

#[derive(Default)]
struct Book {
    members: BTreeMap<Name, Member>,
    connections: u64,
}

struct Member {
    connection: u64,
    supervisor: ProcessId,
    child: Option<ProcessId>,
    /// The child is dead.
    waiting: Option<Exit>,
    /// Since when it is.
    waiting_since: BootTime,
    last_key: Option<ActionKey>,
    orders: mpsc::Sender<Order>,
    pending: BTreeMap<ActionKey, oneshot::Sender<RestartAnswer>>,
}

impl Member {
    fn registration(&self, name: &Name) -> Fact {
        Fact::Registered(Registration {
            name: name.to_string(),
            supervisor: self.supervisor,
            last_key: self.last_key.as_ref().map(|key| key.0.clone()),
            waiting: self.waiting,
        })
    }
}

impl Supervisors {
    /// Binds the socket in `state_dir` and serves it from a task of the current runtime. What supervisors say comes
    /// out of `told`; a full channel slows the supervisors down and loses nothing.
    ///
    /// # Errors
    /// The socket cannot be bound.
    pub fn listen(state_dir: &Path, told: mpsc::Sender<Told>) -> io::Result<Self> {
        let listener = socket::bind(state_dir, SOCKET)?;
        listener.set_nonblocking(true)?;
        let listener = UnixListener::from_std(listener)?;
        let supervisors = Self::unbound(told);
        tokio::spawn(supervisors.clone().serve(listener));
        Ok(supervisors)
    }

    /// Nobody can register: for dry runs and tests.
    pub fn unbound(told: mpsc::Sender<Told>) -> Self {
        Self { book: Arc::default(), told }
    }

    /// Orders a restart and waits for its end, without a limit of its own.
    pub async fn order_restart(&self, name: &Name, restart: Restart) -> RestartAnswer {
        let (answer, answered) = oneshot::channel();
        {
            let mut book = self.book();
            let Some(member) = book.members.get_mut(name) else {
                return RestartAnswer::NotRegistered;
            };
            member.pending.insert(restart.key.clone(), answer);
            if member.orders.try_send(Order::Restart(restart)).is_err() {
                return RestartAnswer::Lost;
            }
        }
        answered.await.unwrap_or(RestartAnswer::Lost)
    }

    /// Tells a waiting supervisor that no order will come. False if nobody of this name is registered.
    pub fn release(&self, name: &Name, reason: &str) -> bool {
        let reason = reason.to_owned();
        let order = Order::Release { reason };
        let book = self.book();
        let member = book.members.get(name);
        member.is_some_and(|member| member.orders.try_send(order).is_ok())
    }

    /// The living child of that name.
    pub fn child(&self, name: &Name) -> Option<ProcessId> {
        let book = self.book();
        let member = book.members.get(name)?;
        member.child.filter(|_| member.waiting.is_none())
    }

    /// The name of a child whose supervisor may not have introduced it yet: one that dies at once is dead before
    /// that. Orphans that come to a supervisor are older than its wait for a start.
    pub fn name_of(&self, supervisor: ProcessId, child: ProcessId) -> Option<Name> {
        let book = self.book();
        let is_its = |member: &Member| {
            member.supervisor == supervisor
                && match (member.child, member.waiting) {
                    (None, _) => true,
                    (Some(known), _) if known == child => true,
                    (Some(_), Some(_)) => member.waiting_since <= child.start,
                    (Some(before), None) => !member.pending.is_empty() && before.start < child.start,
                }
        };
        let (name, _) = book.members.iter().find(|(_, member)| is_its(member))?;
        Some(name.clone())
    }

    /// Pids of the supervisors themselves: never to be killed with their children's cgroup.
    pub fn pids(&self) -> Vec<u32> {
        let book = self.book();
        book.members.values().map(|member| member.supervisor.pid).collect()
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn serve(self, listener: UnixListener) {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => drop(tokio::spawn(self.clone().attend(stream))),
                // Out of descriptors: the supervisors try again.
                Err(_) => tokio::time::sleep(core::time::Duration::from_millis(100)).await,
            }
        }
    }

    async fn attend(self, stream: UnixStream) {
        let Ok(peer) = peer_of(&stream) else {
            return;
        };
        let mut conversation = Conversation { stream, lines: Lines::default() };
        let Ok(Some(Say::Register(register))) = conversation.hear().await else {
            return;
        };
        let name = register.name.clone();
        let stop_asked = register.stop_asked;
        match self.admit(register, peer) {
            Ok((connection, orders)) => {
                self.introduce(&name, connection, stop_asked).await;
                // However the conversation ended, the member is gone now.
                drop(self.converse(&name, connection, orders, conversation).await);
                self.farewell(&name, connection).await;
            }
            // The supervisor may be gone already.
            Err(reason) => drop(conversation.order(&Order::TurnedAway { reason }).await),
        }
    }

    fn admit(&self, register: Register, peer: ProcessId) -> Result<(u64, mpsc::Receiver<Order>), String> {
        let name = register.name;
        check_namespace(peer)?;
        if let Some(child) = register.child.filter(|_| register.waiting.is_none()) {
            check_parentage(child, peer)?;
        }
        let mut book = self.book();
        if let Some(member) = book.members.get(&name)
            && member.supervisor != peer
        {
            let pid = member.supervisor.pid;
            return Err(format!("the name {name} is taken by the supervisor with pid {pid}"));
        }
        if book.members.len() >= MEMBERS {
            return Err(format!("there are {MEMBERS} supervisors already"));
        }
        book.connections += 1;
        let connection = book.connections;
        let (orders, receiver) = mpsc::channel(ORDERS);
        let member = Member {
            connection,
            supervisor: peer,
            child: register.child,
            waiting: register.waiting,
            waiting_since: clock::boot(),
            last_key: register.last_key,
            orders,
            pending: BTreeMap::new(),
        };
        book.members.insert(name, member);
        Ok((connection, receiver))
    }

    /// A child is introduced as running; that it was asked to stop comes after.
    async fn introduce(&self, name: &Name, connection: u64, stop_asked: Option<i32>) {
        let child = self.child_of(name, connection);
        if child.is_some() {
            self.tell_registered(name, connection).await;
        }
        if let Some(signal) = stop_asked {
            self.tell(name, child, Fact::StopAsked { signal }).await;
        }
    }

    async fn converse(
        &self,
        name: &Name,
        connection: u64,
        mut orders: mpsc::Receiver<Order>,
        mut conversation: Conversation,
    ) -> io::Result<()> {
        conversation.order(&Order::Welcome).await?;
        loop {
            tokio::select! {
                heard = conversation.hear() => match heard? {
                    Some(say) => self.heard(name, connection, say).await,
                    None => return Ok(()),
                },
                // Whoever is gone may have said before why: that is still to be heard, and then the end.
                Some(order) = orders.recv() => {
                    conversation.order(&order).await.ok();
                }
            }
        }
    }

    async fn heard(&self, name: &Name, connection: u64, say: Say) {
        match say {
            // Only the first line of a connection registers.
            Say::Register(_) => {}
            Say::Started { child } => {
                self.update(name, connection, |member| member.child = Some(child));
                self.tell_registered(name, connection).await;
            }
            Say::StopAsked { signal } => {
                let child = self.child_of(name, connection);
                self.tell(name, child, Fact::StopAsked { signal }).await;
            }
            Say::Exited { child, exit } => {
                self.update(name, connection, |member| {
                    member.waiting = Some(exit);
                    member.waiting_since = clock::boot();
                });
                self.tell(name, Some(child), Fact::Exited(exit)).await;
            }
            Say::Restarted { key, child, already } => {
                self.update(name, connection, |member| {
                    member.child = Some(child);
                    member.waiting = None;
                    member.last_key = Some(key.clone());
                });
                self.tell_registered(name, connection).await;
                let answer = RestartAnswer::Restarted { child, already };
                self.answer(name, connection, &key, answer);
            }
            Say::Refused { key, reason } => {
                self.answer(name, connection, &key, RestartAnswer::Refused { reason });
            }
            Say::Failed { key, error, errno } => {
                self.answer(name, connection, &key, RestartAnswer::Failed { error, errno });
            }
        }
    }

    fn update<T>(&self, name: &Name, connection: u64, change: impl FnOnce(&mut Member) -> T) -> Option<T> {
        let mut book = self.book();
        let member = book.members.get_mut(name);
        member.filter(|member| member.connection == connection).map(change)
    }

    fn child_of(&self, name: &Name, connection: u64) -> Option<ProcessId> {
        self.update(name, connection, |member| member.child).flatten()
    }

    fn answer(&self, name: &Name, connection: u64, key: &ActionKey, answer: RestartAnswer) {
        let pending = self.update(name, connection, |member| member.pending.remove(key));
        if let Some(pending) = pending.flatten() {
            // Whoever asked may have run out of time.
            drop(pending.send(answer));
        }
    }

    async fn tell_registered(&self, name: &Name, connection: u64) {
        let told = self.update(name, connection, |member| (member.child, member.registration(name)));
        if let Some((child, fact)) = told {
            self.tell(name, child, fact).await;
        }
    }

    async fn tell(&self, name: &Name, child: Option<ProcessId>, fact: Fact) {
        let told = Told { at: clock::boot(), name: name.clone(), child, fact };
        // Closed only when the agent is on its way out.
        drop(self.told.send(told).await);
    }

    async fn farewell(&self, name: &Name, connection: u64) {
        let member = {
            let mut book = self.book();
            match book.members.get(name) {
                Some(member) if member.connection == connection => book.members.remove(name),
                Some(_) | None => None,
            }
        };
        if let Some(member) = member {
            self.tell(name, member.child, Fact::Deregistered).await;
        }
    }
}

struct Conversation {
    stream: UnixStream,
    lines: Lines,
}

impl Conversation {
    /// The next message; None at the end. Safe to cancel: what was read stays in `lines`.
    async fn hear(&mut self) -> io::Result<Option<Say>> {
        let mut buffer = [0_u8; 4096];
        loop {
            if let Some(say) = self.lines.cut()? {
                return Ok(Some(say));
            }
            match self.stream.read(&mut buffer).await? {
                0 => return Ok(None),
                count => self.lines.push(&buffer[..count]),
            }
        }
    }

    async fn order(&mut self, order: &Order) -> io::Result<()> {
        self.stream.write_all(&line(order)?).await
    }
}
