//! The kernel in: loads the programs, attaches what attaches, reads the rings.
//!
//! Nothing here fails as a whole: a part that does not work is a [`SensorStatus`] that says why.

mod attach;
pub mod btf;
pub mod format;
mod layout;
mod load;
mod maps;
pub mod poll;
mod rights;
mod ring;
mod selfprobe;
mod status;
pub mod waits;

use std::{io, path::PathBuf, pin::Pin};

use aya::Ebpf;

pub use attach::{Rung, SENSORS, Sensor};
pub use load::OBJECT;
pub use maps::{Lost, MapTrouble};
pub use ring::Rings;
pub use selfprobe::SelfProbe;
pub use status::{SensorState, SensorStatus};

use crate::clock;
use maps::Maps;
use poll::tasks::{self, TaskScan};
use status::Trouble;

/// Where to start from; [`Settings::default`] is the running kernel.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The kernel programs as an ELF object; `None` in a build without them.
    pub object: Option<&'static [u8]>,
    pub btf: PathBuf,
    pub kallsyms: PathBuf,
    /// healer's thread group in the initial pid namespace.
    pub own_tgid: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            object: OBJECT,
            btf: PathBuf::from("/sys/kernel/btf/vmlinux"),
            kallsyms: PathBuf::from("/proc/kallsyms"),
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
    probe: SelfProbe,
    kernel: Option<Kernel>,
    /// Stands in for the rings' timer where there are none.
    rest: Option<Pin<Box<tokio::time::Sleep>>>,
}

/// What exists once the maps are loaded. Dropping it detaches every program.
struct Kernel {
    ebpf: Ebpf,
    maps: Maps,
    rings: Rings,
    task_scan: Option<TaskScan>,
}

