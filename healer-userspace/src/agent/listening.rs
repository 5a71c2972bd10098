//! Who listens? Read from /proc/PID/net of the process that is asked about, so in its own network namespace.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::Path,
};

use crate::engine::policy::{Port, Protocol};

/// `TCP_LISTEN` (include/net/tcp_states.h), as /proc/net/tcp shows it.
const TCP_LISTEN: &str = "0A";
/// An unconnected UDP socket is `TCP_CLOSE` there.
const UDP_UNCONNECTED: &str = "07";

/// Ports of `wanted` on which neither `pid` nor a descendant listens.
///
/// # Errors
/// /proc/PID/net cannot be read: the process is gone.
pub(super) fn missing(proc: &Path, pid: u32, wanted: &[Port]) -> io::Result<Vec<Port>> {
    let sockets = listeners(proc, pid);
    fs::metadata(proc.join(pid.to_string()))?;
    let held = held_by_family(proc, pid);
    let is_open =
        |port: &Port| sockets.get(port).is_some_and(|inodes| inodes.iter().any(|inode| held.contains(inode)));
    Ok(wanted.iter().filter(|port| !is_open(port)).copied().collect())
}

/// Does `pid` or a descendant listen on any TCP port, and none of its descendants but the `dead` could answer there?
pub(crate) fn listens_in_vain(proc: &Path, pid: u32, dead: &[u32]) -> bool {
    let (dead, living): (Vec<u32>, Vec<u32>) =
        family(proc, pid).into_iter().partition(|member| *member == pid || dead.contains(member));
    let answered = held_by(proc, living);
    let mut held = held_by(proc, dead);
    held.retain(|inode| !answered.contains(inode));
    let tcp = listeners(proc, pid).into_iter().filter(|(port, _)| port.protocol == Protocol::Tcp);
    tcp.flat_map(|(_, inodes)| inodes).any(|inode| held.contains(&inode))
}

/// Inodes of all listening sockets in the network namespace of `pid`, by port.
fn listeners(proc: &Path, pid: u32) -> BTreeMap<Port, BTreeSet<u64>> {
    let mut sockets: BTreeMap<Port, BTreeSet<u64>> = BTreeMap::new();
    for (file, protocol, state) in [
        ("tcp", Protocol::Tcp, TCP_LISTEN),
        ("tcp6", Protocol::Tcp, TCP_LISTEN),
        ("udp", Protocol::Udp, UDP_UNCONNECTED),
        ("udp6", Protocol::Udp, UDP_UNCONNECTED),
    ] {
        let Ok(table) = fs::read_to_string(proc.join(format!("{pid}/net/{file}"))) else { continue };
        for (number, inode) in table.lines().skip(1).filter_map(|line| parse(line, state)) {
            sockets.entry(Port { number, protocol }).or_default().insert(inode);
        }
    }
    sockets
}

/// `sl local_address rem_address st tx:rx tr:tm retrnsmt uid timeout inode …`, addresses and ports in hex.
fn parse(line: &str, wanted_state: &str) -> Option<(u16, u64)> {
    let mut fields = line.split_ascii_whitespace();
    let local = fields.nth(1)?;
    let state = fields.nth(1)?;
    if state != wanted_state {
        return None;
    }
    let port = u16::from_str_radix(local.rsplit(':').next()?, 16).ok()?;
    let inode = fields.nth(5)?.parse().ok()?;
    Some((port, inode))
}

/// Socket inodes that the process and its descendants hold: a service behind a wrapper script counts.
fn held_by_family(proc: &Path, pid: u32) -> BTreeSet<u64> {
    held_by(proc, family(proc, pid))
}

fn held_by(proc: &Path, members: impl IntoIterator<Item = u32>) -> BTreeSet<u64> {
    let mut held = BTreeSet::new();
    for member in members {
        let Ok(fds) = fs::read_dir(proc.join(format!("{member}/fd"))) else { continue };
        let links = fds.flatten().filter_map(|fd| fs::read_link(fd.path()).ok());
        held.extend(links.filter_map(|link| {
            link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse::<u64>().ok()
        }));
    }
    held
}

