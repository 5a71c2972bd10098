//! Names that others give: supervisors, runtimes, systemd.

use super::*;

#[test]
fn a_supervised_child_is_main_and_its_descendants_are_not() {
    let tree = Tree::new();
    tree.process(&Fake::new(40, "healer").child_of(0));
    tree.process(&Fake::new(41, "web").child_of(40));
    tree.process(&Fake::new(42, "worker").child_of(41));
    tree.process(&Fake::new(43, "helper").child_of(42));
    let mut identity = met(&tree);
    let web = identity.supervise(id(41, 41), "line").unwrap();
    assert_eq!((web.workload.0.as_str(), web.main), ("supervise/line", true));
    for pid in [42, 43] {
        let other = identity.of_pid(pid).unwrap();
        assert_eq!((other.workload.0.as_str(), other.main), ("supervise/line", false));
    }
    assert_eq!(identity.of_pid(40).unwrap().place, process::Place::default());
    tree.process(&Fake::new(44, "late").child_of(42));
    let late = whom(&mut identity, seen(44, "late"), killed_by(None));
    assert_eq!(late.workload, web.workload);
    assert_eq!(identity.main_of(&web.workload), Some(&web));

    identity.release(id(41, 41));
    for pid in [41, 42, 43, 44] {
        assert_eq!(identity.of_pid(pid).unwrap().place.supervise, None);
    }
    assert_eq!(identity.main_of(&web.workload), None);
}

#[test]
fn a_child_that_dies_before_its_supervisor_registers_has_the_name_afterwards() {
    let tree = Tree::new();
    let mut identity = met(&tree);
    whom(&mut identity, seen(41, "web"), exited());
    let web = identity.supervise(id(41, 41), "line").unwrap();
    assert_eq!((web.workload.0.as_str(), web.main), ("supervise/line", true));
}

#[test]
fn the_first_process_of_a_container_is_main() {
    let tree = Tree::new();
    let path = format!("/kubepods/besteffort/poduid-1/{CONTAINER}");
    tree.process(&Fake::new(40, "app").in_cgroup(&path).inside(" 1"));
    tree.process(&Fake::new(41, "child").in_cgroup(&path).inside(" 7").child_of(40));
    let mut identity = met(&tree);
    let app = identity.of_pid(40).unwrap();
    assert_eq!(app.workload.0, format!("container/{CONTAINER}"));
    assert!(app.main && !identity.of_pid(41).unwrap().main);
    let container = Container { name: "app".into(), ..app.place.container.unwrap() };
    let pod = Pod { namespace: "prod".into(), name: "web-0".into(), ..app.place.pod.unwrap() };
    identity.describe(container, Some(pod));
    for pid in [40, 41] {
        assert_eq!(identity.of_pid(pid).unwrap().workload.0, "pod/prod/web-0/app");
    }
}

/// Docker's API tells of podman's containers in Docker's name, and of those whose path tells nothing.
#[test]
fn whose_container_it_is_the_path_knows_better() {
    for (path, runtime) in [
        (format!("/machine.slice/libpod-{CONTAINER}.scope/container"), "podman"),
        (format!("/system.slice/docker-{CONTAINER}.scope"), "docker"),
        (format!("/mine/{CONTAINER}"), "docker"),
    ] {
        let tree = Tree::new();
        tree.process(&Fake::new(40, "app").in_cgroup(&path).inside(" 1"));
        let mut identity = met(&tree);
        let (id, name) = (CONTAINER.to_owned(), "web".to_owned());
        identity.describe(Container { runtime: "docker".into(), id, name, ..Container::default() }, None);
        let app = identity.of_pid(40).unwrap();
        assert_eq!(app.workload.0, "container/web");
        assert_eq!(app.place.container.unwrap().runtime, runtime, "{path}");
    }
}

/// The API server may be heard of a pod before its runtime, or after it.
#[test]
fn a_pods_controller_is_known_whoever_tells_first() {
    let tree = Tree::new();
    let path = format!("/kubepods/besteffort/poduid-1/{CONTAINER}");
    tree.process(&Fake::new(40, "app").in_cgroup(&path).inside(" 1"));
    for server_is_first in [true, false] {
        let mut identity = met(&tree);
        let place = identity.of_pid(40).unwrap().place;
        let pod = Pod { name: "web-0".into(), ..place.pod.unwrap() };
        let uid = pod.uid.clone();
        if server_is_first {
            identity.control(&uid, "StatefulSet/web");
        }
        identity.describe(place.container.unwrap(), Some(pod));
        if !server_is_first {
            identity.control(&uid, "StatefulSet/web");
        }
        identity.control("another", "StatefulSet/other");
        let pod = identity.of_pid(40).unwrap().place.pod.unwrap();
        assert_eq!(pod.owner().as_deref(), Some("StatefulSet/web"), "{server_is_first}");
        let known = identity.container(CONTAINER).and_then(|(_, pod)| pod);
        assert_eq!(known, Some(pod));
    }
}

