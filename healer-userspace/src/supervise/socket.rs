//! Unix sockets in the state directory, whatever the length of its path.

use std::{
    fs::File,
    io,
    os::{
        fd::AsRawFd as _,
        unix::net::{UnixListener, UnixStream},
    },
    path::Path,
};

use rustix::{
    fs::Mode,
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType},
};

/// Binds `name` in `dir` with mode 0600; a socket left over from an earlier run is replaced.
/// Two agents on one directory are kept apart by the store's lock, not here.
///
/// # Errors
/// Of open(2), unlink(2), bind(2) and listen(2).
pub fn bind(dir: &Path, name: &str) -> io::Result<UnixListener> {
    let (_held, address) = address(dir, name)?;
    match std::fs::remove_file(dir.join(name)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let socket = stream()?;
    let before = rustix::process::umask(Mode::from_raw_mode(0o177));
    let bound = rustix::net::bind(&socket, &address);
    rustix::process::umask(before);
    bound?;
    rustix::net::listen(&socket, 128)?;
    Ok(UnixListener::from(socket))
}

/// Connects without ever blocking: a full backlog is `WouldBlock`. The stream is non-blocking.
///
/// # Errors
/// Of open(2) and connect(2).
pub fn connect(dir: &Path, name: &str) -> io::Result<UnixStream> {
    let (_held, address) = address(dir, name)?;
    let socket = stream()?;
    rustix::net::connect(&socket, &address)?;
    Ok(UnixStream::from(socket))
}

fn stream() -> io::Result<std::os::fd::OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?)
}

/// `sun_path` has 108 bytes (unix(7)), so the path goes through the open directory, which the caller holds.
fn address(dir: &Path, name: &str) -> io::Result<(File, SocketAddrUnix)> {
    let dir = File::open(dir)?;
    let path = format!("/proc/self/fd/{}/{name}", dir.as_raw_fd());
    let address = SocketAddrUnix::new(path)?;
    Ok((dir, address))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_long_directory_is_no_obstacle() {
        let root = std::env::temp_dir().join(format!("healer-socket-{}", std::process::id()));
        let dir = root.join("d".repeat(120)).join("e".repeat(120));
        std::fs::create_dir_all(&dir).unwrap();
        for _left_over in 0..2 {
            let listener = bind(&dir, "x.sock").unwrap();
            connect(&dir, "x.sock").unwrap();
            listener.accept().unwrap();
        }
        let mode = std::fs::metadata(dir.join("x.sock")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(connect(&dir, "x.sock").is_err(), "nobody listens any more");
        std::fs::remove_dir_all(root).unwrap();
    }
}
