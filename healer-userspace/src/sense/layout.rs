//! Where the running kernel keeps what the programs read: its BTF and its symbols, read once.
//!
//! Decided by what the kernel declares, never by its version: distributions backport.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, BufRead as _},
    path::Path,
    thread,
};

use healer_common::{
    event::{COMPANIONS, PROBES, Probe},
    kernel_offsets,
    tuning::ABSENT,
};

use super::{
    btf::{self, Argument, Btf},
    status::Trouble,
};

/// A member that programs read.
pub(crate) struct Offset {
    pub(crate) name: &'static str,
    of: &'static str,
    path: &'static str,
    is_required: bool,
    programs: &'static str,
}

macro_rules! offset_table {
    ($($name:ident: $of:literal, $path:literal, $need:ident by $programs:literal;)*) => {
        /// Every member that some program reads; the list is in `healer_common::tuning`.
        pub(crate) const OFFSETS: &[Offset] = &[$(Offset {
            name: stringify!($name),
            of: $of,
            path: $path,
            is_required: is_required(stringify!($need)),
            programs: $programs,
        },)*];
    };
}
kernel_offsets!(offset_table);

const fn is_required(need: &str) -> bool {
    matches!(need.as_bytes(), b"required")
}

/// The symbol whose presence on the stack tells a cgroup's OOM kill from the machine's.
const MEMCG_OOM: &str = "mem_cgroup_out_of_memory";

/// A member that the verifier's own notes have in kernels (6.12 on) whose verifier forgets what cannot matter any more;
/// an older one walks a short way out of a program beside each longer one.
const PRUNES_WELL: (&str, &str) = ("bpf_insn_aux_data", "fastcall_pattern");

/// What a program of type `iter/task` hangs on (kernel/bpf/task_iter.c).
pub(crate) const TASK_ITERATOR: &str = "bpf_iter_task";

/// The running kernel, as far as the programs need to know it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Layout {
    /// One value per row of [`OFFSETS`].
    pub(crate) offsets: Vec<u32>,
    /// The `btf_trace_*` typedefs of the tracepoints in `PROBES` and `COMPANIONS` that exist.
    pub(crate) tracepoints: Vec<(&'static str, u32)>,
    /// The function behind iterators over all threads, if this kernel has them (since 5.8).
    pub(crate) task_iterator: Option<u32>,
    pub(crate) has_group_dead: bool,
    pub(crate) victim_is_task: bool,
    pub(crate) has_retransmit_error: bool,
    pub(crate) prunes_well: bool,
    pub(crate) memory_cgrp_id: u32,
    pub(crate) pidtype_pgid: u32,
    pub(crate) sigaction_size: u32,
    pub(crate) rss_stride: u32,
    /// Addresses of [`MEMCG_OOM`]; zeros when the symbols are hidden.
    pub(crate) memcg_oom: (u64, u64),
}

/// Reads the kernel's types and, beside it, its symbols: some 20 and 50 ms.
///
/// Without types the layout names nothing, and the second value says why. Symbols that are hidden
/// or cannot be read are no trouble.
pub(crate) fn running_kernel(btf: &Path, kallsyms: &Path) -> (Layout, Option<Trouble>) {
    thread::scope(|scope| {
        let symbols = scope.spawn(|| memcg_oom(kallsyms));
        let (layout, trouble) = match read(btf) {
            Ok(layout) => (layout, None),
            Err(trouble) => (Layout::unknown(), Some(trouble)),
        };
        let memcg_oom = symbols.join().ok().flatten().unwrap_or_default();
        (Layout { memcg_oom, ..layout }, trouble)
    })
}

/// Reads the kernel's BTF.
///
/// # Errors
/// In words: there is none, it cannot be read, or it is not BTF.
fn read(path: &Path) -> Result<Layout, Trouble> {
    let shown = path.display();
    let bytes = fs::read(path).map_err(|error| unreadable(path, &error))?;
    parse(&bytes).map_err(|error| {
        Trouble::new(
            format!("cannot understand {shown}: {error}"),
            "report the kernel's version: its BTF has a form that healer does not know",
        )
    })
}

