//! A pid namespace with a /proc of its own, for peers and victim alone; and a view of a machine that is small.

use std::{
    fs::File,
    io::{BufRead as _, BufReader},
    os::unix::fs::FileExt as _,
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use anyhow::Context as _;
use healer_userspace::{clock, engine::time::BootTime};

use crate::{hangs::family, scratch::Scratch};

pub(super) struct Peer {
    pub(super) name: &'static str,
    pub(super) command: Vec<String>,
}

/// A line that a peer has written, and when.
pub(super) struct Line {
    pub(super) at: BootTime,
    pub(super) of: &'static str,
    pub(super) text: String,
}

/// Ended, with everybody inside, on drop. The empty one holds nobody.
#[derive(Default)]
pub(super) struct Apart {
    spaces: Option<Child>,
    peers: Vec<(&'static str, Child)>,
    lines: Option<mpsc::Receiver<Line>>,
    meminfo: Option<(File, Scratch)>,
}

const PATIENCE: Duration = Duration::from_secs(30);
/// Fixed, so that one write replaces all of it.
const VIEW_BYTES: usize = 4096;

impl Apart {
    /// With `small` the peers read of a machine of so many bytes, all of them free, until they are told otherwise.
    pub(super) fn start(peers: Vec<&Peer>, small: Option<u64>) -> anyhow::Result<Self> {
        let mut apart = Self::default();
        let mut script = String::new();
        if let Some(bytes) = small {
            let scratch = Scratch::new();
            let path = scratch.path().join("meminfo");
            apart.meminfo = Some((File::create(&path)?, scratch));
            apart.show(bytes, bytes);
            script = format!("mount --bind {} /proc/meminfo && ", path.display());
        }
        script += "echo ready && exec sleep 1000";
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c", &script]);
        let mut spaces = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("unshare")?;
        let mut ready = String::new();
        let out = spaces.stdout.take().context("its stdout")?;
        apart.spaces = Some(spaces);
        BufReader::new(out).read_line(&mut ready)?;
        anyhow::ensure!(ready.trim() == "ready", "no pid namespace, or no view of /proc/meminfo in it");
        let (sender, lines) = mpsc::channel();
        apart.lines = Some(lines);
        for peer in peers {
            apart.add(peer, &sender)?;
        }
        Ok(apart)
    }

    fn add(&mut self, peer: &Peer, sender: &mpsc::Sender<Line>) -> anyhow::Result<()> {
        let words = [self.enter()?, "\"$@\" 2>&1".to_owned()].join(" ");
        let mut command = Command::new("sh");
        command.args(["-c", &format!("exec {words}"), "sh"]).args(&peer.command);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context(peer.name)?;
        let out = BufReader::new(child.stdout.take().context("its stdout")?);
        self.peers.push((peer.name, child));
        let (of, sender, (begun, begins)) = (peer.name, sender.clone(), mpsc::channel());
        thread::spawn(move || {
            for text in out.lines().map_while(Result::ok) {
                begun.send(()).ok();
                if sender.send(Line { at: clock::boot(), of, text }).is_err() {
                    return;
                }
            }
        });
        begins.recv_timeout(PATIENCE).with_context(|| format!("{of} says nothing"))
    }

    /// Words that run a command inside: as a child, for only children change their pid namespace.
    pub(super) fn enter(&self) -> anyhow::Result<String> {
        let spaces = self.spaces.as_ref().context("there is no namespace")?;
        let first = *family(spaces.id()).get(1).context("the namespace has no first process")?;
        Ok(format!("nsenter --target {first} --pid --mount --"))
    }

    /// What a machine of `total` bytes would say with so many of them free.
    pub(super) fn show(&self, total: u64, free: u64) {
        let Some((file, _)) = &self.meminfo else { return };
        let real = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let line = |line: &str| {
            let (name, _) = line.split_once(':')?;
            Some(match name {
                "MemTotal" => format!("{name}: {:12} kB\n", total >> 10),
                "MemFree" | "MemAvailable" => format!("{name}: {:12} kB\n", free >> 10),
                "Buffers" | "Cached" | "SReclaimable" | "Shmem" | "SwapTotal" | "SwapFree" => {
                    format!("{name}: {:12} kB\n", 0)
                }
                _ => return Some(format!("{line}\n")),
            })
        };
        let mut text: String = real.lines().filter_map(line).collect();
        text.truncate(VIEW_BYTES);
        let padded = format!("{text:\n<VIEW_BYTES$}");
        file.write_all_at(padded.as_bytes(), 0).ok();
    }

    /// What was written since the last call.
    pub(super) fn lines(&self) -> Vec<Line> {
        self.lines.iter().flat_map(mpsc::Receiver::try_iter).collect()
    }

    /// The process of a peer itself.
    pub(super) fn pid_of(&self, peer: &str) -> Option<u32> {
        let (_, child) = self.peers.iter().find(|(name, _)| *name == peer)?;
        family(child.id()).last().copied()
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        // The first process inside dies with it, and with that all of them.
        for child in self.spaces.iter_mut().chain(self.peers.iter_mut().map(|(_, child)| child)) {
            child.kill().ok();
            child.wait().ok();
        }
    }
}
