//! Clients whose peers fail, and such as only look like it; in a network namespace of their own.

use core::time::Duration;
use std::{
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream},
    os::fd::AsRawFd as _,
    thread,
};

use super::{End, Fault, alone, child::unmade};
use crate::{clock, engine::class::Class};

pub(super) const REFUSED: Fault = Fault::failing(
    "peer-refuses",
    Class::DependencyFailure,
    "a client of two servers, of which one ends after three seconds",
    End::Never,
    refused,
)
.lasting(14);
pub(super) const CUT_OFF: Fault = Fault::failing(
    "cut-off",
    Class::NetworkIsolation,
    "a client of two servers whose only network interface goes down after three seconds",
    End::Never,
    cut_off,
)
.lasting(18);
pub(super) const LOSSY: Fault = Fault::failing(
    "lossy-path",
    Class::DegradedPath,
    "a client of two servers that lose a third of what reaches them, from the third second on",
    End::Never,
    || client(SERVERS, Manner::Losing, |_servers| Ok(())),
)
.lasting(30);
pub(super) const RESTARTS: Fault = Fault::healthy(
    "peer-restarts",
    "healthy: a client of two servers, of which one is restarted within half a second",
    End::Never,
    restarts,
)
.lasting(14);
pub(super) const SLOW: Fault = Fault::healthy(
    "slow-peers",
    "healthy: a client of two servers that take a second for each answer",
    End::Never,
    slow,
)
.lasting(14);

const SERVERS: [Ipv4Addr; 2] = [Ipv4Addr::new(127, 0, 0, 2), Ipv4Addr::new(127, 0, 0, 3)];
/// Whose loss is one of the network's.
const NEIGHBOURS: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 1, 0, 2), Ipv4Addr::new(10, 2, 0, 3)];
const PORT: u16 = 5000;
const WELL_FIRST: Duration = Duration::from_secs(3);
const OUTAGE: Duration = Duration::from_millis(500);
const BETWEEN: Duration = Duration::from_millis(200);
const PATIENCE: Duration = Duration::from_secs(8);
/// Of a server that its cgroup forgot.
const LIFE_SECONDS: u32 = 60;

fn refused() -> u8 {
    client(SERVERS, Manner::Quick, |servers| {
        servers[1].end();
        Ok(())
    })
}

fn cut_off() -> u8 {
    client(NEIGHBOURS, Manner::Quick, |_servers| alone::cut())
}

fn restarts() -> u8 {
    client(SERVERS, Manner::Quick, |servers| {
        servers[1].end();
        thread::sleep(OUTAGE);
        servers[1] = Server::start(SERVERS[1], Manner::Quick)?;
        Ok(())
    })
}

fn slow() -> u8 {
    client(SERVERS, Manner::Slow, |_servers| Ok(()))
}

/// How a server answers.
#[derive(Clone, Copy)]
enum Manner {
    Quick,
    Slow,
    Losing,
}

/// Asks both again and again, for ever.
fn client(at: [Ipv4Addr; 2], manner: Manner, then: fn(&mut [Server; 2]) -> io::Result<()>) -> u8 {
    let begin = || {
        alone::namespace()?;
        for (number, ip) in (1..).zip(at).filter(|(_, ip)| !ip.is_loopback()) {
            alone::address(number, ip)?;
        }
        Ok::<_, io::Error>([Server::start(at[0], manner)?, Server::start(at[1], manner)?])
    };
    let mut servers = match begin() {
        Ok(servers) => servers,
        Err(error) => return unmade("two servers in a network namespace of their own", error, alone::REMEDY),
    };
    let asking: Vec<_> = at.into_iter().map(|server| thread::spawn(move || ask_for_ever(server))).collect();
    thread::sleep(WELL_FIRST);
    if let Err(error) = then(&mut servers) {
        return unmade("the end of a server", error, alone::REMEDY);
    }
    asking.into_iter().for_each(|one| drop(one.join()));
    1
}

fn ask_for_ever(server: Ipv4Addr) {
    loop {
        ask(server).ok();
        thread::sleep(BETWEEN);
    }
}

fn ask(server: Ipv4Addr) -> io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&SocketAddrV4::new(server, PORT).into(), PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"?")?;
    stream.read_exact(&mut [0])
}

/// A process of its own, so that it can end.
struct Server(i32);

impl Server {
    /// It listens when this returns.
    fn start(address: Ipv4Addr, manner: Manner) -> io::Result<Self> {
        let listener = TcpListener::bind((address, PORT))?;
        // SAFETY: the child serves until it is killed, and does not return. Whoever forks may have threads that ask,
        // but what the child needs it has: no lock of theirs is taken.
        match unsafe { libc::fork() } {
            -1 => Err(io::Error::last_os_error()),
            0 => {
                // SAFETY: takes a number.
                unsafe { libc::alarm(LIFE_SECONDS) };
                serve(&listener, manner)
            }
            pid => Ok(Self(pid)),
        }
    }

    fn end(&self) {
        // SAFETY: our own child that nobody has waited for: its pid is not another's.
        unsafe {
            libc::kill(self.0, libc::SIGTERM);
            libc::waitpid(self.0, core::ptr::null_mut(), 0);
        }
    }
}

fn serve(listener: &TcpListener, manner: Manner) -> ! {
    let began = clock::boot();
    let takes = match manner {
        Manner::Slow => Duration::from_secs(1),
        Manner::Quick | Manner::Losing => Duration::ZERO,
    };
    let mut loses = false;
    loop {
        if !loses && matches!(manner, Manner::Losing) && WELL_FIRST < clock::boot().since(began) {
            loses = lose_a_third(listener).is_ok();
        }
        let answer = |mut stream: TcpStream| -> io::Result<()> {
            stream.read_exact(&mut [0])?;
            thread::sleep(takes);
            stream.write_all(b"!")
        };
        if let Ok((stream, _)) = listener.accept() {
            answer(stream).ok();
        }
    }
}

/// The kernel drops segments of its connections as a filter of the socket says (socket(7), SO_ATTACH_FILTER): at random.
fn lose_a_third(listener: &TcpListener) -> io::Result<()> {
    let random = (libc::SKF_AD_OFF + libc::SKF_AD_RANDOM).cast_unsigned();
    let instruction = |code: u32, jt: u8, k: u32| libc::sock_filter { code: code as u16, jt, jf: 0, k };
    let mut program = [
        instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, random),
        instruction(libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K, 1, u32::MAX / 3),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0),
        instruction(libc::BPF_RET | libc::BPF_K, 0, u32::MAX),
    ];
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: the kernel copies the program, which lives on, and both lengths are right.
    let outcome = unsafe {
        libc::setsockopt(
            listener.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const filter).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
