//! The scans of the tasks: in a thread of their own, because some read much of /proc.

use std::{io, path::Path, thread};

use tokio::sync::mpsc;

use super::Agent;
use crate::{
    clock,
    engine::time::BootTime,
    sense::{poll::tasks::TaskScan, waits::Scanner},
    signal::{Fact, Signal, waits::WaitSnapshot},
};

/// A slow engine gets the newest snapshots later, not all of them.
const WAITING_MAX: usize = 4;

pub(super) type Snapshots = mpsc::Receiver<(BootTime, WaitSnapshot)>;

/// Scans until nobody listens any more. Without `scan` /proc is read.
pub(super) fn start(scan: Option<TaskScan>) -> io::Result<Snapshots> {
    let (sender, snapshots) = mpsc::channel(WAITING_MAX);
    let scanner = move || scan_on(&mut Scanner::new(scan, Path::new("/proc")), &sender);
    thread::Builder::new().name("healer-waits".to_owned()).spawn(scanner)?;
    Ok(snapshots)
}

fn scan_on(scanner: &mut Scanner, sender: &mpsc::Sender<(BootTime, WaitSnapshot)>) {
    // What is over has to be told too: two empty snapshots after the last that was not.
    let mut empty = 2_u32;
    let mut troubled = false;
    while !sender.is_closed() {
        match scanner.scan(&mut |_, _| None) {
            Ok(snapshot) => {
                troubled = false;
                empty = if snapshot.is_empty() { empty.saturating_add(1) } else { 0 };
                if empty <= 2 {
                    // Full: the next one says the same or more.
                    sender.try_send((clock::boot(), snapshot)).ok();
                }
            }
            Err(error) if !troubled => {
                troubled = true;
                tracing::warn!("the tasks cannot be scanned: {error}");
            }
            Err(_) => {}
        }
        thread::sleep(scanner.interval());
    }
}

impl Agent {
    /// Identity first, then the same door as any signal.
    pub(super) fn waits(&mut self, at: BootTime, mut snapshot: WaitSnapshot) {
        for one in &mut snapshot.processes {
            let id = one.process.id();
            if let Some(process) = self.identity.of_id(id) {
                one.process = process;
            }
        }
        self.observe(&Signal { at, process: None, fact: Fact::Waits(snapshot) });
    }
}
