//! From the running kernel to attached sensors.

use aya::Ebpf;

use super::{
    Kernel, Sense, Settings, attach,
    attach::Ground,
    formats::{self, Formats},
    layout::{self, Layout},
    load,
    maps::{self, Maps},
    poll::tasks::{self, TaskScan},
    rights,
    ring::Rings,
    selfprobe::SelfProbe,
    status::Trouble,
    user::User,
};

/// What is left when nothing of the kernel's may be used is a status, too.
pub(super) fn start(settings: &Settings) -> Sense {
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
    // The scan has no way without types: an object would not help.
    let task_scan = match (ground.no_types, &mut loaded) {
        (Some(trouble), _) => Err(trouble),
        (None, Ok((ebpf, ..))) => TaskScan::attach(ebpf, &layout, &ids),
        (None, Err(trouble)) => Err(trouble.clone()),
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
        rest: None,
    }
}

fn load(settings: &Settings, layout: &Layout, formats: &Formats) -> Result<(Ebpf, Maps, Rings), Trouble> {
    let object = settings.object.ok_or_else(|| {
        Trouble::new("this healer was built without kernel programs", "build it with `cargo xtask build`")
    })?;
    rights::check()?;
    let mut ebpf = load::load(object, layout, formats, settings.own_tgid)?;
    let (maps, rings) =
        maps::take(&mut ebpf).map_err(|error| Trouble::new(load::in_words(&error), "update healer"))?;
    Ok((ebpf, maps, rings))
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
