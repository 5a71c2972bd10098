//! TCP on loopback that goes deaf: what comes in is dropped before the kernel answers it.

use std::{
    io,
    net::{TcpListener, TcpStream},
    os::fd::AsRawFd,
};

/// Drops all that comes for this socket, as a cable that is cut: no answer, no reset (`SO_ATTACH_FILTER`, socket(7)).
///
/// # Panics
/// If the kernel refuses the filter.
pub fn deafen(socket: &impl AsRawFd) {
    // BPF_RET | BPF_K: take 0 bytes of each packet.
    let drop_all = [libc::sock_filter { code: 6, jt: 0, jf: 0, k: 0 }];
    let program = libc::sock_fprog { len: 1, filter: drop_all.as_ptr().cast_mut() };
    let (option, size) = (&raw const program, size_of_val(&program) as libc::socklen_t);
    // SAFETY: the option and its size; the kernel copies the filter.
    let taken = unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, option.cast(), size)
    };
    assert_eq!(taken, 0, "{}", io::Error::last_os_error());
}

/// A listener and its port.
///
/// # Panics
/// If loopback is down.
#[must_use]
pub fn listener() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback is up");
    let port = listener.local_addr().expect("it is bound").port();
    (listener, port)
}

/// Both ends of a connection.
///
/// # Panics
/// If it cannot be made.
#[must_use]
pub fn connection(listener: &TcpListener) -> (TcpStream, TcpStream) {
    let address = listener.local_addr().expect("it is bound");
    let client = TcpStream::connect(address).expect("somebody listens");
    let (server, _) = listener.accept().expect("somebody connected");
    (client, server)
}
