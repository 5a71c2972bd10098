//! The bench's own kernel object: empty programs on healer's hooks, and the flood for the ring.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, ensure};
use aya::{
    Btf, Ebpf, EbpfLoader,
    maps::{MapData, PerCpuArray, RingBuf},
    programs::BtfTracePoint,
};
use healer_common::{
    event::{COMPANIONS, PROBES},
    tuning::Counter,
};
use healer_userspace::sense::Rings;

/// Empty programs on the hooks of all of healer's probes; detached on drop.
pub struct Floor {
    _programs: Ebpf,
    /// Probes of healer that have no empty twin here.
    pub without_twin: Vec<&'static str>,
}

impl Floor {
    /// # Errors
    /// The object is not built, or the kernel refuses it.
    pub fn attach() -> anyhow::Result<Self> {
        let mut ebpf = load(0)?;
        let mut without_twin = Vec::new();
        // System calls are watched in slices, and have a section of their own.
        let always = PROBES.iter().filter(|probe| probe.tracepoint != "sys_exit");
        for probe in always.chain(COMPANIONS) {
            let name = format!("floor_{}", probe.program);
            if ebpf.program(&name).is_some() {
                attach(&mut ebpf, &name, probe.tracepoint)?;
            } else {
                without_twin.push(probe.program);
            }
        }
        Ok(Self { _programs: ebpf, without_twin })
    }

    /// An empty program on every system call's way out: what healer does without.
    ///
    /// # Errors
    /// As [`Floor::attach`].
    pub fn attach_sys_exit() -> anyhow::Result<Self> {
        let mut ebpf = load(0)?;
        attach(&mut ebpf, "floor_sys_exit", "sys_exit")?;
        Ok(Self { _programs: ebpf, without_twin: Vec::new() })
    }
}

/// A record in the bulk ring for every system call of one thread; over on drop.
pub struct Flood {
    _programs: Ebpf,
    counters: PerCpuArray<MapData, u64>,
    pub rings: Rings,
}

impl Flood {
    /// By that program of the bench's kernel object.
    ///
    /// # Errors
    /// As [`Floor::attach`].
    pub fn attach(program: &str, thread: u32) -> anyhow::Result<Self> {
        let mut ebpf = load(thread)?;
        let rings = Rings::new(ring(&mut ebpf, "URGENT")?, ring(&mut ebpf, "BULK")?);
        let counters = ebpf.take_map("COUNTERS").context("the map COUNTERS")?.try_into()?;
        attach(&mut ebpf, program, "sys_enter")?;
        Ok(Self { _programs: ebpf, counters, rings })
    }

    /// Records that found no room.
    ///
    /// # Errors
    /// The kernel refuses to read the counter.
    pub fn lost(&self) -> anyhow::Result<u64> {
        Ok(self.counters.get(&(Counter::LostBulk as u32), 0)?.iter().sum())
    }
}

fn ring(ebpf: &mut Ebpf, name: &str) -> anyhow::Result<RingBuf<MapData>> {
    Ok(ebpf.take_map(name).with_context(|| format!("the map {name}"))?.try_into()?)
}

fn load(flood_thread: u32) -> anyhow::Result<Ebpf> {
    let path = object();
    let bytes =
        fs::read(&path).with_context(|| format!("read {}: `cargo xtask bench` builds it", path.display()))?;
    let mut loader = EbpfLoader::new();
    loader.btf(None).override_global("FLOOD_THREAD", &flood_thread, true);
    loader.load(&bytes).context("load the bench's kernel object")
}

fn attach(ebpf: &mut Ebpf, program: &str, tracepoint: &str) -> anyhow::Result<()> {
    let btf = Btf::from_sys_fs().context("read the kernel's types")?;
    let loaded: &mut BtfTracePoint = ebpf.program_mut(program).context("no such program")?.try_into()?;
    loaded.load(tracepoint, &btf).with_context(|| format!("load {program}"))?;
    loaded.attach().with_context(|| format!("attach {program} to {tracepoint}"))?;
    Ok(())
}

/// `HEALER_FLOOR`, else its place in the target directory that this program lies in.
fn object() -> PathBuf {
    let given = std::env::var_os("HEALER_FLOOR").map(PathBuf::from);
    given.unwrap_or_else(|| crate::binary::target_dir().join("ebpf/bpfel-unknown-none/release/floor"))
}

/// # Errors
/// Statistics are on: they cost 80 ns per run of a program and would be measured as healer's.
pub fn refuse_statistics() -> anyhow::Result<()> {
    let switch = fs::read_to_string("/proc/sys/kernel/bpf_stats_enabled").unwrap_or_default();
    ensure!(switch.trim() != "1", "kernel.bpf_stats_enabled is 1: figures would be wrong, set it to 0");
    Ok(())
}
