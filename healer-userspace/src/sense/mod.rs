//! The kernel in: loads the programs, attaches what attaches, reads the rings.
//!
//! Nothing here fails as a whole: a part that does not work is a [`SensorStatus`] that says why.

mod attach;
pub mod btf;
pub mod format;
mod formats;
mod layout;
mod load;
mod maps;
pub mod poll;
mod rights;
mod ring;
mod rung;
mod selfcheck;
mod selfprobe;
mod status;
mod trust;
mod user;
pub mod waits;

use std::{io, path::PathBuf, time::Duration};

use aya::Ebpf;

pub use load::OBJECT;
pub use maps::{Lost, MapTrouble};
pub use ring::Rings;
pub use rung::{Level, Rung, SENSORS, Sensor};
pub use selfprobe::SelfProbe;
pub use status::{Checked, SensorState, SensorStatus};

use crate::clock;
use attach::Ground;
use healer_common::event::{EventKind, Header, wire::Wire as _};
use maps::Maps;
use poll::tasks::{self, TaskScan};
use selfcheck::SelfCheck;
use status::Trouble;
use user::User;

/// The start waits so long for the self-check; what is not said by then is judged later.
const CHECK_FOR: Duration = Duration::from_millis(40);
const CHECK_STEP: Duration = Duration::from_millis(1);

/// Where to start from; [`Settings::default`] is the running kernel.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The kernel programs as an ELF object; `None` in a build without them.
    pub object: Option<&'static [u8]>,
    pub btf: PathBuf,
    pub kallsyms: PathBuf,
    pub tracefs: PathBuf,
    pub kmsg: PathBuf,
    /// Whether the process connector may be used.
    pub connector: bool,
    /// Rungs above this one are not tried.
    pub best: Level,
    /// A row of `healer_common::tuning::kernel_offsets` and a wrong value for it: a test of the
    /// self-check.
    pub wrong_offset: Option<(String, u32)>,
    /// healer's thread group in the initial pid namespace.
    pub own_tgid: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            object: OBJECT,
            btf: PathBuf::from("/sys/kernel/btf/vmlinux"),
            kallsyms: PathBuf::from("/proc/kallsyms"),
            tracefs: tracefs(),
            kmsg: PathBuf::from("/dev/kmsg"),
            connector: true,
            best: Level::TpBtf,
            wrong_offset: None,
            own_tgid: std::process::id(),
        }
    }
}

/// A loaded kernel program, for the bench.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramInfo {
    pub name: String,
    /// The kernel's number for it (`BPF_OBJ_GET_INFO_BY_FD`).
    pub id: u32,
}

/// The attached sensors and the ways to their records.
pub struct Sense {
    sensors: Vec<SensorStatus>,
    /// The way by which each of [`SENSORS`] works.
    rungs: Vec<Option<Rung>>,
    own_tgid: u32,
    probe: SelfProbe,
    check: Option<SelfCheck>,
    /// The state of a sensor has changed since [`Sense::has_news`] was asked.
    has_news: bool,
    /// Kinds whose records are not used: their sensors lied.
    distrusted: Vec<EventKind>,
    /// Records that were read while the start waited for the self-check.
    backlog: Vec<Vec<u8>>,
    kernel: Option<Kernel>,
    user: Option<User>,
}

/// What exists once the maps are loaded. Dropping it detaches every program.
struct Kernel {
    ebpf: Ebpf,
    maps: Maps,
    rings: Rings,
    task_scan: Option<TaskScan>,
}

impl Sense {
    /// Loads and attaches all that this kernel and our rights allow, and checks that it tells the
    /// truth; takes tens of milliseconds.
    #[must_use]
    pub fn start(settings: &Settings) -> Self {
        let mut sense = start(settings);
        give_memory_back();
        sense.check_now();
        sense
    }

    /// One row per sensor, in the order of [`SENSORS`], then the scan of the tasks.
    #[must_use]
    pub fn sensors(&self) -> &[SensorStatus] {
        &self.sensors
    }

