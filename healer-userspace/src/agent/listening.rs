//! Who listens? Read from /proc/PID/net of the process that is asked about, so in its own network namespace.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{self, BufRead as _, BufReader},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
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
/// The process is gone, or what it holds cannot be read.
pub(super) fn missing(proc: &Path, pid: u32, wanted: &[Port]) -> io::Result<Vec<Port>> {
    let sockets = listeners(proc, pid)?;
    let mut missing = wanted.to_vec();
    strike(&mut missing, &sockets, held_by(proc, pid)?);
    if missing.iter().any(|port| sockets.contains_key(port)) {
        strike(&mut missing, &sockets, held_by_family(proc, pid).into_iter());
    }
    Ok(missing)
}

/// No further than until all are found: of a server's many descriptors the listening ones are among the first.
fn strike(
    missing: &mut Vec<Port>,
    sockets: &BTreeMap<Port, BTreeSet<u64>>,
    mut held: impl Iterator<Item = u64>,
) {
    while missing.iter().any(|port| sockets.contains_key(port))
        && let Some(inode) = held.next()
    {
        missing.retain(|port| sockets.get(port).is_none_or(|inodes| !inodes.contains(&inode)));
    }
}

/// Does `pid` or a descendant listen on any TCP port, and none of its descendants but the `dead` could answer there? A
/// worker runs its master's program; others have only inherited the socket.
pub(crate) fn listens_in_vain(proc: &Path, pid: u32, dead: &[u32]) -> bool {
    let (dead, mut living): (Vec<u32>, Vec<u32>) =
        family(proc, pid).into_iter().partition(|member| *member == pid || dead.contains(member));
    let program = |pid: u32| fs::read_link(proc.join(format!("{pid}/exe"))).ok();
    living.retain(|member| program(*member) == program(pid));
    let answered = held_by_all(proc, living);
    let mut held = held_by_all(proc, dead);
    held.retain(|inode| !answered.contains(inode));
    let tcp = listeners(proc, pid).unwrap_or_default();
    let tcp = tcp.into_iter().filter(|(port, _)| port.protocol == Protocol::Tcp);
    tcp.flat_map(|(_, inodes)| inodes).any(|inode| held.contains(&inode))
}

/// Where to ask those of the family of `pid` who listen on this TCP port, loopback first. Nobody does: IPv4's loopback.
pub(super) fn addresses(proc: &Path, pid: u32, port: u16) -> Vec<IpAddr> {
    const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let mut bound: Vec<(IpAddr, u64)> = ["tcp", "tcp6"]
        .iter()
        .flat_map(|file| rows(proc, pid, file, TCP_LISTEN).unwrap_or_default())
        .filter(|(local, _)| local.port() == port)
        .map(|(local, inode)| (local.ip(), inode))
        .collect();
    if bound.iter().any(|(address, _)| doors(*address) != [LOOPBACK]) {
        let held = held_by_family(proc, pid);
        bound.retain(|(_, inode)| held.contains(inode));
    }
    let doors: BTreeSet<IpAddr> = bound.iter().flat_map(|(address, _)| doors(*address)).collect();
    let mut doors: Vec<IpAddr> = if doors.is_empty() { vec![LOOPBACK] } else { doors.into_iter().collect() };
    doors.sort_by_key(|address| !address.is_loopback());
    doors
}

/// Whoever listens on all of IPv6 mostly takes IPv4 as well (`IPV6_V6ONLY`, ipv6(7)), and loopback may be without IPv6.
fn doors(bound: IpAddr) -> Vec<IpAddr> {
    match bound {
        IpAddr::V4(address) if address.is_unspecified() => vec![Ipv4Addr::LOCALHOST.into()],
        IpAddr::V6(address) if address.is_unspecified() => {
            vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]
        }
        IpAddr::V4(_) | IpAddr::V6(_) => vec![bound],
    }
}

/// Inodes of all listening sockets in the network namespace of `pid`, by port. A machine may have no IPv6.
fn listeners(proc: &Path, pid: u32) -> io::Result<BTreeMap<Port, BTreeSet<u64>>> {
    let mut sockets: BTreeMap<Port, BTreeSet<u64>> = BTreeMap::new();
    for (file, protocol, state) in [
        ("tcp", Protocol::Tcp, TCP_LISTEN),
        ("tcp6", Protocol::Tcp, TCP_LISTEN),
        ("udp", Protocol::Udp, UDP_UNCONNECTED),
        ("udp6", Protocol::Udp, UDP_UNCONNECTED),
    ] {
        let rows = match rows(proc, pid, file, state) {
            Err(_) if file.ends_with('6') => continue,
            rows => rows?,
        };
        for (local, inode) in rows {
            sockets.entry(Port { number: local.port(), protocol }).or_default().insert(inode);
        }
    }
    Ok(sockets)
}

