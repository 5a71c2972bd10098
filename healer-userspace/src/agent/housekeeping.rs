//! Once a second: losses, the self-probe, the pause file, changed policy files, probes, whom to look at.

use std::collections::BTreeSet;

use super::{Agent, give_back, last_policies, start};
use crate::{
    clock,
    config::{self, FromCluster, Loaded, files::Look},
    engine::{
        detect,
        policy::{PolicySet, ProbeAsk},
        time::BootTime,
    },
    identity::exe::ExeId,
    report::view::Lent,
    sense,
    signal::Signal,
    text::printable,
};

/// Between two looks, nearly: they come with the sweep of the rings.
const LOOKS_EVERY: core::time::Duration = core::time::Duration::from_millis(900);
/// Touching this file in the state directory pauses; removing it resumes.
const PAUSE_FILE: &str = "pause";
const TRIMS_EVERY: core::time::Duration = core::time::Duration::from_secs(60);
const SETTLED_AFTER: core::time::Duration = core::time::Duration::from_secs(20);
/// Text that served once in an hour would stay, and the agent seem to grow.
const GIVES_BACK_EVERY: core::time::Duration = core::time::Duration::from_secs(300);

/// What was last seen of the files that can change under us.
#[derive(Default)]
pub(super) struct Files {
    looked_at: BootTime,
    /// Records were lost, and nobody has asked `/proc` yet what they would have said.
    has_missed: bool,
    made_up_at: BootTime,
    policies: Look,
    pause_file: bool,
    /// When what served and is not needed all the time is given back.
    gives_back: Option<BootTime>,
    /// When it last gave memory back because it held more than its budget.
    trimmed: Option<BootTime>,
}

impl Agent {
    fn show_leases(&self) {
        let leases: Vec<Lent> = self.engine.leases().into_iter().map(Lent::from).collect();
        self.reporter.shared.update(|view| view.leases = leases);
    }

    fn show_declared(&self) {
        let declared = self.engine.declared();
        self.reporter.shared.update(|view| view.dependencies.declare(declared));
    }

    pub(super) fn is_look_due(&self, now: BootTime) -> bool {
        LOOKS_EVERY <= now.since(self.files.looked_at)
    }

    /// Cheap, and at most once a second.
    pub(super) fn look_around(&mut self) {
        let now = clock::boot();
        if !self.is_look_due(now) {
            return;
        }
        self.files.looked_at = now;
        self.settle_down(now);
        self.look_for_losses(now);
        self.look_at_peers(now, false);
        self.look_at_routes(now);
        self.look_at_rewired(now);
        self.look_at_memory_watch();
        self.look_at_waits_watch();
        self.look_at_work_watch();
        self.reporter.set_store_status(&self.store.status());
        self.show_leases();
        self.show_declared();
        if let Some(seen) = self.sense.self_probe().seen {
            self.reporter.probe_seen(seen);
        }
        self.look_at_overhead();
        if self.sense.has_news() {
            self.publish_sensors();
        }
        self.look_at_pause_file();
        if self.files.policies != Look::at(&self.options.sources) {
            self.reload_and_say();
        }
        self.reporter.look();
        self.taps.flush();
        self.look_at_exes();
        self.let_the_late_go();
        self.look_again(now);
        self.probe();
        self.watch_work();
    }

    /// When the first scans, connections and probes are over, and now and then.
    fn settle_down(&mut self, now: BootTime) {
        if *self.files.gives_back.get_or_insert(now + SETTLED_AFTER) <= now {
            self.files.gives_back = Some(now + GIVES_BACK_EVERY);
            give_back::idle_pages();
            sense::give_memory_back();
        }
    }

    /// Before anything is judged by what the records do not say.
    pub(super) fn count_losses(&mut self, now: BootTime) {
        let mut lost = self.sense.lost();
        lost.bulk += self.malformed.count;
        let missed = Signal::losses(now, lost.since(self.lost));
        self.lost = lost;
        self.files.has_missed |= !missed.is_empty();
        for signal in missed {
            self.observe(&signal);
        }
    }

    pub(super) fn look_for_losses(&mut self, now: BootTime) {
        self.count_losses(now);
        // In a storm deadlines come often, and a look at everybody is the dearer the more there are.
        if !self.files.has_missed || now.since(self.files.made_up_at) < LOOKS_EVERY {
            return;
        }
        (self.files.has_missed, self.files.made_up_at) = (false, now);
        // What the lost records would have said is still in /proc. Ends first: who began meanwhile may be a successor.
        self.files.has_missed = !self.bury_the_gone(now);
        self.meet_everybody();
    }

