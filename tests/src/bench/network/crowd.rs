//! Many connections in a network namespace of their own.

use std::{
    io::{BufRead as _, BufReader},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use rustix::{net::sockopt, process::Resource};

/// All its addresses are the namespace's own.
const NETWORK: &str = "10.64.0.0/14";

/// A process that has made them; ended on drop.
pub(super) struct Crowd(Child);

impl Crowd {
    /// Ready on return.
    pub(super) fn start(part: &str, count: u32) -> anyhow::Result<Self> {
        let mut command = Command::new("unshare");
        command.arg("--net").arg("--").arg(std::env::current_exe().context("find the bench itself")?);
        command.args([part, &count.to_string()]);
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("start unshare")?;
        let mut crowd = Self(child);
        let stdout = crowd.0.stdout.take().context("its stdout")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        ensure!(line.trim() == "there", "{count} {part} cannot be made");
        Ok(crowd)
    }

    pub(super) fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Half of the sockets are the other ends of the other half; until stdin ends.
///
/// # Errors
/// The kernel refuses a socket.
pub fn sockets(count: u32) -> anyhow::Result<()> {
    prepare()?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let mut ends = Vec::new();
    for _pair in 0..count / 2 {
        ends.push(TcpStream::connect(address)?);
        ends.push(listener.accept()?.0);
    }
    there()
}

/// Connects to `count` addresses, one after the other, from number `first` on; then until stdin ends.
///
/// # Errors
/// The kernel refuses a connection.
pub fn flows(first: u32, count: u32) -> anyhow::Result<()> {
    prepare()?;
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    let port = listener.local_addr()?.port();
    thread::spawn(move || listener.incoming().for_each(drop));
    let base = u32::from(Ipv4Addr::new(10, 64, 0, 1));
    for number in first..first + count {
        let peer = SocketAddr::from((Ipv4Addr::from(base + number), port));
        let stream = TcpStream::connect(peer).with_context(|| peer.to_string())?;
        // Nothing of it stays in TIME_WAIT.
        sockopt::set_socket_linger(&stream, Some(Duration::ZERO))?;
    }
    there()
}

fn prepare() -> anyhow::Result<()> {
    let mut limit = rustix::process::getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    rustix::process::setrlimit(Resource::Nofile, limit).context("raise the limit of descriptors")?;
    for words in ["link set lo up", &format!("route add local {NETWORK} dev lo")] {
        let status = Command::new("ip").args(words.split(' ')).status().context("start ip (iproute2)")?;
        ensure!(status.success(), "ip {words} failed");
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "whoever started it reads it")]
fn there() -> anyhow::Result<()> {
    println!("there");
    std::io::stdin().read_line(&mut String::new())?;
    Ok(())
}
