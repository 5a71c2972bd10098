//! The supervisor's connection to the agent: lost and found again.

use core::time::Duration;
use std::{
    io::{self, Read as _, Write as _},
    os::{
        fd::{AsFd as _, BorrowedFd},
        unix::net::UnixStream,
    },
    path::PathBuf,
};

use super::protocol::{Lines, Order, SOCKET, Say, line};
use crate::{control::socket, engine::time::BootTime};

const FIRST_RETRY: Duration = Duration::from_millis(20);
const LAST_RETRY: Duration = Duration::from_secs(1);

pub(super) struct Link {
    dir: PathBuf,
    state: State,
    /// The agent welcomed us at least once.
    known: bool,
}

enum State {
    Up(UnixStream, Lines),
    Down {
        since: BootTime,
        retry_at: BootTime,
        wait: Duration,
    },
    /// The agent gave our name to somebody else: we are on our own.
    TurnedAway,
}

impl Link {
    pub(super) fn new(dir: PathBuf) -> Self {
        let state = State::Down { since: BootTime(0), retry_at: BootTime(0), wait: FIRST_RETRY };
        Self { dir, state, known: false }
    }

    /// Tries once. The caller registers after Ok.
    ///
    /// # Errors
    /// Of connect(2): no socket, nobody listens, no access.
    pub(super) fn connect(&mut self, now: BootTime) -> io::Result<()> {
        match socket::connect_at_once(&self.dir, SOCKET) {
            Ok(stream) => {
                self.state = State::Up(stream, Lines::default());
                Ok(())
            }
            Err(error) => {
                self.retry_later(now);
                Err(error)
            }
        }
    }

    fn retry_later(&mut self, now: BootTime) {
        let (since, wait) = match self.state {
            State::Down { since, wait, .. } => (since, (wait * 2).min(LAST_RETRY)),
            State::Up(..) => (now, FIRST_RETRY),
            State::TurnedAway => return,
        };
        self.state = State::Down { since, retry_at: now + wait, wait };
    }

    /// True if a connection was made just now.
    pub(super) fn reconnect_if_due(&mut self, now: BootTime) -> bool {
        match self.state {
            State::Down { retry_at, .. } if retry_at <= now => self.connect(now).is_ok(),
            State::Down { .. } | State::Up(..) | State::TurnedAway => false,
        }
    }

    pub(super) fn say(&mut self, now: BootTime, message: &Say) {
        let State::Up(stream, _) = &mut self.state else {
            return;
        };
        // A full buffer means an agent that has not read for a long time: as good as gone.
        if line(message).and_then(|line| stream.write_all(&line)).is_err() {
            self.retry_later(now);
        }
    }

    /// All orders that have come. Nonsense is treated like a lost connection.
    pub(super) fn orders(&mut self, now: BootTime) -> Vec<Order> {
        let mut orders = Vec::new();
        let State::Up(stream, lines) = &mut self.state else {
            return orders;
        };
        let alive = read_all(stream, lines, &mut orders);
        for order in &orders {
            match order {
                Order::Welcome => self.known = true,
                Order::TurnedAway { .. } => self.state = State::TurnedAway,
                Order::Restart(_) | Order::Release { .. } => {}
            }
        }
        if alive.is_err() {
            self.retry_later(now);
        }
        orders
    }

    /// Whether an order may still come, and if the agent is away, since when.
    pub(super) fn hope(&self) -> Hope {
        match self.state {
            State::Up(..) if self.known => Hope::Connected,
            State::Down { since, .. } if self.known => Hope::AwaySince(since),
            State::Up(..) | State::Down { .. } | State::TurnedAway => Hope::None,
        }
    }

    pub(super) fn retry_at(&self) -> Option<BootTime> {
        match self.state {
            State::Down { retry_at, .. } => Some(retry_at),
            State::Up(..) | State::TurnedAway => None,
        }
    }

    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.state {
            State::Up(stream, _) => Some(stream.as_fd()),
            State::Down { .. } | State::TurnedAway => None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hope {
    Connected,
    AwaySince(BootTime),
    /// No agent ever answered, or it does not want us.
    None,
}

fn read_all(stream: &mut UnixStream, lines: &mut Lines, orders: &mut Vec<Order>) -> io::Result<()> {
    let mut buffer = [0_u8; 4096];
    loop {
        let ended = match stream.read(&mut buffer) {
            Ok(0) => Some(Err(io::ErrorKind::UnexpectedEof.into())),
            Ok(count) => {
                lines.push(&buffer[..count]);
                None
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Some(Ok(())),
            Err(error) => Some(Err(error)),
        };
        while let Some(order) = lines.cut()? {
            orders.push(order);
        }
        if let Some(ended) = ended {
            return ended;
        }
    }
}
