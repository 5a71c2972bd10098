//! Services that go wrong, or hesitate; in a network namespace of their own. The clients are
//! processes of their own, and end with their service.

use core::time::Duration;
use std::{
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::fd::AsRawFd as _,
    thread,
};

use super::{
    End, Fault, alone,
    child::{asked_within, unmade},
};
use crate::{clock, engine::class::Class};

pub(super) const HANG: Fault = service(Fault::failing(
    "hang",
    Class::Hang,
    "a service that stops reading and accepting, with clients waiting",
    End::Never,
    || serve(3, |_server| thread::sleep(FOR_EVER)),
))
.lasting(25);
pub(super) const OVERFLOW: Fault = service(Fault::failing(
    "listen-overflow",
    Class::ListenOverflow,
    "a service with a short queue that accepts two clients a second, where a dozen want in",
    End::Never,
    || serve(12, Server::accept_slowly),
))
.lasting(20);
pub(super) const PROBE: Fault = service(Fault::failing(
    "probe-failed",
    Class::ProbeFailed,
    "a service that lives and listens no more",
    End::Never,
    || {
        serve(0, |server| {
            server.answer_for(WELL_FIRST);
            server.listener = None;
            thread::sleep(FOR_EVER);
        })
    },
))
.lasting(20);
pub(super) const HICCUP: Fault = service(Fault::healthy(
    "probe-hiccup",
    "healthy: a service that fails its probe twice and is well again",
    End::Never,
    || {
        serve(0, |server| {
            server.answer_for(WELL_FIRST);
            server.listener = None;
            thread::sleep(Duration::from_millis(1200));
            server.listener = listen().ok();
            server.answer_for(FOR_EVER);
        })
    },
))
.lasting(20);

/// Asked by the campaign's probe.
pub const PORT: u16 = 5000;
const TURN: Duration = Duration::from_millis(20);
const BETWEEN: Duration = Duration::from_millis(200);
/// Whoever probes it has seen it well by then.
const WELL_FIRST: Duration = Duration::from_secs(4);
const FOR_EVER: Duration = Duration::from_secs(3600);
const SHORT_QUEUE: i32 = 2;
const SLOW_TURN: Duration = Duration::from_millis(500);

const fn service(fault: Fault) -> Fault {
    fault.supervised().preparing()
}

struct Server {
    listener: Option<TcpListener>,
    held: Vec<TcpStream>,
}

/// Well until it is asked; `then` is what it does from then on.
fn serve(clients: usize, then: impl FnOnce(&mut Server)) -> u8 {
    let begin = || {
        alone::namespace()?;
        let listener = listen()?;
        (0..clients).try_for_each(client)?;
        Ok::<_, io::Error>(listener)
    };
    let listener = match begin() {
        Ok(listener) => listener,
        Err(error) => return unmade("a server in a network namespace of its own", error, alone::REMEDY),
    };
    let mut server = Server { listener: Some(listener), held: Vec::new() };
    while !asked_within(TURN) {
        server.turn();
    }
    then(&mut server);
    1
}

fn listen() -> io::Result<TcpListener> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, PORT))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

impl Server {
    fn accept(&mut self) {
        let accepted = self.listener.as_ref().and_then(|listener| listener.accept().ok());
        let Some((stream, _)) = accepted else { return };
        if stream.set_nonblocking(true).is_ok() {
            self.held.push(stream);
        }
        self.answer();
    }

    fn turn(&mut self) {
        (0..8).for_each(|_| self.accept());
        self.answer();
    }

    /// Whoever has asked; who has gone is dropped.
    fn answer(&mut self) {
        self.held.retain_mut(|stream| match stream.read(&mut [0]) {
            Ok(0) => false,
            Ok(_) => stream.write_all(b"!").is_ok(),
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
        });
    }

    /// With a queue of its own choice, as listen(2) lets one choose anew.
    fn accept_slowly(&mut self) {
        if let Some(listener) = &self.listener {
            // SAFETY: takes numbers.
            unsafe { libc::listen(listener.as_raw_fd(), SHORT_QUEUE) };
        }
        loop {
            self.accept();
            thread::sleep(SLOW_TURN);
        }
    }

    fn answer_for(&mut self, time: Duration) {
        let end = clock::boot() + time;
        while clock::boot() < end {
            self.turn();
            thread::sleep(TURN);
        }
    }
}

/// The first keeps its connection, the others make one after the other.
fn client(number: usize) -> io::Result<()> {
    // SAFETY: the process has one thread here, so the child may go on in any way; it does not return.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            // SAFETY: takes numbers. Its parent is the service.
            unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
            loop {
                talk(number == 0).ok();
                thread::sleep(BETWEEN);
            }
        }
        _pid => Ok(()),
    }
}

fn talk(goes_on: bool) -> io::Result<()> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, PORT))?;
    loop {
        stream.write_all(b"?")?;
        stream.read_exact(&mut [0])?;
        if !goes_on {
            return Ok(());
        }
        thread::sleep(BETWEEN);
    }
}
