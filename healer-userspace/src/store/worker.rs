//! The store on a thread of its own: the agent's loop never waits for a disk.

use std::{
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, TrySendError, sync_channel},
    },
    thread::JoinHandle,
    time::Duration,
};

use super::{Store, StoreError, Work, intent_of, journal_of, row::Moment};
use crate::{
    engine::{
        command::{ActionKey, Recovered},
        report::{Report, ReportFact},
        time::BootTime,
    },
    report::audit::head::Head,
};

/// Batches that may wait. Beyond that intents fail at once, other entries of the journal are kept aside, and records
/// are lost, and said to be.
const QUEUE: usize = 1024;
/// Pieces of work in one write.
const BATCH: usize = 256;
/// Records that wait for a disk that cannot be written. Entries of the journal are few, and wait all.
const BACKLOG: usize = 4096;
const PROBE_EVERY: Duration = Duration::from_secs(5);
/// The audit's records that nobody waits for are synced this much later.
const SYNC_AFTER: Duration = Duration::from_millis(500);

/// What the store answers. Only intents are answered one by one.
#[derive(Clone, Debug, PartialEq)]
pub enum StoreEvent {
    /// The intent, its audit record and all before them are on disk.
    Committed(ActionKey),
    /// The intent is not on disk, and will not be.
    Failed { key: ActionKey, reason: String },
    /// What the journal had from an earlier life, if it could not be read at start.
    Remembered(Box<Recovered>),
    /// Gate `journal_writable` opens or closes.
    Writable { writable: bool, says: String },
}

/// For status page and metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreStatus {
    pub writable: bool,
    /// Why not, or what was last said of it.
    pub says: String,
    /// Records and entries that no disk will ever see.
    pub lost: u64,
    /// The audit's last record.
    pub head: Head,
}

/// Called on the store's thread, and on the caller's by `submit` when the queue is full: it must not block.
pub type Answer = Arc<dyn Fn(StoreEvent) + Send + Sync>;
pub type ReadClock = Box<dyn Fn() -> Moment + Send>;

pub struct StoreHandle {
    queue: Option<SyncSender<Vec<Work>>>,
    thread: Option<JoinHandle<Result<(), StoreError>>>,
    shared: Arc<Shared>,
    answer: Answer,
}

struct Shared {
    writable: AtomicBool,
    lost: AtomicU64,
    says: Mutex<String>,
    head: Mutex<Head>,
    /// Entries behind a queue that is full.
    kept: Mutex<Vec<Work>>,
}

impl StoreHandle {
    /// # Errors
    /// No thread can be made.
    pub fn start(store: Store, clock: ReadClock, answer: Answer) -> io::Result<Self> {
        let (queue, work) = sync_channel(QUEUE);
        let shared = Arc::new(Shared {
            writable: AtomicBool::new(store.behind().is_none()),
            lost: AtomicU64::new(0),
            says: Mutex::new(String::new()),
            head: Mutex::new(store.head().clone()),
            kept: Mutex::default(),
        });
        let worker = Worker {
            store,
            work,
            clock,
            answer: Arc::clone(&answer),
            shared: Arc::clone(&shared),
            stuck: None,
            sync_at: None,
        };
        let thread = std::thread::Builder::new()
            .name("healer-store".into())
            .stack_size(512 << 10)
            .spawn(move || worker.run())?;
        Ok(Self { queue: Some(queue), thread: Some(thread), shared, answer })
    }

    /// Queues a batch; never blocks. Order is kept within and between batches; one batch is one sync at most.
    pub fn submit(&self, batch: Vec<Work>) {
        if batch.is_empty() {
            return;
        }
        let Some(queue) = &self.queue else { return };
        let mut kept = self.shared.kept();
        // What comes later stays behind what is kept.
        let refused =
            if kept.is_empty() { queue.try_send(batch).err() } else { Some(TrySendError::Full(batch)) };
        let (reason, batch) = match refused {
            None => return,
            Some(TrySendError::Full(batch)) => ("the store's queue is full", batch),
            Some(TrySendError::Disconnected(batch)) => ("the store's thread has ended", batch),
        };
        let intents: Vec<ActionKey> = batch.iter().filter_map(intent_of).cloned().collect();
        let all = batch.len();
        let before = kept.len();
        kept.extend(batch.into_iter().filter(|work| journal_of(work).is_some() && intent_of(work).is_none()));
        self.shared.lose(all - (kept.len() - before));
        drop(kept);
        for key in intents {
            (self.answer)(StoreEvent::Failed { key, reason: reason.to_owned() });
        }
    }

