use super::{disk_full, fd_exhaustion, io_error, pid_exhaustion, port_exhaustion, *};
use crate::{
    engine::{detect::DetectorEntry, memory::Memory, policy::PolicySet, world::World},
    identity::process::WorkloadKey,
    signal::{network::Listens, syscall_error::File},
};

struct Run {
    detector: Box<dyn Detector + Send>,
    world: World,
    memory: Memory,
    policies: PolicySet,
    now: BootTime,
}

impl Run {
    fn of(entry: &DetectorEntry) -> Self {
        Self {
            detector: (entry.build)(),
            world: World::default(),
            memory: Memory::default(),
            policies: PolicySet::default(),
            now: BootTime(0),
        }
    }

    fn tell(&mut self, process: Option<Process>, fact: Fact) -> Vec<Finding> {
        self.now = self.now + Duration::from_secs(1);
        let context = Context {
            now: self.now,
            world: &self.world,
            memory: &self.memory,
            policies: &self.policies,
            certificate: None,
        };
        let mut found = Vec::new();
        self.detector.observe(&context, &Signal { at: self.now, process, fact }, &mut found);
        found
    }

    fn look(&mut self, level: Option<Level>) -> Vec<Finding> {
        let snapshot = LevelSnapshot { levels: level.into_iter().collect(), ..LevelSnapshot::default() };
        self.tell(None, Fact::Levels(snapshot))
    }
}

fn process(pid: u32) -> Process {
    let workload = WorkloadKey::supervise("web");
    Process { pid, start: BootTime(5), comm: "web".to_owned(), workload, ..Process::default() }
}

fn descriptors(used: u64) -> Level {
    let level = Level::new(Resource::Descriptors { pid: 7 }, used, 100);
    Level { process: Some(process(7)), ..level }
}

fn error(errno: i32, count: u64, level: Option<Level>) -> Fact {
    let call = "openat".to_owned();
    Fact::SyscallError(Box::new(SyscallError { call, errno, count, level, ..SyscallError::default() }))
}

fn said(found: &[Finding]) -> Vec<(Certainty, &str)> {
    found
        .iter()
        .filter_map(|finding| {
            let Finding::Raised { diagnosis, .. } = finding else { return None };
            Some((diagnosis.certainty, diagnosis.sentence.as_str()))
        })
        .collect()
}

/// The number told, if one was.
#[expect(clippy::wildcard_enum_match_arm, reason = "only numbers are asked for")]
fn level(found: &[Finding]) -> Option<Option<f64>> {
    found.iter().find_map(|finding| match finding {
        Finding::Level { level, .. } => Some(*level),
        _ => None,
    })
}

#[test]
fn a_failure_at_the_limit_is_proof_and_is_said_once() {
    let mut run = Run::of(&fd_exhaustion::ENTRY);
    let found = run.tell(Some(process(7)), error(libc::EMFILE, 1, Some(descriptors(100))));
    let says = "web[7] of web: 100 of 100 file descriptors (RLIMIT_NOFILE), and openat fails with EMFILE, no file descriptors: once";
    assert_eq!(said(&found), [(Certainty::Proved, says)]);
    assert_eq!(run.tell(Some(process(7)), error(libc::EMFILE, 90, Some(descriptors(100)))), []);
    for _ in 0..7 {
        let found = run.look(Some(descriptors(100)));
        assert_eq!(said(&found), [], "still full");
        assert_eq!(level(&found), Some(Some(100.0)));
    }
    let found = run.look(Some(descriptors(40)));
    assert!(matches!(&found[0], Finding::Cleared { says, .. } if says.contains("again")), "{found:?}");
    assert_eq!(level(&found), Some(Some(40.0)));
    assert_eq!(
        level(&run.look(Some(descriptors(61)))),
        Some(Some(61.0)),
        "it is over, and goes on being told"
    );
    let gone: Vec<_> = (0..4).filter_map(|_| level(&run.look(None))).collect();
    assert_eq!(gone, [None], "what is hardly used is not told");
}

#[test]
fn a_failure_with_much_left_says_nothing() {
    let mut run = Run::of(&fd_exhaustion::ENTRY);
    assert_eq!(run.tell(Some(process(7)), error(libc::EMFILE, 1, Some(descriptors(60)))), []);
    assert_eq!(
        run.tell(Some(process(7)), error(libc::EMFILE, 99, None)),
        [],
        "inotify has such a limit, too"
    );
}

