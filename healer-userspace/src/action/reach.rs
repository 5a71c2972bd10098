//! From a target and a scope to processes held by pidfd.

use core::time::Duration;
use std::{io, path::Path};

use super::host::{Domain, Held, Host};
use crate::{
    engine::{
        class::Class,
        command::{Act, ActionOutcome},
        lease::Knob,
        policy::Scope,
    },
    identity::process::Place,
    text::printable,
};

/// Whom an act hits: checked, held, and named for a person.
pub(super) struct Reach {
    pub(super) held: Vec<Held>,
    /// `pid 7 (web)`, `3 processes of cgroup /a/b`
    pub(super) what: String,
    /// The scope, if it is more than the target.
    pub(super) domain: Option<Domain>,
}

/// Everybody in the rung's scope; refused as a whole if one of them is untouchable.
pub(super) fn everybody(act: &Act, host: &dyn Host) -> Result<Reach, ActionOutcome> {
    let target =
        host.hold(act.target.id()).map_err(|gone| ActionOutcome::Refused { reason: gone.to_string() })?;
    if let Some(domain) = domain(act, &target, host)? {
        return members(&domain, host);
    }
    let held = vec![target];
    all_touchable(&held, host)?;
    let what = format!("pid {} ({})", act.target.pid, printable(&act.target.comm));
    Ok(Reach { held, what, domain: None })
}

/// Everybody in it now; refused as a whole if one of them is untouchable.
pub(super) fn members(domain: &Domain, host: &dyn Host) -> Result<Reach, ActionOutcome> {
    let members = host.members(domain);
    let held = members.map_err(|error| failed(&format!("cannot list {domain}"), &error))?;
    all_touchable(&held, host)?;
    let what = format!("{} processes of {domain}", held.len());
    Ok(Reach { held, what, domain: Some(domain.clone()) })
}

fn all_touchable(held: &[Held], host: &dyn Host) -> Result<(), ActionOutcome> {
    let objection = held.iter().find_map(|one| host.untouchable(one));
    objection.map_or(Ok(()), |reason| Err(ActionOutcome::Refused { reason }))
}

fn domain(act: &Act, target: &Held, host: &dyn Host) -> Result<Option<Domain>, ActionOutcome> {
    let found = match act.rung.scope {
        Scope::Process => return Ok(None),
        Scope::Group => host.group(target),
        Scope::Cgroup => host.cgroup(target),
        // A container is its cgroup.
        Scope::Container if act.target.place.container.is_some() => host.cgroup(target),
        Scope::Container => {
            let error = format!("pid {} runs in no container", act.target.pid);
            return Err(ActionOutcome::Failed { error, errno: None });
        }
        Scope::Pod => return pod(act, target, host).map(Some),
    };
    match found {
        Ok(domain) => Ok(Some(domain)),
        Err(error) => Err(failed("cannot find the scope", &error)),
    }
}

/// All its containers, and the one that holds its namespaces.
fn pod(act: &Act, target: &Held, host: &dyn Host) -> Result<Domain, ActionOutcome> {
    let fail = |error: String| ActionOutcome::Failed { error, errno: None };
    let Some(pod) = &act.target.place.pod else {
        return Err(fail(format!("pid {} runs in no pod", act.target.pid)));
    };
    let inside = host.cgroup(target).map_err(|error| failed("cannot find the scope", &error))?;
    above(inside, &pod.uid).ok_or_else(|| {
        fail(format!("pid {} runs in no cgroup of pod {}", act.target.pid, printable(&pod.uid)))
    })
}

/// The kubelet's cgroup of the pod (`pod<uid>`, `kubepods-pod<uid_with_underscores>.slice`), which holds those of its
/// containers.
fn above(inside: Domain, uid: &str) -> Option<Domain> {
    let Domain::Cgroup { path, dir } = inside else { return None };
    let is_of_pod = |part: &str| {
        let name = part.strip_suffix(".slice").map(|slice| slice.replace('_', "-"));
        let name = name.as_deref().unwrap_or(part);
        name.strip_suffix(uid).is_some_and(|rest| rest == "pod" || rest.ends_with("-pod"))
    };
    let parts: Vec<&str> = path.split('/').collect();
    let at = parts.iter().rposition(|part| is_of_pod(part)).filter(|_| !uid.is_empty())?;
    let below = parts.len() - 1 - at;
    let dir = dir.ancestors().nth(below)?.to_owned();
    Some(Domain::Cgroup { path: parts[..=at].join("/"), dir })
}

/// Refused if somebody must not be touched in the group that an owner is about to turn.
pub(super) fn spare_owned(act: &Act, host: &dyn Host) -> Result<(), ActionOutcome> {
    let target =
        host.hold(act.target.id()).map_err(|gone| ActionOutcome::Refused { reason: gone.to_string() })?;
    let group = host.cgroup(&target).map_err(|error| failed("cannot find the group", &error))?;
    let Domain::Cgroup { dir, .. } = group else {
        return Ok(());
    };
    let dir = whole(&dir, &act.target.place).to_string_lossy().into_owned();
    let objection = host.spare(&Knob::Cgroup { dir, dev: 0, inode: 0, file: String::new() });
    objection.map_or(Ok(()), |reason| Err(ActionOutcome::Refused { reason }))
}

