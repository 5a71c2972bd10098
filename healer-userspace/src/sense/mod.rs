//! The kernel in: loads the programs, attaches what attaches, reads the rings.
//!
//! Nothing here fails as a whole: a part that does not work is a [`SensorStatus`] that says why.

mod attach;
pub mod btf;
mod calls;
pub mod capture;
pub mod format;
mod formats;
mod freezer;
pub mod govern;
mod governed;
mod layout;
mod load;
mod maps;
pub mod poll;
mod rights;
mod ring;
mod ring_memory;
mod room;
mod rung;
mod scancheck;
mod refusal;
mod selfcheck;
mod selfprobe;
mod settings;
mod short_turns;
mod start;
pub(crate) use start::give_memory_back;
mod status;
mod tracked;
mod tries;
mod trust;
mod user;
pub mod waits;

use std::{io, pin::Pin, time::Duration};

use aya::Ebpf;
use healer_common::network::{PeerCounters, PeerKey};

pub use load::OBJECT;
pub use maps::{Lost, MapTrouble};
pub use ring::Rings;
pub use rung::{BESIDE, Level, Rung, SENSORS, Sensor};
pub use selfprobe::SelfProbe;
pub use settings::{PIDS, Settings, USERS, is_in};
pub use short_turns::ask_for_short_turns;
pub use status::{Checked, SensorState, SensorStatus};

use crate::clock;
use governed::Governed;
use healer_common::event::{EventKind, Header, wire::Wire as _};
use maps::Maps;
use poll::{memory::ReclaimMap, tasks::TaskScan};
use selfcheck::SelfCheck;
use tries::Tries;
use user::User;

/// The start waits so long for the self-check; what is not said by then is judged later.
const CHECK_FOR: Duration = Duration::from_millis(40);
const CHECK_STEP: Duration = Duration::from_millis(1);

/// A loaded kernel program (`BPF_OBJ_GET_INFO_BY_FD`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramInfo {
    pub name: String,
    /// The kernel's number for it.
    pub id: u32,
    /// Instructions that the verifier walked through, of the million it allows; `None` before kernel 5.16.
    pub verified: Option<u32>,
}

/// The attached sensors and the ways to their records.
pub struct Sense {
    sensors: Vec<SensorStatus>,
    /// What became of the rights that only loading needs.
    rights: Option<String>,
    /// The way by which each of [`SENSORS`] works.
    rungs: Vec<Option<Rung>>,
    own_tgid: u32,
    probe: SelfProbe,
    check: Option<SelfCheck>,
    tries: Tries,
    /// The state of a sensor has changed since [`Sense::has_news`] was asked.
    has_news: bool,
    /// Kinds whose records are not used: their sensors lied.
    distrusted: Vec<EventKind>,
    /// Ports at which the self-check was refused: nobody's peers.
    refused: Vec<u16>,
    /// Records that were read while the start waited for the self-check.
    backlog: Vec<Vec<u8>>,
    kernel: Option<Kernel>,
    user: Option<User>,
    governed: Governed,
    /// Stands in for the rings' timer where there are none.
    rest: Option<Pin<Box<tokio::time::Sleep>>>,
}

/// What exists once the maps are loaded. Dropping it detaches every program.
struct Kernel {
    ebpf: Ebpf,
    maps: Maps,
    rings: Rings,
    task_scan: Option<TaskScan>,
    reclaim: Option<ReclaimMap>,
}

impl Sense {
    /// Loads and attaches all that this kernel and our rights allow, and checks that it tells the
    /// truth; takes tens of milliseconds.
    #[must_use]
    pub fn start(settings: &Settings) -> Self {
        let mut sense = start::start(settings);
        give_memory_back();
        sense.check_now();
        sense
    }

    /// One row per sensor, in the order of [`SENSORS`], then the scan of the tasks.
    #[must_use]
    pub fn sensors(&self) -> &[SensorStatus] {
        &self.sensors
    }

    /// Which rights were given up after loading, or why not; `None` if nobody asked for that.
    #[must_use]
    pub fn rights(&self) -> Option<&str> {
        self.rights.as_deref()
    }