fn family(proc: &Path, root: u32) -> BTreeSet<u32> {
    let mut family = BTreeSet::new();
    let mut left = vec![root];
    while let Some(pid) = left.pop() {
        if family.insert(pid) {
            match children(proc, pid) {
                Some(children) => left.extend(children),
                None if pid == root => return family_by_parents(proc, root),
                // It has ended meanwhile.
                None => {}
            }
        }
    }
    family
}

/// Of all its threads (proc_pid_children(5)). `None`: it is gone, or the kernel is without CONFIG_PROC_CHILDREN.
fn children(proc: &Path, pid: u32) -> Option<Vec<u32>> {
    let threads = fs::read_dir(proc.join(format!("{pid}/task"))).ok()?.flatten();
    let texts: Vec<String> =
        threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok()).collect();
    let pids = |text: &String| {
        text.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>()
    };
    (!texts.is_empty()).then(|| texts.iter().flat_map(pids).collect())
}

fn family_by_parents(proc: &Path, root: u32) -> BTreeSet<u32> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for pid in crate::identity::procfs::pids(proc) {
        if let Some(parent) = parent_of(proc, pid) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut family = BTreeSet::new();
    let mut left = vec![root];
    while let Some(pid) = left.pop() {
        if family.insert(pid) {
            left.extend(children.get(&pid).into_iter().flatten());
        }
    }
    family
}

/// Second field after the last `)`: comm may hold anything.
fn parent_of(proc: &Path, pid: u32) -> Option<u32> {
    let stat = fs::read(proc.join(format!("{pid}/stat"))).ok()?;
    let after = stat.iter().rposition(|byte| *byte == b')')? + 1;
    let rest = std::str::from_utf8(&stat[after..]).ok()?;
    rest.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_listening_row_is_read() {
        let row = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4242 1";
        assert_eq!(parse(row, TCP_LISTEN), Some((8080, 4242)));
        assert_eq!(parse(row, UDP_UNCONNECTED), None);
        assert_eq!(parse("nonsense", TCP_LISTEN), None);
    }

    #[test]
    fn a_child_of_a_child_is_of_the_family_whichever_way_it_is_found() {
        let mut shell = std::process::Command::new("sh")
            .args(["-c", "sleep 60 & echo $!; wait"])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        io::BufRead::read_line(&mut io::BufReader::new(shell.stdout.take().unwrap()), &mut line).unwrap();
        let sleeper: u32 = line.trim().parse().unwrap();
        let own = std::process::id();
        for found in [family, family_by_parents] {
            let found = found(Path::new("/proc"), own);
            assert!(found.contains(&shell.id()) && found.contains(&sleeper), "{found:?}");
        }
        let pid = rustix::process::Pid::from_raw(i32::try_from(sleeper).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        shell.wait().unwrap();
    }

    /// A master, its worker, and the listener that both have.
    #[test]
    fn where_a_living_child_may_answer_nobody_listens_in_vain() {
        let root = std::env::temp_dir().join(format!("healer-listening-{}", std::process::id()));
        for (pid, children) in [(7, "8 "), (8, "")] {
            let dir = root.join(pid.to_string());
            fs::create_dir_all(dir.join("fd")).unwrap();
            fs::create_dir_all(dir.join(format!("task/{pid}"))).unwrap();
            fs::write(dir.join(format!("task/{pid}/children")), children).unwrap();
            std::os::unix::fs::symlink("socket:[4242]", dir.join("fd/3")).unwrap();
        }
        fs::create_dir_all(root.join("7/net")).unwrap();
        let row = "0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 4242 1";
        fs::write(root.join("7/net/tcp"), format!("head\n{row}\n")).unwrap();
        assert!(!listens_in_vain(&root, 7, &[7]), "its worker answers");
        assert!(listens_in_vain(&root, 7, &[7, 8]));
        fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn our_own_listener_is_found_and_a_closed_port_is_not() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let open = Port { number: listener.local_addr().unwrap().port(), protocol: Protocol::Tcp };
        let shut = Port { number: 1, protocol: Protocol::Tcp };
        let missing = missing(Path::new("/proc"), std::process::id(), &[open, shut]).unwrap();
        assert_eq!(missing, vec![shut]);
    }
}
