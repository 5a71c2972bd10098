//! Who waits for another process, by its system call: what it asked over TCP its sockets tell.

use std::{collections::BTreeMap, path::Path};

use crate::{
    sense::waits::{Proc, memory},
    signal::calls::{POLL, PPOLL, READ, READV, RECVFROM, RECVMSG, WAIT4, WAITID},
};

/// Who polls more waits for whoever comes: it is a loop. A child's output and errors are two.
const POLLED_MAX: u64 = 2;

/// Asks in one look.
pub(super) struct Asking {
    proc: Proc,
    /// The unix sockets of a network namespace, as of its first process that was asked for: the table may be long.
    tables: BTreeMap<u64, String>,
}

impl Asking {
    pub(super) fn new(proc: &Path) -> Self {
        Self { proc: Proc::new(proc), tables: BTreeMap::new() }
    }

    /// The thread waits for a child, or for what another process is to write into a pipe or a unix socket.
    pub(super) fn waits_for_somebody(&mut self, pid: u32, tid: u32) -> bool {
        let Some(call) = self.proc.call(pid, tid) else {
            return false;
        };
        match call.syscall {
            WAIT4 | WAITID => true,
            READ | READV | RECVFROM | RECVMSG => self.is_anothers(pid, call.arg0 as u32),
            POLL | PPOLL if (1..=POLLED_MAX).contains(&call.arg1) => (0..call.arg1).all(|number| {
                polled(pid, call.arg0, number).is_some_and(|descriptor| self.is_anothers(pid, descriptor))
            }),
            _ => false,
        }
    }

    fn is_anothers(&mut self, pid: u32, descriptor: u32) -> bool {
        let Some(target) = self.proc.fd_target(pid, descriptor) else {
            return false;
        };
        let inode = |kind: &str| target.strip_prefix(kind)?.strip_suffix(']');
        inode("pipe:[").is_some() || inode("socket:[").is_some_and(|inode| self.asks_by(pid, inode))
    }

    fn asks_by(&mut self, pid: u32, inode: &str) -> bool {
        let Some((namespace, _)) = self.proc.net_namespace(pid) else {
            return false;
        };
        let table = || self.proc.text(&format!("{pid}/net/unix")).unwrap_or_default();
        asks_there(self.tables.entry(namespace).or_insert_with(table), inode)
    }
}

/// From `struct pollfd` (poll(2)): a descriptor, and eight bytes in all.
fn polled(pid: u32, array: u64, number: u64) -> Option<u32> {
    Some(memory::pointer_patiently(pid, array.wrapping_add(8 * number))? as u32)
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

    /// A slow machine takes its time; what never comes is not waited for as long.
    const LONG: u32 = 400;
    const BRIEFLY: u32 = 20;

    fn waits(command: &mut Command, tries: u32) -> bool {
        let process = Process(command.stdout(Stdio::null()).spawn().unwrap());
        // Until it sleeps where it is to sleep.
        (0..tries).any(|_| {
            thread::sleep(Duration::from_millis(25));
            Asking::new(Path::new("/proc")).waits_for_somebody(process.0.id(), process.0.id())
        })
    }

    fn reads(input: impl Into<Stdio>, tries: u32) -> bool {
        waits(Command::new("cat").stdin(input), tries)
    }

    #[test]
    fn whoever_reads_what_another_is_to_write_waits_for_it() {
        let path = std::env::temp_dir().join(format!("healer-asking-{}", std::process::id()));
        let listener = UnixListener::bind(&path).unwrap();
        let client = UnixStream::connect(&path).unwrap();
        std::fs::remove_file(&path).ok();
        let accepted = listener.accept().unwrap().0;
        assert!(reads(OwnedFd::from(client.try_clone().unwrap()), LONG), "it asks");
        assert!(!reads(OwnedFd::from(accepted), BRIEFLY), "its client is to ask");
        assert!(reads(Stdio::piped(), LONG));
        assert!(!waits(Command::new("sleep").arg("9").stdin(Stdio::null()), BRIEFLY), "for a time");
    }

    #[test]
    fn whoever_waits_for_a_child_waits_for_it() {
        // The child ends by its input's end.
        assert!(waits(Command::new("sh").args(["-c", "cat; :"]).stdin(Stdio::piped()), LONG));
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