    /// The scan of all threads, to be run wherever it suits; `None` if it does not work or was taken.
    pub fn take_task_scan(&mut self) -> Option<TaskScan> {
        self.kernel.as_mut()?.task_scan.take()
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

    /// Waits until there may be records, with kernel programs at most a second. Without any source
    /// it waits for ever. Dropping the future loses nothing.
    ///
    /// # Errors
    /// If the event loop cannot watch the sources.
    pub async fn readable(&mut self) -> io::Result<()> {
        if !self.backlog.is_empty() {
            return Ok(());
        }
        let (kernel, user) = (&mut self.kernel, &mut self.user);
        let kernel = async {
            match kernel {
                Some(kernel) => kernel.rings.readable().await,
                None => std::future::pending().await,
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
        let (probe, check, distrusted) = (&mut self.probe, &mut self.check, &self.distrusted);
        let mut hand_on = |record: &[u8]| {
            let is_ours = probe.claims(record) || check.as_mut().is_some_and(|check| check.claims(record));
            if !is_ours && !is_of(record, distrusted) {
                records += 1;
                on_record(record);
            }
        };
        let user = &mut self.user;
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

    /// From now on every exec of this file is sent; `dev` and `ino` as `stat(2)` gives them.
    ///
    /// # Errors
    /// [`MapTrouble`]: nothing is loaded, or the map is full.
    pub fn watch_exe(&mut self, dev: u64, ino: u64) -> Result<(), MapTrouble> {
        self.tell(|user| user.watch_exe(dev, ino), |maps| maps.watch_exe(dev, ino))
    }

    /// Takes [`Sense::watch_exe`] back; one that is not watched is no error.
    ///
    /// # Errors
    /// [`MapTrouble`]: nothing is loaded.
    pub fn unwatch_exe(&mut self, dev: u64, ino: u64) -> Result<(), MapTrouble> {
        self.tell(|user| user.unwatch_exe(dev, ino), |maps| maps.unwatch_exe(dev, ino))
    }

    /// The loaded kernel programs.
    #[must_use]
    pub fn programs(&self) -> Vec<ProgramInfo> {
        let Some(kernel) = &self.kernel else {
            return Vec::new();
        };
        let info = |(name, program): (&str, &aya::programs::Program)| {
            let id = program.info().ok()?.id();
            let name = name.to_owned();
            Some(ProgramInfo { name, id })
        };
        kernel.ebpf.programs().filter_map(info).collect()
    }

    /// Tells both halves what user space asks for.
    fn tell(
        &mut self,
        user: impl FnOnce(&mut User),
        maps: impl FnOnce(&mut Maps) -> Result<(), MapTrouble>,
    ) -> Result<(), MapTrouble> {
        let is_heard = self.user.as_mut().map(user).is_some();
        match &mut self.kernel {
            Some(kernel) => maps(&mut kernel.maps),
            None if is_heard => Ok(()),
            None => Err(MapTrouble::NothingLoaded),
        }
    }
}

/// What is left when nothing of the kernel's may be used is a status, too.
fn start(settings: &Settings) -> Sense {
    let (mut layout, no_types) = layout::running_kernel(&settings.btf, &settings.kallsyms);
    if let Some((name, value)) = &settings.wrong_offset {
        layout.falsify(name, *value);
    }
    let formats = formats::read(&settings.tracefs);
    let ids = load::hook_ids(&layout);
    let mut loaded = load(settings, &layout, &formats);
    let mut user = User::new(settings.connector, settings.kmsg.clone(), settings.own_tgid);
    let mut ground = Ground {
        ebpf: loaded.as_mut().map(|(ebpf, ..)| ebpf).map_err(|trouble| trouble.clone()),
        layout: &layout,
        no_types,
        ids: &ids,
        formats: &formats,
        best: settings.best,
    };
    let (mut sensors, rungs): (Vec<_>, Vec<_>) =
        attach::attach_all(&mut ground, &mut user).into_iter().unzip();
    let task_scan = match &mut loaded {
        Ok((ebpf, ..)) => TaskScan::attach(ebpf, &layout, &ids),
        Err(trouble) => Err(trouble.clone()),
    };
    sensors.push(tasks::status(&task_scan, &layout));
    let task_scan = task_scan.ok();
    let kernel = loaded.ok().map(|(ebpf, maps, rings)| Kernel { ebpf, maps, rings, task_scan });
    Sense {
        sensors,
        rungs,
        own_tgid: settings.own_tgid,
        probe: SelfProbe::default(),
        check: None,
        has_news: false,
        distrusted: Vec::new(),
        backlog: Vec::new(),
        kernel,
        user: user.begin(),
    }
}

fn load(
    settings: &Settings,
    layout: &layout::Layout,
    formats: &formats::Formats,
) -> Result<(Ebpf, Maps, Rings), Trouble> {
    let object = settings.object.ok_or_else(|| {
        Trouble::new("this healer was built without kernel programs", "build it with `cargo xtask build`")
    })?;
    rights::check()?;
    let mut ebpf = load::load(object, layout, formats, settings.own_tgid)?;
    let (maps, rings) =
        maps::take(&mut ebpf).map_err(|error| Trouble::new(load::in_words(&error), "update healer"))?;
    Ok((ebpf, maps, rings))
}

/// Where tracefs is mounted; debugfs shows it, too.
fn tracefs() -> PathBuf {
    let own = PathBuf::from("/sys/kernel/tracing");
    if own.join("events").is_dir() { own } else { PathBuf::from("/sys/kernel/debug/tracing") }
}

fn is_of(record: &[u8], kinds: &[EventKind]) -> bool {
    let mut bytes = record;
    !kinds.is_empty()
        && Header::take(&mut bytes).is_some_and(|header| kinds.iter().any(|kind| *kind as u32 == header.kind))
}

/// Reading the kernel's types takes tens of megabytes for some milliseconds; without this call
/// the allocator keeps them (`malloc_trim(3)`).
fn give_memory_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes no pointers and is thread-safe.
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Neither programs nor any other source.
    fn blind() -> Settings {
        let nowhere = PathBuf::from("/nonexistent");
        Settings {
            object: None,
            connector: false,
            kmsg: nowhere.clone(),
            tracefs: nowhere,
            ..Settings::default()
        }
    }

    fn reasons(settings: &Settings) -> Vec<String> {
        let sense = Sense::start(settings);
        assert!(sense.programs().is_empty());
        assert_eq!(sense.sensors().len(), SENSORS.len() + 1);
        let reason = |sensor: &SensorStatus| {
            assert_eq!(sensor.state, SensorState::Down);
            assert!(sensor.remedy.is_some());
            sensor.reason.clone().unwrap_or_default()
        };
        sense.sensors().iter().map(reason).collect()
    }

    #[test]
    fn a_build_without_programs_says_so() {
        for reason in reasons(&blind()) {
            assert!(reason.contains("without kernel programs"), "{reason}");
        }
    }

    #[test]
    fn a_kernel_without_btf_says_so() {
        let btf = PathBuf::from("/nonexistent/vmlinux");
        for reason in reasons(&Settings { btf, ..blind() }) {
            assert!(reason.contains("/nonexistent/vmlinux does not exist"), "{reason}");
        }
    }

    #[test]
    fn without_programs_nothing_is_lost_and_nothing_can_be_tracked() {
        let mut sense = Sense::start(&blind());
        assert_eq!(sense.lost(), Lost::default());
        assert_eq!(sense.drain(|_| {}), 0);
        assert!(matches!(sense.track(1), Err(MapTrouble::NothingLoaded)));
        assert!(matches!(sense.watch_exe(1, 2), Err(MapTrouble::NothingLoaded)));
    }
}