    /// What sensing costs, and what is given up for it.
    fn look_at_overhead(&mut self) {
        let (overhead, changes) = self.sense.look_at_overhead();
        for says in changes {
            tracing::info!("{says}");
        }
        let is_due = self.files.trimmed.is_none_or(|at| TRIMS_EVERY <= clock::boot().since(at));
        if overhead.budget.memory < overhead.resident && is_due {
            self.files.trimmed = Some(clock::boot());
            sense::give_memory_back();
            let (resident, budget) = (overhead.resident >> 20, overhead.budget.memory >> 20);
            tracing::warn!("healer holds {resident} MiB of memory, its budget is {budget} MiB");
        }
        self.space_out_looks(overhead.stage);
        self.reporter.metrics.overhead(&overhead);
    }

    fn look_at_pause_file(&mut self) {
        let there = self.options.state_dir.join(PAUSE_FILE).symlink_metadata().is_ok();
        if there != self.files.pause_file {
            self.files.pause_file = there;
            let by = there.then(|| format!("the file {}", self.options.state_dir.join(PAUSE_FILE).display()));
            self.pause(by);
        }
    }

    pub(super) fn reload_and_say(&mut self) {
        // Both outcomes are said where they happen.
        self.reload().ok();
    }

    /// Validates, then swaps: a bad file keeps the old policies, and no program is detached.
    ///
    /// # Errors
    /// Every problem of every file, in words.
    pub(super) fn reload(&mut self) -> Result<String, String> {
        let look = Look::at(&self.options.sources);
        match config::load_with(&self.options.sources, &self.from_cluster, &detect::is_built) {
            Ok(loaded) => {
                let says = format!(
                    "{} policies, version {}",
                    loaded.policies.policies.len(),
                    loaded.policies.version
                );
                start::warn_of(&loaded);
                self.put_in_force(loaded);
                self.meet_everybody();
                self.say("reload", &says);
                Ok(says)
            }
            Err(problems) => {
                let says = format!("the policies in force stay: {problems}");
                // Said once, not once a second.
                self.files.policies = look;
                self.reporter.shared.update(|view| view.policies.refused = Some(problems.to_string()));
                self.say("reload_refused", &says);
                Err(says)
            }
        }
    }

    pub(super) fn take_policies(&mut self, policies: Vec<FromCluster>) {
        if self.from_cluster != policies {
            self.from_cluster = policies;
            last_policies::keep(&self.options.state_dir, &self.from_cluster);
            self.reload_and_say();
        }
    }

    pub(super) fn put_in_force(&mut self, loaded: Loaded) {
        for verdict in &loaded.verdicts {
            if let Some(why) = &verdict.refused {
                tracing::warn!("HealPolicy {} of the cluster is left out: {why}", printable(&verdict.name));
            }
        }
        self.reporter.policies_judged(loaded.verdicts.clone());
        self.files.policies = loaded.look.clone();
        self.reporter.set_policies(&loaded.policies);
        self.host.protect(loaded.policies.protect.clone());
        self.watch_exes(&loaded.policies);
        self.sense.govern(|control| {
            control.wish = loaded.agent.syscall_errors;
            control.budget = loaded.agent.overhead;
        });
        let units = loaded.policies.policies.iter().flat_map(|policy| policy.matches.units.clone());
        self.owners.watch_units(units.collect());
        let mut probes = loaded.policies.policies.iter().filter_map(|policy| policy.expect.probe.as_ref());
        if probes.any(|probe| probe.ask == ProbeAsk::Kubelet) {
            self.kubelet.follow();
        }
        self.engine.replace_policy(clock::boot(), loaded.policies);
    }

    /// Execs of the executables that policies name are sent by the kernel.
    fn watch_exes(&mut self, policies: &PolicySet) {
        self.watch_inodes(inodes(policies));
    }

    /// An upgrade has put another file there.
    fn look_at_exes(&mut self) {
        self.watch_inodes(inodes(self.engine.policies()));
    }

    fn watch_inodes(&mut self, wanted: BTreeSet<u64>) {
        for old in self.watched.difference(&wanted) {
            self.sense.unwatch_exe(*old).ok();
        }
        for new in wanted.difference(&self.watched) {
            if let Err(trouble) = self.sense.watch_exe(*new) {
                tracing::warn!("new processes of a policy's exe are not seen: {trouble}");
            }
        }
        self.watched = wanted;
    }
}

/// Of the files that are there now.
fn inodes(policies: &PolicySet) -> BTreeSet<u64> {
    let exes = policies.policies.iter().flat_map(|policy| &policy.matches.exes);
    exes.filter_map(|path| ExeId::at(path)).map(|id| id.ino).collect()
}

#[cfg(test)]
mod tests;
