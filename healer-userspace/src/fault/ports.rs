//! Clients that find no local port, and one that has enough; in a network namespace of their own.

use core::time::Duration;
use std::{
    fs, io,
    net::{Ipv4Addr, TcpListener, TcpStream},
    thread,
};

use super::{End, Fault, alone, child::unmade};
use crate::engine::class::Class;

pub(super) const PORTS: Fault = Fault::failing(
    "ports",
    Class::PortExhaustion,
    "holds a connection for each of the 64 local ports of its network namespace, and wants more",
    End::Never,
    all,
)
.lasting(6);
pub(super) const CONNECTIONS: Fault = Fault::healthy(
    "connections",
    "healthy: holds 40 connections where there are 64 local ports",
    End::Never,
    some,
)
.lasting(6);

fn all() -> u8 {
    holding(usize::MAX)
}

fn some() -> u8 {
    holding(40)
}

fn holding(wanted: usize) -> u8 {
    match connect(wanted) {
        Ok(()) => 0,
        Err(error) => unmade("a network namespace with few ports", error, alone::REMEDY),
    }
}

fn connect(wanted: usize) -> io::Result<()> {
    namespace()?;
    // Outside the range of the clients.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 5000))?;
    let server = thread::spawn(move || {
        let mut held = Vec::new();
        loop {
            held.extend(listener.accept().ok().map(|(stream, _)| stream));
        }
    });
    let mut held = Vec::new();
    while !server.is_finished() {
        if held.len() < wanted {
            held.extend(TcpStream::connect((Ipv4Addr::LOCALHOST, 5000)).ok());
        }
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// With few ports.
fn namespace() -> io::Result<()> {
    alone::namespace()?;
    fs::write("/proc/sys/net/ipv4/ip_local_port_range", "40000 40063")
}
