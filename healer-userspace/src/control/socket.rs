//! Unix sockets in a directory whose path may be longer than the 108 bytes of `sun_path` (unix(7)):
//! they are bound and reached through `/proc/self/fd`.

use std::{
    fs::File,
    io,
    os::{
        fd::{AsFd as _, AsRawFd as _, OwnedFd},
        unix::net::{UnixListener, UnixStream},
    },
    path::Path,
};

use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags},
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType},
};

const BACKLOG: i32 = 64;

/// Binds `name` in `dir` with mode 0600; a socket that an earlier run left there is replaced.
/// Two agents on one directory are kept apart by the lock of the store, not here.
///
/// # Errors
/// Of open(2), unlink(2), bind(2), chmod(2), listen(2); `AlreadyExists` if `name` is no socket.
pub fn bind(dir: &Path, name: &str) -> io::Result<UnixListener> {
    let dir = open(dir)?;
    remove_stale(&dir, name)?;
    let socket = stream_socket(SocketFlags::empty())?;
    rustix::net::bind(&socket, &address(&dir, name)?)?;
    // Nobody can connect before listen(2), so the mode is right for every connection.
    rustix::fs::chmodat(&dir, name, Mode::RUSR | Mode::WUSR, AtFlags::empty())?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(UnixListener::from(socket))
}

/// Connects; the stream blocks.
///
/// # Errors
/// Of open(2) and connect(2): `NotFound` and `ConnectionRefused` mean that no agent is there.
pub fn connect(dir: &Path, name: &str) -> io::Result<UnixStream> {
    connect_with(dir, name, SocketFlags::empty())
}

/// Connects without ever waiting: a full backlog is `WouldBlock`. The stream does not block either.
///
/// # Errors
/// As `connect`.
pub fn connect_at_once(dir: &Path, name: &str) -> io::Result<UnixStream> {
    connect_with(dir, name, SocketFlags::NONBLOCK)
}

fn connect_with(dir: &Path, name: &str, flags: SocketFlags) -> io::Result<UnixStream> {
    let dir = open(dir)?;
    let socket = stream_socket(flags)?;
    rustix::net::connect(&socket, &address(&dir, name)?)?;
    Ok(UnixStream::from(socket))
}

fn open(dir: &Path) -> io::Result<File> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(File::from(rustix::fs::open(dir, flags, Mode::empty())?))
}

fn remove_stale(dir: &File, name: &str) -> io::Result<()> {
    let found = match rustix::fs::statat(dir.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(found) => found,
        Err(rustix::io::Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(errno.into()),
    };
    if FileType::from_raw_mode(found.st_mode) != FileType::Socket {
        let says = format!("{name} exists and is no socket: remove it");
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, says));
    }
    Ok(rustix::fs::unlinkat(dir.as_fd(), name, AtFlags::empty())?)
}

fn stream_socket(flags: SocketFlags) -> io::Result<OwnedFd> {
    let (family, kind) = (AddressFamily::UNIX, SocketType::STREAM);
    Ok(rustix::net::socket_with(family, kind, flags | SocketFlags::CLOEXEC, None)?)
}

/// Valid while `dir` is open.
fn address(dir: &File, name: &str) -> io::Result<SocketAddrUnix> {
    Ok(SocketAddrUnix::new(format!("/proc/self/fd/{}/{name}", dir.as_raw_fd()))?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::control::tests::Scratch;

    #[test]
    fn a_path_over_108_bytes_is_no_obstacle() {
        let scratch = Scratch::new("long");
        let dir = scratch.path().join("d".repeat(120)).join("e".repeat(120));
        std::fs::create_dir_all(&dir).expect("created");
        for _again_over_the_stale_one in 0..2 {
            let listener = bind(&dir, "x.sock").expect("bound");
            connect(&dir, "x.sock").expect("connected");
            listener.accept().expect("accepted");
        }
        let mode = std::fs::metadata(dir.join("x.sock")).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let gone = connect(&dir, "x.sock").expect_err("nobody listens any more");
        assert_eq!(gone.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[test]
    fn what_is_no_socket_is_not_removed() {
        let scratch = Scratch::new("file");
        std::fs::write(scratch.path().join("x.sock"), "precious").expect("written");
        let error = bind(scratch.path(), "x.sock").expect_err("refused");
        assert_eq!(error.to_string(), "x.sock exists and is no socket: remove it");
        let kept = std::fs::read_to_string(scratch.path().join("x.sock")).expect("kept");
        assert_eq!(kept, "precious");
    }

    #[test]
    fn a_symlink_is_not_followed() {
        let scratch = Scratch::new("link");
        let target = scratch.path().join("target");
        std::fs::write(&target, "").expect("written");
        std::os::unix::fs::symlink(&target, scratch.path().join("x.sock")).expect("linked");
        assert!(bind(scratch.path(), "x.sock").is_err());
        assert!(target.exists());
    }
}
