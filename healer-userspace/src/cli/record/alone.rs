//! Recording where no agent runs: healer's own eyes and identity, without the engine.

use std::path::PathBuf;

use anyhow::Context as _;
use healer_common::event::Event;

use super::{PATIENCE, told};
use crate::{
    clock,
    config::{self, Sources},
    engine::{
        detect,
        policy::{PolicySet, choose},
        time::BootTime,
    },
    identity::{Identity, exe::ExeId, roots::Roots},
    sense::{Lost, Sense, SensorState, Settings},
    signal::{self, Fact, Meaning, Raw, Signal},
};

struct Recorder {
    sense: Sense,
    identity: Identity,
    policies: PolicySet,
    lost: Lost,
}

pub(super) fn record(policies: &[PathBuf], until: Option<BootTime>) -> anyhow::Result<()> {
    let sources = Sources { policies: policies.to_vec(), ..Sources::default() };
    let loaded =
        config::load(&sources, &detect::is_built).map_err(|problems| anyhow::anyhow!("{problems}"))?;
    // The rings are watched by a runtime's epoll.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("make the event loop")?.block_on(async {
        let mut recorder = Recorder::open(loaded.policies)?;
        let mut goes_on = recorder.begin()?;
        while goes_on && until.is_none_or(|until| clock::boot() < until) {
            if let Ok(ready) = tokio::time::timeout(PATIENCE, recorder.sense.readable()).await {
                ready.context("watch the rings")?;
            }
            goes_on = recorder.drain()?;
        }
        Ok(())
    })
}

impl Recorder {
    fn open(policies: PolicySet) -> anyhow::Result<Self> {
        let mut sense = Sense::start(&Settings::default());
        if let Some(down) = sense.sensors().iter().find(|sensor| sensor.state == SensorState::Down) {
            let reason = down.reason.as_deref().unwrap_or("unknown reason");
            let remedy = down.remedy.as_deref().unwrap_or("see `healer doctor`");
            anyhow::bail!("no agent runs, and sensor {} is down: {reason}; {remedy}", down.name);
        }
        let exes = policies.policies.iter().flat_map(|policy| &policy.matches.exes);
        for id in exes.filter_map(|path| ExeId::at(path)) {
            sense.watch_exe(id.ino).context("watch a policy's executable")?;
        }
        Ok(Self { sense, identity: Identity::new(Roots::default()), policies, lost: Lost::default() })
    }

    /// Who lives already, so that the replay misses them when they are gone.
    fn begin(&mut self) -> anyhow::Result<bool> {
        let now = clock::boot();
        self.identity.scan(now);
        let policies = &self.policies;
        let all = self.identity.processes();
        let tracked: Vec<_> = all.filter(|process| choose::tracked(policies, process)).cloned().collect();
        let signals =
            tracked.into_iter().map(|process| Signal { at: now, process: Some(process), fact: Fact::Execed });
        self.tell_all(signals.collect())
    }

    fn drain(&mut self) -> anyhow::Result<bool> {
        let mut raws: Vec<Raw> = Vec::new();
        self.sense.drain(|bytes| {
            if let Ok((header, event)) = Event::decode(bytes)
                && let Meaning::Happened(raw) = signal::interpret(&header, &event)
            {
                raws.push(raw);
            }
        });
        let mut signals: Vec<_> = raws.into_iter().map(|raw| self.identity.enrich(raw)).collect();
        let lost = self.sense.lost();
        signals.extend(Signal::losses(clock::boot(), lost.since(self.lost)));
        self.lost = lost;
        self.tell_all(signals)
    }

    fn tell_all(&mut self, signals: Vec<Signal>) -> anyhow::Result<bool> {
        for signal in signals {
            self.follow(&signal);
            let mut line = serde_json::to_vec(&signal).context("write a signal as JSON")?;
            line.push(b'\n');
            if !told(&line)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Every end of a tracked process is of interest, also with status 0.
    fn follow(&mut self, signal: &Signal) {
        let Some(process) = &signal.process else { return };
        if signal.fact == Fact::Execed && choose::tracked(&self.policies, process) {
            self.identity.track(process.id());
            // Its other ends come all the same.
            self.sense.track(process.pid).ok();
        }
    }
}
