//! Which thread groups the kernel programs tell of in any case.

use std::collections::BTreeSet;

use aya::{
    Ebpf,
    maps::{Array as BpfArray, HashMap as BpfHashMap, MapData, MapError},
};
use healer_common::tuning::TRACKED_SLOTS;

use super::maps::{MapTrouble, refused, typed, unless_absent};

/// Those that the kernel has forgotten at their end are looked for at so many.
const FIRST_LOOK: usize = 256;

pub(super) struct Tracked {
    groups: BpfHashMap<MapData, u32, u32>,
    /// What the programs look at first: not zero where a group of the slot may be tracked.
    slots: BpfArray<MapData, u8>,
    told: Told,
    look_at: usize,
}

impl Tracked {
    pub(super) fn of(ebpf: &mut Ebpf) -> Result<Self, MapTrouble> {
        let (groups, slots) = (typed(ebpf, "TRACKED")?, typed(ebpf, "TRACKED_BY_SLOT")?);
        Ok(Self { groups, slots, told: Told::default(), look_at: FIRST_LOOK })
    }

    pub(super) fn insert(&mut self, tgid: u32) -> Result<(), MapTrouble> {
        if self.look_at <= self.told.0.len() {
            self.forget_the_ended();
        }
        refused("TRACKED_BY_SLOT", self.slots.set(slot_of(tgid), 1, 0))?;
        self.told.insert(tgid);
        refused("TRACKED", self.groups.insert(tgid, 1, 0))
    }

    pub(super) fn remove(&mut self, tgid: u32) -> Result<(), MapTrouble> {
        refused("TRACKED", unless_absent(self.groups.remove(&tgid)))?;
        self.forget(tgid)
    }

    fn forget(&mut self, tgid: u32) -> Result<(), MapTrouble> {
        match self.told.forget(tgid) {
            Some(empty) => refused("TRACKED_BY_SLOT", self.slots.set(empty, 0, 0)),
            None => Ok(()),
        }
    }

    fn forget_the_ended(&mut self) {
        let has_ended = |tgid: &u32| matches!(self.groups.get(tgid, 0), Err(MapError::KeyNotFound));
        let ended: Vec<u32> = self.told.all().filter(has_ended).collect();
        for tgid in ended {
            // A slot that stays set costs a search.
            self.forget(tgid).ok();
        }
        self.look_at = FIRST_LOOK.max(2 * self.told.0.len());
    }
}

/// Whom the kernel was told of, by slot; it may have forgotten some.
#[derive(Debug, Default)]
struct Told(BTreeSet<(u32, u32)>);

impl Told {
    fn insert(&mut self, tgid: u32) {
        self.0.insert((slot_of(tgid), tgid));
    }

    fn all(&self) -> impl Iterator<Item = u32> {
        self.0.iter().map(|(_, tgid)| *tgid)
    }

    /// The slot, if nobody else is in it.
    fn forget(&mut self, tgid: u32) -> Option<u32> {
        let slot = slot_of(tgid);
        self.0.remove(&(slot, tgid));
        let is_empty = self.0.range((slot, 0)..=(slot, u32::MAX)).next().is_none();
        is_empty.then_some(slot)
    }
}

fn slot_of(tgid: u32) -> u32 {
    tgid & (TRACKED_SLOTS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_set_as_long_as_one_of_its_groups_is_tracked() {
        let mut told = Told::default();
        let (one, other) = (7, 7 + TRACKED_SLOTS);
        for tgid in [one, other, 8] {
            told.insert(tgid);
        }
        assert_eq!(told.forget(one), None);
        assert_eq!(told.forget(one), None, "twice");
        assert_eq!(told.all().collect::<Vec<_>>(), [other, 8]);
        assert_eq!(told.forget(other), Some(7));
        assert_eq!(told.forget(9), Some(9), "never told");
    }
}