#[test]
fn a_leak_is_suspected_then_proved_and_a_pool_is_neither() {
    let mut run = Run::of(&fd_exhaustion::ENTRY);
    let mut found = Vec::new();
    for used in 86..97 {
        found.extend(run.look(Some(descriptors(used))));
    }
    let all = said(&found);
    assert!(matches!(all[..], [(Certainty::Suspected, says)] if says.contains("1 more a second")), "{all:?}");
    let found = run.tell(Some(process(7)), error(libc::EMFILE, 1, Some(descriptors(100))));
    assert_eq!(said(&found)[0].0, Certainty::Proved);
    let mut pool = Run::of(&fd_exhaustion::ENTRY);
    for _ in 0..60 {
        assert_eq!(pool.look(Some(descriptors(80))), []);
    }
}

#[test]
fn a_hundred_processes_that_fail_of_one_limit_are_one_finding() {
    let mut run = Run::of(&pid_exhaustion::ENTRY);
    let full = Level::new(Resource::Pids { cgroup: "/bomb".to_owned() }, 60, 60);
    let full = Level { process: Some(process(55)), ..full };
    let mut found = Vec::new();
    for pid in 100..200 {
        found.extend(run.tell(Some(process(pid)), error(libc::EAGAIN, 1, Some(full.clone()))));
    }
    let [Finding::Raised { diagnosis, .. }] = &found[..] else { panic!("{found:?}") };
    assert_eq!(diagnosis.target.pid, 55, "whose the crowd is, not who was refused first");
    let found = run.tell(Some(process(300)), error(libc::EAGAIN, 3, None));
    assert_eq!(found, [], "three without a limit that is seen");
}

#[test]
fn ports_are_proved_by_the_look_that_follows() {
    let mut run = Run::of(&port_exhaustion::ENTRY);
    let peer: core::net::SocketAddr = "10.0.0.1:80".parse().unwrap();
    let of = Resource::Ports { netns: 4, peer: peer.ip(), port: 80 };
    let failed = |count| {
        let error = SyscallError {
            call: "connect".to_owned(),
            errno: libc::EADDRNOTAVAIL,
            count,
            address: Some(peer),
            level: Some(Level::new(of.clone(), 0, 0)),
            ..SyscallError::default()
        };
        Fact::SyscallError(Box::new(error))
    };
    assert_eq!(run.tell(Some(process(7)), failed(1)), []);
    let server = Process { comm: "db".to_owned(), pid: 20, ..process(20) };
    let listens = Listens { address: peer, netns: 4, cgroup: 1, cookie: 1, on: true };
    let signal = Signal { at: BootTime(1), process: Some(server), fact: Fact::Listens(listens) };
    run.world.update(BootTime(1), &signal, &run.policies);
    let level = Level { process: Some(process(7)), ..Level::new(of, 50, 50) };
    let found = run.look(Some(level));
    assert_eq!(said(&found).len(), 1, "{found:?}");
    let sentence = said(&found)[0].1;
    assert!(sentence.contains("50 of 50 local ports to 10.0.0.1:80"), "{sentence}");
    assert!(sentence.contains("; db[20] of web listens there"), "{sentence}");
}

#[test]
fn amounts_read_well() {
    assert_eq!(words::bytes(512), "512 B");
    assert_eq!(words::bytes(4 << 20), "4.0 MiB");
    assert_eq!(words::bytes((3 << 30) + (1 << 29)), "3.5 GiB");
}

#[test]
fn files_of_the_machine_are_called_used_up_only_if_they_are() {
    let of = |used: Option<u64>| {
        let level = used.map(|used| Level::new(Resource::Files, used, 1000));
        let mut run = Run::of(&fd_exhaustion::ENTRY);
        let found = run.tell(Some(process(7)), error(libc::ENFILE, 40, level));
        said(&found).into_iter().map(|(certainty, says)| (certainty, says.to_owned())).collect::<Vec<_>>()
    };
    // A user's share of pipes is used up with the same error.
    assert_eq!((of(Some(400)), of(None)), (Vec::new(), Vec::new()));
    let full = of(Some(1000));
    assert_eq!(full[0].0, Certainty::Proved);
    assert!(full[0].1.contains("1000 of 1000 open files of the machine (fs.file-max)"), "{full:?}");
}

#[test]
fn forks_that_the_kernel_counts_as_refused_are_proof_without_any_sensor() {
    let of = |used, refused| {
        let level = Level::new(Resource::Pids { cgroup: "/web".to_owned() }, used, 64);
        let mut run = Run::of(&pid_exhaustion::ENTRY);
        let found = run.look(Some(Level { process: Some(process(7)), refused, ..level }));
        said(&found).into_iter().map(|(certainty, says)| (certainty, says.to_owned())).collect::<Vec<_>>()
    };
    assert_eq!(
        (of(64, 0), of(40, 9)),
        (Vec::new(), Vec::new()),
        "full alone is allowed, and so is room again"
    );
    let said = of(64, 9);
    assert_eq!(said[0].0, Certainty::Proved);
    assert!(said[0].1.contains("64 of 64 tasks in /web (pids.max), and 9 more were refused"), "{said:?}");
}

