//! Processes whose file descriptors run out, and one that uses many and gives them back.

use core::time::Duration;
use std::{
    fs::File,
    io,
    net::{Ipv4Addr, TcpListener, TcpStream},
    thread,
};

use rustix::process::{Resource, Rlimit, setrlimit};

use super::{End, Fault};
use crate::engine::class::Class;

pub(super) const FD_LEAK: Fault = Fault::failing(
    "fd-leak",
    Class::FdExhaustion,
    "opens a file every 30 ms and closes none, with at most 64 descriptors",
    End::Never,
    leak,
)
.lasting(6);
pub(super) const FD_DRIP: Fault = Fault::failing(
    "fd-drip",
    Class::FdExhaustion,
    "holds 80 of 100 descriptors and takes one more a second: what will happen can be told before",
    End::Never,
    drip,
)
.lasting(26);
pub(super) const ACCEPT_LOOP: Fault = Fault::failing(
    "accept-loop",
    Class::FdExhaustion,
    "a server out of descriptors: accept fails again and again, its clients wait",
    End::Never,
    accept_loop,
)
.lasting(6);
pub(super) const FD_POOL: Fault = Fault::healthy(
    "fd-pool",
    "healthy: a pool of 50 open files of 64, opened and closed in turn",
    End::Never,
    pool,
)
.lasting(6);

const FEW: u64 = 64;

fn limit(most: u64) {
    let limit = Rlimit { current: Some(most), maximum: Some(most) };
    setrlimit(Resource::Nofile, limit).ok();
}

fn leak() -> u8 {
    limit(FEW);
    let mut hoard = Vec::new();
    loop {
        hoard.extend(File::open("/dev/null").ok());
        thread::sleep(Duration::from_millis(30));
    }
}

fn drip() -> u8 {
    limit(100);
    let mut hoard: Vec<File> = (0..77).filter_map(|_| File::open("/dev/null").ok()).collect();
    loop {
        hoard.extend(File::open("/dev/null").ok());
        thread::sleep(Duration::from_secs(1));
    }
}

fn accept_loop() -> u8 {
    limit(FEW);
    match serve() {
        Ok(()) => 0,
        Err(_) => 1,
    }
}

fn serve() -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let mut held = Vec::new();
    // Each connection takes two: its own client's and the server's.
    while let Ok(client) = TcpStream::connect(address) {
        held.push(client);
        match listener.accept() {
            Ok((server, _)) => held.push(server),
            Err(_) => break,
        }
    }
    loop {
        held.extend(listener.accept().ok().map(|(server, _)| server));
        thread::sleep(Duration::from_millis(5));
    }
}

fn pool() -> u8 {
    const POOL: usize = 50;
    limit(FEW);
    let mut pool: Vec<File> = (0..POOL).filter_map(|_| File::open("/dev/null").ok()).collect();
    loop {
        pool.pop();
        pool.extend(File::open("/dev/null").ok());
        thread::sleep(Duration::from_millis(5));
    }
}