    /// The scan of all threads, to be run wherever it suits; `None` if it does not work or was taken.
    pub fn take_task_scan(&mut self) -> Option<TaskScan> {
        self.kernel.as_mut()?.task_scan.take()
    }

    /// What is counted of reclaim, to be read wherever it suits; `None` if it is not counted or was taken.
    pub fn take_reclaim(&mut self) -> Option<ReclaimMap> {
        self.kernel.as_mut()?.reclaim.take()
    }

    /// Whether a sensor's row is another than at the last call.
    pub fn has_news(&mut self) -> bool {
        std::mem::take(&mut self.has_news)
    }

    /// What the self-probe has shown.
    #[must_use]
    pub fn self_probe(&self) -> SelfProbe {
        self.probe
    }

    /// Waits until there may be records, with kernel programs at most a second. Dropping the future
    /// loses nothing.
    ///
    /// # Errors
    /// If the event loop cannot watch the sources.
    pub async fn readable(&mut self) -> io::Result<()> {
        if !self.backlog.is_empty() {
            return Ok(());
        }
        let (kernel, user, rest) = (&mut self.kernel, &mut self.user, &mut self.rest);
        let kernel = async {
            match kernel {
                Some(kernel) => kernel.rings.readable().await,
                None => {
                    // Kept from call to call: whoever also waits for others drops the future when they come first.
                    rest.get_or_insert_with(|| Box::pin(tokio::time::sleep(ring::SWEEP))).await;
                    *rest = None;
                    Ok(())
                }
            }
        };
        let user = async {
            match user {
                Some(user) => user.readable().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            ready = kernel => ready,
            ready = user => ready,
        }
    }

    /// Hands every unread record to `on_record`, urgent ones first; gives their number.
    ///
    /// The bytes are for `healer_common::event::Event::decode`. What is about healer's own threads
    /// and children is kept back: it is the self-probe's and the self-check's.
    pub fn drain(&mut self, mut on_record: impl FnMut(&[u8])) -> usize {
        let backlog = std::mem::take(&mut self.backlog);
        for record in &backlog {
            on_record(record);
        }
        if self.kernel.is_some() || self.user.is_some() {
            self.probe.send(clock::boot());
        }
        let records = self.read(&mut on_record);
        self.judge(clock::boot());
        backlog.len() + records
    }

    fn read(&mut self, on_record: &mut dyn FnMut(&[u8])) -> usize {
        let mut records = 0;
        let (probe, check, tries, distrusted) =
            (&mut self.probe, &mut self.check, &self.tries, &self.distrusted);
        let mut hand_on = |record: &[u8]| {
            let is_ours = probe.claims(record)
                || check.as_mut().is_some_and(|check| check.claims(record))
                || tries.claims(record);
            if !is_ours && !is_of(record, distrusted) {
                records += 1;
                on_record(record);
            }
        };
        let user = &mut self.user;
        if let Some(user) = user {
            // Before the rings: of what it tells they have the reason by then.
            user.hear(&mut hand_on);
        }
        if let Some(kernel) = &mut self.kernel {
            kernel.rings.drain(|record| {
                if !user.as_mut().is_some_and(|user| user.takes(record, &mut hand_on)) {
                    hand_on(record);
                }
            });
        }
        if let Some(user) = user {
            user.drain(clock::boot(), &mut hand_on);
            for tgid in user.take_ended() {
                // The map may be full of others: then it forgets when the number comes round.
                self.kernel.as_mut().map(|kernel| kernel.maps.untrack(tgid).ok());
            }
        }
        records
    }

    /// It is known to end, and what is missing of the record is asked for.
    #[must_use]
    pub fn awaits_end_of(&self, tgid: u32) -> bool {
        self.user.as_ref().is_some_and(|user| user.awaits_end_of(tgid))
    }

    /// Records that did not fit into their ring, since start.
    #[must_use]
    pub fn lost(&self) -> Lost {
        let mut lost = self.kernel.as_ref().map_or_else(Lost::default, |kernel| kernel.maps.lost());
        lost.bulk += self.user.as_ref().map_or(0, User::lost);
        lost
    }

    /// Ends with status 0 of processes that are not tracked, which send no record.
    #[must_use]
    pub fn quiet_exits(&self) -> u64 {
        let kernel = self.kernel.as_ref().map_or(0, |kernel| kernel.maps.quiet_exits());
        kernel + self.user.as_ref().map_or(0, User::quiet_exits)
    }

    /// Who connected to whom, and how that went; costs some 2 µs an entry.
    #[must_use]
    pub fn peers(&mut self) -> Vec<(PeerKey, PeerCounters)> {
        let mut peers = self.kernel.as_ref().map_or_else(Vec::new, |kernel| kernel.maps.peers());
        if let Some(user) = &mut self.user {
            user.complete_peers(&mut peers);
        }
        let is_of_check = |key: &PeerKey| self.refused.iter().any(|port| key.port == u32::from(*port));
        peers.retain(|(key, counters)| {
            !(is_of_check(key) && counters.owner_tgid == self.own_tgid && counters.ok == 0)
        });
        peers
    }

    /// From now on every end and exec of this thread group and every exec of its children is
    /// sent at once. The kernel forgets it when it ends; one that ended before the call must be
    /// untracked by the caller.
    ///
    /// # Errors
    /// [`MapTrouble`]: nothing is loaded, or the map is full.
    pub fn track(&mut self, tgid: u32) -> Result<(), MapTrouble> {
        self.tell(|user| user.track(tgid), |maps| maps.track(tgid))
    }

    /// Takes [`Sense::track`] back; one that is not tracked is no error.
    ///
    /// # Errors
    /// [`MapTrouble`]: nothing is loaded.
    pub fn untrack(&mut self, tgid: u32) -> Result<(), MapTrouble> {
        self.tell(|user| user.untrack(tgid), |maps| maps.untrack(tgid))
    }

    /// From now on every exec of this file is sent, and of files of other file systems that have its number.
    ///
    /// # Errors
    /// [`MapTrouble`]: nothing is loaded, or the map is full.
    pub fn watch_exe(&mut self, ino: u64) -> Result<(), MapTrouble> {
        self.tell(|user| user.watch_exe(ino), |maps| maps.watch_exe(ino))
    }

    /// Takes [`Sense::watch_exe`] back; one that is not watched is no error.
    ///
    /// # Errors
    /// [`MapTrouble`]: nothing is loaded.
    pub fn unwatch_exe(&mut self, ino: u64) -> Result<(), MapTrouble> {
        self.tell(|user| user.unwatch_exe(ino), |maps| maps.unwatch_exe(ino))
    }

    /// The loaded kernel programs.
    #[must_use]
    pub fn programs(&self) -> Vec<ProgramInfo> {
        let Some(kernel) = &self.kernel else {
            return Vec::new();
        };
        let info = |(name, program): (&str, &aya::programs::Program)| {
            let info = program.info().ok()?;
            let verified = info.verified_instruction_count();
            Some(ProgramInfo { name: name.to_owned(), id: info.id(), verified })
        };
        kernel.ebpf.programs().filter_map(info).collect()
    }

    /// Tells both halves what user space asks for.
    fn tell(
        &mut self,
        user: impl FnOnce(&mut User),
        maps: impl FnOnce(&mut Maps) -> Result<(), MapTrouble>,
    ) -> Result<(), MapTrouble> {
        let is_heard = self.user.as_mut().is_some_and(|told| {
            user(told);
            told.is_listening()
        });
        match &mut self.kernel {
            Some(kernel) => maps(&mut kernel.maps),
            None if is_heard => Ok(()),
            None => Err(MapTrouble::NothingLoaded),
        }
    }
}

fn is_of(record: &[u8], kinds: &[EventKind]) -> bool {
    let mut bytes = record;
    !kinds.is_empty()
        && Header::take(&mut bytes).is_some_and(|header| kinds.iter().any(|kind| *kind as u32 == header.kind))
}

#[cfg(test)]
mod tests;