#[test]
fn a_write_that_failed_of_nobody_knows_which_file_proves_nothing_of_the_fullest_disk() {
    let full = |percent| Level::new(space("/", ""), percent, 100);
    let of = |call: &str, file: Option<File>, percent: u64| {
        let error = SyscallError {
            call: call.to_owned(),
            errno: libc::ENOSPC,
            count: 1,
            level: Some(full(percent)),
            file,
            ..SyscallError::default()
        };
        let found = Run::of(&disk_full::ENTRY).tell(Some(process(7)), Fact::SyscallError(Box::new(error)));
        said(&found).into_iter().map(|(certainty, _)| certainty).collect::<Vec<_>>()
    };
    let log = File { path: "/log".to_owned(), mount: "/".to_owned(), stored: true, ..File::default() };
    assert_eq!(of("write", Some(log), 91), [Certainty::Proved]);
    assert_eq!(of("openat", None, 91), [Certainty::Proved], "a name has no descriptor");
    for percent in [91, 99] {
        assert_eq!(of("write", None, percent), [], "a control file of a cgroup can say it too");
    }
}

fn space(mount: &str, device: &str) -> Resource {
    Resource::Space { mount: mount.to_owned(), device: device.to_owned() }
}

/// A write of this process failed on a disk that is full.
fn full_for(run: &mut Run, pid: u32, mount: &str, device: &str) -> Vec<Finding> {
    fails_for(run, pid, (mount, device), libc::ENOSPC)
}

fn fails_for(run: &mut Run, pid: u32, (mount, device): (&str, &str), errno: i32) -> Vec<Finding> {
    let file = File {
        path: format!("{mount}/log"),
        mount: mount.to_owned(),
        device: device.to_owned(),
        stored: true,
        ..File::default()
    };
    let error = SyscallError {
        call: "write".to_owned(),
        errno,
        count: 1,
        level: Some(Level::new(space(mount, device), 100, 100)),
        file: Some(file),
        ..SyscallError::default()
    };
    let workload = WorkloadKey::supervise(&format!("w{pid}"));
    run.tell(Some(Process { workload, ..process(pid) }), Fact::SyscallError(Box::new(error)))
}

#[test]
fn one_disk_at_two_places_is_one_and_two_at_one_place_are_two() {
    let mut run = Run::of(&disk_full::ENTRY);
    assert_eq!(said(&full_for(&mut run, 7, "/data", "8:17")).len(), 1);
    let found = full_for(&mut run, 8, "/var/lib/kubelet/pods/x/data", "8:17");
    assert_eq!(said(&found), [], "the same disk, as another mount namespace sees it");
    assert_eq!(said(&full_for(&mut run, 9, "/data", "0:51")).len(), 1, "a container's own /data");
    let room = Level { process: Some(process(1)), ..Level::new(space("/data", "0:51"), 10, 100) };
    let mut found = Vec::new();
    for _ in 0..7 {
        found.extend(full_for(&mut run, 7, "/data", "8:17"));
        found.extend(run.look(Some(room.clone())));
    }
    let over = |finding: &&Finding| matches!(finding, Finding::Cleared { says, .. } if says.contains("w9"));
    assert_eq!(found.iter().filter(over).count(), 1, "{found:?}");
    let cleared = found.iter().filter(|finding| matches!(finding, Finding::Cleared { .. })).count();
    assert_eq!(cleared, 1, "the other one is as full as before: {found:?}");
}

#[test]
fn quotas_of_one_disk_are_one_for_each_place() {
    let mut run = Run::of(&disk_full::ENTRY);
    assert_eq!(said(&fails_for(&mut run, 7, ("/pods/a", "8:17"), libc::EDQUOT)).len(), 1);
    assert_eq!(said(&fails_for(&mut run, 8, ("/pods/b", "8:17"), libc::EDQUOT)).len(), 1);
    assert_eq!(said(&fails_for(&mut run, 9, ("/pods/b", "8:17"), libc::EDQUOT)), [], "told already");
}