    pub fn is_writable(&self) -> bool {
        self.shared.writable.load(Ordering::Acquire)
    }

    pub fn status(&self) -> StoreStatus {
        let lock = |says: &Mutex<String>| says.lock().unwrap_or_else(PoisonError::into_inner).clone();
        StoreStatus {
            writable: self.is_writable(),
            says: lock(&self.shared.says),
            lost: self.shared.lost.load(Ordering::Relaxed),
            head: (self.shared.head.lock()).unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    /// Writes all that is queued, closes journal and audit, and releases the state directory.
    ///
    /// # Errors
    /// What could not be written, in words.
    pub fn close(mut self) -> Result<(), StoreError> {
        self.finish()
    }

    fn finish(&mut self) -> Result<(), StoreError> {
        drop(self.queue.take());
        match self.thread.take().map(JoinHandle::join) {
            None => Ok(()),
            Some(Ok(result)) => result,
            Some(Err(_panic)) => Err(StoreError::Journal {
                what: "close",
                path: super::journal::NAME.into(),
                why: "the store's thread had panicked".into(),
            }),
        }
    }
}

impl Drop for StoreHandle {
    fn drop(&mut self) {
        if let Err(error) = self.finish() {
            tracing::error!("{error}");
        }
    }
}

impl Shared {
    fn lose(&self, count: usize) {
        self.lost.fetch_add(count as u64, Ordering::Relaxed);
    }

    fn kept(&self) -> MutexGuard<'_, Vec<Work>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Worker {
    store: Store,
    work: Receiver<Vec<Work>>,
    clock: ReadClock,
    answer: Answer,
    shared: Arc<Shared>,
    /// The disk cannot be written.
    stuck: Option<Stuck>,
    sync_at: Option<BootTime>,
}

struct Stuck {
    reason: String,
    since: BootTime,
    probe_at: BootTime,
    /// In order; never intents.
    backlog: Vec<Work>,
    /// Intents whose commit failed, perhaps half-way.
    dropped: Vec<ActionKey>,
    refused: u64,
    lost: u64,
}

impl Worker {
    fn run(mut self) -> Result<(), StoreError> {
        if let Some(reason) = self.store.behind().map(str::to_owned) {
            self.stick(reason, Vec::new());
        }
        loop {
            match self.next() {
                Ok(batch) => self.take(batch),
                Err(RecvTimeoutError::Timeout) => self.on_time(),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        if self.stuck.is_some() {
            self.probe();
        }
        let now = (self.clock)();
        self.store.close(now)
    }

    fn next(&mut self) -> Result<Vec<Work>, RecvTimeoutError> {
        let mut batch = match self.ready() {
            Some(batch) => batch,
            None => self.wait()?,
        };
        while batch.len() < BATCH {
            match self.work.try_recv() {
                Ok(more) => batch.extend(more),
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
            }
        }
        Ok(batch)
    }

    /// What is queued, or kept behind a queue that was full.
    fn ready(&self) -> Option<Vec<Work>> {
        let mut kept = self.shared.kept();
        self.work
            .try_recv()
            .ok()
            .or_else(|| Some(core::mem::take(&mut *kept)).filter(|kept| !kept.is_empty()))
    }

    fn wait(&self) -> Result<Vec<Work>, RecvTimeoutError> {
        let deadline = match &self.stuck {
            Some(stuck) => Some(stuck.probe_at),
            None => self.sync_at,
        };
        match deadline {
            Some(deadline) => self.work.recv_timeout(deadline.since((self.clock)().boot)),
            None => self.work.recv().map_err(|_closed| RecvTimeoutError::Disconnected),
        }
    }

    fn on_time(&mut self) {
        if self.stuck.is_some() {
            self.probe();
            return;
        }
        self.sync_at = None;
        if let Err(error) = self.store.sync() {
            self.stick(error.to_string(), Vec::new());
        }
    }

    fn take(&mut self, mut batch: Vec<Work>) {
        if self.stuck.is_some() {
            self.hold(batch);
            let now = (self.clock)().boot;
            if self.stuck.as_ref().is_some_and(|stuck| stuck.probe_at <= now) {
                self.probe();
            }
            return;
        }
        let intents: Vec<ActionKey> = batch.iter().filter_map(intent_of).cloned().collect();
        let now = (self.clock)();
        match self.store.write(&mut batch, &[], now) {
            Ok(()) => {
                self.publish_head();
                for key in intents {
                    (self.answer)(StoreEvent::Committed(key));
                }
                self.sync_at = match self.sync_at {
                    _ if !self.store.is_unsynced() => None,
                    Some(at) => Some(at),
                    None => Some(now.boot + SYNC_AFTER),
                };
            }
            Err(error) => self.stick(error.to_string(), batch),
        }
    }

    /// From now on acts stop; `batch` is what could not be written.
    fn stick(&mut self, reason: String, batch: Vec<Work>) {
        let now = (self.clock)().boot;
        self.sync_at = None;
        let says = format!("{reason}; no act until it can be written again, sensing goes on");
        self.stuck = Some(Stuck {
            reason,
            since: now,
            probe_at: now + PROBE_EVERY,
            backlog: Vec::new(),
            dropped: batch.iter().filter_map(intent_of).cloned().collect(),
            refused: 0,
            lost: 0,
        });
        tracing::error!("{says}");
        self.tell(false, says);
        self.hold(batch);
    }

    /// Keeps what can wait; intents fail now.
    fn hold(&mut self, batch: Vec<Work>) {
        let Some(stuck) = self.stuck.as_mut() else {
            return;
        };
        for work in batch {
            if let Some(key) = intent_of(&work) {
                stuck.refused += 1;
                (self.answer)(StoreEvent::Failed { key: key.clone(), reason: stuck.reason.clone() });
            } else if stuck.backlog.len() < BACKLOG || journal_of(&work).is_some() {
                stuck.backlog.push(work);
            } else {
                stuck.lost += 1;
                self.shared.lose(1);
            }
        }
    }

    /// Tries to write what waits, and one small transaction.
    fn probe(&mut self) {
        let Some(mut stuck) = self.stuck.take() else {
            return;
        };
        let now = (self.clock)();
        let mut late = None;
        let remembered = self.store.remembered_late(now).map(|recovered| late = recovered);
        if let Some(recovered) = late {
            (self.answer)(StoreEvent::Remembered(Box::new(recovered)));
        }
        let written = remembered
            .and_then(|()| self.store.write(&mut stuck.backlog, &stuck.dropped, now))
            .and_then(|()| self.store.append(back_again(&stuck, now), now))
            .and_then(|_seq| self.store.probe(now));
        match written {
            Ok(()) => {
                self.publish_head();
                let says = "journal and audit can be written again".to_owned();
                tracing::info!("{says}");
                self.tell(true, says);
            }
            Err(error) => {
                stuck.reason = error.to_string();
                stuck.probe_at = now.boot + PROBE_EVERY;
                self.stuck = Some(stuck);
            }
        }
    }

    fn tell(&self, writable: bool, says: String) {
        self.shared.writable.store(writable, Ordering::Release);
        says.clone_into(&mut self.shared.says.lock().unwrap_or_else(PoisonError::into_inner));
        (self.answer)(StoreEvent::Writable { writable, says });
    }

    fn publish_head(&self) {
        let mut head = (self.shared.head.lock()).unwrap_or_else(PoisonError::into_inner);
        self.store.head().clone_into(&mut head);
    }
}

fn back_again(stuck: &Stuck, now: Moment) -> Report {
    let gap = crate::engine::time::Human(now.boot.since(stuck.since));
    Report {
        at: now.boot,
        incident: None,
        workload: None,
        fact: ReportFact::Agent {
            event: "store_writable".into(),
            says: format!(
                "journal and audit could not be written for {gap} ({}): intents refused: {}, records lost: {}",
                stuck.reason, stuck.refused, stuck.lost
            ),
        },
    }
}
