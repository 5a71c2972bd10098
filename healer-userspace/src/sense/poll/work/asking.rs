//! Who waits for another process, by its system call: what it asked over TCP its sockets tell.

use std::path::Path;

use crate::sense::waits::{Proc, memory};

/// Numbers of the x86-64 table.
const READ: i32 = 0;
const POLL: i32 = 7;
const READV: i32 = 19;
const RECVFROM: i32 = 45;
const RECVMSG: i32 = 47;
const WAIT4: i32 = 61;
const WAITID: i32 = 247;
const PPOLL: i32 = 271;
/// Who polls more waits for whoever comes: it is a loop. A child's output and errors are two.
const POLLED_MAX: u64 = 2;

/// The thread waits for a child, or for what another process is to write into a pipe or a unix socket.
pub(super) fn waits_for_somebody(proc: &Path, pid: u32, tid: u32) -> bool {
    let proc = Proc::new(proc);
    let Some(call) = proc.call(pid, tid) else {
        return false;
    };
    match call.syscall {
        WAIT4 | WAITID => true,
        READ | READV | RECVFROM | RECVMSG => is_anothers(&proc, pid, call.arg0 as u32),
        POLL | PPOLL if (1..=POLLED_MAX).contains(&call.arg1) => (0..call.arg1).all(|number| {
            polled(pid, call.arg0, number).is_some_and(|descriptor| is_anothers(&proc, pid, descriptor))
        }),
        _ => false,
    }
}

/// From `struct pollfd` (poll(2)): a descriptor, and eight bytes in all.
fn polled(pid: u32, array: u64, number: u64) -> Option<u32> {
    Some(memory::pointer_patiently(pid, array + 8 * number)? as u32)
}

fn is_anothers(proc: &Proc, pid: u32, descriptor: u32) -> bool {
    let Some(target) = proc.fd_target(pid, descriptor) else {
        return false;
    };
    let inode = |kind: &str| target.strip_prefix(kind)?.strip_suffix(']');
    inode("pipe:[").is_some()
        || inode("socket:[").is_some_and(|inode| {
            asks_there(&proc.text(&format!("{pid}/net/unix")).unwrap_or_default(), inode)
        })
}

/// Who has connected has no name of its own there; what was accepted has its listener's.
fn asks_there(table: &str, inode: &str) -> bool {
    const STREAM: &str = "0001";
    const CONNECTED: &str = "03";
    table.lines().skip(1).any(|line| {
        let mut fields = line.split_ascii_whitespace().skip(4);
        let is_it =
            (fields.next(), fields.next(), fields.next()) == (Some(STREAM), Some(CONNECTED), Some(inode));
        is_it && fields.next().is_none()
    })
}

#[cfg(test)]
mod tests {
    use std::{
        os::{
            fd::OwnedFd,
            unix::net::{UnixListener, UnixStream},
        },
        process::{Child, Command, Stdio},
        thread,
        time::Duration,
    };

    use super::*;

    struct Process(Child);

    impl Drop for Process {
        fn drop(&mut self) {
            self.0.kill().ok();
            self.0.wait().ok();
        }
    }

    fn waits(command: &mut Command) -> bool {
        let process = Process(command.stdout(Stdio::null()).spawn().unwrap());
        // Until it sleeps where it is to sleep.
        (0..40).any(|_| {
            thread::sleep(Duration::from_millis(25));
            waits_for_somebody(Path::new("/proc"), process.0.id(), process.0.id())
        })
    }

    fn reads(input: impl Into<Stdio>) -> bool {
        waits(Command::new("cat").stdin(input))
    }

    #[test]
    fn whoever_reads_what_another_is_to_write_waits_for_it() {
        let path = std::env::temp_dir().join(format!("healer-asking-{}", std::process::id()));
        let listener = UnixListener::bind(&path).unwrap();
        let client = UnixStream::connect(&path).unwrap();
        std::fs::remove_file(&path).ok();
        let accepted = listener.accept().unwrap().0;
        assert!(reads(OwnedFd::from(client.try_clone().unwrap())), "it asks");
        assert!(!reads(OwnedFd::from(accepted)), "its client is to ask");
        assert!(reads(Stdio::piped()));
        assert!(!waits(Command::new("sleep").arg("9").stdin(Stdio::null())), "for a time");
    }

    #[test]
    fn whoever_waits_for_a_child_waits_for_it() {
        // The child ends by its input's end.
        assert!(waits(Command::new("sh").args(["-c", "cat; :"]).stdin(Stdio::piped())));
    }

    #[test]
    fn the_kernels_table_tells_who_has_connected() {
        let table = "Num       RefCount Protocol Flags    Type St Inode Path\n\
                     0000000000000000: 00000003 00000000 00000000 0001 03 4711\n\
                     0000000000000000: 00000003 00000000 00000000 0001 03 4712 /run/x.socket\n\
                     0000000000000000: 00000002 00000000 00000000 0002 01 4713\n";
        assert!(asks_there(table, "4711"));
        assert!(["4712", "4713", "4714", "471"].iter().all(|inode| !asks_there(table, inode)));
    }
}
