use super::*;

const ID: &str = "4f9a5c0e2b7d1836af004f9a5c0e2b7d1836af004f9a5c0e2b7d1836af00abcd";

fn at(path: &str) -> Place {
    place_of(&path.replace("ID", ID))
}

fn container(path: &str, runtime: &str) {
    let place = at(path);
    let found = place.container.unwrap_or_default();
    assert_eq!((&*found.runtime, &*found.id), (runtime, ID), "{path}");
    assert_eq!(place.unit, None, "{path}");
}

fn pod(path: &str, uid: &str) {
    let found = at(path).pod.unwrap_or_default();
    assert_eq!(found.uid, uid, "{path}");
}

fn unit(path: &str, name: &str) {
    let place = at(path);
    assert_eq!(place.unit.as_deref(), Some(name), "{path}");
    assert_eq!(place.container, None, "{path}");
}

#[test]
fn docker_is_known_by_both_drivers() {
    container("/docker/ID", "docker");
    container("/system.slice/docker-ID.scope", "docker");
    container("/docker/ID/system.slice/nginx.service", "docker");
    container("/system.slice/docker.service/docker/ID", "docker");
    container("/user.slice/user-1000.slice/user@1000.service/user.slice/docker-ID.scope", "docker");
}

#[test]
fn podman_is_known_by_both_drivers() {
    container("/libpod_parent/libpod-ID", "podman");
    container("/machine.slice/libpod-ID.scope", "podman");
    container("/machine.slice/libpod-ID.scope/container", "podman");
    container("/machine.slice/machine-libpod_pod_ID.slice/libpod-ID.scope", "podman");
    container("/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-ID.scope/container", "podman");
}

#[test]
fn what_podman_splits_off_is_a_container_unless_a_service_runs_it() {
    container("/user.slice/user-1000.slice/session-3.scope/libpod-payload-ID", "podman");
    container("/system.slice/run-1.scope/libpod-payload-ID/system.slice/nginx.service", "podman");
    unit("/system.slice/web.service/libpod-payload-ID", "web.service");
    unit("/system.slice/web.service/runtime", "web.service");
    unit(
        "/user.slice/user-1000.slice/user@1000.service/app.slice/web.service/libpod-payload-ID",
        "user@1000.service/web.service",
    );
}

#[test]
fn kubernetes_is_known_by_both_drivers() {
    let check = |path: &str, runtime: &str, uid: &str| {
        container(path, runtime);
        pod(path, uid);
    };
    const UID: &str = "2b1f7c2e-91d3-4a7e-8f5a-0c1d2e3f4a5b";
    let systemd = UID.replace('-', "_");
    check("/kubepods/besteffort/poduid-1/ID", "cri", "uid-1");
    check(&format!("/kubepods/pod{UID}/ID"), "cri", UID);
    check(&format!("/kubepods/burstable/pod{UID}/ID"), "cri", UID);
    check(&format!("/kubepods/burstable/pod{UID}/crio-ID"), "cri-o", UID);
    check(&format!("/kubepods.slice/kubepods-pod{systemd}.slice/cri-containerd-ID.scope"), "containerd", UID);
    check(
        &format!(
            "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{systemd}.slice/crio-ID.scope/container"
        ),
        "cri-o",
        UID,
    );
    check(
        &format!(
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{systemd}.slice/docker-ID.scope"
        ),
        "cri",
        UID,
    );
    check(
        &format!("/system.slice/containerd.service/kubepods-burstable-pod{systemd}.slice:cri-containerd:ID"),
        "containerd",
        UID,
    );
}

#[test]
fn what_docker_runs_inside_of_a_pods_container_is_dockers() {
    let inner = "cd".repeat(32);
    for path in [
        format!("/kubepods/poduid-1/ID/docker/{inner}"),
        format!("/kubepods/poduid-1/ID/x/docker-{inner}.scope"),
    ] {
        let container = at(&path).container.unwrap();
        assert_eq!((&*container.runtime, container.id), ("docker", inner.clone()), "{path}");
    }
}

#[test]
fn in_a_node_that_is_a_container_the_innermost_counts() {
    let inner = "ab".repeat(32);
    let path = format!(
        "/docker/ID/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/\
         kubelet-kubepods-besteffort-pod1_2.slice/cri-containerd-{inner}.scope"
    );
    let place = at(&path);
    assert_eq!(place.container.unwrap().id, inner);
    pod(&path, "1-2");
}

