//! Where signals go besides the engine: the file of `healer run --record`, and whoever runs `healer record`.

use std::{
    fs::File,
    io::{self, BufWriter, Write as _},
};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::Agent;
use crate::{
    clock,
    engine::{time::BootTime, world::World},
    signal::{Fact, Ring, Signal},
};

#[derive(Default)]
pub(super) struct Taps {
    file: Option<BufWriter<File>>,
    streams: Vec<Stream>,
}

struct Stream {
    lines: mpsc::Sender<Bytes>,
    /// Lines that found no room: told to the reader as lost records, because to the trace they are.
    missed: u64,
}

impl Taps {
    pub(super) fn into_file(file: Option<File>) -> Self {
        Self { file: file.map(BufWriter::new), streams: Vec::new() }
    }

    /// From now on `lines` gets every signal, after those in `first`.
    fn open(&mut self, lines: mpsc::Sender<Bytes>, first: &[Signal]) {
        let mut stream = Stream { lines, missed: 0 };
        for line in first.iter().filter_map(|signal| line(signal).ok()) {
            stream.push(&line);
        }
        self.streams.push(stream);
    }

    fn is_idle(&self) -> bool {
        self.file.is_none() && self.streams.is_empty()
    }

    fn keep(&mut self, signal: &Signal) -> io::Result<()> {
        let line = line(signal)?;
        self.streams.retain_mut(|stream| stream.push(&line));
        if let Some(file) = &mut self.file {
            file.write_all(&line).inspect_err(|_| self.file = None)?;
        }
        Ok(())
    }

    pub(super) fn flush(&mut self) {
        if let Some(file) = &mut self.file {
            // The next write tells a full disk.
            file.flush().ok();
        }
    }
}

impl Stream {
    /// False once the reader is gone.
    fn push(&mut self, signal: &Bytes) -> bool {
        if 0 < self.missed {
            let told = line(&Signal::lost(clock::boot(), Ring::Bulk, self.missed));
            match told.map(|told| self.lines.try_send(told)) {
                Ok(Ok(())) => self.missed = 0,
                Ok(Err(mpsc::error::TrySendError::Closed(_))) => return false,
                Ok(Err(mpsc::error::TrySendError::Full(_))) | Err(_) => {
                    self.missed += 1;
                    return true;
                }
            }
        }
        match self.lines.try_send(signal.clone()) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.missed += 1;
                true
            }
            Err(mpsc::error::TrySendError::Closed(_)) => false,
        }
    }
}

fn line(signal: &Signal) -> io::Result<Bytes> {
    let mut line = serde_json::to_vec(signal)?;
    line.push(b'\n');
    Ok(line.into())
}

impl Agent {
    /// Appends one signal to the recordings, if there are any.
    pub(super) fn keep(&mut self, signal: &Signal) {
        if self.taps.is_idle() {
            return;
        }
        if let Err(error) = self.taps.keep(signal) {
            tracing::error!("the recording ends here: {error}");
        }
    }

    /// A trace begins with whoever lives now: else its replay would not miss them when they are gone.
    pub(super) fn record_to(&mut self, lines: mpsc::Sender<Bytes>) {
        let living = living(clock::boot(), self.engine.world());
        self.taps.open(lines, &living);
    }
}

fn living(now: BootTime, world: &World) -> Vec<Signal> {
    let mut signals = Vec::new();
    for (_, workload) in world.iter() {
        let fact = workload.supervisor.clone().map_or(Fact::Execed, Fact::Registered);
        let waits = matches!(&fact, Fact::Registered(told) if told.waiting.is_some());
        let dead = workload.last_dead.iter().filter(|_| waits);
        for process in workload.living.values().chain(dead) {
            signals.push(Signal { at: now, process: Some(process.clone()), fact: fact.clone() });
        }
    }
    signals
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signal(at: u64) -> Signal {
        Signal::lost(BootTime(at), Ring::Urgent, 1)
    }

    fn read(lines: &mut mpsc::Receiver<Bytes>) -> Vec<Signal> {
        std::iter::from_fn(|| lines.try_recv().ok())
            .map(|line| serde_json::from_slice(&line).unwrap())
            .collect()
    }

    #[test]
    fn a_slow_reader_is_told_how_much_it_missed() {
        let (to, mut lines) = mpsc::channel(2);
        let mut taps = Taps::default();
        taps.open(to, &[signal(1)]);
        for at in 2..=5 {
            taps.keep(&signal(at)).unwrap();
        }
        assert_eq!(read(&mut lines), [signal(1), signal(2)]);
        taps.keep(&signal(6)).unwrap();
        let told = read(&mut lines);
        assert!(matches!(told[0].fact, Fact::Lost { count: 3, .. }), "{told:?}");
        assert_eq!(told[1], signal(6));
    }

    #[test]
    fn a_reader_that_is_gone_is_forgotten() {
        let (to, lines) = mpsc::channel(2);
        let mut taps = Taps::default();
        taps.open(to, &[]);
        drop(lines);
        taps.keep(&signal(1)).unwrap();
        assert!(taps.is_idle());
    }
}
