use super::*;
use crate::identity::fixture::Tree;

/// With the walk that tells it of them.
struct Looks {
    walk: walk::Walk,
    quotas: Quotas,
}

impl Looks {
    fn new(tree: &Tree) -> Self {
        let roots = tree.roots();
        let quotas = Quotas::new(&roots.proc, &roots.cgroup);
        Self { walk: walk::Walk::new(&roots.cgroup), quotas }
    }

    fn look(&mut self, now: BootTime) -> Vec<Quota> {
        if let Some(found) = self.walk.go_on(now) {
            self.quotas.watch(found.quotas);
        }
        self.quotas.look(now)
    }
}

fn seconds(count: u64) -> BootTime {
    BootTime(count * 1_000_000_000)
}

fn stat(tree: &Tree, path: &str, periods: u64, throttled: u64) {
    let text =
        format!("nr_periods {periods}\nnr_throttled {throttled}\nthrottled_usec {}\n", throttled * 80_000);
    tree.file(&format!("cgroup/{path}/cpu.stat"), &text);
}

fn runs(tree: &Tree, pid: u32, ticks: u64) {
    let text = format!("{pid} (srv) R 1 1 1 0 -1 0 0 0 0 0 {ticks} 0 0 0 20 0 1 0 {pid} 0 0 0 0 0 0 0\n");
    tree.file(&format!("proc/{pid}/stat"), &text);
}

#[test]
fn who_is_held_back_is_told_and_who_has_enough_is_not() {
    let tree = Tree::new();
    for (path, quota) in [("web", "20000 100000"), ("calm", "20000 100000"), ("free", "max 100000")] {
        tree.file(&format!("cgroup/{path}/cpu.max"), &format!("{quota}\n"));
        tree.file(&format!("cgroup/{path}/cgroup.procs"), "7\n");
        stat(&tree, path, 0, 0);
    }
    let mut quotas = Looks::new(&tree);
    assert_eq!(quotas.look(seconds(1)), [], "nothing to compare with");
    let mut told = Vec::new();
    for second in 2..=6 {
        let periods = 10 * (second - 1);
        runs(&tree, 7, 20 * second);
        ["web", "free"].iter().for_each(|path| stat(&tree, path, periods, periods));
        stat(&tree, "calm", periods, periods / 5);
        told = quotas.look(seconds(second));
        assert_eq!(told.len(), 1, "{told:?}");
    }
    let web = &told[0];
    assert_eq!((web.cgroup.as_str(), web.quota_percent, web.over_ms), ("/web", 20, 1000));
    assert_eq!((web.periods, web.throttled, web.throttled_ms), (10, 10, 800));
    let users: Vec<_> = web.users.iter().map(|user| (user.pid, user.ran_ms)).collect();
    assert_eq!(users, [(7, 800)], "in the four seconds between two looks at them");
}

#[test]
fn both_versions_tell_the_quota() {
    let tree = Tree::new();
    tree.file("v1/some/cpu.cfs_quota_us", "150000\n");
    tree.file("v1/some/cpu.cfs_period_us", "100000\n");
    tree.file("v1/none/cpu.cfs_quota_us", "-1\n");
    tree.file("v1/none/cpu.cfs_period_us", "100000\n");
    tree.file("v2/none/cpu.max", "max 100000\n");
    let quota = |path: &str| quota_of(&tree.root().join(path));
    let told = ["v1/some", "v1/none", "v2/none", "nowhere"].map(quota);
    assert_eq!(told, [Some(150), None, None, None]);
}

/// Of `/web`, which is held back in all its periods from one second to the next.
fn throttled_in(quotas: &mut Looks, tree: &Tree, second: u64) -> Vec<Quota> {
    stat(tree, "web", 10 * second, 10 * second);
    quotas.look(seconds(second))
}

fn web(tree: &Tree) -> Looks {
    tree.file("cgroup/web/cpu.max", "20000 100000\n");
    tree.file("cgroup/web/cgroup.procs", "7\n");
    Looks::new(tree)
}

#[test]
fn a_cgroup_that_was_made_anew_is_read_and_one_that_is_gone_is_not_told() {
    let tree = Tree::new();
    let mut quotas = web(&tree);
    throttled_in(&mut quotas, &tree, 1);
    assert_eq!(throttled_in(&mut quotas, &tree, 2).len(), 1);
    fs::remove_file(tree.root().join("cgroup/web/cpu.stat")).unwrap();
    assert_eq!(quotas.look(seconds(3)), [], "gone");
    // Another inode, as after a restart of its unit.
    stat(&tree, "web", 0, 0);
    assert_eq!(quotas.look(seconds(4)), [], "it counts from zero");
    assert_eq!(throttled_in(&mut quotas, &tree, 5).len(), 1);
}

