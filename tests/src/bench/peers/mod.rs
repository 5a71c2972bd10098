//! earlyoom and nohang beside healer on the same victims: who saw it, when, whom it struck, what it explained.
//!
//! Their packages are unpacked and never installed, for installed they would start for the whole machine. They run in
//! a pid namespace with nobody but themselves and the victim: they can strike nobody else.

mod apart;
mod course;
mod row;

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf, thread};

use anyhow::{Context as _, ensure};
use healer_userspace::fault::{Fault, victim::Victim};

use self::{
    apart::{Apart, Peer},
    course::Course,
};
pub use row::{Row, table};

use super::{args::Args, say};
use crate::{
    binary::healer,
    home::{Agent, Home},
    scratch::Scratch,
};

/// What all of them meet.
struct Scene {
    what: &'static str,
    fault: &'static str,
    /// It ignores SIGTERM.
    is_deaf: bool,
    /// The peers are shown a machine that is as large as the victim's limit; else this one.
    is_small: bool,
}

const SCENES: [Scene; 4] = [
    Scene {
        what: "2 MB/s up to the limit of a cgroup of 256 MiB, on a machine with plenty",
        fault: "leak",
        is_deaf: false,
        is_small: false,
    },
    Scene {
        what: "the same where that is all that the machine has, and SIGTERM is ignored",
        fault: "leak",
        is_deaf: true,
        is_small: true,
    },
    Scene {
        what: "4 MB/s beside a larger process, where 256 MiB is all",
        fault: "leak-neighbour",
        is_deaf: false,
        is_small: true,
    },
    Scene { what: "30 MB/s, where 256 MiB is all", fault: "leak-fast", is_deaf: false, is_small: true },
];

const NOBODY: &str = "/none";

/// # Errors
/// Their packages are not unpacked, or a scene cannot be made.
pub fn rows(_args: &Args) -> anyhow::Result<Vec<Row>> {
    let peers = peers()?;
    let mut rows = Vec::new();
    for scene in &SCENES {
        say(&format!("peers: {}", scene.what));
        rows.extend(if scene.is_small { one_by_one(scene, &peers)? } else { together(scene, &peers)? });
    }
    Ok(rows)
}

/// `HEALER_PEERS`: where each package was unpacked, as `cargo xtask bench` does it.
fn peers() -> anyhow::Result<[Peer; 2]> {
    let dir = std::env::var_os("HEALER_PEERS").map(PathBuf::from);
    let dir = dir.context("no packages to compare with: `cargo xtask bench -- --only peers` fetches them")?;
    let (earlyoom, nohang) = (dir.join("earlyoom/usr/bin/earlyoom"), dir.join("nohang"));
    let config = nohang.join("etc/nohang/nohang.conf");
    ensure!(earlyoom.is_file() && config.is_file(), "{} lacks earlyoom or nohang", dir.display());
    let text = |path: PathBuf| path.display().to_string();
    let nohang = ["python3".to_owned(), "-u".to_owned(), text(nohang.join("usr/sbin/nohang"))];
    let options = ["--monitor".to_owned(), "--config".to_owned(), text(config)];
    Ok([
        Peer { name: "earlyoom", command: vec![text(earlyoom), "-r".to_owned(), "0".to_owned()] },
        Peer { name: "nohang", command: nohang.into_iter().chain(options).collect() },
    ])
}

/// All see one victim, and healer looks on: the kernel ends it.
fn together(scene: &Scene, peers: &[Peer]) -> anyhow::Result<Vec<Row>> {
    let home = Home::new(&policy("shadow", NOBODY));
    let mut agent = home.agent();
    let scratch = Scratch::new();
    let apart = Apart::start(peers.iter().collect(), None)?;
    let victim = start(scene, &scratch, Some(&apart))?;
    home.write_policy(&policy("shadow", victim.cgroup.path()));
    agent.says("reload", "1 policies");
    let course = Course::follow(victim, &apart)?;
    let mut rows: Vec<Row> = peers.iter().map(|peer| course.row_of(scene.what, peer.name, &apart)).collect();
    rows.push(row_of_healer(scene, &course, &home, &agent));
    Ok(rows)
}

/// Each has a victim of its own, all at the same time.
fn one_by_one(scene: &Scene, peers: &[Peer]) -> anyhow::Result<Vec<Row>> {
    thread::scope(|scope| {
        let runs: Vec<_> = peers.iter().map(|peer| scope.spawn(|| alone(scene, peer))).collect();
        let last = healer_alone(scene);
        let rows = runs.into_iter().map(|run| run.join().expect("the run panicked"));
        rows.chain([last]).collect()
    })
}

fn alone(scene: &Scene, peer: &Peer) -> anyhow::Result<Row> {
    let scratch = Scratch::new();
    let limit = Fault::by_name(scene.fault).context("no such fault")?.memory;
    let apart = Apart::start(vec![peer], Some(limit))?;
    let course = Course::follow(start(scene, &scratch, Some(&apart))?, &apart)?;
    Ok(course.row_of(scene.what, peer.name, &apart))
}

fn healer_alone(scene: &Scene) -> anyhow::Result<Row> {
    let home = Home::new(&policy("enforce", NOBODY));
    let mut agent = home.agent();
    let scratch = Scratch::new();
    let victim = start(scene, &scratch, None)?;
    home.write_policy(&policy("enforce", victim.cgroup.path()));
    agent.says("reload", "1 policies");
    let course = Course::follow(victim, &Apart::default())?;
    Ok(row_of_healer(scene, &course, &home, &agent))
}

fn row_of_healer(scene: &Scene, course: &Course, home: &Home, agent: &Agent<'_>) -> Row {
    course.row_of_healer(scene.what, &home.audit(), agent.pid())
}

/// The fault in its own cgroup, where the peers see it.
fn start(scene: &Scene, scratch: &Scratch, apart: Option<&Apart>) -> anyhow::Result<Victim> {
    let fault = Fault::by_name(scene.fault).context("no such fault")?;
    let deafen = if scene.is_deaf { "trap '' TERM\n" } else { "" };
    let enter = apart.map(Apart::enter).transpose()?.unwrap_or_default();
    let script = format!("#!/bin/sh\n{deafen}exec {enter} '{}' \"$@\"\n", healer().display());
    let wrapper = scratch.path().join("victim");
    fs::write(&wrapper, script)?;
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755))?;
    Victim::of_binary(&wrapper, fault, scratch.path()).context("start the victim")
}

/// A leak is stopped, or would be.
fn policy(mode: &str, cgroup: &str) -> String {
    format!(
        "apiVersion: healer.dev/v1alpha1\nkind: HealPolicy\nmetadata: {{name: peers}}\nspec:\n  mode: {mode}\n  \
         match: {{cgroup: \"{cgroup}\"}}\n  rules:\n    - name: leak\n      \
         when: [{{class: memory_leak, timeToLimit: {{under: 20s}}}}]\n      \
         escalate: [{{do: stop, grace: 1s}}, {{do: notify}}]\n    - name: killed\n      \
         when: [{{class: oom_kill}}]\n      escalate: [{{do: notify}}]\n  \
         verify: {{within: 10s, stableFor: 1s}}\n"
    )
}
