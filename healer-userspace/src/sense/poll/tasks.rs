//! The scan of all threads, by a program of type `iter/task`: nothing hangs on any hot path.

use std::{
    fs::File,
    io::{self, Read as _},
    os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
    time::Duration,
};

use aya::{
    Btf, Ebpf,
    maps::{Array, MapData},
    programs::{Iter, ProgramFd},
};
use healer_common::{
    event::wire::Wire as _,
    task_scan::{SEEN_MAX, ScanSettings, TaskRecord},
};

use crate::{
    clock,
    sense::{
        attach::unreadable,
        calls::by_x86_64,
        layout::Layout,
        load::in_words,
        rights::REMEDY,
        status::{SensorStatus, Trouble},
    },
};

/// The kernel program, and the sensor's name.
pub const PROGRAM: &str = "task_scan";
/// Every so many scans all sleepers are written again: whoever ended in its sleep is forgotten then.
const SCANS_PER_GENERATION: u32 = 60;
/// Threads remembered by the kernel half at most: 0.8 MB for 8,192.
const ROOM_MAX: u32 = 128 * 1024;

/// How many threads the kernel half must remember on this machine: LRU evicts early when nearly full.
pub(crate) fn room() -> u32 {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let threads = load.split([' ', '/']).nth(4).and_then(|threads| threads.parse::<u32>().ok()).unwrap_or(0);
    threads.saturating_mul(4).next_power_of_two().clamp(SEEN_MAX, ROOM_MAX)
}

/// One pass over all threads.
#[derive(Debug, Default)]
pub struct Pass {
    /// Everybody asleep is in `records`: whatever was known before is out of date.
    pub is_full: bool,
    /// Threads that now sleep long enough, and those that were told of before and have run since.
    pub records: Vec<TaskRecord>,
}

/// The loaded program. It may be sent to another thread and outlives [`crate::sense::Sense`].
pub struct TaskScan {
    link: OwnedFd,
    settings: Array<MapData, Settings>,
    scans: u32,
    generation: u64,
    bytes: Vec<u8>,
}

/// [`ScanSettings`], as a value that aya takes.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Settings(ScanSettings);

// SAFETY: four u64, without padding.
unsafe impl aya::Pod for Settings {}

impl TaskScan {
    pub(crate) fn attach(
        ebpf: &mut Ebpf,
        layout: &Layout,
        ids: &Result<Btf, aya::BtfError>,
    ) -> Result<Self, Trouble> {
        let ids = ids.as_ref().map_err(unreadable)?;
        if layout.task_iterator.is_none() {
            return Err(Trouble::new("this kernel has no iterators over tasks", "run kernel 5.8 or later"));
        }
        let (required, _) = layout.missing(PROGRAM);
        if !required.is_empty() {
            return Err(Trouble::new(
                format!("this kernel has no {}", required.join(", ")),
                "report the kernel's version and processor: healer must learn its layout",
            ));
        }
        Self::load(ebpf, ids).map_err(|error| {
            Trouble::new(format!("{PROGRAM} as iter/task: {}", in_words(error.as_ref())), REMEDY)
        })
    }

    fn load(ebpf: &mut Ebpf, ids: &Btf) -> Result<Self, Box<dyn std::error::Error>> {
        let program = ebpf.program_mut(PROGRAM).ok_or("the object has no such program")?;
        let program: &mut Iter = program.try_into()?;
        program.load("task", ids)?;
        let link = link(program.fd()?)?;
        let settings = Array::try_from(ebpf.take_map("SCAN").ok_or("the object has no map SCAN")?)?;
        Ok(Self { link, settings, scans: 0, generation: 0, bytes: Vec::new() })
    }

    /// Whether the kernel would let a pass begin now.
    pub(crate) fn can_begin(&self) -> io::Result<()> {
        iterator(self.link.as_fd()).map(drop)
    }

    /// The next pass is as the first.
    pub(crate) fn begin_anew(&mut self) {
        self.scans = 0;
    }

