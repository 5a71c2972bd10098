use super::*;
use crate::identity::fixture::{Fake, Tree};

const STAT: &str = "42 (web) S 1 42 42 0 -1 4194560 100 0 0 0 1 2 0 0 20 0 3 0 12345 1000 10 184";

#[test]
fn stat_survives_any_name() {
    for comm in ["web", "a) S 9 (b", "x y\nz", ")", "", "(((("] {
        let line = STAT.replace("(web)", &format!("({comm})"));
        let stat = Stat::parse(line.as_bytes()).unwrap();
        assert_eq!((&*stat.comm, stat.parent), (comm, 1));
        assert_eq!(stat.start, BootTime(123_450_000_000));
        assert_eq!((stat.group, stat.threads, stat.kernel_thread), (42, 3, false));
    }
}

#[test]
fn stat_of_the_dead_and_broken_lines() {
    let zombie = Stat::parse(STAT.replace(" S ", " Z ").as_bytes()).unwrap();
    assert!(zombie.is_zombie());
    assert!(!zombie.is_over(), "two threads go on");
    let kernel = Stat::parse(STAT.replace("4194560", "2129984").as_bytes()).unwrap();
    assert!(kernel.kernel_thread);
    for broken in ["", "42 (web", "42 (web)", "42 (web) S", "42 )web( S 1"] {
        assert_eq!(Stat::parse(broken.as_bytes()), None, "{broken}");
    }
}

#[test]
fn status_has_ids_namespaces_and_signal_sets() {
    let text = "Name:\ta\\nUid:\t0\nTgid:\t42\nUid:\t1000\t0\t0\t0\nGroups:\t4 24\n\
                NSpid:\t42\t7\t1\nSigIgn:\t0000000000001000\nSigCgt:\t0000000000000401\n";
    let status = Status::parse(text.as_bytes()).unwrap();
    assert_eq!((status.tgid, status.uid), (42, 1000));
    assert!(status.is_namespace_init());
    assert!(status.ignores(libc::SIGPIPE) && !status.ignores(libc::SIGTERM));
    assert!(status.catches(libc::SIGHUP) && status.catches(libc::SIGSEGV));
    assert!(!status.catches(0) && !status.catches(65));
}

#[test]
fn the_hosts_own_init_is_no_namespace_init() {
    let status = Status::parse(b"Tgid:\t1\nNSpid:\t1\n").unwrap();
    assert!(!status.is_namespace_init());
    assert_eq!(Status::parse(b"Name:\tx\n"), None);
}

#[test]
fn arguments_are_split_and_bounded() {
    let check = |bytes: &[u8], args: &[&str]| assert_eq!(split_args(bytes), args);
    check(b"", &[]);
    check(b"\0", &[]);
    check(b"sh\0-c\0\0exit 3\0", &["sh", "-c", "", "exit 3"]);
    check(b"sh\0cut", &["sh", "cut"]);
    let tree = Tree::new();
    let long = "x".repeat(1000);
    tree.process(&Fake::new(42, "web").args(&["web", &long]));
    let args = ProcDir::open(&tree.roots().proc, 42).unwrap().args();
    assert_eq!(args.iter().map(|arg| arg.len() + 1).sum::<usize>(), ARGS_MAX + 1);
}

#[test]
fn a_removed_executable_is_named_without_the_kernels_mark() {
    let tree = Tree::new();
    let gone = tree.root().join("bin/web (deleted)");
    tree.process(&Fake::new(42, "web").exe(gone.to_str().unwrap()));
    let exe = ProcDir::open(&tree.roots().proc, 42).unwrap().exe().unwrap();
    assert!(exe.deleted && exe.path.ends_with("/bin/web"), "{exe:?}");

    let odd = tree.file("bin/odd (deleted)", "");
    tree.process(&Fake::new(43, "odd").exe(&odd));
    let exe = ProcDir::open(&tree.roots().proc, 43).unwrap().exe().unwrap();
    assert_eq!((exe.deleted, exe.path, exe.id), (false, odd.clone(), ExeId::at(&odd)));
}

#[test]
fn a_process_that_vanishes_between_two_reads_is_nobody() {
    let tree = Tree::new();
    tree.process(&Fake::new(42, "web"));
    let dir = ProcDir::open(&tree.roots().proc, 42).unwrap();
    assert!(dir.stat().is_some());
    tree.remove(42);
    assert_eq!((dir.stat(), dir.status(), dir.cgroup()), (None, None, None));
    assert_eq!((dir.args(), dir.exe()), (Vec::<String>::new(), None));
    assert!(ProcDir::open(&tree.roots().proc, 42).is_none());
}

#[test]
fn we_find_ourselves_in_the_real_proc() {
    let me = std::process::id();
    let proc = Path::new("/proc");
    assert!(pids(proc).any(|pid| pid == me));
    let dir = ProcDir::open(proc, me).unwrap();
    assert_eq!(dir.status().unwrap().tgid, me);
    assert!(dir.stat().unwrap().start > BootTime(0));
    let exe = std::env::current_exe().unwrap();
    assert_eq!(dir.exe().unwrap().path, exe.to_string_lossy());
    assert_eq!(dir.exe().unwrap().id, ExeId::at(&exe.to_string_lossy()));
    assert!(!dir.args().is_empty() && dir.cgroup().is_some());
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_a_parser_panic(bytes in proptest::collection::vec(0..=255u8, 0..400)) {
        let _parsed = (Stat::parse(&bytes), Status::parse(&bytes), split_args(&bytes));
    }

    #[test]
    fn no_text_makes_a_parser_panic(bytes in "[0-9]* ?\\(.*\\)? [SZ] [-0-9 ]{0,80}|(Tgid|Uid|NSpid|SigIgn):.*") {
        let _parsed = (Stat::parse(bytes.as_bytes()), Status::parse(bytes.as_bytes()));
    }
}

#[test]
fn cpu_time_and_its_limit_are_read() {
    assert_eq!(cpu_ms(STAT.as_bytes()), Some(30));
    assert_eq!(cpu_ms(b"42 (web) S 1"), None);
    let limits = "Max cpu time              1                    2                    seconds\n\
                  Max file size             unlimited            unlimited            bytes\n";
    assert_eq!(hard_limit(limits, "Max cpu time"), Some(2));
    assert_eq!(hard_limit(limits, "Max file size"), Some(RLIM_INFINITY));
    assert_eq!(hard_limit("", "Max cpu time"), None);
}
