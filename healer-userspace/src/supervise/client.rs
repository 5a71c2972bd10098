//! The supervisor: one loop over its signals and its connection.

use core::time::Duration;
use std::{ffi::OsString, io, os::fd::AsFd as _, path::PathBuf};

use rustix::{
    event::{PollFd, PollFlags, Timespec},
    io::Errno,
};

use super::{
    Name, child,
    child::Disposition,
    link::{Hope, Link},
    protocol::{Order, Register, Restart, Say},
    signals::{Arrived, Signals},
};
use crate::{
    clock,
    engine::{command::ActionKey, time::BootTime},
    identity::process::ProcessId,
    signal::Exit,
};

/// How long a lost agent may take to come back while the child is dead.
const AGENT_AWAY: Duration = Duration::from_secs(30);
/// How long the start of the first child waits for the agent's answer to the claim of the name.
const CLAIM: Duration = Duration::from_millis(300);

/// Told on stderr by the command line: this module prints nothing.
#[derive(Debug, thiserror::Error)]
pub enum SuperviseError {
    #[error("{reason}; nothing was started")]
    TurnedAway { reason: String },
    #[error("cannot run {command}: {error}")]
    CannotRun { command: String, error: io::Error },
    #[error("cannot receive signals: {0}")]
    Signals(io::Error),
}

impl SuperviseError {
    /// 127 not found, 126 cannot be run, 2 wrong use, as shells have it.
    pub fn status(&self) -> u8 {
        match self {
            Self::TurnedAway { .. } => crate::cli::BAD_INPUT,
            Self::CannotRun { error, .. } if error.kind() == io::ErrorKind::NotFound => child::NOT_FOUND,
            Self::CannotRun { .. } => child::CANNOT_RUN,
            Self::Signals(_) => 1,
        }
    }
}

pub struct Supervisor {
    name: Name,
    argv: Vec<OsString>,
    signals: Signals,
    link: Link,
    child: Option<ProcessId>,
    /// The last child that ended; never set while one lives that was started after it.
    ended: Option<Ended>,
    last: Option<(ActionKey, ProcessId)>,
    /// The signal by which we were asked to stop.
    stop_asked: Option<i32>,
    replacing: Option<Replacing>,
    released: bool,
}

struct Ended {
    child: ProcessId,
    exit: Exit,
    at: BootTime,
}

/// The child must end before its successor starts.
struct Replacing {
    key: ActionKey,
    kill_at: Option<BootTime>,
}

/// Runs `argv` until nothing is to be restarted any more; returns its last exit status.
///
/// `agent_away` is called once, if no agent can be reached at the start.
///
/// # Errors
/// The first start failed, or the name belongs to another supervisor.
pub fn run(
    name: Name,
    argv: Vec<OsString>,
    state_dir: PathBuf,
    agent_away: impl FnOnce(io::Error),
) -> Result<u8, SuperviseError> {
    let signals = Signals::block().map_err(SuperviseError::Signals)?;
    let mut supervisor = Supervisor::new(name, argv, state_dir, signals);
    match supervisor.link.connect(clock::boot()) {
        Ok(()) => supervisor.claim()?,
        Err(error) => agent_away(error),
    }
    supervisor.start().map_err(|error| SuperviseError::CannotRun {
        command: supervisor.argv[0].to_string_lossy().escape_debug().to_string(),
        error,
    })?;
    supervisor.say_started();
    Ok(supervisor.watch())
}

impl Supervisor {
    fn new(name: Name, argv: Vec<OsString>, state_dir: PathBuf, signals: Signals) -> Self {
        Self {
            name,
            argv,
            signals,
            link: Link::new(state_dir),
            child: None,
            ended: None,
            last: None,
            stop_asked: None,
            replacing: None,
            released: false,
        }
    }