fn unreadable(path: &Path, error: &io::Error) -> Trouble {
    let shown = path.display();
    if error.kind() == io::ErrorKind::NotFound {
        return Trouble::new(
            format!("this kernel does not describe its types: {shown} does not exist"),
            "run a kernel built with CONFIG_DEBUG_INFO_BTF=y, or mount /sys",
        );
    }
    Trouble::new(format!("cannot read {shown}: {error}"), "make the file readable to healer")
}

/// The layout that `bytes` of BTF describe. It never panics, whatever the bytes.
///
/// # Errors
/// [`btf::BtfError`] if they are not BTF.
pub(crate) fn parse(bytes: &[u8]) -> Result<Layout, btf::BtfError> {
    let typedefs: Vec<String> = hooks().map(|probe| format!("btf_trace_{}", probe.tracepoint)).collect();
    let mut wanted: BTreeSet<&str> = OFFSETS.iter().map(|offset| offset.of).collect();
    wanted.extend(typedefs.iter().map(String::as_str));
    wanted.extend(["cgroup_subsys_id", "pid_type", TASK_ITERATOR, PRUNES_WELL.0]);
    let btf = btf::parse(bytes, &wanted)?;
    Ok(resolve(&btf))
}

/// Every hook that some program takes.
fn hooks() -> impl Iterator<Item = &'static Probe> {
    PROBES.iter().chain(COMPANIONS)
}

fn resolve(btf: &Btf<'_>) -> Layout {
    let offset = |offset: &Offset| btf.offset_of(offset.of, offset.path).unwrap_or(ABSENT);
    let memory = btf.enum_value("cgroup_subsys_id", "memory_cgrp_id");
    let process_group = btf.enum_value("pid_type", "PIDTYPE_PGID");
    let has_counters = btf.is_array_of("mm_struct", "rss_stat", "percpu_counter");
    let counter_size = btf.size_of("percpu_counter").filter(|_| has_counters);
    let exit = btf.tracepoint_arguments("sched_process_exit");
    let victim = btf.tracepoint_arguments("mark_victim");
    let retransmit = btf.tracepoint_arguments("tcp_retransmit_skb");
    let is_old_rss = btf.offset_of("mm_struct", "rss_stat.count").is_some();
    let layout = Layout {
        offsets: OFFSETS.iter().map(offset).collect(),
        tracepoints: hooks()
            .filter_map(|probe| {
                let id = btf.typedef_id(&format!("btf_trace_{}", probe.tracepoint))?;
                Some((probe.tracepoint, id))
            })
            .collect(),
        task_iterator: btf.function_id(TASK_ITERATOR),
        has_group_dead: exit.is_some_and(|arguments| 2 <= arguments.len()),
        victim_is_task: victim
            .is_some_and(|arguments| arguments.first() == Some(&Argument::Pointer("task_struct"))),
        has_retransmit_error: retransmit.is_some_and(|arguments| 3 <= arguments.len()),
        prunes_well: btf.member(PRUNES_WELL.0, PRUNES_WELL.1).is_some(),
        memory_cgrp_id: memory.and_then(|id| u32::try_from(id).ok()).unwrap_or(ABSENT),
        pidtype_pgid: process_group.and_then(|index| u32::try_from(index).ok()).unwrap_or(ABSENT),
        sigaction_size: btf.size_of("k_sigaction").unwrap_or(ABSENT),
        rss_stride: counter_size.unwrap_or(ABSENT),
        memcg_oom: (0, 0),
    };
    layout.without_halves(is_old_rss)
}