/// Of one table of the network namespace of `pid`: where each socket in this state is bound, and its inode.
fn rows(proc: &Path, pid: u32, file: &str, state: &str) -> io::Result<Vec<(SocketAddr, u64)>> {
    let table = BufReader::new(File::open(proc.join(format!("{pid}/net/{file}")))?);
    let mut rows = Vec::new();
    for line in table.lines().skip(1) {
        match parse(&line?, state) {
            Some(row) => rows.push(row),
            // The listening come first (tcp_seq_start in net/ipv4/tcp_ipv4.c), and the others may be many.
            None if state == TCP_LISTEN => break,
            None => {}
        }
    }
    Ok(rows)
}

/// `sl local_address rem_address st tx:rx tr:tm retrnsmt uid timeout inode …`, addresses and ports in hex.
fn parse(line: &str, wanted_state: &str) -> Option<(SocketAddr, u64)> {
    let mut fields = line.split_ascii_whitespace();
    let local = fields.nth(1)?;
    let state = fields.nth(1)?;
    if state != wanted_state {
        return None;
    }
    let inode = fields.nth(5)?.parse().ok()?;
    Some((bound(local)?, inode))
}

/// `0100007F:1F90`: each 32 bits of the address as this machine has them in memory (net/ipv4/tcp_ipv4.c,
/// `get_tcp4_sock`).
fn bound(local: &str) -> Option<SocketAddr> {
    let (address, port) = local.split_once(':')?;
    let word = |at: usize| Some(u32::from_str_radix(address.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    let words: Option<Vec<[u8; 4]>> = (0..address.len()).step_by(8).map(word).collect();
    let address = match words?.as_slice() {
        [v4] => IpAddr::from(*v4),
        words => IpAddr::from(<[u8; 16]>::try_from(words.concat()).ok()?),
    };
    Some(SocketAddr::new(address.to_canonical(), u16::from_str_radix(port, 16).ok()?))
}

/// Socket inodes that the process and its descendants hold: a service behind a wrapper script counts.
fn held_by_family(proc: &Path, pid: u32) -> BTreeSet<u64> {
    held_by_all(proc, family(proc, pid))
}

fn held_by_all(proc: &Path, members: impl IntoIterator<Item = u32>) -> BTreeSet<u64> {
    members.into_iter().filter_map(|member| held_by(proc, member).ok()).flatten().collect()
}

fn held_by(proc: &Path, pid: u32) -> io::Result<impl Iterator<Item = u64> + use<>> {
    let fds = fs::read_dir(proc.join(format!("{pid}/fd")))?.flatten();
    let links = fds.filter_map(|fd| fs::read_link(fd.path()).ok());
    Ok(links
        .filter_map(|link| link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse::<u64>().ok()))
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
        assert_eq!(parse(row, TCP_LISTEN), Some((SocketAddr::from(([127, 0, 0, 1], 8080)), 4242)));
        assert_eq!(parse(row, UDP_UNCONNECTED), None);
        assert_eq!(parse("nonsense", TCP_LISTEN), None);
    }

    #[test]
    fn an_address_is_read_in_either_family() {
        for (text, address) in [
            ("0500000A:1F90", "10.0.0.5:8080"),
            ("00000000000000000000000000000000:0050", "[::]:80"),
            ("00000000000000000000000001000000:0050", "[::1]:80"),
            ("B80D01200000000000000000010000FE:0050", "[2001:db8::fe00:1]:80"),
            ("0000000000000000FFFF00000500000A:0050", "10.0.0.5:80"),
        ] {
            assert_eq!(bound(text), Some(address.parse().unwrap()));
        }
        for nonsense in ["", ":", "0500000A", "0500000:1F90", "0500000A0500000A:1F90", "0500000A:1F901"] {
            assert_eq!(bound(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn who_listens_is_asked_where_it_listens() {
        let ask = |port| addresses(Path::new("/proc"), std::process::id(), port);
        let bind = |address: &str| {
            let listener = TcpListener::bind((address, 0)).unwrap();
            let port = listener.local_addr().unwrap().port();
            (listener, port)
        };
        for (address, door) in
            [("127.0.0.1", "127.0.0.1"), ("127.0.0.9", "127.0.0.9"), ("0.0.0.0", "127.0.0.1")]
        {
            let (_open, port) = bind(address);
            assert_eq!(ask(port), [door.parse::<IpAddr>().unwrap()], "{address}");
        }
        assert_eq!(ask(1), [IpAddr::V4(Ipv4Addr::LOCALHOST)], "nobody listens");
    }

    #[test]
    fn all_of_ipv6_is_asked_by_both_loopbacks() {
        let loopbacks = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
        assert_eq!(doors(IpAddr::V6(Ipv6Addr::UNSPECIFIED)), loopbacks);
        let own = IpAddr::V6(Ipv6Addr::LOCALHOST);
        assert_eq!(doors(own), [own]);
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
        fs::write(root.join("7/net/udp"), "head\n").unwrap();
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
