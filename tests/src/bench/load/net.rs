//! Connections over loopback.

use std::{
    net::{Ipv4Addr, TcpListener, TcpStream},
    time::Duration,
};

use super::Meter;

/// Connect, accept, reset: no side is left in TIME_WAIT.
pub(super) fn connection(meter: &mut Meter) -> anyhow::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    meter.measure(|| {
        let near = TcpStream::connect(address)?;
        let far = listener.accept()?;
        rustix::net::sockopt::set_socket_linger(&near, Some(Duration::ZERO))?;
        drop(near);
        drop(far);
        Ok(())
    })
}