/// cri-dockerd: Docker's word and the kubelet's runtime's come in any order.
#[test]
fn of_two_words_for_a_pod_the_one_with_its_labels_stays() {
    let pod = |label: Option<&str>, uid: &str| Pod {
        namespace: "prod".into(),
        name: "web-0".into(),
        uid: uid.into(),
        labels: label.map(|app| ("app".to_owned(), app.to_owned())).into_iter().collect(),
        ..Pod::default()
    };
    let container = || Container { id: CONTAINER.into(), name: "app".into(), ..Container::default() };
    let tree = Tree::new();
    let mut identity = met(&tree);
    identity.describe(container(), Some(pod(None, "u-1")));
    identity.describe(container(), Some(pod(Some("web"), "u-1")));
    let known = |identity: &Identity| identity.container(CONTAINER).and_then(|(_, pod)| pod);
    for poorer in [None, Some(pod(None, "u-1"))] {
        identity.describe(container(), poorer);
        assert_eq!(known(&identity), Some(pod(Some("web"), "u-1")));
    }
    for other in [pod(Some("api"), "u-1"), pod(None, "u-2")] {
        identity.describe(container(), Some(other.clone()));
        assert_eq!(known(&identity), Some(other));
    }
}

#[test]
fn whoever_unshares_a_namespace_inside_a_container_makes_no_second_main() {
    let tree = Tree::new();
    let path = format!("/system.slice/docker-{CONTAINER}.scope");
    tree.process(&Fake::new(40, "containerd-shim").in_cgroup("/system.slice/docker.service"));
    tree.process(&Fake::new(41, "ci").in_cgroup(&path).inside(" 1").child_of(40));
    tree.process(&Fake::new(42, "bwrap").in_cgroup(&path).inside(" 9").child_of(41));
    tree.process(&Fake::new(43, "job").in_cgroup(&path).inside(" 10 1").child_of(42));
    tree.process(&Fake::new(44, "exec").in_cgroup(&path).inside(" 20").child_of(40));
    tree.process(&Fake::new(45, "sandbox").in_cgroup(&format!("{path}/nested")).inside(" 21 1").child_of(44));
    let mut identity = met(&tree);
    for (pid, is_main) in [(41, true), (42, false), (43, false), (44, false), (45, false)] {
        let process = identity.of_pid(pid).unwrap();
        assert_eq!((process.workload.0, process.main), (format!("container/{CONTAINER}"), is_main), "{pid}");
    }
}

#[test]
fn a_sandbox_that_was_met_by_its_records_makes_no_second_main() {
    let tree = Tree::new();
    let path = format!("/system.slice/docker-{CONTAINER}.scope");
    tree.process(&Fake::new(41, "ci").in_cgroup(&path).inside(" 1"));
    let mut identity = met(&tree);
    tree.process(&Fake::new(43, "job").in_cgroup(&path).inside(" 10 1").child_of(41));
    let job = whom(&mut identity, Seen { parent: Some(party(41, "ci")), ..seen(43, "job") }, Fact::Execed);
    assert!(job.place.container.is_some() && !job.main);
    assert!(identity.of_pid(41).unwrap().main);
}

#[test]
fn the_first_process_of_a_container_in_a_container_is_main() {
    let tree = Tree::new();
    let (outer, inner) = (format!("/docker/{CONTAINER}"), "d".repeat(64));
    tree.process(&Fake::new(41, "dockerd").in_cgroup(&outer).inside(" 1"));
    tree.process(&Fake::new(42, "shim").in_cgroup(&outer).inside(" 30").child_of(41));
    let path = format!("{outer}/docker/{inner}");
    tree.process(&Fake::new(43, "web").in_cgroup(&path).inside(" 40 1").child_of(42));
    let mut identity = met(&tree);
    let web = identity.of_pid(43).unwrap();
    assert_eq!((web.workload.0, web.main), (format!("container/{inner}"), true));
}

#[test]
fn a_units_main_process_is_whom_systemd_names() {
    let tree = Tree::new();
    tree.process(&Fake::new(40, "web").in_cgroup("/system.slice/web.service"));
    let mut identity = met(&tree);
    let unit = WorkloadKey("unit/web.service".into());
    assert_eq!(identity.main_of(&unit), None);
    identity.set_main(id(40, 40));
    assert_eq!(identity.main_of(&unit).map(|main| main.pid), Some(40));
    assert_eq!(identity.missing().len(), 0);
    tree.remove(40);
    assert_eq!(identity.missing().into_iter().collect::<Vec<_>>(), [id(40, 40)]);
    identity.bury(id(40, 40));
    assert_eq!(identity.main_of(&unit), None);
}

#[test]
fn a_restarted_child_takes_the_name_over() {
    let tree = Tree::new();
    tree.process(&Fake::new(40, "healer").child_of(0));
    tree.process(&Fake::new(41, "web").child_of(40));
    let mut identity = met(&tree);
    let first = identity.supervise(id(41, 41), "line").unwrap();
    tree.remove(41);
    let dead = whom(&mut identity, seen(41, "web"), exited());
    assert_eq!((dead.id(), dead.main), (first.id(), true));
    tree.process(&Fake::new(42, "web").child_of(40));
    let second = identity.supervise(id(42, 42), "line").unwrap();
    assert_eq!(identity.main_of(&first.workload), Some(&second));
    assert_eq!(identity.tracked().collect::<Vec<_>>(), [id(42, 42)]);
    assert_eq!(identity.of_id(id(41, 41)), Some(dead));
}

#[test]
fn a_second_scan_keeps_what_is_known() {
    let tree = Tree::new();
    tree.process(&Fake::new(41, "web"));
    let mut identity = met(&tree);
    let web = identity.supervise(id(41, 41), "line");
    tree.process(&Fake::new(42, "new"));
    identity.scan(NOW);
    assert_eq!(identity.of_id(id(41, 41)), web);
    assert!(identity.processes().any(|process| process.pid == 42));
}