impl Layout {
    /// That of a kernel which does not describe its types.
    fn unknown() -> Self {
        Self {
            offsets: vec![ABSENT; OFFSETS.len()],
            memory_cgrp_id: ABSENT,
            pidtype_pgid: ABSENT,
            sigaction_size: ABSENT,
            rss_stride: ABSENT,
            ..Self::default()
        }
    }

    /// A member that cannot be used without a number that this kernel does not tell is missing, too.
    fn without_halves(mut self, is_old_rss: bool) -> Self {
        let unusable = [
            ("CSS_SET_SUBSYS", self.memory_cgrp_id == ABSENT),
            ("SIGNAL_PIDS", self.pidtype_pgid == ABSENT),
            ("SIGHAND_ACTION", self.sigaction_size == ABSENT),
            ("MM_RSS", self.rss_stride == ABSENT && !is_old_rss),
        ];
        for (name, _) in unusable.iter().filter(|(_, is_unusable)| *is_unusable) {
            self.falsify(name, ABSENT);
        }
        self
    }

    /// Makes the layout lie, for tests of the self-check; an unknown name changes nothing.
    pub(crate) fn falsify(&mut self, name: &str, value: u32) {
        for (offset, place) in OFFSETS.iter().zip(&mut self.offsets) {
            if offset.name == name {
                *place = value;
            }
        }
    }

    /// Names numbers and structs instead of hooks, for tests of what comes after a kernel's refusal.
    pub(crate) fn misname_hooks(&mut self) {
        for ((_, id), other) in self.tracepoints.iter_mut().zip(1..) {
            *id = other;
        }
    }

    /// A kernel without this hook, for tests.
    pub(crate) fn forget_hook(&mut self, tracepoint: &str) {
        self.tracepoints.retain(|(name, _)| *name != tracepoint);
    }

    /// The members that `program` reads and this kernel lacks: (required, optional).
    pub(crate) fn missing(&self, program: &str) -> (Vec<String>, Vec<String>) {
        let mut missing = (Vec::new(), Vec::new());
        for (offset, value) in OFFSETS.iter().zip(&self.offsets) {
            let is_used = offset.programs.split(' ').any(|user| user == program);
            if is_used && *value == ABSENT {
                let list = if offset.is_required { &mut missing.0 } else { &mut missing.1 };
                list.push(format!("{}.{}", offset.of, offset.path));
            }
        }
        missing
    }

    /// Whether the stack can tell which OOM killer runs.
    pub(crate) fn tells_oom_scope(&self) -> bool {
        self.memcg_oom.0 != 0
    }

    pub(crate) fn has_tracepoint(&self, tracepoint: &str) -> bool {
        self.tracepoints.iter().any(|(name, _)| *name == tracepoint)
    }
}

/// Where the kernel function of [`MEMCG_OOM`] starts and ends; `None` when symbols are hidden.
fn memcg_oom(kallsyms: &Path) -> Option<(u64, u64)> {
    let file = fs::File::open(kallsyms).ok()?;
    let mut lines = io::BufReader::with_capacity(64 * 1024, file);
    let mut line = Vec::new();
    let mut start = None;
    loop {
        line.clear();
        if lines.read_until(b'\n', &mut line).ok()? == 0 {
            return None;
        }
        let Some((address, name)) = symbol(&line) else {
            continue;
        };
        match start {
            Some(start) if start < address => return Some((start, address)),
            Some(_) => {}
            None if is_memcg_oom(name) && address != 0 => start = Some(address),
            None => {}
        }
    }
}

/// Compilers name their own versions of a function `name.isra.0`, `name.constprop.0`, `name.llvm.1`; but
/// `name.cold` is the part of it that is never run, and `name.cfi_jt` a jump to it.
fn is_memcg_oom(name: &str) -> bool {
    match name.split_once('.') {
        None => name == MEMCG_OOM,
        Some((name, version)) => {
            name == MEMCG_OOM && !["cold", "cfi_jt"].contains(&version.split('.').next().unwrap_or_default())
        }
    }
}