    /// A name that is taken must be known before anything is started twice.
    fn claim(&mut self) -> Result<(), SuperviseError> {
        let started = clock::boot();
        self.register(started);
        while let Some(left) = CLAIM.checked_sub(clock::boot().since(started)) {
            self.wait(Some(left), false);
            for order in self.link.orders(clock::boot()) {
                match order {
                    Order::Welcome => return Ok(()),
                    Order::TurnedAway { reason } => {
                        return Err(SuperviseError::TurnedAway { reason });
                    }
                    Order::Restart(_) | Order::Release { .. } => {}
                }
            }
            if self.link.fd().is_none() {
                break;
            }
        }
        Ok(())
    }

    fn start(&mut self) -> io::Result<ProcessId> {
        let child = child::spawn(&self.argv, self.signals.mask_of_child())?;
        self.child = Some(child);
        Ok(child)
    }

    fn say_started(&mut self) {
        if let Some(child) = self.child {
            self.link.say(clock::boot(), &Say::Started { child });
        }
    }

    fn register(&mut self, now: BootTime) {
        let ended = self.ended.as_ref().filter(|_| self.child.is_none());
        let register = Register {
            name: self.name.clone(),
            child: self.child.or(ended.map(|ended| ended.child)),
            last_key: self.last.as_ref().map(|(key, _)| key.clone()),
            waiting: ended.map(|ended| ended.exit),
            stop_asked: self.stop_asked,
        };
        self.link.say(now, &Say::Register(register));
    }

    fn watch(&mut self) -> u8 {
        loop {
            let now = clock::boot();
            if let Some(status) = self.verdict(now) {
                return status;
            }
            let left = self.deadline().map(|deadline| deadline.since(now));
            self.wait(left, true);
            let now = clock::boot();
            while let Some(arrived) = self.signals.next() {
                self.signal_arrived(now, arrived);
            }
            for order in self.link.orders(now) {
                self.order_came(now, order);
            }
            if self.link.reconnect_if_due(now) {
                self.register(now);
            }
            self.kill_if_due(now);
        }
    }

    /// The status to exit with, once there is nothing to wait for.
    fn verdict(&self, now: BootTime) -> Option<u8> {
        let ended = self.ended.as_ref().filter(|_| self.child.is_none())?;
        let over = match self.link.hope() {
            Hope::None => true,
            Hope::Connected => false,
            Hope::AwaySince(since) => since.max(ended.at) + AGENT_AWAY <= now,
        };
        (over || self.released || self.stop_asked.is_some()).then(|| child::shell_status(&ended.exit))
    }

    fn deadline(&self) -> Option<BootTime> {
        let kill_at = self.replacing.as_ref().and_then(|replacing| replacing.kill_at);
        // Retries are at most a second apart, so they also bound the check for `AGENT_AWAY`.
        kill_at.into_iter().chain(self.link.retry_at()).min()
    }

    /// Until a signal, an order or the deadline.
    fn wait(&self, left: Option<Duration>, signals: bool) {
        let timeout = left.map(|left| Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(left.subsec_nanos()),
        });
        let own = signals.then(|| self.signals.as_fd());
        let fds = own.into_iter().chain(self.link.fd());
        let mut fds: Vec<_> = fds.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
        match rustix::event::poll(&mut fds, timeout.as_ref()) {
            // Whatever woke us: the caller looks at everything.
            Ok(_) | Err(Errno::INTR) => {}
            // Out of kernel memory: without a pause this would spin.
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    }

    fn signal_arrived(&mut self, now: BootTime, arrived: Arrived) {
        if arrived.signal == libc::SIGCHLD {
            for (pid, exit) in child::reap() {
                if let Some(child) = self.child.filter(|child| child.pid == pid) {
                    self.child_ended(now, child, exit);
                }
            }
            return;
        }
        let fatal = match arrived.signal {
            libc::SIGTERM | libc::SIGINT => true,
            _other => self.kills_child(arrived),
        };
        if fatal {
            self.stop_asked = Some(arrived.signal);
            let signal = arrived.signal;
            self.link.say(now, &Say::StopAsked { signal });
        }
        if let Some(child) = self.child.filter(|_| !child_has_it_already(arrived)) {
            child::send(child, arrived.signal);
        }
    }