#[test]
fn helpers_of_runtimes_are_no_containers() {
    unit("/machine.slice/libpod-conmon-ID.scope", "libpod-conmon-ID.scope".replace("ID", ID).as_str());
    unit("/system.slice/crio-conmon-ID.scope", &format!("crio-conmon-{ID}.scope"));
    unit("/system.slice/docker.service", "docker.service");
    unit("/system.slice/containerd.service", "containerd.service");
    assert!(at("/docker/buildkit").is_empty());
    assert_eq!(at("/docker/4f9a5c0e").container, None);
}

#[test]
fn other_runtimes_are_named_as_far_as_the_path_does() {
    container("/ecs/4f9a5c0e/ID", "unknown");
    container("/system.slice/nerdctl-ID.scope", "nerdctl");
    container("/user.slice/user-1000.slice/user@1000.service/user.slice/nerdctl-ID.scope", "nerdctl");
    let lxc = at("/lxc.payload.web/init.scope").container.unwrap();
    assert_eq!((&*lxc.runtime, &*lxc.id), ("lxc", "web"));
}

#[test]
fn the_unit_is_the_one_that_systemd_started() {
    unit("/system.slice/victim.service", "victim.service");
    unit("/system.slice/system-getty.slice/getty@tty1.service", "getty@tty1.service");
    unit("/system.slice/web.service/workers/3", "web.service");
    unit("/init.scope", "init.scope");
    unit("/user.slice/user-1000.slice/session-3.scope", "session-3.scope");
    unit("/user.slice", "user.slice");
    unit("/kubepods.slice/kubepods-besteffort.slice", "kubepods-besteffort.slice");
    unit("/system.slice/_cpu.service", "cpu.service");
    unit("/system.slice/cups.socket", "cups.socket");
}

#[test]
fn a_delegated_tree_cannot_pass_for_another_unit() {
    unit("/system.slice/web.service/system.slice/sshd.service", "web.service");
    unit("/system.slice/web.service/user@0.service/sshd.service", "web.service");
}

#[test]
fn a_user_manager_has_units_of_its_own() {
    const USER: &str = "/user.slice/user-1000.slice/user@1000.service";
    unit(USER, "user@1000.service");
    unit(&format!("{USER}/init.scope"), "user@1000.service");
    unit(&format!("{USER}/app.slice"), "user@1000.service");
    unit(&format!("{USER}/app.slice/sshd.service"), "user@1000.service/sshd.service");
    unit(
        &format!("{USER}/app.slice/app-org.kde.konsole.slice/konsole-1.scope"),
        "user@1000.service/konsole-1.scope",
    );
}

#[test]
fn a_nspawn_machine_has_units_of_its_own() {
    unit("/payload/system.slice/web.service", "web.service");
    unit("/payload/init.scope", "init.scope");
    unit("/machine.slice/systemd-nspawn@box.service", "systemd-nspawn@box.service");
    unit("/machine.slice/systemd-nspawn@box.service/supervisor", "systemd-nspawn@box.service");
    unit(
        "/machine.slice/systemd-nspawn@box.service/payload/system.slice/web.service",
        "systemd-nspawn@box.service/web.service",
    );
    // As the machine's own it would be the host's unit of that name.
    for path in ["/h6/payload", "/h6/build/supervisor", "/h6/payload/system.slice/web.service"] {
        assert_eq!(at(path).unit, None, "{path}");
    }
    unit(
        "/machine.slice/machine-box.scope/payload/system.slice/web.service",
        "machine-box.scope/web.service",
    );
}

#[test]
fn paths_without_an_owner_have_no_place() {
    for path in ["/", "", "//", "/process_api/313ab872ab3da23d3f033bcf5089257a", "/h6", "/supervisor"] {
        assert!(at(path).is_empty(), "{path}");
    }
}

proptest::proptest! {
    #[test]
    fn no_path_makes_the_parser_panic(path in ".*") {
        let _place = place_of(&path);
    }

    #[test]
    fn no_mix_of_known_parts_makes_it_panic(parts in proptest::collection::vec(
        proptest::sample::select(vec![
            "payload", "user@1.service", "kubepods", "pod", "podx", ".slice", ".scope", "a.slice",
            "h6", "docker", "kubepods-pod.slice", "kubepods-podé.slice", "libpod-", ":cri-containerd:",
        ]),
        0..6,
    )) {
        let _place = place_of(&parts.join("/"));
    }
}