impl Sense {
    /// Loads and attaches all that this kernel and our rights allow; takes tens of milliseconds.
    #[must_use]
    pub fn start(settings: &Settings) -> Self {
        let started = start(settings);
        give_memory_back();
        match started {
            Ok((kernel, sensors)) => {
                Self { sensors, probe: SelfProbe::default(), kernel: Some(kernel), rest: None }
            }
            Err(trouble) => Self {
                sensors: SENSORS
                    .iter()
                    .map(|sensor| sensor.kind.name())
                    .chain([tasks::PROGRAM])
                    .map(|name| SensorStatus::down(name, &trouble))
                    .collect(),
                probe: SelfProbe::default(),
                kernel: None,
                rest: None,
            },
        }
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

    /// What the self-probe has shown.
    #[must_use]
    pub fn self_probe(&self) -> SelfProbe {
        self.probe
    }

    /// Waits until there may be records, at most a second. Dropping the future loses nothing.
    ///
    /// # Errors
    /// If the event loop cannot watch the rings.
    pub async fn readable(&mut self) -> io::Result<()> {
        match &mut self.kernel {
            Some(kernel) => kernel.rings.readable().await,
            None => {
                // Kept from call to call: whoever also waits for others drops the future when they come first.
                self.rest.get_or_insert_with(|| Box::pin(tokio::time::sleep(ring::SWEEP))).await;
                self.rest = None;
                Ok(())
            }
        }
    }

    /// Hands every unread record to `on_record`, urgent ones first; gives their number.
    ///
    /// The bytes are for `healer_common::event::Event::decode`. Ends of healer's own threads are
    /// kept back: they are the self-probe.
    pub fn drain(&mut self, mut on_record: impl FnMut(&[u8])) -> usize {
        let Some(kernel) = &mut self.kernel else {
            return 0;
        };
        self.probe.send(clock::boot());
        let probe = &mut self.probe;
        let mut records = 0;
        kernel.rings.drain(|record| {
            if !probe.claims(record) {
                records += 1;
                on_record(record);
            }
        });
        records
    }

    /// Records that did not fit into their ring, since start.
    #[must_use]
    pub fn lost(&self) -> Lost {
        self.kernel.as_ref().map_or_else(Lost::default, |kernel| kernel.maps.lost())
    }

    /// Ends with status 0 of processes that are not tracked, which send no record.
    #[must_use]
    pub fn quiet_exits(&self) -> u64 {
        self.kernel.as_ref().map_or(0, |kernel| kernel.maps.quiet_exits())
    }

    /// From now on every end and exec of this thread group and every exec of its children is
    /// sent at once. The kernel forgets it when it ends; one that ended before the call must be
    /// untracked by the caller.
    ///
    /// # Errors
    /// [`MapTrouble`]: nothing is loaded, or the map is full.
    pub fn track(&mut self, tgid: u32) -> Result<(), MapTrouble> {
        self.maps()?.track(tgid)
    }

    /// Takes [`Sense::track`] back; one that is not tracked is no error.
    ///
    /// # Errors
    /// [`MapTrouble`]: nothing is loaded.
    pub fn untrack(&mut self, tgid: u32) -> Result<(), MapTrouble> {
        self.maps()?.untrack(tgid)
    }

    /// From now on every exec of this file is sent; `dev` and `ino` as `stat(2)` gives them.
    ///
    /// # Errors
    /// [`MapTrouble`]: nothing is loaded, or the map is full.
    pub fn watch_exe(&mut self, dev: u64, ino: u64) -> Result<(), MapTrouble> {
        self.maps()?.watch_exe(dev, ino)
    }

    /// Takes [`Sense::watch_exe`] back; one that is not watched is no error.
    ///
    /// # Errors
    /// [`MapTrouble`]: nothing is loaded.
    pub fn unwatch_exe(&mut self, dev: u64, ino: u64) -> Result<(), MapTrouble> {
        self.maps()?.unwatch_exe(dev, ino)
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

    fn maps(&mut self) -> Result<&mut Maps, MapTrouble> {
        let kernel = self.kernel.as_mut().ok_or(MapTrouble::NothingLoaded)?;
        Ok(&mut kernel.maps)
    }
}

fn start(settings: &Settings) -> Result<(Kernel, Vec<SensorStatus>), Trouble> {
    let object = settings.object.ok_or_else(|| {
        Trouble::new("this healer was built without kernel programs", "build it with `cargo xtask build`")
    })?;
    rights::check()?;
    let layout = layout::running_kernel(&settings.btf, &settings.kallsyms)?;
    let mut ebpf = load::load(object, &layout, settings.own_tgid)?;
    let ids = load::hook_ids(&layout);
    let mut sensors = attach::attach_all(&mut ebpf, &layout, &ids);
    let task_scan = TaskScan::attach(&mut ebpf, &layout, &ids);
    sensors.push(tasks::status(&task_scan, &layout));
    let (maps, rings) =
        maps::take(&mut ebpf).map_err(|error| Trouble::new(load::in_words(&error), "update healer"))?;
    let kernel = Kernel { ebpf, maps, rings, task_scan: task_scan.ok() };
    Ok((kernel, sensors))
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
        let settings = Settings { object: None, ..Settings::default() };
        for reason in reasons(&settings) {
            assert!(reason.contains("without kernel programs"), "{reason}");
        }
    }

    #[test]
    fn a_kernel_without_btf_says_so() {
        let btf = PathBuf::from("/nonexistent/vmlinux");
        let object = Some(b"not reached".as_slice());
        for reason in reasons(&Settings { object, btf, ..Settings::default() }) {
            assert!(reason.contains("/nonexistent/vmlinux does not exist"), "{reason}");
        }
    }

    #[test]
    fn without_programs_nothing_is_lost_and_nothing_can_be_tracked() {
        let mut sense = Sense::start(&Settings { object: None, ..Settings::default() });
        assert_eq!(sense.lost(), Lost::default());
        assert_eq!(sense.drain(|_| {}), 0);
        assert!(matches!(sense.track(1), Err(MapTrouble::NothingLoaded)));
        assert!(matches!(sense.watch_exe(1, 2), Err(MapTrouble::NothingLoaded)));
    }
}