    /// A reload is no stop: HUP, QUIT, USR1 and USR2 end only a child that neither catches nor ignores them.
    fn kills_child(&self, arrived: Arrived) -> bool {
        match self.child {
            Some(child) => child::disposition(child.pid, arrived.signal) == Some(Disposition::Default),
            None => arrived.from_terminal,
        }
    }

    fn child_ended(&mut self, now: BootTime, child: ProcessId, exit: Exit) {
        self.child = None;
        self.released = false;
        self.ended = Some(Ended { child, exit, at: now });
        match self.replacing.take() {
            None => self.link.say(now, &Say::Exited { child, exit }),
            Some(Replacing { key, .. }) if self.stop_asked.is_some() => {
                self.refuse(now, key, "it was asked to stop");
            }
            Some(Replacing { key, .. }) => self.start_again(now, key),
        }
    }

    fn order_came(&mut self, now: BootTime, order: Order) {
        match order {
            Order::Restart(restart) => self.restart(now, restart),
            Order::Release { .. } => self.released = self.child.is_none(),
            Order::Welcome | Order::TurnedAway { .. } => {}
        }
    }

    fn restart(&mut self, now: BootTime, order: Restart) {
        let latest = self.child.or(self.ended.as_ref().map(|ended| ended.child));
        match &self.last {
            Some((key, child)) if *key == order.key => {
                let (key, child) = (key.clone(), *child);
                let already = true;
                let answer = Say::Restarted { key, child, already };
                return self.link.say(now, &answer);
            }
            Some(_) | None => {}
        }
        if self.stop_asked.is_some() {
            self.refuse(now, order.key, "it was asked to stop");
        } else if self.replacing.is_some() {
            self.refuse(now, order.key, "another restart is under way");
        } else if latest != Some(order.target) {
            self.refuse(now, order.key, "the child is another one by now");
        } else if let Some(child) = self.child {
            self.replace(now, child, order);
        } else {
            self.start_again(now, order.key);
        }
    }

    fn refuse(&mut self, now: BootTime, key: ActionKey, reason: &str) {
        let reason = reason.to_owned();
        self.link.say(now, &Say::Refused { key, reason });
    }

    fn replace(&mut self, now: BootTime, child: ProcessId, order: Restart) {
        // A process that ignores the signal would only waste the grace.
        let deaf = child::disposition(child.pid, order.signal) == Some(Disposition::Ignored);
        child::send(child, if deaf { libc::SIGKILL } else { order.signal });
        self.replacing = Some(Replacing {
            key: order.key,
            kill_at: (!deaf).then(|| now + Duration::from_millis(order.grace_ms)),
        });
    }

    fn kill_if_due(&mut self, now: BootTime) {
        if let (Some(replacing), Some(child)) = (&mut self.replacing, self.child)
            && replacing.kill_at.is_some_and(|kill_at| kill_at <= now)
        {
            replacing.kill_at = None;
            child::send(child, libc::SIGKILL);
        }
    }

    fn start_again(&mut self, now: BootTime, key: ActionKey) {
        let answer = match self.start() {
            Ok(child) => {
                self.last = Some((key.clone(), child));
                let already = false;
                Say::Restarted { key, child, already }
            }
            Err(error) => Say::Failed { key, error: error.to_string(), errno: error.raw_os_error() },
        };
        self.link.say(now, &answer);
    }
}

/// ^C and ^\ go to the whole foreground group, the child included; a hang-up goes to the session leader alone.
fn child_has_it_already(arrived: Arrived) -> bool {
    let we_lead = || {
        let leader = rustix::process::getsid(None);
        leader == Ok(rustix::process::getpid())
    };
    arrived.from_terminal && !(arrived.signal == libc::SIGHUP && we_lead())
}
