//! From the running kernel to attached sensors.

use aya::{
    Ebpf,
    maps::{MapData, PerCpuArray},
};
use healer_common::event::EventKind;

use super::{
    Kernel, Sense, Settings, attach,
    attach::Ground,
    formats::{self, Formats},
    governed::Governed,
    layout::{self, Layout},
    load,
    maps::{self, Maps},
    poll::{
        memory::ReclaimMap,
        tasks::{self, TaskScan},
    },
    rights::{self, Later},
    ring::Rings,
    rung::SENSORS,
    selfprobe::SelfProbe,
    status::{Checked, SensorStatus, Trouble},
    tries::Tries,
    trust,
    user::User,
};

/// What is left when nothing of the kernel's may be used is a status, too.
pub(super) fn start(settings: &Settings) -> Sense {
    let (mut layout, no_types) = layout::running_kernel(&settings.btf, &settings.kallsyms);
    if let Some((name, value)) = &settings.wrong_offset {
        layout.falsify(name, *value);
    }
    if settings.wrong_hooks {
        layout.misname_hooks();
    }
    if let Some(tracepoint) = &settings.absent_hook {
        layout.forget_hook(tracepoint);
    }
    let formats = formats::read(&settings.tracefs);
    let ids = load::hook_ids(&layout);
    let mut loaded = load(settings, &layout, &formats);
    let counters = loaded.as_mut().ok().and_then(|(.., counters)| counters.take());
    let mut user = User::new(settings);
    let no_pids = (!settings.shares_pids).then(attach::foreign_pids);
    let mut ground = Ground {
        ebpf: loaded.as_mut().map(|(ebpf, ..)| ebpf).map_err(|trouble| trouble.clone()),
        layout: &layout,
        no_pids: no_pids.clone(),
        no_types,
        ids: &ids,
        formats: &formats,
        best: settings.best,
        tracefs: &settings.tracefs,
        hooks: Vec::new(),
    };
    let (mut sensors, rungs): (Vec<_>, Vec<_>) =
        attach::attach_all(&mut ground, &mut user).into_iter().unzip();
    let Ground { hooks, no_types, .. } = ground;
    // The scan has no way without types: an object would not help.
    let task_scan = match (no_pids.or(no_types), &mut loaded) {
        (Some(trouble), _) => Err(trouble),
        (None, Ok((ebpf, ..))) => TaskScan::attach(ebpf, &layout, &ids),
        (None, Err(trouble)) => Err(trouble.clone()),
    };
    let mut checked = Checked::No;
    let task_scan = task_scan.and_then(|mut scan| {
        checked = trust::of_scan(&mut scan)?;
        Ok(scan)
    });
    sensors.push(SensorStatus { checked, ..tasks::status(&task_scan, &layout) });
    let task_scan = task_scan.ok();
    let is_counted =
        SENSORS.iter().zip(&rungs).any(|(one, rung)| one.kind == EventKind::ReclaimStall && rung.is_some());
    let kernel = loaded.ok().map(|(mut ebpf, maps, rings, _)| {
        // Without it only its numbers are missing.
        let reclaim = is_counted.then(|| ReclaimMap::take(&mut ebpf).ok()).flatten();
        Kernel { ebpf, maps, rings, task_scan, reclaim }
    });
    let later = Later {
        hooks: &hooks,
        counters: counters.as_ref(),
        scan: kernel.as_ref().and_then(|kernel| kernel.task_scan.as_ref()),
    };
    // Before the governor's thread begins: rights are each thread's own.
    crate::patience::MEMORY.rest();
    crate::patience::FILES.rest();
    let rights = (settings.gives_up_rights && kernel.is_some()).then(|| rights::give_up(&later));
    let governed = Governed::begin(hooks, counters, settings.syscall_errors);
    Sense {
        rights,
        governed,
        sensors,
        rungs,
        own_tgid: settings.own_tgid,
        probe: SelfProbe::default(),
        check: None,
        tries: Tries::default(),
        has_news: false,
        distrusted: Vec::new(),
        refused: Vec::new(),
        backlog: Vec::new(),
        kernel,
        user: user.begin(),
        rest: None,
    }
}

type Counters = Option<PerCpuArray<MapData, u64>>;

fn load(
    settings: &Settings,
    layout: &Layout,
    formats: &Formats,
) -> Result<(Ebpf, Maps, Rings, Counters), Trouble> {
    let object = settings.object.ok_or_else(|| {
        Trouble::new("this healer was built without kernel programs", "build it with `cargo xtask build`")
    })?;
    rights::check()?;
    let mut ebpf = load::load(object, layout, formats, settings.own_tgid, settings.best)?;
    let counters = maps::counters_of(&ebpf);
    let (maps, rings) =
        maps::take(&mut ebpf).map_err(|error| Trouble::new(load::in_words(&error), "update healer"))?;
    Ok((ebpf, maps, rings, counters))
}

/// Reading the kernel's types takes tens of megabytes for some milliseconds; without this call
/// the allocator keeps them (`malloc_trim(3)`).
pub(crate) fn give_memory_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes no pointers and is thread-safe.
    unsafe {
        libc::malloc_trim(0);
    }
}