/// Address and name of `ffffffff8168b530 t name[\t[module]]`.
fn symbol(line: &[u8]) -> Option<(u64, &str)> {
    let line = std::str::from_utf8(line).ok()?;
    let mut words = line.split_ascii_whitespace();
    let address = words.next()?;
    let name = words.nth(1)?;
    Some((u64::from_str_radix(address, 16).ok()?, name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sense::poll::tasks;

    #[test]
    fn a_kernel_without_the_fields_lacks_them_by_name() {
        let layout = Layout { offsets: vec![ABSENT; OFFSETS.len()], ..Layout::default() };
        let (required, optional) = layout.missing("signal_sent");
        assert!(required.contains(&"kernel_siginfo.si_code".to_owned()));
        assert!(optional.contains(&"task_struct.ptrace".to_owned()));
        assert!(!required.contains(&"task_struct.exit_code".to_owned()));
    }

    #[test]
    fn a_member_whose_other_half_is_not_told_is_missing() {
        let told = Layout { offsets: vec![8; OFFSETS.len()], ..Layout::default() };
        let all = |layout: &Layout| {
            [layout.missing("reclaim_stall"), layout.missing("oom_kill"), layout.missing("signal_sent")]
                .map(|(_, optional)| optional)
        };
        assert_eq!(all(&told.clone().without_halves(false)), [const { Vec::<String>::new() }; 3]);
        let untold = Layout {
            memory_cgrp_id: ABSENT,
            pidtype_pgid: ABSENT,
            sigaction_size: ABSENT,
            rss_stride: ABSENT,
            ..told
        };
        let of_cgroup = "css_set.subsys".to_owned();
        let of_signals = ["css_set.subsys", "sighand_struct.action", "signal_struct.pids"].map(str::to_owned);
        let old = all(&untold.clone().without_halves(true));
        assert_eq!(old, [vec![of_cgroup.clone()], vec![of_cgroup.clone()], of_signals.to_vec()]);
        assert_eq!(all(&untold.without_halves(false))[1], [of_cgroup, "mm_struct.rss_stat".to_owned()]);
    }

    #[test]
    fn every_offset_is_used_by_a_program_that_exists() {
        for offset in OFFSETS {
            for user in offset.programs.split(' ') {
                assert!(
                    user == tasks::PROGRAM || PROBES.iter().any(|probe| probe.program == user),
                    "{}: no program {user}",
                    offset.name
                );
            }
        }
    }

    #[test]
    fn no_btf_says_what_would_help() {
        let trouble = read(Path::new("/nonexistent/btf")).unwrap_err();
        assert!(trouble.reason.contains("does not exist"));
        assert!(trouble.remedy.contains("CONFIG_DEBUG_INFO_BTF"));
    }

    #[test]
    fn hidden_symbols_are_no_symbols() {
        let dir = std::env::temp_dir().join(format!("healer-kallsyms-{}", std::process::id()));
        let write = |text: &str| fs::write(&dir, text).unwrap();
        write("0000000000000000 t mem_cgroup_out_of_memory\n0000000000000000 t next\n");
        assert_eq!(memcg_oom(&dir), None);
        write("10 t before\n20 t mem_cgroup_out_of_memory\n20 t alias\n48 t next\n");
        assert_eq!(memcg_oom(&dir), Some((0x20, 0x48)));
        for version in ["isra.0", "constprop.0", "llvm.9131", "constprop.0.isra.0"] {
            write(&format!(
                "8 t mem_cgroup_out_of_memory.cold\n10 t __pfx_mem_cgroup_out_of_memory\n\
                 20 t mem_cgroup_out_of_memory.{version}\n48 t mem_cgroup_out_of_memory_x\n"
            ));
            assert_eq!(memcg_oom(&dir), Some((0x20, 0x48)), "{version}");
        }
        fs::remove_file(&dir).unwrap();
    }
}