    /// Looks at every thread once. Costs 0.3 µs a thread.
    ///
    /// # Errors
    /// If the kernel refuses the file or the settings.
    pub fn pass(&mut self, min_sleep: Duration) -> io::Result<Pass> {
        let is_full = self.scans.is_multiple_of(SCANS_PER_GENERATION);
        self.generation += u64::from(is_full);
        let settings = ScanSettings {
            now_boot_ns: clock::boot().0,
            min_sleep_ns: u64::try_from(min_sleep.as_nanos()).unwrap_or(u64::MAX),
            generation: self.generation,
            of_tgid: 0,
        };
        let records = self.read(settings)?;
        self.scans = self.scans.wrapping_add(1);
        Ok(Pass { is_full, records })
    }

    /// The threads of one process that sleep at this moment, for however short a time.
    ///
    /// # Errors
    /// If the kernel refuses the file or the settings.
    pub fn asleep_now(&mut self, tgid: u32) -> io::Result<Vec<TaskRecord>> {
        let settings = ScanSettings {
            now_boot_ns: clock::boot().0,
            of_tgid: u64::from(tgid),
            ..ScanSettings::default()
        };
        self.read(settings)
    }

    fn read(&mut self, settings: ScanSettings) -> io::Result<Vec<TaskRecord>> {
        self.settings.set(0, Settings(settings), 0).map_err(io::Error::other)?;
        self.bytes.clear();
        iterator(self.link.as_fd())?.read_to_end(&mut self.bytes)?;
        let mut rest = self.bytes.as_slice();
        let records = std::iter::from_fn(|| TaskRecord::take(&mut rest));
        let records =
            records.map(|record| TaskRecord { syscall: by_x86_64(record.syscall), ..record }).collect();
        // One busy pass must not hold memory for ever.
        self.bytes.shrink_to(256 * 1024);
        Ok(records)
    }
}

/// What `/proc` does not show of a thread: who it is is never in doubt, what it waits for is.
pub const PROC_LACKS: &[&str] =
    &["task_struct.se.exec_start", "task_struct.blocker", "task_struct.mm", "pt_regs.bx"];

pub(crate) fn status(scan: &Result<TaskScan, Trouble>, layout: &Layout) -> SensorStatus {
    match scan {
        Ok(_) => SensorStatus::working(PROGRAM, "iter/task", layout.missing(PROGRAM).1, None),
        Err(trouble) => by_proc(trouble.clone()),
    }
}

/// Every 5 s: [`crate::sense::waits::Scanner`] without a [`TaskScan`].
pub(crate) fn by_proc(trouble: Trouble) -> SensorStatus {
    let lacks = PROC_LACKS.iter().map(|field| (*field).to_owned()).collect();
    SensorStatus::working(PROGRAM, "proc", lacks, Some(trouble))
}

/// `BPF_LINK_CREATE` for an iterator; aya's own link gives one file and is gone (bpf(2)).
fn link(program: &ProgramFd) -> io::Result<OwnedFd> {
    const BPF_LINK_CREATE: libc::c_long = 28;
    const BPF_TRACE_ITER: u32 = 28;
    let program = program.as_fd().as_raw_fd() as u32;
    bpf(BPF_LINK_CREATE, [program, 0, BPF_TRACE_ITER, 0])
}

/// `BPF_ITER_CREATE`: a file that, read to its end, is one pass.
fn iterator(link: BorrowedFd<'_>) -> io::Result<File> {
    const BPF_ITER_CREATE: libc::c_long = 33;
    Ok(bpf(BPF_ITER_CREATE, [link.as_raw_fd() as u32, 0, 0, 0])?.into())
}

fn bpf(command: libc::c_long, words: [u32; 4]) -> io::Result<OwnedFd> {
    // The union bpf_attr ends in zeros for what is not set.
    let mut attr = [0_u32; 16];
    attr[..4].copy_from_slice(&words);
    // SAFETY: the kernel reads as many bytes as it is told there are.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, command, attr.as_ptr(), size_of_val(&attr)) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: both commands give a new descriptor, which nobody else has.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}
