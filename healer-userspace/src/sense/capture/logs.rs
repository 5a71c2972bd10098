//! The end of a patient's log, from wherever it goes: its container's file, journald, or the files that it writes itself.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use serde_json::Value;

use super::{Sources, journal, tail};
use crate::{
    identity::process::{Container, Pod, Process},
    sense::waits::Proc,
    text::printable,
};

/// Of those that it writes itself.
const FILES_MAX: usize = 3;
const STDOUT: u32 = 1;
const STDERR: u32 = 2;

pub(super) fn last(sources: &Sources, proc: &Proc, process: &Process, lives: bool, lines: usize) -> String {
    let place = &process.place;
    let mut text = String::new();
    if let Some(container) = &place.container {
        text += &of_container(sources, container, place.pod.as_ref(), lines);
    }
    if let Some(unit) = &place.unit {
        text += &match journal::last(&sources.journals, unit, lines) {
            Ok(said) => listed(&format!("the journal of {unit}"), &said),
            Err(error) => format!("  {}\n", printable(&error)),
        };
    }
    let mut seen = BTreeSet::new();
    for path in own_files(proc, process, lives) {
        let Some(file) = tail::regular(&path).filter(|file| seen.insert((file.dev(), file.ino()))) else {
            continue;
        };
        // An empty file says nothing.
        if file.len() == 0 || FILES_MAX < seen.len() {
            continue;
        }
        let named = fs::read_link(&path).unwrap_or(path.clone());
        text += &of_file(&path, &named, lines, &|line| line.to_owned());
    }
    if text.is_empty() { "  no log of its own is found\n".to_owned() } else { text }
}

fn listed(whose: &str, said: &[String]) -> String {
    if said.is_empty() {
        return String::new();
    }
    let lines: String = said.iter().map(|line| tail::shown(line)).collect();
    format!("  {} last lines of {}\n{lines}", said.len(), printable(whose))
}

fn of_file(path: &Path, named: &Path, lines: usize, read: &dyn Fn(&str) -> String) -> String {
    let named = named.display().to_string();
    match tail::last(path, lines) {
        Ok(said) => listed(&named, &said.iter().map(|line| read(line)).collect::<Vec<_>>()),
        Err(error) => format!("  {} cannot be read: {error}\n", printable(&named)),
    }
}

fn of_container(sources: &Sources, container: &Container, pod: Option<&Pod>, lines: usize) -> String {
    if let Some(file) = container.log_file.as_deref().map(Path::new) {
        return of_file(file, file, lines, &docker_line);
    }
    let file = pod.and_then(|pod| of_kubelet(&sources.pods, pod, &container.name));
    file.map_or_else(String::new, |file| of_file(&file, &file, lines, &str::to_owned))
}

/// The newest of `NAMESPACE_POD_UID/CONTAINER/N.log` (kubelet, BuildContainerLogsDirectory).
fn of_kubelet(pods: &Path, pod: &Pod, container: &str) -> Option<PathBuf> {
    let Pod { namespace, name, uid, .. } = pod;
    // All of them are the cluster's words.
    if [namespace, name, uid, container].iter().any(|part| part.is_empty() || part.contains('/')) {
        return None;
    }
    let files = fs::read_dir(pods.join(format!("{namespace}_{name}_{uid}")).join(container)).ok()?;
    let number = |path: &PathBuf| path.file_name()?.to_str()?.strip_suffix(".log")?.parse::<u32>().ok();
    let files = files.flatten().map(|entry| entry.path());
    files.filter_map(|path| Some((number(&path)?, path))).max().map(|(_, path)| path)
}

/// `{"log":"text\n","stream":"stderr","time":"…"}` of Docker's json-file; another driver's file as it is.
fn docker_line(line: &str) -> String {
    let read: Option<Value> = serde_json::from_str(line).ok();
    let said = read.as_ref().and_then(|read| Some((read["time"].as_str()?, read["log"].as_str()?)));
    said.map_or_else(|| line.to_owned(), |(time, log)| format!("{time} {}", log.trim_end()))
}

/// Standard output and error, then whatever it has open for writing and calls a log. Of the dead: its parent's output,
/// which they shared.
fn own_files(proc: &Proc, process: &Process, lives: bool) -> Vec<PathBuf> {
    let path = |pid: u32, fd: u32| proc.path(&format!("{pid}/fd/{fd}"));
    let outputs = |pid: u32| [STDOUT, STDERR].map(|fd| path(pid, fd));
    let pid = process.pid;
    // Somebody who has ended and is not reaped yet has none.
    let open = if lives { proc.fds(pid) } else { Vec::new() };
    if !open.is_empty() {
        let logs = open.into_iter().filter(|fd| is_log(proc, pid, *fd));
        return outputs(pid).into_iter().chain(logs.map(|fd| path(pid, fd))).collect();
    }
    let parent = process.parent.as_ref().filter(|parent| {
        let ticks = proc.ticks(parent.start.0);
        proc.stat(parent.pid, parent.pid).is_some_and(|stat| proc.ticks(stat.start_boot_ns) == ticks)
    });
    parent.map_or_else(Vec::new, |parent| outputs(parent.pid).into())
}

fn is_log(proc: &Proc, pid: u32, fd: u32) -> bool {
    let name = proc.fd_target(pid, fd).unwrap_or_default();
    if !name.starts_with('/') || !name.rsplit('/').next().is_some_and(|name| name.contains("log")) {
        return false;
    }
    let info = proc.text(&format!("{pid}/fdinfo/{fd}")).unwrap_or_default();
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|octal| i32::from_str_radix(octal.trim(), 8).ok()).unwrap_or_default();
    flags & libc::O_ACCMODE != libc::O_RDONLY
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::scratch::Scratch;

    #[test]
    fn the_newest_log_of_a_pods_container_is_found() {
        let scratch = Scratch::new("pod-logs");
        let dir = scratch.path().join("prod_web-0_u1/app");
        fs::create_dir_all(&dir).unwrap();
        for name in ["0.log", "9.log", "10.log", "10.log.20260101"] {
            fs::write(dir.join(name), name).unwrap();
        }
        let pod = Pod { namespace: "prod".into(), name: "web-0".into(), uid: "u1".into(), ..Pod::default() };
        assert_eq!(of_kubelet(scratch.path(), &pod, "app"), Some(dir.join("10.log")));
        assert_eq!(of_kubelet(scratch.path(), &pod, "../app"), None);
    }

    #[test]
    fn a_line_of_docker_is_read() {
        let line = r#"{"log":"hello\n","stream":"stdout","time":"2026-01-02T03:04:05Z"}"#;
        assert_eq!(docker_line(line), "2026-01-02T03:04:05Z hello");
        assert_eq!(docker_line("not json"), "not json");
    }
}