#[test]
fn a_disk_that_has_become_read_only_is_told_and_one_that_is_so_by_design_is_not() {
    let of = |call: &str, filesystem: &str| {
        let file = File {
            path: "/data/log".to_owned(),
            mount: "/data".to_owned(),
            filesystem: filesystem.to_owned(),
            source: "/dev/sdb1".to_owned(),
            stored: true,
            ..File::default()
        };
        let file = (call != "openat").then_some(file);
        let (call, errno) = (call.to_owned(), libc::EROFS);
        let error = SyscallError { call, errno, count: 1, file, ..SyscallError::default() };
        Run::of(&io_error::ENTRY).tell(Some(process(7)), Fact::SyscallError(Box::new(error)))
    };
    let found = of("write", "ext4");
    let [Finding::Raised { diagnosis, .. }] = &found[..] else { panic!("{found:?}") };
    let says = "of /data/log on /data (ext4, /dev/sdb1), remounted read-only: it was writable when";
    assert!(diagnosis.sentence.contains(says), "{}", diagnosis.sentence);
    assert_eq!(
        (diagnosis.certainty, diagnosis.detail.kind.as_deref()),
        (Certainty::Proved, Some("read_only"))
    );
    assert_eq!(of("openat", "ext4"), [], "a name on what was never writable");
    assert_eq!(of("fsync", "ext4"), [], "of a file that may be open for reading");
    assert_eq!(of("write", "nfs4"), [], "a server's word");
    assert_eq!(of("write", "btrfs"), [], "a subvolume that somebody has made read-only");
}

#[test]
fn a_disk_that_errors_have_made_read_only_is_told_as_that_once_more() {
    let mut run = Run::of(&io_error::ENTRY);
    let mut kinds = |call: &str, errno: i32| -> Vec<Option<String>> {
        let (filesystem, path) = ("ext4".to_owned(), "/data/log".to_owned());
        let file = Some(File { path, filesystem, stored: true, ..File::default() });
        let error = SyscallError { call: call.to_owned(), errno, count: 1, file, ..SyscallError::default() };
        let found = run.tell(Some(process(7)), Fact::SyscallError(Box::new(error)));
        let kind = |finding: &Finding| {
            let Finding::Raised { diagnosis, .. } = finding else { return None };
            Some(diagnosis.detail.kind.clone())
        };
        found.iter().filter_map(kind).collect()
    };
    assert_eq!(kinds("fsync", libc::EIO), [None::<String>]);
    assert!(kinds("fsync", libc::EIO).is_empty(), "said already");
    assert_eq!(kinds("write", libc::EROFS), [Some("read_only".to_owned())]);
    assert!(kinds("write", libc::EROFS).is_empty(), "said already");
    assert!(kinds("fsync", libc::EIO).is_empty(), "it is read-only still");
    assert!(kinds("write", libc::EROFS).is_empty(), "that was known before");
}

/// Of one process, at one mount after the other: what is told, and how many disks its proof has.
#[test]
fn two_disks_of_one_process_are_both_told_and_each_once() {
    let mut run = Run::of(&io_error::ENTRY);
    let mut fails = |mount: &str, device: &str, errno: i32| -> Vec<(String, u32, usize)> {
        let file = File {
            path: format!("{mount}/log"),
            mount: mount.to_owned(),
            filesystem: "ext4".to_owned(),
            device: device.to_owned(),
            source: format!("/dev/{device}"),
            stored: true,
        };
        let (call, file) = ("write".to_owned(), Some(file));
        let error = SyscallError { call, errno, count: 1, file, ..SyscallError::default() };
        let found = run.tell(Some(process(7)), Fact::SyscallError(Box::new(error)));
        let said = |finding: &Finding| {
            let Finding::Raised { diagnosis, .. } = finding else { return None };
            let proof = diagnosis.detail.proof.as_ref().and_then(|proof| proof.as_array());
            let disks = proof.map_or(0, Vec::len);
            Some((diagnosis.sentence.clone(), diagnosis.detail.evidence_count, disks))
        };
        found.iter().filter_map(said).collect()
    };
    assert_eq!(fails("/data", "8:17", libc::EROFS).len(), 1);
    assert_eq!(fails("/srv/data", "8:17", libc::EROFS), [], "the same disk at another place");
    let second = fails("/spool", "8:33", libc::EIO);
    assert_eq!((second.len(), second[0].1, second[0].2), (1, 2, 1), "one of them is read-only");
    let says = "of /spool/log on /spool (ext4); /data (ext4, /dev/8:17) is read-only as well";
    assert!(second[0].0.contains(says), "{}", second[0].0);
    let again = fails("/spool", "8:33", libc::EROFS);
    assert_eq!((again.len(), again[0].1, again[0].2), (1, 2, 2));
    for (mount, device) in [("/data", "8:17"), ("/spool", "8:33")] {
        assert_eq!(fails(mount, device, libc::EROFS), [], "said already");
    }
}
