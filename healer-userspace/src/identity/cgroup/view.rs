//! Where a path of `/proc/PID/cgroup` lies on a mounted tree. They differ in a cgroup namespace of our own
//! (cgroup_namespaces(7)): there paths begin at our own cgroup and lead out of it by `/..`, while the host's tree, if it
//! is mounted, begins at the root.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

/// Directories that the search for our own one looks at.
const SEARCH_MAX: usize = 32_768;
const MOUNT: &str = "/sys/fs/cgroup";

/// By mount: neither it nor our namespace changes while we live.
static VIEWS: LazyLock<Mutex<BTreeMap<PathBuf, Arc<View>>>> = LazyLock::new(Mutex::default);

/// One mounted tree, seen from our namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// How far the tree's root is above our namespace's.
    above: usize,
    /// From the tree's root to our namespace's; none: not found, and only who shares nothing of it has a whole path.
    ours: Option<Vec<String>>,
}

impl View {
    pub fn of(mount: &Path) -> Arc<Self> {
        let mut views = VIEWS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(view) = views.get(mount) {
            return Arc::clone(view);
        }
        let view = Arc::new(Self::look(mount));
        views.insert(mount.to_owned(), Arc::clone(&view));
        view
    }

    /// Of the tree of v1 with this controller or name; empty: of v2's.
    pub fn of_controller(name: &str) -> Arc<Self> {
        static V2: LazyLock<PathBuf> = LazyLock::new(|| {
            let unified = Path::new(MOUNT).join("unified");
            if unified.is_dir() { unified } else { PathBuf::from(MOUNT) }
        });
        if name.is_empty() { Self::of(&V2) } else { Self::of(&Path::new(MOUNT).join(name)) }
    }

    fn look(mount: &Path) -> Self {
        let mount = fs::canonicalize(mount).unwrap_or_else(|_| mount.to_owned());
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let above = height(&mounts, &mount);
        if above == 0 {
            return Self::default();
        }
        Self { above, ours: find(&mount, above, std::process::id()) }
    }

    /// From the tree's root. None: it lies outside of the tree, or nobody knows where.
    pub fn whole(&self, path: &str) -> Option<String> {
        let mut rest: Vec<_> = path.split('/').filter(|part| !part.is_empty()).collect();
        let up = rest.iter().take_while(|part| **part == "..").count();
        rest.drain(..up);
        let kept = self.above.checked_sub(up)?;
        let kept = match (kept, &self.ours) {
            (0, _) => &[],
            (kept, Some(ours)) => ours.get(..kept)?,
            (_, None) => return None,
        };
        let parts: Vec<_> = kept.iter().map(String::as_str).chain(rest).collect();
        (!parts.contains(&"..")).then(|| format!("/{}", parts.join("/")))
    }
}

/// The root of a cgroup mount is shown as seen from the reader's namespace (proc_pid_mountinfo(5)): `/../..` is two above.
fn height(mounts: &str, mount: &Path) -> usize {
    let root = mounts.lines().rev().find_map(|line| {
        let mut fields = line.split(' ').skip(3);
        let (root, at) = (fields.next()?, fields.next()?);
        (Path::new(at) == mount && line.contains(" - cgroup")).then_some(root)
    });
    let parts = root.unwrap_or_default().split('/').filter(|part| !part.is_empty());
    parts.take_while(|part| *part == "..").count()
}

/// The directory so deep in the tree below which this process lives.
fn find(mount: &Path, depth: usize, pid: u32) -> Option<Vec<String>> {
    let mut left = SEARCH_MAX;
    let mut waiting = vec![Vec::new()];
    while let Some(path) = waiting.pop() {
        let dir = path.iter().fold(mount.to_owned(), |dir: PathBuf, part: &String| dir.join(part));
        left = left.checked_sub(1)?;
        if path.len() >= depth && lives_in(&dir, pid) {
            return Some(path.into_iter().take(depth).collect());
        }
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir())
                && let Ok(name) = entry.file_name().into_string()
            {
                waiting.push(path.iter().cloned().chain([name]).collect());
            }
        }
    }
    None
}

fn lives_in(dir: &Path, pid: u32) -> bool {
    let pids = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    pids.lines().any(|line| line.parse() == Ok(pid))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::fixture::Tree;

    fn view(ours: Option<&str>) -> View {
        let parts = |path: &str| path.split('/').map(str::to_owned).collect();
        View { above: 3, ours: ours.map(parts) }
    }

    #[test]
    fn a_path_that_leads_out_of_our_namespace_is_made_whole() {
        let view = view(Some("kubepods.slice/kubepods-pod1.slice/cri-containerd-a.scope"));
        for (path, whole) in [
            ("/", "/kubepods.slice/kubepods-pod1.slice/cri-containerd-a.scope"),
            ("/below", "/kubepods.slice/kubepods-pod1.slice/cri-containerd-a.scope/below"),
            ("/../cri-containerd-b.scope", "/kubepods.slice/kubepods-pod1.slice/cri-containerd-b.scope"),
            ("/../../kubepods-pod2.slice/c", "/kubepods.slice/kubepods-pod2.slice/c"),
            ("/../../../system.slice/web.service", "/system.slice/web.service"),
            ("/../../..", "/"),
        ] {
            assert_eq!(view.whole(path).as_deref(), Some(whole), "{path}");
        }
        assert_eq!(view.whole("/../../../../x"), None, "above the tree");
    }

    #[test]
    fn who_shares_nothing_with_us_has_a_whole_path_though_ours_is_unknown() {
        let view = view(None);
        assert_eq!(
            view.whole("/../../../system.slice/web.service").as_deref(),
            Some("/system.slice/web.service")
        );
        assert_eq!(view.whole("/../cri-containerd-b.scope"), None);
    }

    #[test]
    fn in_the_hosts_namespace_a_path_is_whole() {
        let view = View::default();
        assert_eq!(view.whole("/system.slice/web.service").as_deref(), Some("/system.slice/web.service"));
        assert_eq!(view.whole("/").as_deref(), Some("/"));
        assert_eq!(view.whole("/../x"), None);
    }

    #[test]
    fn the_mounts_root_says_how_far_it_is() {
        let mounts = "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n\
                      31 23 0:26 /../../.. /sys/fs/cgroup ro,nosuid - cgroup2 cgroup rw\n\
                      32 23 0:27 /../.. /elsewhere rw - tmpfs tmpfs rw\n";
        assert_eq!(height(mounts, Path::new("/sys/fs/cgroup")), 3, "the last one lies on top");
        assert_eq!(height(mounts, Path::new("/elsewhere")), 0);
        assert_eq!(height(mounts, Path::new("/not/mounted")), 0);
    }

    #[test]
    fn our_own_directory_is_found_by_who_lives_there() {
        let tree = Tree::new();
        for (path, pids) in [("a/b/c", "7\n"), ("a/b/d", "71\n"), ("a/e/f/g", "9\n")] {
            tree.file(&format!("cgroup/{path}/cgroup.procs"), pids);
        }
        let found = |pid| find(&tree.roots().cgroup, 3, pid).map(|path| path.join("/"));
        assert_eq!(found(7).as_deref(), Some("a/b/c"));
        assert_eq!(found(9).as_deref(), Some("a/e/f"), "we live below our namespace's root");
        assert_eq!(found(8), None);
    }
}