/// Twelve looks at `/web`, of which each `pattern` tells in turn whether it was held back; the users told in the last
/// one that was.
fn users_after(pattern: &[bool]) -> Vec<(u32, u64)> {
    let tree = Tree::new();
    let mut quotas = web(&tree);
    let (mut throttled, mut users) = (0, Vec::new());
    stat(&tree, "web", 0, 0);
    quotas.look(seconds(0));
    for (second, is_held) in (1..=12).zip(pattern.iter().cycle()) {
        throttled += if *is_held { 10 } else { 0 };
        runs(&tree, 7, 20 * second);
        stat(&tree, "web", 10 * second, throttled);
        let told = quotas.look(seconds(second));
        assert_eq!(told.len(), usize::from(*is_held), "{second}");
        if let Some(quota) = told.first() {
            users = quota.users.iter().map(|user| (user.pid, user.ran_ms)).collect();
        }
    }
    users
}

#[test]
fn a_better_second_makes_nobody_a_stranger_and_three_do() {
    assert_eq!(users_after(&[true, true, true, true, false]), [(7, 1000)], "asked at 1, 6 and 11");
    assert_eq!(users_after(&[true, true, true, true, false, false]), [(7, 1200)], "asked at 1 and 7");
    assert_eq!(users_after(&[true, true, true, true, false, false, false]), [(0, 0); 0], "met anew at 8");
    assert_eq!(users_after(&[true]), [(7, 800)], "and who is held back all the time is known");
}

/// `/web` is held back for six seconds; so many idle members come before a listener that runs a little. Who is told.
/// `usage`: what the whole cgroup has run after so many seconds, as its `cpu.stat` or `cpuacct.usage` tells.
fn named_among(idle: u32, usage: impl Fn(u64) -> Option<(&'static str, String)>) -> Vec<u32> {
    let tree = Tree::new();
    let mut quotas = web(&tree);
    let procs: String = (100..100 + idle).chain([7]).map(|pid| format!("{pid}\n")).collect();
    tree.file("cgroup/web/cgroup.procs", &procs);
    let mut told = Vec::new();
    for second in 1..=6 {
        runs(&tree, 7, 2 * second);
        stat(&tree, "web", 10 * second, 10 * second);
        if let Some((file, text)) = usage(second) {
            let path = format!("cgroup/web/{file}");
            let before = fs::read_to_string(tree.root().join(&path)).unwrap_or_default();
            let is_stat = file == "cpu.stat";
            tree.file(&path, &if is_stat { format!("{text}{before}") } else { text });
        }
        told = quotas.look(seconds(second));
    }
    told[0].users.iter().map(|user| user.pid).collect()
}

#[test]
fn a_listener_is_not_named_for_what_others_run() {
    // It runs 20 ms a second.
    let v2 = |ms: u64| move |second: u64| Some(("cpu.stat", format!("usage_usec {}\n", second * ms * 1000)));
    let v1 = |ms: u64| move |second: u64| Some(("cpuacct.usage", format!("{}\n", second * ms * 1_000_000)));
    assert_eq!(named_among(0, v2(200)), [0; 0], "the job's own processes end before they are asked twice");
    assert_eq!(named_among(0, v1(200)), [0; 0]);
    assert_eq!(named_among(0, v2(30)), [7], "most of it is its own");
    assert_eq!(named_among(0, v1(30)), [7]);
}

#[test]
fn where_the_kernel_does_not_tell_all_must_have_been_asked() {
    assert_eq!(named_among(64, |_| None), [0; 0], "who else runs is not known");
    assert_eq!(named_among(63, |_| None), [7]);
}

/// In which of so many seconds the users told are others than in the one before.
fn answered_in(seconds: u64) -> Vec<u64> {
    let tree = Tree::new();
    let mut quotas = web(&tree);
    let (mut before, mut answered) = (Vec::new(), Vec::new());
    for second in 1..=seconds {
        // More in each second than in the one before, so that no answer is like another.
        runs(&tree, 7, second * second);
        let users: Vec<_> =
            throttled_in(&mut quotas, &tree, second).into_iter().flat_map(|quota| quota.users).collect();
        if users != before {
            answered.push(second);
            before = users;
        }
    }
    answered
}

#[test]
fn who_has_been_at_its_quota_for_long_is_asked_seldom_and_a_new_one_soon() {
    assert_eq!(answered_in(12), [6, 10], "first asked in the second second");
    assert_eq!(answered_in(75), [6, 10, 40, 70]);
}

#[test]
fn who_has_begun_since_the_last_question_is_known_at_once_and_who_was_there_is_not() {
    let tree = Tree::new();
    let mut quotas = web(&tree);
    runs(&tree, 7, 50);
    (1..=5).for_each(|second| drop(throttled_in(&mut quotas, &tree, second)));
    // Moved into it and begun in it; a pid is its start in ticks here.
    for pid in [8, 300] {
        runs(&tree, pid, 50);
    }
    tree.file("cgroup/web/cgroup.procs", "7\n8\n300\n");
    let told = throttled_in(&mut quotas, &tree, 6);
    let users: Vec<_> = told[0].users.iter().map(|user| (user.pid, user.ran_ms)).collect();
    assert_eq!(users, [(300, 500)]);
}