/// The container's group that carries its id: some runtimes put what they run one below, and a pause holds all of it.
fn whole<'dir>(dir: &'dir Path, place: &Place) -> &'dir Path {
    let id = place.container.as_ref().map(|container| container.id.as_str());
    let Some(id) = id.filter(|id| !id.is_empty()) else {
        return dir;
    };
    let carries = |part: &&Path| part.file_name().is_some_and(|name| name.to_string_lossy().contains(id));
    dir.ancestors().filter(carries).last().unwrap_or(dir)
}

impl Reach {
    /// Sends a signal to each; one that is gone already has what the signal wanted.
    pub(super) fn signal(&self, host: &dyn Host, signal: i32) -> Result<(), ActionOutcome> {
        for one in &self.held {
            match host.signal(one, signal) {
                Ok(()) => {}
                Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
                Err(error) => {
                    let tried = format!("cannot send {} to pid {}", name(signal), one.id.pid);
                    return Err(failed(&tried, &error));
                }
            }
        }
        Ok(())
    }

    /// Where memory is what runs out, it is not left to those who were killed. Words, if the kernel took it.
    pub(super) async fn release(&self, act: &Act, host: &dyn Host) -> &'static str {
        if !matches!(act.class, Class::MemoryLeak | Class::MemoryPressure) {
            return "";
        }
        let mut says = "";
        for one in &self.held {
            // Whoever is gone by now has given it back.
            if host.release_memory(one).await.is_ok() {
                says = ", its memory taken at once";
            }
        }
        says
    }

    /// True once all have ended, by the kernel's word.
    pub(super) async fn ended(&self, host: &dyn Host, within: Duration) -> bool {
        let all = async {
            for one in &self.held {
                host.ended(one).await;
            }
        };
        tokio::time::timeout(within, all).await.is_ok()
    }

    /// Words for those that SIGKILL did not end.
    pub(super) fn unkillable(&self, host: &dyn Host, after: Duration) -> ActionOutcome {
        let left = self.held.iter().filter_map(|one| {
            let state = host.state(one)?;
            Some(format!("pid {} {state}", one.id.pid))
        });
        let left: Vec<_> = left.take(5).collect();
        ActionOutcome::Failed {
            error: format!(
                "unkillable: {} s after SIGKILL still there: {}",
                after.as_secs(),
                left.join(", ")
            ),
            errno: None,
        }
    }
}

pub(super) fn failed(tried: &str, error: &io::Error) -> ActionOutcome {
    ActionOutcome::Failed { error: format!("{tried}: {error}"), errno: error.raw_os_error() }
}

/// `SIGTERM`, or `signal 35`.
pub(super) fn name(signal: i32) -> String {
    let named = match signal {
        libc::SIGHUP => "SIGHUP",
        libc::SIGINT => "SIGINT",
        libc::SIGQUIT => "SIGQUIT",
        libc::SIGABRT => "SIGABRT",
        libc::SIGKILL => "SIGKILL",
        libc::SIGUSR1 => "SIGUSR1",
        libc::SIGUSR2 => "SIGUSR2",
        libc::SIGTERM => "SIGTERM",
        other => return format!("signal {other}"),
    };
    named.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::process::Container;

    #[test]
    fn a_container_is_looked_at_as_a_whole() {
        let container = Some(Container { id: "c0ffee".to_owned(), ..Container::default() });
        let place = Place { container, ..Place::default() };
        let of = |dir: &str| whole(Path::new(dir), &place).to_string_lossy().into_owned();
        assert_eq!(of("/machine.slice/libpod-c0ffee.scope/container"), "/machine.slice/libpod-c0ffee.scope");
        assert_eq!(of("/run-1.scope/libpod-payload-c0ffee/container"), "/run-1.scope/libpod-payload-c0ffee");
        for own in ["/docker/c0ffee", "/system.slice/docker-c0ffee.scope", "/machine.slice/another/container"]
        {
            assert_eq!(of(own), own);
        }
        let unit = Path::new("/system.slice/web.service");
        assert_eq!(whole(unit, &Place::default()), unit);
    }

    #[test]
    fn a_pods_cgroup_is_above_those_of_its_containers() {
        const UID: &str = "0a-1b";
        let above = |path: &str| {
            let dir = format!("/sys/fs/cgroup{path}").into();
            match above(Domain::Cgroup { path: path.to_owned(), dir }, UID)? {
                Domain::Cgroup { path, dir } => {
                    assert_eq!(dir.to_str().unwrap(), format!("/sys/fs/cgroup{path}"));
                    Some(path)
                }
                Domain::Group(_) => None,
            }
        };
        assert_eq!(above("/kubepods/besteffort/pod0a-1b/c0ffee").unwrap(), "/kubepods/besteffort/pod0a-1b");
        assert_eq!(above("/k/pod0a-1b/c0ffee/init.scope").unwrap(), "/k/pod0a-1b");
        let slice = "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod0a_1b.slice";
        assert_eq!(above(&format!("{slice}/cri-containerd-c0ffee.scope")).unwrap(), slice);
        assert_eq!(above("/kubepods/pod0a-1bc/c0ffee"), None, "another pod");
        assert_eq!(above("/kubepods/pod00a-1b/c0ffee"), None, "another pod");
    }
}
